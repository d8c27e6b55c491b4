"""The developers' panel: the newest jobs of the queue, in development only."""

import dataclasses
import re
from http import HTTPStatus
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.template import RequestContext, Template
from django.template.base import VARIABLE_TAG_END, VARIABLE_TAG_START
from django.test import Client, RequestFactory
from pytest_django import Settings

from jobs.bridge import Job, cancel_job, declared, job

from ..panel import SHOWN, render_panel

PANEL = "/devdb/panel/"
PAGE = Template(f"{VARIABLE_TAG_START} developers_panel {VARIABLE_TAG_END}")


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Job[[]]:
    """A job of an app called shop."""

    def send() -> None: ...

    send.__module__ = "shop.tasks"
    with monkeypatch.context() as patch:
        patch.setattr("jobs.bridge.declared", {})
        declaration: Job[[]] = job()(send)
    monkeypatch.setitem(declared, declaration.name, declaration)
    return declaration


@pytest.fixture
def developer(client: Client, db: None, settings: Settings) -> Client:
    """A client that is logged in, with DEBUG on."""
    settings.DEBUG = True
    model: Any = get_user_model()
    client.force_login(model.objects.create_user("dev"))
    return client


def test_the_panel_shows_the_newest_jobs_and_where_they_come_from(
    developer: Client, send: Job[[]]
) -> None:
    old, *_, newest = [send.defer() for _ in range(SHOWN + 1)]
    dataclasses.replace(send, name="maintenance.watch").defer()
    cancel_job(newest)
    page = developer.get(PANEL).content.decode()
    assert re.findall(r"<code>(shop\.send|maintenance\.\w+)</code>", page) == (
        ["shop.send"] * SHOWN
    )
    assert f">{old}</a>" not in page
    events = re.findall(r"<code>(\w+)</code> <time", page)
    assert events == ["deferred"] * SHOWN + ["abort_requested", "cancelled"]
    for file in ("shop/services.py", "shop/tasks.py", "tasks/shop.py"):
        assert f"<code>{file}</code>" in page


def test_the_panel_is_polled_until_its_jobs_have_ended(
    developer: Client, send: Job[[]]
) -> None:
    assert "hx-get" not in developer.get(PANEL).content.decode()
    number = send.defer()
    assert f'hx-get="{PANEL}"' in developer.get(PANEL).content.decode()
    cancel_job(number)
    assert "hx-get" not in developer.get(PANEL).content.decode()


def test_a_template_variable_shows_the_panel(
    rf: RequestFactory, db: None, settings: Settings
) -> None:
    settings.DEBUG = True
    page = PAGE.render(RequestContext(rf.get("/")))
    assert '<aside class="card panel"' in page
    assert "No jobs yet." in page


@pytest.mark.parametrize(
    ("page", "app"), [("shop.views", "shop"), ("elsewhere.views", "zoo")]
)
def test_without_jobs_the_panel_names_the_app_of_the_page(
    send: Job[[]], monkeypatch: pytest.MonkeyPatch, db: None, page: str, app: str
) -> None:
    def feed() -> None: ...

    feed.__module__ = "zoo.tasks"
    monkeypatch.setitem(declared, "zoo.feed", dataclasses.replace(send, func=feed))
    assert f"<code>{app}/services.py</code>" in render_panel(page)


def test_without_debug_there_is_no_panel(
    developer: Client, rf: RequestFactory, settings: Settings
) -> None:
    settings.DEBUG = False
    assert PAGE.render(RequestContext(rf.get("/"))) == ""
    assert developer.get(PANEL).status_code == HTTPStatus.NOT_FOUND


def test_the_panel_needs_a_login(client: Client, settings: Settings) -> None:
    settings.DEBUG = True
    assert client.get(PANEL).status_code == HTTPStatus.FOUND
