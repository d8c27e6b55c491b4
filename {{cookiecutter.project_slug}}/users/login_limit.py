"""Limits how many wrong passwords an address may try, for one user and for all."""

from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.core.exceptions import PermissionDenied
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import salted_hmac

from .models import FailedLogin, User

WINDOW = timedelta(minutes=15)
LIMIT_FOR_ONE_USER = 10
LIMIT_FOR_ALL = 100
"""Higher, because a whole office may have one address."""


class LoginLimit:
    """Rejects logins from an address with too many failed ones.

    The first of Django's authentication backends, so that it works for every login. It
    knows no users: the next backend does.
    """

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> None:
        """Let the next backend decide, or nobody.

        Raises:
            PermissionDenied: There were too many failed logins.
        """
        if request and _is_blocked(request, credentials):
            text = "Too many wrong passwords: try again in 15 minutes."
            messages.warning(request, text, fail_silently=True)
            raise PermissionDenied

    async def aauthenticate(self, request: HttpRequest | None, **kwargs: Any) -> None:
        """Do the same, in async code."""
        await sync_to_async(self.authenticate)(request, **kwargs)


@receiver(user_login_failed)
def record_failure(
    credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any
) -> None:
    """Record a wrong password, and delete the records that no longer count."""
    # Attempts during a block are not recorded, so they do not prolong it.
    if request and not _is_blocked(request, credentials):
        FailedLogin.objects.filter(at__lt=timezone.now() - WINDOW).delete()
        FailedLogin.objects.bulk_create(
            FailedLogin(key=key) for key in _limits(request, credentials)
        )


@receiver(user_logged_in)
def forget_failures(request: HttpRequest | None, user: User, **kwargs: Any) -> None:
    """Forget the wrong passwords of a user who knows the right one."""
    if request:
        one_user, _ = _limits(request, {"username": user.get_username()})
        FailedLogin.objects.filter(key=one_user).delete()


def _is_blocked(request: HttpRequest, credentials: dict[str, Any]) -> bool:
    recent = FailedLogin.objects.filter(at__gt=timezone.now() - WINDOW)
    return any(
        recent.filter(key=key).count() >= limit
        for key, limit in _limits(request, credentials).items()
    )


def _limits(request: HttpRequest, credentials: dict[str, Any]) -> dict[str, int]:
    """Return the limits that a login counts against, by keys that name nobody."""
    address = request.META.get("REMOTE_ADDR", "")
    with suppress(ValueError):
        # With IPv6, whoever has one address has all of its network, a /64.
        bits = 64 if ":" in address else 32
        address = str(ip_network((address, bits), strict=False))
    username = str(credentials.get("username", "")).casefold()
    return {
        salted_hmac("users.login_limit", text, algorithm="sha256").hexdigest(): limit
        for text, limit in (
            (f"{address} {username}", LIMIT_FOR_ONE_USER),
            (address, LIMIT_FOR_ALL),
        )
    }
