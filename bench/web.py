"""How many pages gunicorn's worker models serve to browsers that all ask at once."""

import http.client
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from statistics import quantiles

from .sites import Site, Unavailable, families, run
from .workloads import Effort, Figures, cpu

BROWSERS = 16


def web(site: Site, effort: Effort) -> Figures:
    """Measure the first page, for somebody who is logged in.

    Raises:
        Unavailable: The page is not served.
    """
    site.clear()
    env = site.env()
    run(["python", "manage.py", "collectstatic", "--no-input"], site.project, env)
    session = site.produce("login", "noop", 1)
    headers = {
        "Cookie": f"sessionid={session}",
        "Host": env["ALLOWED_HOSTS"],
        "X-Forwarded-Proto": "https",
    }

    def browse(until: float) -> list[float]:
        """Ask for the page again and again, and return how many milliseconds each took."""
        took = []
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
        while (begun := time.monotonic()) < until:
            connection.request("GET", "/", headers=headers)
            with connection.getresponse() as response:
                if response.status != http.HTTPStatus.OK:
                    raise Unavailable(f"the page answers {response.status}")
                response.read()
            took.append(1000 * (time.monotonic() - begun))
        return took

    with site.workers() as workers, ThreadPoolExecutor(BROWSERS) as browsers:
        wait_for_port(site.port)
        list(browsers.map(browse, [time.monotonic() + effort.idle] * BROWSERS))  # warm up
        begun, before = time.monotonic(), cpu(workers)
        waits = [
            milliseconds
            for took in browsers.map(browse, [begun + effort.limit] * BROWSERS)
            for milliseconds in took
        ]
        used = cpu(workers) - before
        rate = len(waits) / (time.monotonic() - begun)
        memory = sum(process.memory_full_info().pss for process in families(workers)) / 1e6
    cuts = quantiles(waits, n=100, method="inclusive")
    return {
        "page, requests/s": rate,
        "page, CPU ms/request": 1000 * used / len(waits),
        "page p50, ms": cuts[49],
        "page p95, ms": cuts[94],
        "web's memory, MB": memory,
    }


def wait_for_port(port: int) -> None:
    """Wait until something listens, for 30 seconds at most.

    Raises:
        Unavailable: Nothing listens.
    """
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise Unavailable("nothing listens")
