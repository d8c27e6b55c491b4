"""The service layer: what the app does. Views, tasks and commands only call it."""

import smtplib
from typing import Any

from django.contrib.auth.tokens import default_token_generator
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from . import tasks
from .models import User


def request_password_links(*, user_ids: list[int], host: str, secure: bool) -> None:
    """Defer the e-mails with which users choose a new password.

    Args:
        user_ids: Those with the address that somebody has entered; there may be none.
        host: The site's name and port, for the link.
        secure: Whether the link begins with https.
    """
    tasks.send_password_links.defer(user_ids=user_ids, host=host, secure=secure)


def send_password_links(*, user_ids: list[int], host: str, secure: bool) -> None:
    """Mail each user a link to choose a new password; see `request_password_links`.

    Raises:
        smtplib.SMTPResponseException: The server did not take an e-mail. Unlike the
            original error, which ends in logs, this one does not name the recipient.
    """
    for user in User.objects.filter(pk__in=user_ids):
        context: dict[str, Any] = {
            "user": user,
            "email": user.email,
            "uid": urlsafe_base64_encode(force_bytes(user.pk)),
            "token": default_token_generator.make_token(user),
            "domain": host,
            "site_name": host,
            "protocol": "https" if secure else "http",
        }
        subject = render_to_string("registration/password_reset_subject.txt", context)
        text = render_to_string("registration/password_reset_email.html", context)
        try:
            send_mail(subject.strip(), text, None, [user.email])
        except smtplib.SMTPRecipientsRefused as error:
            [(code, _)] = error.recipients.values()
            raise smtplib.SMTPResponseException(code, "Recipient refused") from None
        except smtplib.SMTPResponseException as error:
            code = error.smtp_code
            raise smtplib.SMTPResponseException(code, "E-mail refused") from None
