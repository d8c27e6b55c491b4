"""The form for a forgotten password, which sends its e-mail as a job."""

from typing import Any

from django.contrib.auth import forms

from . import services


class PasswordResetForm(forms.PasswordResetForm):
    """Defers a job, whether or not there is a user with the address.

    So the answer takes the same time, and does not tell if there is one.
    """

    def save(self, *args: Any, **options: Any) -> None:
        """Defer the job."""
        services.request_password_links(
            user_ids=[user.pk for user in self.get_users(self.cleaned_data["email"])],
            host=options["request"].get_host(),
            secure=options["use_https"],
        )
