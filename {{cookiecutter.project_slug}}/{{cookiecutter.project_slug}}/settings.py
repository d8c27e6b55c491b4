"""Django's settings. What differs between machines comes from the environment.

.env.example describes each variable.
https://docs.djangoproject.com/en/stable/ref/settings/
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
from environs import Env, EnvValidationError

from jobs import sessions

from . import variables
from .database_url import add_defaults, parse_database_url
from .email_url import SETTINGS as EMAIL_SETTINGS
from .email_url import parse_email_url

PACKAGE_DIR = Path(__file__).resolve().parent
BASE_DIR = PACKAGE_DIR.parent


# The environment

# Not eager: seal(), below, reports all wrong variables at once.
env = Env(eager=False)
# Exported variables win over those in .env.
env.read_env(str(BASE_DIR / ".env"), recurse=False)

DEBUG = env.bool("DEBUG", False)
# collectstatic runs during image builds, which should have no secrets.
COLLECTSTATIC = sys.argv[1:2] == ["collectstatic"]


def required(in_development: Any) -> Any:
    """Return the default of a variable that production requires."""
    return in_development if DEBUG or COLLECTSTATIC else ...


SECRET_KEY = env.str(
    "SECRET_KEY",
    required("django-insecure-key-of-development-which-production-refuses"),
    validate=[] if DEBUG else variables.check_secret_key,
)
SECRET_KEY_FALLBACKS: list[str] = env.list(
    "SECRET_KEY_FALLBACKS",
    [],
    subcast=str.strip,
    validate=[] if DEBUG else variables.check_secret_keys,
)
ALLOWED_HOSTS: list[str] = env.list(
    "ALLOWED_HOSTS",
    required(["localhost", "127.0.0.1", "[::1]"]),
    subcast=str.strip,
    validate=variables.check_hosts,
)
CSRF_TRUSTED_ORIGINS: list[str] = env.list(
    "CSRF_TRUSTED_ORIGINS",
    [],
    subcast=str.strip,
    validate=variables.check_origins,
)
TRUSTED_PROXY = env.bool("TRUSTED_PROXY", False)
database_url = env.str(
    "DATABASE_URL", required(None), validate=variables.check_database_url
)
worker_url = env.str("WORKER_DATABASE_URL", None, validate=variables.check_database_url)
EMAIL_URL = env.str(
    "EMAIL_URL", required("console:"), validate=variables.check_email_url
)
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", "webmaster@localhost")
# E-mail addresses, or the address of a webhook.
JOBS_ALERTS_TO = env.str("ALERTS_TO", "", validate=variables.check_alerts_to)
METRICS_TOKEN = env.str("METRICS_TOKEN", "")
SENTRY_DSN = env.str("SENTRY_DSN", "", validate=variables.check_sentry_dsn)
# The number of jobs that a worker runs at once; Procrastinate reads this variable too.
WORKER_CONCURRENCY = env.int("PROCRASTINATE_WORKER_CONCURRENCY", 4)

try:
    env.seal()
except EnvValidationError as error:
    message = f"{error}; .env.example describes them."
    needed = ("SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL", "EMAIL_URL")
    is_clone = (BASE_DIR / ".env.example").exists()
    has_env = (BASE_DIR / ".env").exists() or any(name in os.environ for name in needed)
    if is_clone and not has_env:
        message = (
            "There is no .env: for development, run `cp .env.example .env`; "
            f"for production, set {', '.join(needed)}."
        )
    # Not ImproperlyConfigured, whose traceback would hide the message.
    print(message, file=sys.stderr)
    # With this status, gunicorn gives up instead of restarting its workers.
    sys.exit(3)


# Security

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = not DEBUG
SECURE_HSTS_SECONDS = 0 if DEBUG else 30 * 24 * 60 * 60
if TRUSTED_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# HSTS for subdomains and preload lists would affect more than this site.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
# Nothing inline, nothing from other hosts. For django-csp, as Django 5.2 has no CSP.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}
# Bytes of a request's body, such as an uploaded file. Without a login, 2.5 MB.
MAX_BODY_SIZE = 101 * 1024 * 1024


# Applications

INSTALLED_APPS = [
    # First: its password pages override the admin's.
    "users",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "procrastinate.contrib.django",
    "jobs",
    "{{ cookiecutter.app_name }}",
    # startapp adds apps above this line.
]
if DEBUG:
    INSTALLED_APPS.append("devdb")

MIDDLEWARE = [
    "{{ cookiecutter.project_slug }}.request_ids.with_request_id",
    "{{ cookiecutter.project_slug }}.probes.answer_probes",
    "{{ cookiecutter.project_slug }}.middleware.with_client_address",
    "{{ cookiecutter.project_slug }}.access_log.log_requests",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "{{ cookiecutter.project_slug }}.middleware.forbid_caching",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "{{ cookiecutter.project_slug }}.middleware.check_body",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "{{ cookiecutter.project_slug }}.middleware.with_time_zone",
]

ROOT_URLCONF = "{{ cookiecutter.project_slug }}.urls"
WSGI_APPLICATION = "{{ cookiecutter.project_slug }}.wsgi.application"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PACKAGE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "{{ cookiecutter.project_slug }}.context_processors.nav",
            ],
        },
    },
]
if DEBUG:
    TEMPLATES[0]["OPTIONS"]["context_processors"] += ["devdb.panel.developers_panel"]


# Database

# True where development runs on the embedded PostgreSQL.
DEVDB = database_url is None
if database_url is None:
    from devdb.server import address

    database_url = address(BASE_DIR)
DATABASE_URL = database_url

# The worker's direct connection, if DATABASE_URL leads to a pooler in transaction mode.
WORKER_DATABASE_URL = add_defaults(worker_url) if worker_url else None

DATABASES = {"default": parse_database_url(DATABASE_URL)}
# The pool keeps connections open, and checks each one before it is used.
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DATABASES["default"]["OPTIONS"]["pool"] = {
    "min_size": 1,
    # One for each of gunicorn's threads or the worker's jobs, and one to spare.
    "max_size": max(4, WORKER_CONCURRENCY) + 1,
    # Seconds to wait for a connection; without one, the answer is an error page.
    "timeout": 4,
    # Seconds after which the pool stops reconnecting, until the next request.
    "reconnect_timeout": 10,
    # Session settings of one request or job must not affect the next.
    "reset": sessions.reset,
}
# Server-side cursors do not work through such a pooler.
DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = worker_url is not None
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


# Users

AUTH_USER_MODEL = "users.User"
AUTHENTICATION_BACKENDS = [
    "users.login_limit.LoginLimit",
    "django.contrib.auth.backends.ModelBackend",
]
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]


# Language and time

LANGUAGE_CODE = "en-us"
# Pages use the browser's time zone if it is known: see middleware.py.
TIME_ZONE = "UTC"


# Static files

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [PACKAGE_DIR / "static"]
# Development and tests need no `collectstatic`.
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = DEBUG
if not DEBUG:
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {
            "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        },
    }


# E-mail

EMAIL_SUBJECT_PREFIX = "[{{ cookiecutter.project_slug }}] "
mailer = parse_email_url(str(EMAIL_URL))
if django.VERSION >= (6, 1):
    MAILERS = {"default": mailer}
else:
    # Before, each option was a setting of its own.
    EMAIL_BACKEND = mailer["BACKEND"]
    options = mailer["OPTIONS"].items()
    globals().update({EMAIL_SETTINGS[option]: value for option, value in options})


# Jobs

# What other apps enqueue with Django's tasks runs on this project's worker.
TASKS = {"default": {"BACKEND": "jobs.tasks_backend.ProcrastinateBackend"}}
# The apps' tasks.py are bridges: Procrastinate must not look for tasks in them.
PROCRASTINATE_AUTODISCOVER_MODULE_NAME = None
PROCRASTINATE_ON_APP_READY = "jobs.apps.forbid_worker"
# A worker's threads run sync jobs back to back. If off, Procrastinate starts each job.
JOBS_LANES = True
# Finished jobs, their events and failures are deleted after this time.
JOBS_KEPT = timedelta(days=7)
# Limits for alerts: seconds that a due job may wait, by queue ("default" is for all
# queues that are not listed), and failed attempts per hour.
JOBS_MAX_WAIT = {"default": 300}
JOBS_MAX_FAILURES = 100


# Logging

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(levelname)s %(name)s: %(message)s"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": ["levelname", "name", "message"],
            "timestamp": "time",
        },
    },
    "filters": {
        "job": {"()": "jobs.logs.JobFilter"},
        "request_id": {
            "()": "{{ cookiecutter.project_slug }}.request_ids.RequestIDFilter",
        },
        "once_a_minute": {
            "()": "{{ cookiecutter.project_slug }}.logs.OnceAMinute",
        },
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "line" if DEBUG else "json",
            "filters": ["job", "request_id"],
        },
    },
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        # Their own handlers would repeat the root's lines; gunicorn's are no JSON.
        "django": {"handlers": [], "propagate": True},
        "gunicorn.error": {"handlers": [], "propagate": True},
        # Development's server logs requests by itself.
        "{{ cookiecutter.project_slug }}.access_log": {
            "level": "WARNING" if DEBUG else "INFO",
        },
        # These report every task at start-up and every cron tick.
        "procrastinate.blueprints": {"level": "WARNING"},
        "procrastinate.periodic": {"level": "WARNING"},
        # While the database is away, these would repeat it all the time.
        "django.request": {"filters": ["once_a_minute"]},
        "psycopg.pool": {"filters": ["once_a_minute"]},
        "{{ cookiecutter.project_slug }}.probes": {"filters": ["once_a_minute"]},
    },
}


# Errors

DEFAULT_EXCEPTION_REPORTER = "{{ cookiecutter.project_slug }}.errors.ExceptionReporter"
if SENTRY_DSN:
    import sentry_sdk  # pyright: ignore[reportMissingImports]

    # Local variables would include the arguments of jobs.
    sentry_sdk.init(SENTRY_DSN, include_local_variables=False)
