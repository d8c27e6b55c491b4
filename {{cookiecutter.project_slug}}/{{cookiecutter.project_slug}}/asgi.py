"""The ASGI application, which a web server imports."""

import os

from django.core.asgi import get_asgi_application

SETTINGS = "{{ cookiecutter.project_slug }}.settings"

os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS)

application = get_asgi_application()
