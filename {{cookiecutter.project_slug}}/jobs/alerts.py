"""Alerts: people are told about problems, by e-mail or through a webhook.

They are told of each problem at once, then once an hour while it lasts, and when it is
over.
"""

import json
import logging
from datetime import timedelta
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from django.conf import settings
from django.core.mail import send_mail
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from . import failures
from .models import Alert

logger = logging.getLogger(__name__)

INTERVAL = timedelta(hours=1)
"""Time between two messages about one problem."""
LEASE = timedelta(minutes=5)
"""Time after which another worker may send what one worker was about to send."""
TIMEOUT = 10
"""Seconds to wait for the webhook."""


def tell(problems: dict[str, str]) -> None:
    """Tell people what is wrong, and what is over. Try again in a minute if that fails.

    Args:
        problems: What is wrong now: sentences by the keys of the problems.
    """
    if not settings.JOBS_ALERTS_TO:
        return
    due = _claim(problems)
    if not due:
        return
    told = Alert.objects.filter(pk__in=[alert.pk for alert in due])
    try:
        send([alert.text if alert.active else f"Over: {alert.text}" for alert in due])
    except Exception as error:  # noqa: BLE001, whatever a server answers
        text = failures.text_of(error)
        logger.error("An alert could not be sent, trying again in a minute: %s", text)
        told.update(claimed_at=None)
    else:
        over = [alert.pk for alert in due if not alert.active]
        told.filter(pk__in=over).update(announced=False, claimed_at=None)
        told.exclude(pk__in=over).update(
            announced=True, claimed_at=None, told_at=timezone.now()
        )


def _claim(problems: dict[str, str]) -> list[Alert]:
    """Store the problems, and return those of which only this process tells people."""
    now = timezone.now()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE jobs_alert IN SHARE ROW EXCLUSIVE MODE")
        Alert.objects.bulk_create(
            (Alert(problem=key, text=text) for key, text in problems.items()),
            update_conflicts=True,
            unique_fields=["problem"],
            update_fields=["text", "active"],
        )
        over = Alert.objects.exclude(pk__in=problems)
        over.update(active=False)
        recent = Q(told_at__gt=now - INTERVAL)
        over.filter(~recent, announced=False).delete()
        free = Q(claimed_at=None) | Q(claimed_at__lt=now - LEASE)
        wrong, ended = ~recent & Q(active=True), Q(active=False, announced=True)
        due = list(Alert.objects.filter(free, wrong | ended).order_by("-active", "pk"))
        Alert.objects.filter(pk__in=[one.pk for one in due]).update(claimed_at=now)
    return due


def send(lines: list[str]) -> None:
    """Send a message to the webhook or to the addresses in the settings."""
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    subject = f"{settings.EMAIL_SUBJECT_PREFIX}{' '.join(lines[0].split())}{more}"
    text = "\n".join([*lines, "", "The page /jobs/ shows more."])
    to: str = settings.JOBS_ALERTS_TO
    if to.startswith(("https:", "http:")):
        body = json.dumps({"text": f"{subject}\n{text}" if more else subject}).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "jobs"}
        request = Request(to, body, headers)
        try:
            build_opener(_NoRedirects).open(request, timeout=TIMEOUT).close()
        except HTTPError as error:
            error.close()  # it is the response, too
            raise
    else:
        addresses = [address.strip() for address in to.split(",")]
        send_mail(subject, text, None, addresses)


class _NoRedirects(HTTPRedirectHandler):
    """After a redirect, urllib would GET the new address, and so lose the message."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Follow none: the redirect is an error."""
