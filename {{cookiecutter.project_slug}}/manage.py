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
    except BrokenPipeError:  # as in `manage.py jobs list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
