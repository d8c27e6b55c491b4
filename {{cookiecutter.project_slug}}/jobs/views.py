"""Metrics for Prometheus, and the pages of the queues and of the jobs for people."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import login_not_required, permission_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.defaultfilters import pluralize
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_http_methods, require_safe
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from . import bridge, search, stats
from .actions import ACTIONS, act, pause, resume
from .life import life_of
from .models import PausedQueue, QueuedJob, WorkerInfo

ARGUMENTS, FAILURES = "jobs.view_arguments", "jobs.view_jobfailure"
# How many jobs one click changes.
MOST = 10_000


def for_staff(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Require staff status, and the permission to view jobs."""
    may_view = permission_required("jobs.view_queuedjob", raise_exception=True)
    return staff_member_required(may_view(view))


@require_safe
@login_not_required
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the queues' metrics to a Prometheus that sends the token.

    Raises:
        Http404: No token is set. Behind a proxy, a client's address proves nothing.
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
        "paused": "1 if workers take no jobs from the queue, else 0.",
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


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff
def queues(request: HttpRequest) -> HttpResponse:
    """Show the queues now and over the last day, the workers and periodic tasks."""
    if request.method == "POST":
        run_action(request, [])
        return redirect(request.path)
    now, day, ended = stats.now(), stats.last_day(), stats.ended()
    workers = stats.registered_workers()
    queues = []
    for queue in now.queues:
        if queue.name == bridge.MAINTENANCE_QUEUE and not queue.late:
            continue
        bars = day.get(queue.name, [])
        waiting = [
            (x, [("late" if w > queue.limit else "", n)]) for x, n, w, *_ in bars
        ]
        done = [(x, [("", good), ("late", bad)]) for x, _, _, good, bad in bars]
        queues.append((queue, ended[queue.name], chart(waiting), chart(done)))
    failed = search.find(search.Filters(state="failed"), limit=5).jobs
    search.add_times(failed)
    search.add_errors(failed)
    context = {
        "now": now,
        "queues": queues,
        "maintenance": bridge.MAINTENANCE_QUEUE,
        "failed_day": sum(queue.failed_day for queue in ended.values()),
        "failed": failed,
        "workers": workers,
        "periodic": stats.periodic_tasks(workers),
        "example": [
            {
                "module": one.func.__module__,
                "name": one.func.__name__,
                "arguments": ", ".join(
                    f"{name}=…" for name in one.signature.parameters
                ),
            }
            for one in list(bridge.declared.values())[:1]
        ],
        "empty": not search.find(search.Filters(), limit=1).jobs,
    }
    return render(request, "jobs/queues.html", context)


def chart(
    columns: list[tuple[int, list[tuple[str, int]]]],
) -> tuple[int, list[tuple[int, float, float, str, int]]]:
    """Return the highest value of a chart, and its bars, 40 units high at most.

    Args:
        columns: The position of each, and the classes and values that it stacks.
    """
    peak = max((sum(n for _, n in parts) for _, parts in columns), default=0)
    bars = []
    for x, parts in columns:
        bottom = -40.0
        for kind, n in parts:
            if n:
                height = round(40 * n / peak, 2)
                bars.append((x, bottom, height, kind, n))
                bottom += height
    return peak, bars


class ListForm(forms.Form):
    """What the list of jobs shows."""

    state = forms.ChoiceField(
        required=False,
        choices=[("", "all"), *((state, state) for state in search.STATES)],
    )
    task = forms.ChoiceField(required=False)
    queue = forms.ChoiceField(required=False)
    ended = forms.ChoiceField(
        label="Changed",
        required=False,
        choices=[
            ("", "at any time"),
            ("hour", "in the last hour"),
            ("day", "in the last day"),
        ],
    )
    text = forms.CharField(label="Search", required=False, max_length=200)
    before = forms.IntegerField(required=False, min_value=0, max_value=2**62)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        declared = bridge.declared.values()
        for name, first, known in (
            (
                "task",
                {"": "all but maintenance", "all": "all"},
                {job.name for job in declared},
            ),
            ("queue", {"": "all"}, {job.queue for job in declared}),
        ):
            # A job may have a task or a queue that is not declared any more.
            names = {*known, str(self.data.get(name, ""))} - first.keys()
            field: Any = self.fields[name]
            field.choices = first | {one: one for one in sorted(names)}

    def filters(self, user: Any) -> search.Filters:
        """Return the filters, as far as a user may use them."""
        chosen = {**self.cleaned_data}
        del chosen["before"]
        return search.Filters(
            **chosen,
            in_arguments=user.has_perm(ARGUMENTS),
            in_failures=user.has_perm(FAILURES),
        )


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff
def jobs(request: HttpRequest) -> HttpResponse:
    """List jobs, and act on those that were chosen."""
    user: Any = request.user
    form = ListForm(request.GET)
    found, queue = search.Found(), ""
    if form.is_valid():
        queue = form.cleaned_data["queue"]
        filters, before = form.filters(user), form.cleaned_data["before"]
        if request.method == "POST":
            ids: Iterable[Any] = request.POST.getlist("job")
            if "all" in request.POST:
                found = search.find(filters, limit=MOST, before=before)
                ids = [job.pk for job in found.jobs]
            run_action(request, ids, found=found if "all" in request.POST else None)
            return redirect(request.get_full_path())
        found = search.find(filters, before=before)
        search.add_times(found.jobs)
        if user.has_perm(FAILURES):
            search.add_errors(found.jobs)
    query = request.GET.copy()
    query.pop("before", None)
    possible = {form.data.get("state") or state for state in search.STATES}
    context = {
        "form": form,
        "found": found,
        "first": "before" not in request.GET,
        "complete": "before" not in request.GET and found.older is None,
        "query": query.urlencode(),
        "actions": allowed_actions(request, possible),
        "most": MOST,
        **pause_of(queue),
    }
    return render(request, "jobs/jobs.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@for_staff
def job(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one job's life, and act on it."""
    if request.method == "POST":
        run_action(request, [pk])
        return redirect(request.get_full_path())
    user: Any = request.user
    found = get_object_or_404(QueuedJob, pk=pk)
    search.add_times([found])
    arguments = json.dumps(found.args, indent=2, ensure_ascii=False)
    waiting = QueuedJob.objects.defer("args").order_by("-priority", "pk")
    context = {
        "job": found,
        "life": life_of(found, failures=user.has_perm(FAILURES)),
        "arguments": arguments[:20_000],
        "worker": WorkerInfo.objects.filter(worker_id=found.worker_id or 0).first(),
        "holders": waiting.filter(
            lock=found.lock, status__in=["todo", "doing"]
        ).exclude(pk=pk)[:10],
        "collides": waiting.filter(
            queueing_lock=found.queueing_lock, status="todo"
        ).exclude(pk=pk)[:1],
        "actions": allowed_actions(request, {found.state}),
        **pause_of(found.queue_name),
    }
    return render(request, "jobs/job.html", context)


def pause_of(queue: str) -> dict[str, Any]:
    """Return what a page about a queue shows of its pause."""
    if not queue or queue == bridge.MAINTENANCE_QUEUE:
        return {}
    return {"queue": queue, "pause": PausedQueue.objects.filter(pk=queue).first()}


def allowed_actions(request: HttpRequest, states: set[str]) -> list[tuple[str, str]]:
    """Return the names and labels of what a user may do to jobs in these states."""
    user: Any = request.user
    return [
        (name, action.label)
        for name, action in ACTIONS.items()
        if states & {*action.states} and user.has_perm(f"jobs.{name}")
    ]


def run_action(
    request: HttpRequest, ids: Iterable[Any], *, found: search.Found | None = None
) -> None:
    """Do what a button of the page says, and tell how many jobs it changed.

    Args:
        found: The search that found them, if they were not chosen one by one.

    Raises:
        PermissionDenied: There is no such action, or the user lacks its permission.
    """
    name = request.POST.get("action", "")
    user: Any = request.user
    if name in ("pause", "resume") and user.has_perm("jobs.pause_queue"):
        pause_or_resume(request, name, user.get_username())
        return
    if name not in ACTIONS or not user.has_perm(f"jobs.{name}"):
        raise PermissionDenied
    chosen = {int(one) for one in ids if str(one).isdecimal() and len(str(one)) < 19}
    changed, collided = act(name, chosen, user)
    count = len(chosen)
    text = f"{ACTIONS[name].label}: {changed} of {count} job{pluralize(count)}."
    if not chosen and not found:
        text = f"{ACTIONS[name].label}: choose jobs, or all that match."
    if collided:
        text += f" {collided} not, as a job with the same queueing lock is waiting."
    if found and found.older is not None:
        text += " There may be more that match: do it again."
    level = messages.SUCCESS if chosen and changed == len(chosen) else messages.WARNING
    messages.add_message(request, level, text)


def pause_or_resume(request: HttpRequest, action: str, who: str) -> None:
    """Pause or resume a queue, and tell what became of it."""
    queue, why = request.POST.get("queue", ""), request.POST.get("why", "")
    try:
        before = pause(queue, why, who) if action == "pause" else None
    except ValueError as error:
        messages.warning(request, str(error))
        return
    if before:
        text = f"It was already paused, so nothing changed. {before}"
        messages.warning(request, text)
    elif action == "resume" and not resume(queue, who):
        messages.warning(request, f"Queue {queue} is not paused.")
    else:
        messages.success(request, f"Queue {queue} is {action}d.")
