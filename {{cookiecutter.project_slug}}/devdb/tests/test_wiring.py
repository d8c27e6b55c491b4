"""The lines that make an app part of a project, and the check for missing ones."""

import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from ..checks import check_wiring
from ..wiring import MARK, Line


@pytest.mark.parametrize("indent", ["", "    ", "\t"])
def test_a_line_is_added_above_the_mark(tmp_path: Path, indent: str) -> None:
    file = tmp_path / "settings.py"
    file.write_bytes(f"[\r\n{indent}{MARK}\r\n]\r\n".encode())
    added = Line('"shop",', "INSTALLED_APPS", file).added_to_file()
    assert added == f'[\r\n{indent}"shop",\n{indent}{MARK}\r\n]\r\n'.encode()


def test_without_a_mark_nothing_is_added(tmp_path: Path) -> None:
    file = tmp_path / "settings.py"
    file.write_text("[]\n")
    assert Line('"shop",', "INSTALLED_APPS", file).added_to_file() is None


@pytest.fixture
def project(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A project with an app, ghost, that is not wired in."""
    for name, text in {
        "pyproject.toml": "",
        "ghost_settings.py": "",
        "ghost_root_urls.py": "urlpatterns = []\n",
        "ghost/apps.py": "",
        "ghost/urls.py": "",
        "tasks/ghost.py": "",
        "tasks/helpers.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("ghost_settings", "ghost_root_urls"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    settings.BASE_DIR = tmp_path
    settings.ROOT_URLCONF = "ghost_root_urls"
    settings.SETTINGS_MODULE = "ghost_settings"  # last: the other overrides reset it
    return tmp_path


@pytest.mark.usefixtures("project")
def test_the_check_reports_the_lines_that_an_app_needs() -> None:
    assert [str(message.hint) for message in check_wiring()] == [
        'Add to INSTALLED_APPS in ghost_settings.py: "ghost",',
        'Add to urlpatterns in ghost_root_urls.py: path("", include("ghost.urls")),',
        'Add to root_packages in pyproject.toml: "ghost",',
    ]


def test_the_check_is_silent_about_lines_that_are_there(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "pyproject.toml").write_text('root_packages = [\n    "ghost",\n]\n')
    monkeypatch.setitem(sys.modules, "ghost.urls", sys)
    [message] = check_wiring()
    assert "INSTALLED_APPS" in str(message.hint)


def test_the_check_expects_nothing_for_files_that_do_not_exist(project: Path) -> None:
    (project / "ghost" / "urls.py").unlink()
    assert [message.id for message in check_wiring()] == ["devdb.E001", "devdb.W002"]
    (project / "ghost" / "apps.py").unlink()
    assert check_wiring() == []


@pytest.mark.parametrize("arguments", [[], ["jobs", "--parallel", "2", "--noinput"]])
def test_djangos_test_command_says_what_to_run(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="`uv run pytest -n auto`"):
        call_command("test", *arguments)
