"""Thin tasks: each calls one service."""

from asgiref.sync import sync_to_async
from procrastinate import JobContext
from procrastinate.exceptions import JobAborted

from {{ cookiecutter.app_name }} import services
from {{ cookiecutter.app_name }} import tasks as bridge

from . import app


@bridge.import_contacts.task(app, pass_context=True)
def import_contacts(context: JobContext, *, import_id: int) -> None:
    """A plain function runs in a thread: Django's ORM is fastest there."""
    if not services.import_contacts(
        import_id=import_id, should_stop=context.should_abort
    ):
        raise JobAborted


@bridge.send_summary.task(app)
async def send_summary(*, import_id: int) -> None:
    """An async function calls the service, which is sync, in a thread."""
    await sync_to_async(services.send_summary)(import_id=import_id)


# At 3:00 UTC. A late start does no harm, so the body ignores the timestamp.
@app.periodic(cron="0 3 * * *")
@bridge.remove_old_imports.task(app)
def remove_old_imports(timestamp: int) -> None:
    """The workers defer it: one job a night, however many workers there are."""
    services.remove_old_imports()
