"""The READMEs' pictures, and what was seen when they were taken."""

import hashlib
import json
import os
import shutil

from conftest import TEMPLATE
from playwright.sync_api import Page

PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
PICTURES = TEMPLATE / "docs"
# The one that the rendered project's README shows.
ITS_PICTURE = PROJECT / "docs" / "import.png"
# By picture, the look of the pages that it was taken of.
TAKEN = PICTURES / "pictures.json"


def look() -> str:
    """Return a digest of what the pages in the pictures are made of."""
    sources = [
        next(PROJECT.glob("*/templates/base.html")),
        *PROJECT.glob("*/static/*"),
        *PROJECT.glob("*/templates/contacts/*"),
        *PROJECT.glob("jobs/templates/jobs/*"),
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()


def take_picture(page: Page, name: str) -> None:
    """Take a picture, when `make pictures` runs the test."""
    if "PICTURES" not in os.environ:
        return
    page.screenshot(path=PICTURES / f"{name}.png")
    if name == ITS_PICTURE.stem:
        shutil.copy(PICTURES / f"{name}.png", ITS_PICTURE)
    taken = json.loads(TAKEN.read_text()) | {name: look()}
    TAKEN.write_text(json.dumps(taken, indent=2, sort_keys=True) + "\n")
