"""The bridge: declares this app's jobs, so that Django can defer them.

Their bodies are in the worker's `tasks` package, which nothing here imports.
"""

from jobs.bridge import job


@job()
def import_contacts(*, import_id: int) -> None:
    """Import the remaining rows of a `ContactImport`.

    Not atomic: it commits after each chunk of rows, so that users see the progress.
    """


@job()
def send_summary(*, import_id: int) -> None:
    """Mail the result of a `ContactImport` to its owner.

    Not atomic: an e-mail cannot be rolled back.
    """


@job(queueing_lock="remove_old_imports", retry=None, atomic=True)
def remove_old_imports(timestamp: int) -> None:
    """Remove imports that ended long ago, each night.

    Atomic: it changes nothing but the database, so its changes and the end of the job
    can be one transaction.
    """
