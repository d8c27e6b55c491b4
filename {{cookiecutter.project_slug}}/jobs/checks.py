"""`manage.py check` compares the declared jobs with the worker's tasks.

The worker does the same before it takes a job. Web servers run no checks, and so never
load the worker's ``tasks``.
"""

import os
import sysconfig
import traceback
from collections.abc import Collection, Iterator
from contextlib import suppress
from copy import copy
from datetime import timedelta
from importlib import import_module
from inspect import Parameter, signature, unwrap
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import ProgrammingError, connection
from django.utils.module_loading import module_has_submodule
from procrastinate import App
from procrastinate.tasks import Task

from . import worker
from .bridge import Job, declaration_of, declared, faults
from .procfile import check_served
from .upstream import periodic_tasks

BACKEND = "jobs.tasks_backend.ProcrastinateBackend"

HINTS = {
    "E001": "Write its body in tasks/, under @bridge.NAME.task(app).",
    "E002": "Declare it with @job() in the tasks.py of its app.",
    "E003": "Give both the same name, parameters and defaults; a context comes first.",
    "E004": "Bind the body with @bridge.NAME.task(app), which sets all options.",
    "E005": "Declare retry=None, or do without the queueing lock.",
    "E006": "Choose a shorter name.",
    "E007": "Cron's sixth column is for seconds. The task must take a timestamp.",
    "E008": "Use arguments of the job as fields, as in order:{order_id}.",
    "E009": "For the whole traceback, run: python -c 'import tasks.NAME'",
    "E010": 'Add "default" to JOBS_MAX_WAIT: the limit of all queues not named there.',
    "E011": "Give it a lock without fields: it has no arguments to fill them.",
    "E012": "Keep USE_TZ, and remove TIME_ZONE and assume_role from DATABASES: they are"
    " lost when a session is reset. Log in as the role instead.",
    "W001": "Make the app with jobs.worker.make_app, which adds the queue's upkeep:"
    " without periodic tasks, a worker does not notice when it loses its database.",
    "W003": "Add the name to the aliases of the job that replaced it.",
    "W004": "Lower PROCRASTINATE_WORKER_CONCURRENCY, and start more workers: sync jobs"
    " that are taken while no thread is free have to wait.",
    "W005": "Keep them for some days, so that somebody can look into a failure.",
    "W006": "Give new parameters a default, and keep the old ones for one release.",
    "W007": f'For Django\'s tasks, let TASKS name "{BACKEND}", so that'
    " this project's worker runs what other apps enqueue.",
}


# How many jobs wait, by task and by the names of their arguments, which a jsonb always
# returns in the same order.
WAITING_JOBS = """
SELECT task_name, arguments, count(*)
FROM (
    SELECT task_name, ARRAY(SELECT jsonb_object_keys(args)) AS arguments
    FROM procrastinate_jobs WHERE status = 'todo'
) job GROUP BY task_name, arguments ORDER BY task_name, arguments
"""


@register("jobs")
def check_jobs(**options: Any) -> list[CheckMessage]:
    """Return where the apps' bridges and the worker's tasks disagree."""
    if errors := list(_check_imports(worker.TASKS)):
        return errors
    app = worker.find_app()
    bridges = (
        f"{config.name}.tasks"
        for config in apps.get_app_configs()
        if _is_ours(config.path) and module_has_submodule(config.module, "tasks")
    )
    if errors := list(_check_imports(*app.import_paths, *bridges)):
        return errors
    return [*_check_declared(app), *_check_tasks(app), *_check_periodic(app)]


@register("jobs")
def check_settings(**options: Any) -> list[CheckMessage]:
    """Return what is wrong or unwise in the settings of the jobs."""
    found = []
    if "default" not in settings.JOBS_MAX_WAIT:
        found.append(_message("E010", "JOBS_MAX_WAIT has no default.", "settings"))
    database = settings.DATABASES["default"]
    role = "assume_role" in database.get("OPTIONS", {})
    if role or database.get("TIME_ZONE") or not settings.USE_TZ:
        text = "Database sessions have a role or a time zone of their own."
        found.append(_message("E012", text, "settings"))
    # Python's default executor, in which Procrastinate runs sync tasks.
    threads = min(32, (os.cpu_count() or 1) + 4)
    concurrency = settings.WORKER_CONCURRENCY
    # Lanes have threads of their own.
    if not settings.JOBS_LANES and threads < concurrency:
        text = f"A worker takes {concurrency} jobs, but has {threads} threads for them."
        found.append(_message("W004", text, "settings"))
    if worker.has_django_tasks():
        default = getattr(settings, "TASKS", {}).get("default", {})
        if (backend := default.get("BACKEND")) != BACKEND:
            text = f"TASKS names {backend}, whose tasks no worker of this project runs."
            found.append(_message("W007", text, "settings"))
    if timedelta(days=1) > settings.JOBS_KEPT:
        text = f"JOBS_KEPT is {settings.JOBS_KEPT}: failures are deleted within a day."
        found.append(_message("W005", text, "settings"))
    return found


@register(Tags.database)
def check_waiting_jobs(
    databases: Collection[str] | None = None, **options: Any
) -> list[CheckMessage]:
    """Return which waiting jobs will fail: without a task, or with wrong arguments.

    Args:
        databases: Given by ``check --database default`` and by every ``migrate``;
            without any, the queue is not read.
    """
    if not databases or any(message.is_serious() for message in check_jobs()):
        return []
    tasks = worker.find_app().tasks
    messages = []
    # Before the first migration there is no table, and nothing waits.
    with suppress(ProgrammingError), connection.cursor() as cursor:
        cursor.execute(WAITING_JOBS)
        for name, arguments, number in cursor.fetchall():
            task = tasks.get(name)
            jobs = f"{number:,} waiting job{'s' if number > 1 else ''} of {name}"
            if not task:
                messages.append(
                    _message("W003", f"{jobs}: no such task.", worker.TASKS)
                )
            elif problem := _argument_problem(task, arguments):
                messages.append(_message("W006", f"{jobs}: {problem}.", _place(task)))
    return messages


def _argument_problem(task: Task[..., Any, ...], arguments: Collection[str]) -> str:
    """Return why a task cannot be called with these arguments, or nothing."""
    context = [None] * task.pass_context
    try:
        signature(task.func).bind(*context, **dict.fromkeys(arguments))
    except TypeError as error:
        # A worker middleware may remove the unexpected ones.
        extra = getattr(settings, "JOBS_EXTRA_ARGUMENTS", "")
        return "" if extra and "unexpected" in str(error) else str(error)
    return ""


def _check_imports(*names: str) -> Iterator[CheckMessage]:
    for name in names:
        try:
            import_module(name)
            if name == f"{worker.TASKS}.app":
                raise ImportError("the worker's app has this name")
        except Exception as error:  # noqa: BLE001, a module may raise anything
            frames = traceback.extract_tb(error.__traceback__)
            *_, last = (frame for frame in frames if _is_ours(frame.filename))
            text = f"{name} cannot be imported: {type(error).__name__}: {error}."
            place = f"{os.path.relpath(last.filename)}:{last.lineno}"
            yield _message("E009", text, place)


def _is_ours(path: str) -> bool:
    packages = Path(sysconfig.get_path("purelib")).resolve()
    folders = Path(path).resolve().parents
    frozen = path.startswith("<")
    return settings.BASE_DIR in folders and packages not in folders and not frozen


def _check_declared(app: App) -> Iterator[CheckMessage]:
    for name, job in declared.items():
        place = _place(job)
        for number, fault in faults(job):
            yield _message(number, f"{name}: {fault}.", place)
        task = app.tasks.get(name)
        if not task:
            yield _message("E001", f"{name} has no task.", place)
            continue
        there = f"its task in {_place(task)}"
        if _accepts(job) != _accepts(task, context=task.pass_context):
            body = f"{task.func.__name__}{signature(task.func)}"
            text = f"{name} takes {job.signature}, {there} is {body}."
            yield _message("E003", text, place)
        if declaration_of(task) is not job:
            text = f"{name} and {there} may differ in queue, priority, locks, retries."
            yield _message("E004", text, place)


def _check_tasks(app: App) -> Iterator[CheckMessage]:
    # Tasks that the worker itself defers need no declaration, nor do Procrastinate's.
    known = {*declared, *(name for name, _ in periodic_tasks(app))}
    for name, task in app.tasks.items():
        if name != task.name or name.startswith("builtin:"):
            continue
        if known.isdisjoint([name, *task.aliases]):
            yield _message("E002", f"{name} is not declared.", _place(task))
        yield from check_served([task.queue], f"{name}'s queue", _place(task))


def _check_periodic(app: App) -> Iterator[CheckMessage]:
    if not periodic_tasks(app):
        yield _message("W001", "The worker has no periodic task.", worker.TASKS)
    for periodic in periodic_tasks(app).values():
        task = copy(periodic.task)
        vars(task).update(periodic.configure_kwargs)
        for number, fault in faults(task):
            yield _message(number, f"{task.name}: {fault}.", _place(task))
        if any("{" in (lock or "") for lock in (task.lock, task.queueing_lock)):
            text = f"{task.name} is periodic, so its lock cannot have fields."
            yield _message("E011", text, _place(task))
        given = {"timestamp": 0, **(periodic.configure_kwargs.get("task_kwargs") or {})}
        try:
            periodic.croniter.get_next()
            signature(task.func).bind(*[None] * task.pass_context, **given)
        except (TypeError, ValueError) as error:
            text = f"{task.name} cannot run at {periodic.cron!r}: {error}."
            yield _message("E007", text, _place(task))


def _message(number: str, text: str, place: str) -> CheckMessage:
    kind = Error if number.startswith("E") else Warning
    return kind(text, hint=HINTS[number], obj=place, id=f"jobs.{number}")


def _accepts(job: Job[...] | Task[..., Any, ...], context: bool = False) -> object:
    """Return the name and the parameters; types are left to the type checkers."""
    parameters = list(signature(job.func).parameters.values())
    # The worker gives the context as the first positional argument.
    if context and (not parameters or parameters.pop(0).kind is Parameter.KEYWORD_ONLY):
        return None
    return job.func.__name__, {p.name: (p.kind, p.default) for p in parameters}


def _place(job: Job[...] | Task[..., Any, ...]) -> str:
    code = unwrap(job.func).__code__
    return f"{os.path.relpath(code.co_filename)}:{code.co_firstlineno}"
