"""The developers' panel: the newest jobs, and which files they come from."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django.conf import settings
from django.db.models import Prefetch
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe
from procrastinate.contrib.django.models import ProcrastinateEvent

from jobs.bridge import declared
from jobs.models import QueuedJob

SHOWN = 3


def developers_panel(
    request: HttpRequest,
) -> dict[str, Callable[[], SafeString]]:
    """Add the variable ``developers_panel``, which is empty without DEBUG.

    A context processor. Only pages that use the variable query the queue.
    """
    page = request.resolver_match.func.__module__ if request.resolver_match else ""
    return {"developers_panel": partial(render_panel, page)} if settings.DEBUG else {}


@require_safe
def panel(request: HttpRequest) -> HttpResponse:
    """Return only the panel, for pages to update theirs."""
    if not settings.DEBUG:
        raise Http404
    return HttpResponse(render_panel())


def render_panel(page: str = "") -> SafeString:
    """Return the panel's HTML: the newest jobs, except maintenance.

    Args:
        page: The module of the page's view.
    """
    events = ProcrastinateEvent.objects.order_by("at", "pk")
    newest = QueuedJob.objects.exclude(task_name__startswith="maintenance.")
    newest = newest.order_by("-pk").prefetch_related(
        Prefetch("procrastinateevent_set", events, to_attr="history")
    )
    jobs = list(newest[:SHOWN])[::-1]
    context: dict[str, Any] = {
        "jobs": jobs,
        "app": _find_app(jobs[-1].task_name if jobs else "", page),
        "active": any(job.status in ("todo", "doing") for job in jobs),
    }
    return render_to_string("devdb/panel.html", context)


def _find_app(task_name: str, page: str) -> str:
    """Return the app that declares a task, or the page's, or the last that has one."""
    apps = {
        name: job.func.__module__.removesuffix(".tasks")
        for name, job in declared.items()
    }
    of_page = (app for app in apps.values() if page.startswith(f"{app}."))
    return apps.get(task_name) or next(of_page, "") or next(reversed(apps.values()), "")
