"""Metrics for Prometheus, and the page of the queues for people."""

from django.conf import settings
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import login_not_required, permission_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from . import stats
from .models import JobFailure


@require_safe
@login_not_required
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the queues' metrics to a Prometheus that sends the token.

    Raises:
        Http404: No token is set. Behind a proxy, every client would look internal.
    """
    if not settings.METRICS_TOKEN:
        raise Http404
    given = request.headers.get("Authorization", "")
    if not constant_time_compare(given, f"Bearer {settings.METRICS_TOKEN}"):
        return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
    now = stats.now()
    registry = CollectorRegistry()
    for name, text in {
        "waiting": "Jobs that are due.",
        "running": "Jobs that are running.",
        "scheduled": "Jobs that are scheduled for later.",
        "wait": "Seconds that the oldest due job has waited.",
    }.items():
        gauge = Gauge(f"jobs_{name}", text, ["queue"], registry=registry)
        for queue in now.queues:
            gauge.labels(queue.name).set(getattr(queue, name))
    for name, text in {
        "workers": "Workers that are alive.",
        "stalled": "Jobs stuck on dead workers.",
        "failures": "Failed attempts in the last hour.",
    }.items():
        Gauge(f"jobs_{name}", text, registry=registry).set(getattr(now, name))
    return HttpResponse(
        generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4
    )


@require_safe
@staff_member_required
@permission_required("jobs.view_queuedjob", raise_exception=True)
def queues(request: HttpRequest) -> HttpResponse:
    """Show the queues now and over the last day, and the latest failures."""
    now, day = stats.now(), stats.last_day()
    charts = []
    for queue in now.queues:
        bars = day.get(queue.name, [])
        peak = max((waiting for _, waiting, _ in bars), default=0)
        chart = [
            (x, waiting, round(40 * waiting / (peak or 1), 1), wait > queue.limit)
            for x, waiting, wait in bars
        ]
        charts.append((queue, peak, chart))
    failures = JobFailure.objects.select_related("job").defer("traceback", "job__args")
    context = {"now": now, "charts": charts, "failures": failures[:10]}
    return render(request, "jobs/queues.html", context)
