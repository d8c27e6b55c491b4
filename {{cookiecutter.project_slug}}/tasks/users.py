"""Thin tasks: each calls one service."""

from users import services
from users import tasks as bridge

from . import app


@bridge.send_password_links.task(app)
def send_password_links(*, user_ids: list[int], host: str, secure: bool) -> None:
    """Not atomic: an e-mail cannot be rolled back."""
    services.send_password_links(user_ids=user_ids, host=host, secure=secure)
