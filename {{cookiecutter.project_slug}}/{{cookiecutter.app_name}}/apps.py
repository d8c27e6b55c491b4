from django.apps import AppConfig


class SampleConfig(AppConfig):
    name = "{{ cookiecutter.app_name }}"
    nav = {"Import": "contacts:index", "Contacts": "contacts:contacts"}
