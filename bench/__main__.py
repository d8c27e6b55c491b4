"""The command behind `make bench`: measures all queues in one run, and writes the results."""

import argparse
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from . import report, servers, sites
from .faults import commit, kills, rollback
from .floor import floor
from .peers import FAULTS, PEERS, SETTINGS, WEB
from .sites import TEMPLATE, Site, Unavailable
from .sizes import check, sizes
from .web import web
from .workloads import FULL, QUICK, Effort, Figures, drain, enqueue, latency, one_lock

FOLDER = TEMPLATE / "build" / "bench"
RESULTS = FOLDER / "results"


def main() -> None:
    """Measure, and write the rounds, the tables and the chart."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    parser.add_argument(
        "what",
        nargs="?",
        choices=[*COMPARISONS, "publish"],
        default="queues",
        help="what to compare; or publish, which copies the results into docs/speed/",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="only queues with a WORD in their name"
    )
    parser.add_argument(
        "--work", nargs="+", metavar="WORKLOAD", choices=WORKLOADS, help="only these workloads"
    )
    parser.add_argument("--rounds", type=int, help="how many times to measure everything")
    parser.add_argument("--append", action="store_true", help="keep the rounds of earlier runs")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where to write the results")
    options = parser.parse_args()
    if options.what == "publish":
        report.publish(RESULTS, TEMPLATE)
        return
    # A quick run must not overwrite the results that publish takes.
    output = options.output or (FOLDER / "quick" if options.quick else RESULTS) / options.what
    effort = QUICK if options.quick else FULL
    with ExitStack() as stack:
        say("Rendering the project; starting PostgreSQL and Redis ...")
        project = sites.render(FOLDER)
        stack.callback(sites.devdb, project, "stop")
        stack.callback(sites.devdb, project, "reset", "--no-input")  # by then it has gigabytes
        postgres = servers.Postgres(sites.address(project))
        redis = stack.enter_context(servers.redis(FOLDER / "redis"))
        words = options.only or [""]
        chosen = [
            Site(peer, project, FOLDER, postgres, redis)
            for peer in COMPARISONS[options.what][0]
            if any(word in peer.name for word in words)
        ]
        result: dict[str, Any] = {
            "command": f"python -m bench {options.what}",
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{psutil.cpu_count()} cores, {platform.system()} {platform.machine()}",
            "Python": platform.python_version(),
            "PostgreSQL": postgres.settings(),
            "base": chosen[0].peer.name,
            "notes": {site.peer.name: site.peer.note for site in chosen},
        }
        result["versions"], result["unavailable"] = install(chosen)
        ready = [site for site in chosen if site.peer.name not in result["unavailable"]]
        result["rounds"] = []
        if options.append and (output / report.ROUNDS).exists():
            report.keep_earlier(result, output)
        for record in measure(ready, effort, options, result["rounds"]):
            result["rounds"].append(record)
            report.write(result, output)  # each time, so that Ctrl-C loses none
    say(f"Written to {output}: rounds.json, table.md, chart.svg.")


def install(chosen: list[Site]) -> tuple[dict[str, str], dict[str, str]]:
    """Install the sites; return the packages' versions, and why queues are missing."""
    versions: dict[str, str] = {}
    faults: dict[tuple[str, tuple[str, ...]], str] = {}
    django = sites.django_version(chosen[0].project)
    for site in chosen:
        if site.environment in faults:
            continue
        say(f"Installing {site.peer.name} ...")
        try:
            versions |= site.install(django)
            faults[site.environment] = ""
        except Unavailable as error:
            say(str(error))
            faults[site.environment] = str(error)
    missing = {site.peer.name: faults[site.environment] for site in chosen}
    return versions, {name: fault for name, fault in missing.items() if fault}


def measure(
    ready: list[Site],
    effort: Effort,
    options: argparse.Namespace,
    earlier: list[dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Measure all sites again and again, and yield one record for each figure.

    Every workload runs on all sites, in random order, before the next one begins: other load on
    the machine, and what the last workload left behind, affect all sites alike.
    """
    rounds = options.rounds or (1 if options.what == "faults" else effort.rounds)
    first = {record["workload"]: record["round"] + 1 for record in earlier}
    workloads = COMPARISONS[options.what][1]
    if options.quick:
        workloads = [name for name in workloads if name in QUICK_WORKLOADS]
    for number in range(rounds):
        for name in options.work or workloads:
            say(f"Round {number + 1} of {rounds}: {name}")
            for site in random.sample(ready, len(ready)):
                record = {
                    "round": first.get(name, 0) + number,
                    "peer": site.peer.name,
                    "workload": name,
                }
                try:
                    if figures := WORKLOADS[name](site, effort):
                        yield record | {"figures": figures}
                except Unavailable as error:
                    say(f"{site.peer.name}: {error}")
                    yield record | {"error": str(error)}


def say(text: str) -> None:
    """Print what is being done."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


WORKLOADS: dict[str, Callable[[Site, Effort], Figures]] = {
    "noop": partial(drain, "noop"),
    "real": partial(drain, "real"),
    "anoop": partial(drain, "anoop"),
    "areal": partial(drain, "areal"),
    "latency": latency,
    "lock": one_lock,
    "enqueue": enqueue,
    "floor": floor,
    "sizes": sizes,
    "check": check,
    "web": web,
    "kills": kills,
    "rollback": rollback,
    "commit": commit,
}
FAULTS_WORK = ["kills", "rollback", "commit"]
SETTINGS_WORK = ["noop", "real", "areal", "enqueue"]
JOBS = [name for name in WORKLOADS if name not in ("web", *FAULTS_WORK)]
QUICK_WORKLOADS = ("real", "web", *FAULTS_WORK)
COMPARISONS = {
    "queues": (PEERS, JOBS),
    "settings": (SETTINGS, SETTINGS_WORK),
    "web": (WEB, ["web"]),
    "faults": (FAULTS, FAULTS_WORK),
}

try:
    main()
except Unavailable as error:
    sys.exit(str(error))
