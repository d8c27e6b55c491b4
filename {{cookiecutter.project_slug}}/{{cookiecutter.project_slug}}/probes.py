"""Health checks for load balancers, platforms and monitoring."""

from collections.abc import Callable

from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse

from jobs import stats, upstream


def is_ready() -> bool:
    """Tell if the database accepts writes and has the tables that this code expects."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        if cursor.fetchone() != ("off",):
            return False
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return all(upstream.may_follow_later(migration.name) for migration, _ in plan)


PROBES: dict[str, Callable[[], bool]] = {
    "/health/live": lambda: True,
    "/health/ready": is_ready,
    "/health/workers": lambda: stats.now().healthy,
}


def answer_probes(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Answer /health/ before the middleware that checks requests.

    Probes use no TLS, no login, and host names that are not in ALLOWED_HOSTS.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        probe = PROBES.get(request.path)
        if not probe:
            return get_response(request)
        try:
            healthy = probe()
        except Error:
            healthy = False
        return HttpResponse(
            "ok" if healthy else "unavailable",
            status=200 if healthy else 503,
            headers={"Content-Type": "text/plain", "Cache-Control": "no-store"},
        )

    return middleware
