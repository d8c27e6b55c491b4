from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A person who logs in. Django's fields for now: add yours here."""


class FailedLogin(models.Model):
    """A recent login with a wrong password; see login_limit.py."""

    key = models.CharField(max_length=64, help_text="A hash of who tried what.")
    at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        indexes = [models.Index(fields=["key", "at"], name="failed_logins_by_key")]

    def __str__(self) -> str:
        return str(self.at)
