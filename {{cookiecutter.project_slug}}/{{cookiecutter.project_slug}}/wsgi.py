"""The WSGI application, which a web server imports."""

import os

from django.core.wsgi import get_wsgi_application

SETTINGS = "{{ cookiecutter.project_slug }}.settings"

os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS)

application = get_wsgi_application()
