"""A TCP port that leads to a server, and cuts connections at the worst moment."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from select import select
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Literal


@dataclass
class Cut:
    """Where a connection is cut.

    Args:
        text: What the client sends then.
        lost: Whether the server does not get it, or the client does not get the reply.
        then: What else happens in that moment.
    """

    text: bytes
    lost: Literal["request", "reply"]
    then: Callable[[], object] = bool


class Relay(ThreadingTCPServer):
    """A TCP port that leads to a server, as the address of a cluster does.

    Args:
        target: The server's address: a path, or host and port.
    """

    daemon_threads = True

    def __init__(self, target: str | tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), RelayedConnection)
        self.target = target
        self.cuts: list[Cut] = []

    def cut_at(self, data: bytes) -> Cut | None:
        """Return the cut that is due, if any; each is made once."""
        if self.cuts and self.cuts[0].text in data:
            with suppress(IndexError):  # another connection was faster
                return self.cuts.pop(0)
        return None


class RelayedConnection(BaseRequestHandler):
    """A connection to the target that the relay has when a client connects."""

    def handle(self) -> None:
        assert isinstance(self.server, Relay)
        target = self.server.target
        family = socket.AF_UNIX if isinstance(target, str) else socket.AF_INET
        with socket.socket(family) as server, suppress(OSError):
            server.connect(target)
            others = {self.request: server, server: self.request}
            while True:
                for end in select(others, (), ())[0]:
                    data = end.recv(65536)
                    cut = self.server.cut_at(data) if end is self.request else None
                    if not data:
                        return
                    if not cut or cut.lost == "reply":
                        others[end].sendall(data)
                    if cut:
                        if cut.lost == "reply":
                            server.recv(1)
                        cut.then()
                        return


@contextmanager
def relaying(target: str | tuple[str, int]) -> Iterator[Relay]:
    """Open a relay, and close it at the end."""
    with Relay(target) as relay:
        Thread(target=relay.serve_forever).start()
        try:
            yield relay
        finally:
            relay.shutdown()
