"""The READMEs' pictures."""

import os
import shutil

from conftest import TEMPLATE
from playwright.sync_api import Page

PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
PICTURES = TEMPLATE / "docs"
# The one that the rendered project's README shows.
ITS_PICTURE = PROJECT / "docs" / "import.png"


def take_picture(page: Page, name: str) -> None:
    """Take a picture, when `make pictures` runs the test."""
    if "PICTURES" not in os.environ:
        return
    page.screenshot(path=PICTURES / f"{name}.png")
    if name == ITS_PICTURE.stem:
        shutil.copy(PICTURES / f"{name}.png", ITS_PICTURE)
