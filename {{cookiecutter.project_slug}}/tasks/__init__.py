"""The worker: its Procrastinate app and, in this package's modules, its thin tasks.

Run it with ``PYTHONPATH=. procrastinate --app=tasks.app worker``. Only the worker
imports this package; Django defers through the bridges, each app's ``tasks.py``.
"""

from jobs import worker

# django.setup(), made safe to run on the event loop of Procrastinate's command line.
worker.setup("{{ cookiecutter.project_slug }}.settings")

app = worker.make_app(__name__)
