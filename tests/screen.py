"""Steps that a person takes in a real browser."""

from collections.abc import Callable
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

NewPage = Callable[..., Page]

BOB = """
from users.models import User
User.objects.create_superuser("bob", "bob@example.com", "correct horse")
User.objects.create_user("eve", "eve@example.com", "correct horse")
"""


def log_in(page: Page, username: str, password: str) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in", exact=True).click()


def check_accessibility(page: Page) -> None:
    """Check the page with axe, in dark and in light colours."""
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        report = Axe().run(page)
        assert not report.violations_count, report.generate_report()


def upload(page: Page, file: Path, content: bytes) -> None:
    file.write_bytes(content)
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_role("button", name="Import", exact=True).click()
