"""Health checks for load balancers, platforms and monitoring."""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import django.db
import psycopg
from django.apps import apps
from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse

from jobs import stats, upstream

from .middleware import View

logger = logging.getLogger(__name__)

DATABASE_TIMEOUT = 1.0
"""Seconds to wait for a connection: less than most platforms wait for an answer."""


def live() -> str:
    """Return no problem: the process answers."""
    return ""


def ready() -> str:
    """Return what keeps this process from serving the site, or an empty text."""
    if static_files_are_missing():
        return "static files are missing"
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        if cursor.fetchone() == ("on",):
            return "the database is read-only"
        cursor.execute("SELECT has_table_privilege(to_regclass('users_user'),'UPDATE')")
        if cursor.fetchone() == (False,):
            return "the database role lacks rights on the tables"
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not all(upstream.may_follow_later(migration.name) for migration, _ in plan):
        return "migrations are missing"
    return ""


@cache
def static_files_are_missing() -> bool:
    """Tell if ``collectstatic`` did not run for this version: most pages would fail.

    It does not change while this process runs: Django reads the manifest at start.
    """
    collected = getattr(staticfiles_storage, "hashed_files", None)
    if collected is None:  # as in development
        return False
    ignored = apps.get_app_config("staticfiles").ignore_patterns  # type: ignore[attr-defined]
    return any(
        name not in collected
        for finder in get_finders()
        for name, _ in finder.list(ignored)
    )


def workers() -> str:
    """Return what keeps jobs from running in time, or an empty text."""
    now = stats.now()
    if not now.workers:
        return "no worker is alive"
    return "" if now.healthy else "a queue is late"


PROBES: dict[str, Callable[[], str]] = {
    "/health/live": live,
    "/health/ready": ready,
    "/health/workers": workers,
}


def answer_probes(get_response: View) -> View:
    """Answer /health/ before the middleware that checks requests.

    Probes use no TLS, no login, and host names that are not in ALLOWED_HOSTS.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        probe = PROBES.get(request.path)
        if not probe:
            return get_response(request)
        problem = find_problem(probe)
        if problem:
            logger.error("%s: %s", request.path, problem)
        return HttpResponse(
            f"unavailable: {problem}" if problem else "ok",
            status=503 if problem else 200,
            headers={"Content-Type": "text/plain", "Cache-Control": "no-store"},
        )

    return middleware


def find_problem(probe: Callable[[], str]) -> str:
    """Return a probe's problem, or that the database does not answer."""
    try:
        pool: Any = connection.pool  # type: ignore[attr-defined]
        if pool and probe is not live:
            pool.open()
            with pool.connection(timeout=DATABASE_TIMEOUT):
                pass
        return probe()
    except (django.db.Error, psycopg.Error):
        return "the database does not answer"
