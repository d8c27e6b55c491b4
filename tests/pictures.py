"""The README's pictures."""

import os

from conftest import TEMPLATE
from playwright.sync_api import Page


def take_picture(page: Page, name: str) -> None:
    """Take a picture, when `make pictures` runs the test."""
    if "PICTURES" in os.environ:
        page.screenshot(path=TEMPLATE / "docs" / f"{name}.png")
