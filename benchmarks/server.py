"""What the runs cost the server: Redis by its own account, PostgreSQL by that of the system."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any, Protocol

import psutil
import redis

from benchmarks.arena import Meeting
from tests.support.postgres import PostgresServer

_END = "benchmarks: end of what is counted"


@dataclass(frozen=True)
class Reading:
    """The counters at one meeting."""

    connections: int
    """That the server accepted since its start."""
    server_cpu: float
    """Seconds that the server used."""
    clients_cpu: float
    """Seconds that the processes of the run used."""


class Watching(Protocol):
    """What most questions ask of an observer."""

    def read(self, meeting: Meeting) -> Reading:
        """The counters now."""

    def empty(self) -> None:
        """Remove what earlier runs have left."""


class Observer:
    """A client that only looks. Its own connections and commands are the same in every run, and subtracted."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, decode_responses=True, protocol=2)
        self.version = self._version(self._client.info("server"))

    @staticmethod
    def _version(info: dict[str, Any]) -> str:
        if "valkey_version" in info:
            return f"valkey {info['valkey_version']}"
        return f"redis {info['redis_version']}"

    def read(self, meeting: Meeting) -> Reading:
        info = self._client.info()
        return Reading(
            connections=info["total_connections_received"],
            server_cpu=_cpu(info),
            clients_cpu=meeting.cpu_seconds,
        )

    def cpu(self) -> float:
        """Seconds that the server has used."""
        return _cpu(self._client.info("cpu"))

    def memory(self) -> int:
        """Bytes that the server has allocated."""
        return int(self._client.info("memory")["used_memory"])

    def connections(self) -> int:
        """That are open."""
        return int(self._client.info("clients")["connected_clients"])

    def empty(self) -> None:
        self._client.flushall()

    def count_commands(self) -> CommandCount:
        return CommandCount(self._client)

    def close(self) -> None:
        self._client.close()


class DatabaseObserver:
    """As `Observer`, of PostgreSQL. It cannot count commands, nor memory, which the processes share."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._process = psutil.Process(server.pid)

    def read(self, meeting: Meeting) -> Reading:
        sessions = self._server.value("SELECT sum(sessions) FROM pg_stat_database")
        return Reading(connections=int(sessions), server_cpu=self.cpu(), clients_cpu=meeting.cpu_seconds)

    def cpu(self) -> float:
        """Seconds that its processes have used, also those that ended."""
        own = self._process.cpu_times()
        used = own.user + own.system + own.children_user + own.children_system
        for child in self._process.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                used += times.user + times.system
        return used

    def empty(self) -> None:
        """Do nothing: each run has a prefix of its own, and flushes it at its end."""

    def close(self) -> None:
        """Do nothing: each look has a connection of its own."""


def _cpu(info: dict[str, Any]) -> float:
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


class CommandCount:
    """Counts commands from `start` to `stop`, apart: those that clients sent, and those that scripts ran for them.

    INFO's total_commands_processed and commandstats hold both kinds in one number; only MONITOR tells who sent a
    command. It costs the server time, so a run that is counted is not also timed.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._watcher: Any = None
        self.by_clients = 0
        self.by_scripts = 0

    def start(self) -> None:
        # Nobody reads the lines during the run; the server keeps them for `stop`.
        self._watcher = self._client.connection_pool.make_connection()
        self._watcher.connect()
        self._watcher.send_command("MONITOR")
        self._watcher.read_response()

    def stop(self) -> None:
        self._client.echo(_END)
        while _END not in (line := self._watcher.read_response()):
            # 1700000000.123456 [0 127.0.0.1:50000] "EVALSHA" ... by a client, [0 lua] by a script
            origin = re.match(r"[\d.]+ \[\d+ ([^\]]+)\]", line)
            if origin is None:
                continue
            if ":" in origin[1]:
                self.by_clients += 1
            else:
                self.by_scripts += 1
        self._watcher.disconnect()
