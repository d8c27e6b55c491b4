"""The bridge: declares this app's jobs, so that Django can defer them."""

from jobs.bridge import job


@job()
def send_password_links(*, user_ids: list[int], host: str, secure: bool) -> None:
    """Mail each user a link to choose a new password.

    The list may be empty: an unknown address must not be answered sooner.
    """
