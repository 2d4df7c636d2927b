"""What the runs cost the server, by its own account."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import redis

from benchmarks.arena import Meeting

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
