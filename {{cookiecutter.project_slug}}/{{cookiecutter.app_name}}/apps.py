from django.apps import AppConfig


class SampleConfig(AppConfig):
    name = "{{ cookiecutter.app_name }}"
