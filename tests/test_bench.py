"""The measurements of bench/: they run, and their results say what was measured."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import TEMPLATE

from bench import report

MEASURED: dict[str, Any] = {
    "command": "python -m bench queues",
    "date": "2030-01-02",
    "machine": "2 cores",
    "Python": "3.13.0",
    "PostgreSQL": {"server_version": "18.6", "fsync": "on", "synchronous_commit": "on"},
    "base": "one",
    "notes": {"one": "", "two": "Keeps nothing.", "three": ""},
    "versions": {"one": "1.0"},
    "unavailable": {"three": "uv pip: no such package"},
    "rounds": [
        {"round": 0, "peer": "one", "workload": "real", "figures": {"real, jobs/s": 100}},
        {"round": 0, "peer": "two", "workload": "real", "figures": {"real, jobs/s": 300}},
        {"round": 1, "peer": "two", "workload": "real", "figures": {"real, jobs/s": 50}},
        {"round": 1, "peer": "one", "workload": "real", "figures": {"real, jobs/s": 50}},
        {"round": 1, "peer": "one", "workload": "noop", "error": "only 3 of 400 jobs were done"},
        {
            "round": 0,
            "peer": "two",
            "workload": "check",
            "figures": {"check --database default, s": 3.3},
        },
    ],
}


def test_ratios_compare_figures_of_the_same_round(tmp_path: Path) -> None:
    report.write(MEASURED, tmp_path)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "| two | ×2.00 (1.00–3.00), 175 |" in lines
    assert "- two: Keeps nothing." in lines
    texts = [element.text for element in ElementTree.parse(tmp_path / "chart.svg").iter()]
    assert [text for text in texts[-8:] if text] == ["two", "2.00", "one", "1.00"]


def test_the_short_table_has_the_fastest_first(tmp_path: Path) -> None:
    readme = tmp_path / "docs" / "speed" / "README.md"
    readme.parent.mkdir(parents=True)
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for kind in ("queues", "settings"):
        report.write(MEASURED, tmp_path / "results" / kind)
    report.publish(tmp_path / "results", tmp_path)
    lines = readme.read_text().splitlines()
    assert lines[:2] + lines[-2:] == ["before", report.BEGIN, report.END, "after"]
    assert [line.split(" | ")[:2] for line in lines[4:-2]] == [
        ["| two", "2.0 (1.0–3.0)"],
        ["| one", "1.0 (1.0–1.0)"],
    ]
    made = {path.name for path in (tmp_path / "docs" / "speed").iterdir()}
    assert made == {"README.md", "queues.md", "settings.md", "chart.svg"}


def test_what_could_not_be_measured_is_listed(tmp_path: Path) -> None:
    report.write(MEASURED, tmp_path)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "- three: uv pip: no such package" in lines
    assert "- one, noop, round 2: only 3 of 400 jobs were done" in lines


def test_figures_that_the_base_does_not_have_are_shown_too(tmp_path: Path) -> None:
    report.write(MEASURED, tmp_path)
    table = (tmp_path / "table.md").read_text().partition("## A million waiting jobs")[2]
    assert "|  | check --database default, s |" in table
    assert "| two | 3.3 |" in table


def test_rounds_can_be_added_to_those_of_an_earlier_run(tmp_path: Path) -> None:
    report.write(MEASURED, tmp_path)
    result = MEASURED | {"notes": {"four": ""}, "rounds": []}
    report.keep_earlier(result, tmp_path)
    assert list(result["notes"]) == ["one", "two", "three", "four"]
    assert result["rounds"] == MEASURED["rounds"]


def test_counts_of_jobs_are_whole_numbers(tmp_path: Path) -> None:
    figures = {"jobs": 400, "effects": 403, "doubled": 3, "lost": 0}
    rounds = [{"round": 0, "peer": "one", "workload": "kills", "figures": figures}]
    report.write(
        MEASURED | {"command": "python -m bench faults", "rounds": rounds}, tmp_path / "faults"
    )
    lines = (tmp_path / "faults" / "table.md").read_text().splitlines()
    assert "| one | 400 | 403 | 3 | 0 |" in lines


def test_one_comparison_can_be_published_alone(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    report.write(MEASURED, tmp_path / "results" / "faults")
    report.publish(tmp_path / "results", tmp_path)
    assert [path.name for path in (tmp_path / "docs" / "speed").iterdir()] == ["faults.md"]


@pytest.mark.exhaustive
def test_the_command_measures_the_project(tmp_path: Path) -> None:
    options = ("--quick", "--rounds=1", "--only=this project", "--work=noop")
    command = (sys.executable, "-m", "bench", *options, f"--output={tmp_path}")
    subprocess.run(command, check=True, cwd=TEMPLATE, stdin=subprocess.DEVNULL)
    result = json.loads((tmp_path / "rounds.json").read_text())
    assert result["PostgreSQL"]["fsync"] == result["PostgreSQL"]["synchronous_commit"] == "on"
    assert not result["unavailable"]
    assert {record["peer"] for record in result["rounds"]} == set(result["notes"])
    assert all(record["figures"]["noop, jobs/s"] > 0 for record in result["rounds"])


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_the_project_loses_no_job_and_runs_none_without_its_row(tmp_path: Path) -> None:
    options = ("faults", "--quick", "--rounds=1", "--only=this project", f"--output={tmp_path}")
    command = (sys.executable, "-m", "bench", *options)
    subprocess.run(command, check=True, cwd=TEMPLATE, stdin=subprocess.DEVNULL)
    result = json.loads((tmp_path / "rounds.json").read_text())
    counted: dict[str, dict[str, int]] = {peer: {} for peer in result["notes"]}
    for record in result["rounds"]:
        counted[record["peer"]] |= record["figures"]
    assert list(counted) == ["this project", "this project, atomic"]
    for figures in counted.values():
        assert figures["kills"] > 0
        assert not any(
            figures[figure]
            for figure in ("lost", "left over", "ran after a rollback", "lost after a commit")
        )
    assert counted["this project, atomic"]["effects"] == 100
