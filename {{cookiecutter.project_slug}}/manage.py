#!/usr/bin/env python
"""Django's command line: `uv run manage.py help`."""

import os
import sys

from django.core.management import execute_from_command_line

SETTINGS = "{{ cookiecutter.project_slug }}.settings"

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS)
    try:
        execute_from_command_line(sys.argv)
    except KeyboardInterrupt:
        sys.exit(130)
