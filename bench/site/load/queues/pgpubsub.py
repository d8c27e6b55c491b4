"""django-pgpubsub: a job is a row of a table whose trigger notifies the listener."""

from dataclasses import dataclass

from pgpubsub.channel import TriggerChannel
from pgpubsub.listeners import post_insert_listener

from load import jobs
from load.models import Call


@dataclass
class Calls(TriggerChannel):
    """The channel of new rows, which keeps them until they are done."""

    model = Call
    lock_notifications = True


@post_insert_listener(Calls)
def run(old: Call | None, new: Call) -> None:
    """Run a job."""
    jobs.SYNC[new.name](new.sent)


def enqueue(name: str, sent: float) -> None:
    """Add one job to the queue."""
    Call.objects.create(name=name, sent=sent)


def enqueue_many(name: str, sents: list[float]) -> None:
    """Add jobs to the queue in one call."""
    Call.objects.bulk_create(Call(name=name, sent=sent) for sent in sents)
