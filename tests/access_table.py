"""Writes down who gets which answer at each address: test_access.py runs it in a project."""

import os
import re
from collections.abc import Iterator
from http import HTTPStatus
from io import BytesIO
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.tokens import default_token_generator
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from jobs.models import QueuedJob
from myapp import services
from myapp.models import Contact, ContactImport
from users.models import User

METHODS = ("get", "head", "post")
PROBES = ["health/live", "health/ready", "health/workers"]  # middleware, so they have no pattern


def addresses(resolver: URLResolver, start: str = "") -> Iterator[str]:
    """Yield the pattern of every address."""
    for entry in resolver.url_patterns:
        pattern = start + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from addresses(entry, pattern)
        elif isinstance(entry, URLPattern):
            yield pattern


def make_users() -> dict[str, User | None]:
    """Return one of each kind of user. The owner has everything that belongs to somebody."""
    users = {
        name: User.objects.create_user(name, f"{name}@example.com", is_staff=name.startswith("st"))
        for name in ("owner", "other user", "staff", "staff with all rights")
    }
    users["staff with all rights"].user_permissions.set(Permission.objects.all())
    superuser = User.objects.create_superuser("superuser")
    return {"anonymous": None, **users, "superuser": superuser}


def make_objects(owner: User) -> dict[type[Model], Model]:
    """Return an object of each model that has a page."""
    file = BytesIO(b"email\nann@example.com\n")
    services.start_import(owner=owner, filename="contacts.csv", file=file)
    found = [
        owner,
        Group.objects.create(name="group"),
        ContactImport.objects.get(),
        Contact.objects.create(email="ben@example.com"),
        QueuedJob.objects.get(),
    ]
    return {type(one): one for one in found}


def fill(pattern: str, objects: dict[type[Model], Model]) -> str:
    """Return an address that fits a pattern."""
    owner = User.objects.get(pk=objects[User].pk)  # as it is before the next login
    by_name = {f"{model._meta.app_label}/{model._meta.model_name}": model for model in objects}
    about = next((by_name[name] for name in by_name if f"/{name}/" in pattern), None)
    if about is None:
        about = QueuedJob if pattern.startswith("jobs/") else ContactImport
    pk = objects[about].pk
    values = {
        "uidb64": urlsafe_base64_encode(force_bytes(owner.pk)),
        "token": default_token_generator.make_token(owner),
        "content_type_id": ContentType.objects.get_for_model(User).pk,
        "app_label": "auth",
        "url": "nowhere",
    }

    def value(match: re.Match[str]) -> str:
        return str(values.get(match["name"], pk))

    pattern = re.sub(r"\(\?P<(?P<name>\w+)>[^)]*\)", value, pattern)
    pattern = re.sub(r"<(\w+:)?(?P<name>\w+)>", value, pattern)
    return "/" + pattern.replace("^", "").replace("$", "")


def answer(user: User | None, method: str, address: str) -> str:
    """Return the status of an answer; or, for a redirect, whether it leads to the login page."""
    client = Client(raise_request_exception=False)
    with transaction.atomic():
        if user:
            client.force_login(user)
        response = getattr(client, method)(address)
        transaction.set_rollback(True)
    if response.status_code == HTTPStatus.FOUND:
        target = response["Location"]
        return "login" if target.startswith(reverse("login")) else "moved"
    return str(response.status_code)


@pytest.mark.django_db
def test_access() -> None:
    users = make_users()
    objects = make_objects(users["owner"])
    rows = [["address", *users]]
    for pattern in [*PROBES, *dict.fromkeys(addresses(get_resolver()))]:
        row = [f"/{pattern}"]
        for user in users.values():
            answers = [answer(user, method, fill(pattern, objects)) for method in METHODS]
            row.append(" ".join(answers if len(set(answers)) > 1 else answers[:1]))
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    Path(os.environ["ACCESS_TABLE"]).write_text("\n".join(lines) + "\n")
