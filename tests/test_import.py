"""Whatever a file holds: each line is accounted for, nothing grows without limit or breaks."""

import csv
import importlib.util
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import psutil
import pytest
from conftest import TEMPLATE, Project, Start, find_uv, wait_until
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from site_at_work import database_of, workers

APP = TEMPLATE / "{{cookiecutter.project_slug}}/{{cookiecutter.app_name}}"
SCRIPT = Path(__file__).with_name("import_files.py")
WORKER = ("procrastinate", "--app=tasks.app", "worker")

HEADER = "email,name,note\n"
# Few pieces, so that quotes, delimiters and line ends meet often.
TOKENS = [
    "a",
    "é",
    "@b.org",
    ",",
    ";",
    "\n",
    "\n",
    '"',
    '""',
    ',"',
    '"\n',
    '\n"',
    '\n"c\nd"\n',
    " ",
    "=",
]


def texts(*more: str) -> st.SearchStrategy[str]:
    """Return texts of up to 60 tokens; hypothesis by itself prefers very short lists."""
    token = st.sampled_from([*TOKENS, *more])
    sized = st.integers(0, 60).flatmap(lambda n: st.lists(token, min_size=n, max_size=n))
    return sized.map("".join)


TEXTS = texts("'")
DELIMITERS = st.sampled_from(",;\t|")
CELLS = st.text("ab\"',;|\t\n =é", max_size=8)
TABLES = st.lists(st.lists(CELLS, min_size=2, max_size=4), max_size=12)
# Short rows, so that many are too long.
MAX_ROW_LENGTH = 20


def load() -> ModuleType:
    """Load the sample's parser from the template: it holds no rendered name, and no Django."""
    spec = importlib.util.spec_from_file_location("contacts_csv", APP / "contacts_csv.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    # A __pycache__ in the template would be rendered.
    with mock.patch.object(sys, "dont_write_bytecode", True):
        spec.loader.exec_module(module)
    return module


contacts_csv = load()


@pytest.fixture(scope="module", autouse=True)
def short_rows() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contacts_csv, "MAX_ROW_LENGTH", MAX_ROW_LENGTH)
        yield


def many(*strategies: Any) -> Callable[[Any], Any]:
    """Run a property test with a few hundred examples in CI, and with many more by `make test-all`."""
    cases = [300, pytest.param(30_000, marks=pytest.mark.exhaustive)]

    def decorate(test: Any) -> Any:
        @pytest.mark.timeout(1800)
        @pytest.mark.parametrize("examples", cases)
        def run(examples: int) -> None:
            chosen = settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=examples == 300,
                suppress_health_check=list(HealthCheck),
            )
            with_examples: Any = given(*strategies)
            chosen(with_examples(test))()

        run.__doc__ = test.__doc__
        return run

    return decorate


def reader(text: str, names: list[str], delimiter: str, *, line: int = 0, cursor: int = 0) -> Any:
    pieces = (text[n : n + 7] for n in range(cursor, len(text), 7))
    return contacts_csv.RowReader(pieces, names, delimiter, line, cursor)


def read(text: str, names: list[str], delimiter: str = ",") -> list[tuple[Any, int, int]]:
    """Read a text without a header; return each row, its last line, and its end."""
    # `store` refuses files with longer lines.
    assume(max(map(len, text.split("\n"))) < 2 * MAX_ROW_LENGTH)
    rows = reader(text, names, delimiter)
    found = []
    while rows.cursor < len(text):
        before = rows.cursor
        found += [(row, rows.line, rows.cursor) for row in rows.read_chunk(rows=1)]
        assert rows.cursor > before
        assert len(rows._text) <= 2 * MAX_ROW_LENGTH + 7 + len(text.split("\n")[0])
    assert (rows.line, rows.cursor) == (len(text.removesuffix("\n").split("\n")), len(text)) or (
        not text
    )
    return found


def trimmed(values: list[str]) -> list[str]:
    """Return the values without blank ones at the end."""
    while values and not values[-1].strip():
        values = values[:-1]
    return values


@many(TEXTS, DELIMITERS)
def test_each_line_is_part_of_one_row_or_blank(text: str, delimiter: str) -> None:
    text = text.replace(",", delimiter)
    lines = text.split("\n")
    blank = set(range(1, len(lines) + 1))
    end = 0
    for row, last_line, _ in read(text, ["email", "name", "note"], delimiter):
        assert row.line > end
        end = last_line
        blank -= set(range(row.line, last_line + 1))
        source = "\n".join(lines[row.line - 1 : last_line])
        if "begins with a quote" in row.problem:
            # The text can be mended, because nothing of it is lost.
            assert trimmed(source.split(delimiter)) == row.values
        else:
            (values,) = csv.reader(io.StringIO(source), delimiter=delimiter, strict=True)
            assert trimmed(values) == row.values
            assert len(source) <= MAX_ROW_LENGTH or last_line == row.line
    for line in blank:
        assert not lines[line - 1].strip(f' "{delimiter}')


@many(TEXTS, st.integers(1, 9))
def test_reading_can_resume_after_any_row(text: str, rows: int) -> None:
    names = ["email", "name", "note"]
    everything = [row for row, _, _ in read(text, names)]
    found: list[Any] = []
    line = cursor = 0
    while cursor < len(text):
        one = reader(text, names, ",", line=line, cursor=cursor)
        found += one.read_chunk(rows=rows)
        line, cursor = one.line, one.cursor
    assert found == everything


@many(TABLES, DELIMITERS)
def test_what_programs_write_is_read_unchanged(table: list[list[str]], delimiter: str) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(table)
    found = read(text.getvalue(), ["email", "name", "note", "x"], delimiter)
    # Longer rows are rejected line by line.
    if all(len(cell) < 8 for row in table for cell in row) and "begins with" not in str(found):
        wanted = [trimmed(row) for row in table]
        assert [row.values for row, _, _ in found] == [row for row in wanted if row]


@many(st.lists(st.text("ab,", min_size=1, max_size=9), min_size=1), st.data())
def test_a_quote_too_many_costs_one_line(lines: list[str], data: st.DataObject) -> None:
    text = "".join(f"x{line}\n" for line in lines)
    place = data.draw(st.integers(0, len(text) - 1))
    hurt = text[:place].count("\n") + 1
    names = ["email"] * 12
    before = [row for row, _, _ in read(text, names)]
    after = [row for row, _, _ in read(f'{text[:place]}"{text[place:]}', names)]
    assert [row for row in before if row.line != hurt] == [row for row in after if row.line != hurt]
    assert len(before) == len(after)


@many(TABLES, DELIMITERS)
def test_rejected_rows_are_downloaded_unchanged(table: list[list[str]], delimiter: str) -> None:
    names = ["line", "reason", "email", "name", "note"]
    rows = [row for row in map(trimmed, table) if row]
    file = contacts_csv.write_rows([names, *rows], delimiter=delimiter)
    text = "".join(file).replace("\r\n", "\n")
    header = contacts_csv.RowReader.after_header(iter([text]))
    assert (header.names, header.delimiter) == (names, delimiter)
    found = read(text[header.cursor :], names, delimiter)
    if "begins with" not in str(found):
        assert [row.values for row, _, _ in found] == rows


@many(texts("email"))
def test_a_header_is_found_or_rejected(text: str) -> None:
    try:
        rows = contacts_csv.RowReader.after_header(iter([text]))
    except contacts_csv.BadFile:
        return
    assert "email" in contacts_csv.match_columns(rows.names)
    assert rows.cursor <= len(text)


class Importer:
    """A process of the rendered project that imports files, and rolls each import back."""

    def __init__(self, project: Project) -> None:
        self.process = subprocess.Popen(
            [find_uv(), "run", "--quiet", "python", str(SCRIPT)],
            cwd=project.path,
            env=project.env
            | {"DJANGO_SETTINGS_MODULE": f"{project.slug}.settings", "PYTHONPATH": "."},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, content: bytes) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        print(content.hex(), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


FILES = st.one_of(
    st.binary(max_size=60).map(lambda rest: HEADER.encode() + rest),
    TEXTS.map(lambda rest: (HEADER + rest).encode()),
    TEXTS.map(lambda rest: (HEADER + rest).encode("utf-16")),
    TABLES.map(lambda rows: (HEADER + "\n".join(",".join(row) for row in rows)).encode()),
    st.binary(max_size=60),
)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("examples", [60, pytest.param(5_000, marks=pytest.mark.exhaustive)])
def test_every_file_is_imported_or_rejected_without_an_error(site: Project, examples: int) -> None:
    importer = Importer(site)

    @settings(max_examples=examples, deadline=None, database=None, derandomize=examples == 60)
    @given(FILES)
    def check(content: bytes) -> None:
        done = importer.run(content)
        assert not done["error"], done["error"]
        if not done["bad"]:
            assert done["imported"] + done["rejected"] == done["rows"]
            assert done["rejected"] == len(done["lines"])
            assert done["contacts"] <= done["imported"]
            assert done["again"] == done["values"]

    try:
        check()
    finally:
        importer.process.communicate()  # it ends when its input does


MB = 1_000_000

# The repeated line, and what becomes of the file.
HOSTILE = {
    "commas": ("," * (MB - 1) + "\n", "Done"),
    "many values": ("a," * 400_000 + "\n", "Done"),
    "one line": ("x", "A line is longer than"),
    "quotes": ('"\n', "Done"),
    "quotes that do not match": ('a","c\n', "rows were rejected"),
    "quotes that are never closed": ('"a' + "\nx" * 500_000 + "\n", "rows were rejected"),
    "two bytes": ("x\n", "rows were rejected"),
    "blank": ("\n", "Done"),
    "long cells": ('a@b.org,"' + "é\n" * 300_000 + '"\n', "Done"),
}

START = """
import sys
from users.models import User
from {app} import services
from {app}.contacts_csv import BadFile
user = User.objects.get(username="dev")
try:
    services.start_import(owner=user, filename="hostile", file=open(sys.stdin.readline().strip(), "rb"))
except BadFile as error:
    print("BAD", error)
"""


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
@pytest.mark.parametrize("kind", HOSTILE)
def test_no_file_of_100_mb_needs_much_of_anything(
    site: Project, start: Start, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line, outcome = HOSTILE[kind]
    path = tmp_path / "hostile.csv"
    path.write_text("email,name\n" + line * (100 * MB // len(line.encode())))
    database = database_of(site)
    size = "SELECT pg_database_size(current_database()) AS size"
    before = database.query(size)[0]["size"]
    code = START.format(app=site.app).replace("sys.stdin.readline().strip()", repr(str(path)))
    said = site.run("manage.py", "shell", "--verbosity=0", "--command", code).stdout
    if "BAD" in said:
        assert outcome in said
        return
    start(site, *WORKER, PYTHONPATH=".")
    wait_until(lambda: database.last_import()["finished_at"], 900)
    (process, *_) = workers(site)
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
    assert found
    memory = int(found[1]) // 1024
    spent = sum(psutil.Process(process.pid).cpu_times()[:2])
    done = database.last_import()
    growth = (database.query(size)[0]["size"] - before) / path.stat().st_size
    with capsys.disabled():
        print(
            f"\n{kind}: worker {memory} MB, {spent:.0f} s of processor time, database grown by"
            f" {growth:.1f} times the file, {done['imported']:,} imported,"
            f" {done['rejected']:,} rejected. {done['reason']}"
        )
    assert memory < 250
    assert growth < 4
    assert outcome in (done["reason"] or "Done")
