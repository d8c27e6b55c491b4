"""The results of a run: all of it as JSON, tables in Markdown, and a chart."""

import json
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

from .peers import RENDERED

OURS = RENDERED.name
KILLED = "Killed workers, and killed requests"
TABLES = {
    "Jobs done": ("real, jobs/s", "noop, jobs/s", "areal, jobs/s", "anoop, jobs/s"),
    "Processor time of workers": tuple(
        f"{job}, CPU ms/job" for job in ("real", "noop", "areal", "anoop")
    ),
    "Jobs enqueued": (
        "one by one, calls/s",
        "one by one, CPU ms/call",
        "in batches of 500, calls/s",
        "row kept",
    ),
    "Pages": (
        "page, requests/s",
        "page, CPU ms/request",
        "page p50, ms",
        "page p95, ms",
        "web's memory, MB",
    ),
    "Idle workers": (
        "p50, ms",
        "p95, ms",
        "p99, ms",
        "12 jobs of one lock, ms",
        "memory, MB",
        "idle CPU, %",
    ),
    KILLED: (
        "jobs",
        "kills",
        "effects",
        "doubled",
        "lost",
        "left over",
        "left over, with effect",
        "ran after a rollback",
        "lost after a commit",
    ),
    "A million waiting jobs": ("check --database default, s",),
}
MADE = """\
Made by `{command}` on {date}: {machine}, Python {Python}, PostgreSQL {server_version} (fsync {fsync},
synchronous_commit {synchronous_commit}). Rounds: {count}, each with all of them in random order.
"""
SPEED = """\
× is the ratio to "{base}" in the same round: the median, with the lowest and the highest in
brackets. It says more than the rate or the time after it, which depends on the machine.

A real job reads a row and writes it, a no-op does nothing; `areal` and `anoop` are the same as
`async def`. A latency is from the call that enqueues a job to its start in an idle worker. "Row
kept": creating a row and a job in one transaction runs at this fraction of the rate of creating
the row alone. Processor time is that of the workers, or of the process that enqueues, without
PostgreSQL's and Redis's.
"""
FAULTS = """\

A job waits for up to 100 ms, writes one row, its effect, and waits once more. Four jobs run at a
time. At every 20th effect, all processes of the workers are killed (SIGKILL) and started again. After
the last kill, the workers run until the queue is empty, for two minutes at most. Then we count:

- effects: the rows; with one for each job, nothing was lost or doubled
- doubled: how many effects are one too many, as their job ran twice
- lost: the jobs without an effect that the queue has forgotten
- left over: the jobs that the queue still knows: they wait, seem to run, or failed; some had their
  effect before

Then, without kills: as many transactions write a row, enqueue a job about it, and fail. "Ran after a
rollback" are the jobs that ran all the same. At last, as many processes do this without an error, and
are killed right after the commit. "Lost after a commit" are the rows whose job never came.
"""

SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" role="img"
 font-family="system-ui, sans-serif" font-size="13">
<title>How many real jobs each queue does</title>
<rect width="100%" height="100%" fill="#fff"/>"""

ROUNDS = "rounds.json"

# The table of docs/speed/README.md stands between them.
BEGIN, END = "<!-- made by make bench -->", "<!-- end -->"

Rounds = dict[int, float]


def write(result: dict[str, Any], folder: Path) -> None:
    """Write the three files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ROUNDS).write_text(json.dumps(result, indent=1) + "\n")
    (folder / "table.md").write_text(tables(result))
    (folder / "chart.svg").write_text(chart(result))


def keep_earlier(result: dict[str, Any], folder: Path) -> None:
    """Add the earlier rounds, which are in a folder, to a result."""
    earlier = json.loads((folder / ROUNDS).read_text())
    for key in ("notes", "versions", "unavailable"):
        result[key] = earlier[key] | result[key]
    result["rounds"] = earlier["rounds"] + result["rounds"]


def publish(results: Path, root: Path) -> None:
    """Put the newest results of each kind into the template's docs/speed/.

    Args:
        results: The folder with a folder of each kind.
        root: The template's checkout.
    """
    docs = root / "docs" / "speed"
    docs.mkdir(exist_ok=True)
    for folder in results.iterdir():
        (docs / f"{folder.name}.md").write_text((folder / "table.md").read_text())
    queues = results / "queues"
    if not queues.exists():
        return
    (docs / "chart.svg").write_text((queues / "chart.svg").read_text())
    readme = docs / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    short = summary(json.loads((queues / ROUNDS).read_text()))
    readme.write_text(f"{before}{BEGIN}\n{short}{END}{after}")


def summary(result: dict[str, Any]) -> str:
    """Return the short table, the fastest queue with real jobs first."""
    values, base = collect(result), result["base"]
    rows = []
    for peer in result["notes"]:
        real, noop = (
            ratios(values[figure, peer], values[figure, base])
            for figure in ("real, jobs/s", "noop, jobs/s")
        )
        p50, p99, memory = (
            f"{median(found.values()):,.0f}" if (found := values[figure, peer]) else ""
            for figure in ("p50, ms", "p99, ms", "memory, MB")
        )
        if real:
            row = [peer, spread(real, 1), spread(noop, 1), f"{p50} / {p99}", memory]
            rows.append((median(real), row))
    head = ["", "Real jobs, ×", "No-ops, ×", "Latency, ms: p50 / p99", "Memory, MB"]
    rows.sort(reverse=True)
    return "".join(lines(head, [row for _, row in rows]))


def collect(result: dict[str, Any]) -> dict[tuple[str, str], Rounds]:
    """Return the values of each round by figure and queue."""
    values: dict[tuple[str, str], Rounds] = defaultdict(dict)
    for record in result["rounds"]:
        for figure, value in record.get("figures", {}).items():
            values[figure, record["peer"]][record["round"]] = value
    return values


def ratios(values: Rounds, base: Rounds) -> list[float]:
    """Return the ratio of each round that both have."""
    return [value / base[number] for number, value in values.items() if base.get(number)]


def spread(numbers: list[float], digits: int) -> str:
    """Return a median, with the lowest and the highest if there are several numbers."""
    if not numbers:
        return ""
    if len(numbers) == 1:
        return f"{numbers[0]:,.{digits}f}"
    return f"{median(numbers):,.{digits}f} ({min(numbers):,.{digits}f}–{max(numbers):,.{digits}f})"


def cell(values: Rounds, base: Rounds, figure: str) -> str:
    """Return the table cell of one figure of one queue."""
    if not figure.endswith(("/s", "/job", "/call", "/request")):
        digits = 2 if figure == "row kept" else 0 if figure in TABLES[KILLED] else 1
        return spread(list(values.values()), digits)
    digits = 0 if figure.endswith("/s") else 2
    rate = spread([median(values.values())], digits) if values else ""
    relative = spread(ratios(values, base), 2)
    return f"×{relative}, {rate}" if relative else rate


def tables(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    values, base = collect(result), result["base"]
    numbers = {record["round"] for record in result["rounds"]}
    of_faults = result["command"].endswith("faults")
    introduction = MADE + (FAULTS if of_faults else SPEED)
    parts = [introduction.format(**result, **result["PostgreSQL"], count=len(numbers))]
    for title, all_figures in TABLES.items():
        figures = [
            figure
            for figure in all_figures
            if any(values[figure, peer] for peer in result["notes"])
        ]
        rows = [
            [
                peer,
                *(cell(values[figure, peer], values[figure, base], figure) for figure in figures),
            ]
            for peer in result["notes"]
        ]
        parts += table(title, ["", *figures], [row for row in rows if any(row[1:])])
    floor = [
        [figure, cell(values[figure, peer], values[f"{figure.split(', ')[1]}, jobs/s", base], "/s")]
        for figure, peer in measured(result, "floor")
    ]
    parts += table("pgbench, 10 clients, no Python", ["", "transactions/s"], floor)
    of_sizes = measured(result, "sizes")
    peers = list(dict.fromkeys(peer for _, peer in of_sizes))
    sizes = [
        [
            figure,
            *(cell(values[figure, peer], values["nothing else", peer], "/s") for peer in peers),
        ]
        for figure in dict.fromkeys(figure for figure, _ in of_sizes)
    ]
    parts += table("Real jobs beside other jobs, × nothing else", ["", *peers], sizes)
    if any(result["notes"].values()):
        parts += [f"\n## {'What the defaults mean' if of_faults else 'What is not fair'}\n\n"]
        parts += [f"- {peer}: {note}\n" for peer, note in result["notes"].items() if note]
    failures = {
        f"{record['peer']}, {record['workload']}, round {record['round'] + 1}": record["error"]
        for record in result["rounds"]
        if "error" in record
    } | result["unavailable"]
    if failures:
        parts += ["\n## Not measured\n\n"]
        parts += [f"- {what}: {why}\n" for what, why in failures.items()]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return "".join([*parts, f"\n## Versions\n\n{versions}\n"])


def measured(result: dict[str, Any], workload: str) -> dict[tuple[str, str], None]:
    """Return each figure of a workload with each queue for which it was measured."""
    return {
        (figure, record["peer"]): None
        for record in result["rounds"]
        if record["workload"] == workload
        for figure in record.get("figures", {})
    }


def table(title: str, head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table, or nothing if it has no rows."""
    return [f"\n## {title}\n\n", *lines(head, rows)] if rows else []


def lines(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows)]


def chart(result: dict[str, Any]) -> str:
    """Return the real jobs' ratios as an SVG: a bar for each queue, with its spread."""
    values, base = collect(result), result["base"]
    figure = "real, jobs/s"
    bars = {peer: ratios(values[figure, peer], values[figure, base]) for peer in result["notes"]}
    drawn = sorted(((median(bar), peer) for peer, bar in bars.items() if bar), reverse=True)
    scale = 400 / max((max(bars[peer]) for _, peer in drawn), default=1)
    parts = [
        SVG.format(height=24 * len(drawn) + 40),
        f'<text x="10" y="20" font-weight="bold">Real jobs per second, × {escape(base)}</text>',
    ]
    for row, (middle, peer) in enumerate(drawn):
        y = 24 * row + 34
        color = "#0b6e4f" if peer.startswith(OURS) else "#9aa5b1"
        start, end = (f"{260 + scale * limit(bars[peer]):.1f}" for limit in (min, max))
        parts += [
            f'<text x="250" y="{y + 13}" text-anchor="end">{escape(peer)}</text>',
            f'<rect x="260" y="{y}" width="{middle * scale:.1f}" height="18" fill="{color}"/>',
            f'<path d="M{start} {y + 9}H{end}" stroke="#1f2933" stroke-width="1.5"/>',
            f'<text x="{float(end) + 8:.1f}" y="{y + 13}">{middle:.2f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
