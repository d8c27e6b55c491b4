"""The bridge: this app's jobs as Django sees them, to be deferred.

Their bodies are in the worker's `tasks` package, which nothing here imports.
"""

from jobs.bridge import job


@job()
def import_contacts(*, import_id: int) -> None:
    """Import the rows of a `ContactImport` that are left."""


@job()
def send_summary(*, import_id: int) -> None:
    """Mail the owner of a `ContactImport` what became of it."""


@job(queueing_lock="remove_old_imports", retry=None)
def remove_old_imports(timestamp: int) -> None:
    """Remove imports that ended long ago, each night."""
