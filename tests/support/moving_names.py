"""A host name that moves: this process asks a file where it leads, in place of a name server."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

NAME = "moving.test"
PORT = 6379

_resolve = socket.getaddrinfo


class MovingName:
    """`NAME` leads where the file says. Other processes that were given the same file follow."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lookups = 0
        self.url = f"redis://{NAME}:{PORT}"

    def leads_to(self, *servers: Any) -> None:
        """From now on the name leads to `servers`, by their ports in place of its own: all are on one machine."""
        new = self.file.with_suffix(".new")
        new.write_text("\n".join(f"{server.host} {server.port}" for server in servers))
        new.replace(self.file)

    def resolve(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        """In place of `socket.getaddrinfo`."""
        if host != NAME:
            return _resolve(host, port, *args, **kwargs)
        self.lookups += 1
        places = [line.split() for line in self.file.read_text().splitlines()]
        if not places:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [each for at, number in places for each in _resolve(at, int(number), *args, **kwargs)]

    def install(self) -> None:
        """Have this process resolve the name so, for good."""
        socket.getaddrinfo = self.resolve
