"""What a user changes on the first day: the project's own tests stay green."""

import pytest
from conftest import Project

# With TIME_ZONE, Django closes the pool, which then forgets the session.
A_SESSION_IS_LEFT_OPEN = """import pytest
from django.db import connection
from django.test import override_settings

KEPT = []


@pytest.mark.django_db(transaction=True)
def test_other_time_zones_may_be_tried() -> None:
    KEPT.append(connection.cursor())
    connection.close()
    with override_settings(TIME_ZONE="Asia/Tokyo"):
        pass
"""


def edit(project: Project, name: str, *replacements: tuple[str, str]) -> None:
    """Replace texts in one of the project's files."""
    path = project.path / name
    text = path.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_edits_of_the_first_day_leave_all_tests_green(editable: Project) -> None:
    edit(
        editable,
        "my_project/settings.py",
        ('LANGUAGE_CODE = "en-us"', 'LANGUAGE_CODE = "de"'),
        ('TIME_ZONE = "UTC"', 'TIME_ZONE = "Europe/Berlin"'),
    )
    edit(
        editable,
        "users/models.py",
        (
            "class User(",
            "from django.db import models\n\n\nclass User(",
        ),
        (
            'add yours here."""\n',
            'add yours here."""\n\n    title = models.CharField(max_length=50, default="Dr.")\n',
        ),
    )
    with (editable.path / ".env").open("a") as variables:
        variables.write("PORT=8010\n")
    editable.run("manage.py", "makemigrations", "users")
    editable.run("manage.py", "startapp", "shop")
    (editable.path / "my_project" / "tests" / "test_zones.py").write_text(A_SESSION_IS_LEFT_OPEN)
    assert "passed" in editable.run("pytest", "-n", "auto").stdout
    editable.run("manage.py", "check", "--fail-level", "WARNING")
    editable.run("manage.py", "makemigrations", "--check")
