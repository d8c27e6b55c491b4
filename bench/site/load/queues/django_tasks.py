"""Django's own tasks, which TASKS gives to django-tasks-db or to the rendered project."""

from django.tasks import task

from load import jobs


@task
def noop(sent: float) -> None:
    jobs.noop(sent)


@task
def real(sent: float) -> None:
    jobs.real(sent)


@task
def effect(sent: float) -> None:
    jobs.effect(sent)


@task
async def anoop(sent: float) -> None:
    await jobs.anoop(sent)


@task
async def areal(sent: float) -> None:
    await jobs.areal(sent)


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    globals()[name].enqueue(sent)


def unfinished(name: str) -> list[float]:
    """Return the arguments of django-tasks-db's jobs that have not succeeded."""
    from django_tasks_db.models import DBTaskResult

    found = DBTaskResult.objects.exclude(status="SUCCESSFUL")
    return [result.args_kwargs["args"][0] for result in found]
