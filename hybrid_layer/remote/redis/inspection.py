# SPDX-License-Identifier: BSD-3-Clause
"""A look at the servers for tools: nothing is written there, and no process is registered."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from redis.exceptions import RedisError, ResponseError

from hybrid_layer.clock import monotonic
from hybrid_layer.configuration import ServerOptions
from hybrid_layer.remote.redis.hosts.hosts import parse_hosts
from hybrid_layer.remote.redis.hosts.sentinel import Sentinels
from hybrid_layer.remote.redis.server import sockets
from hybrid_layer.remote.redis.server.commands import Command, packed
from hybrid_layer.remote.redis.server.errors import safe_text
from hybrid_layer.remote.redis.server.handshake import greet
from hybrid_layer.remote.redis.server.host import Host
from hybrid_layer.remote.redis.wire.keys import Keys
from hybrid_layer.remote.server_state import ServerState
from hybrid_layer.timers import time_limit

_SCANNED_AT_ONCE = 1000
_ANSWER = 0.1
"""Seconds of the time limit that are kept for the answer to the last question."""


async def inspect(options: ServerOptions, prefix: str, timeout: float, count_keys: bool) -> list[ServerState]:
    """The state of each server, in the order of `hosts`. All are asked at once, for at most `timeout` seconds."""
    deadline = monotonic() + timeout
    hosts = parse_hosts(options)
    if isinstance(hosts, Sentinels):
        try:
            async with time_limit(timeout):
                hosts = tuple(await hosts.hosts())
        except (RedisError, OSError, TimeoutError) as error:
            return [ServerState(f"the services of {options.services}", _text(error))]
    found = await asyncio.gather(
        *(_look(host, Keys(prefix, host.tag) if count_keys else None, deadline) for host in hosts)
    )
    # The parts of a cluster that are on one node are one server.
    by_label: dict[str, ServerState] = {}
    for state in found:
        known = by_label.setdefault(state.label, state)
        if known is not state:
            known.keys = dict(Counter(known.keys) + Counter(state.keys))
    return list(by_label.values())


async def _look(host: Host, keys: Keys | None, deadline: float) -> ServerState:
    state = ServerState(host.label)
    try:
        async with time_limit(deadline - monotonic()):
            connection = await host.connection()
            try:
                (info,) = await greet(connection, [("INFO",)])
                state.label = host.label  # of a cluster's node: known by now
                await _ask(connection, state, info)
                if keys is not None:
                    await _count_keys(connection, state, keys, deadline)
            finally:
                await sockets.close(connection)
    except (RedisError, OSError, TimeoutError) as error:
        if state.round_trip is None:
            state.error = _text(error)
        else:
            state.all_keys = False
    return state


async def _ask(connection: Any, state: ServerState, info: Any) -> None:
    if isinstance(info, bytes):
        lines = info.decode("utf-8", "replace").splitlines()
        state.info = dict(line.split(":", 1) for line in lines if ":" in line)
        kind = "valkey" if "valkey_version" in state.info else "redis"
        state.version = f"{kind} {state.info.get(f'{kind}_version', '')}".strip()
    else:
        state.skipped.append("INFO")
    began = monotonic()
    reply = await _call(connection, ("PING",))
    if isinstance(reply, ResponseError):
        state.skipped.append("PING")
    state.round_trip = monotonic() - began


async def _count_keys(connection: Any, state: ServerState, keys: Keys, deadline: float) -> None:
    cursor: Any = b"0"
    counts: Counter[str] = Counter()
    while True:
        reply = await _call(connection, ("SCAN", cursor, "MATCH", keys.scan_pattern(), "COUNT", _SCANNED_AT_ONCE))
        if not isinstance(reply, list):
            state.skipped.append("SCAN")
            return
        cursor, found = reply
        counts.update(key.split(b"|")[-2].decode("ascii", "replace") for key in found if key.count(b"|") > 2)
        state.keys = dict(counts)
        if cursor == b"0":
            return
        if monotonic() > deadline - _ANSWER:
            state.all_keys = False
            return


async def _call(connection: Any, command: Command) -> Any:
    await connection.send_packed_command(packed(connection, [command]), check_health=False)
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as refusal:
        return refusal


def _text(error: Exception) -> str:
    return safe_text(error) or "no answer in time"
