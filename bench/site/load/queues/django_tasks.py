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
async def anoop(sent: float) -> None:
    await jobs.anoop(sent)


@task
async def areal(sent: float) -> None:
    await jobs.areal(sent)


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    globals()[name].enqueue(sent)
