"""Malformed data of any shape, on real servers: each is one undecodable message, and the next good one arrives."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import pytest

from tests.remote.malformed import entries, epochs, notes
from tests.remote.tools import WAYS, Make, listens_here
from tests.support.servers import Server
from tests.support.waiting import wait_until


class Stranger:
    """A program that writes data of its own to the server."""

    def __init__(self, server: Server, prefix: str) -> None:
        self._server = server
        self._base = f"{prefix}|1|"
        self.epoch: bytes = server.command("GET", f"{self._base}epoch|")
        self.stamp = b"%d" % int((time.time() + 5) * 1000)

    def push(self, kind: str, name: str, elements: list[bytes]) -> None:
        self._server.command("RPUSH", f"{self._base}{kind}|{name}", *elements)

    def add(self, machine: str, texts: list[bytes]) -> None:
        """Append entries to the stream of ``@MACHINE``."""
        script = "for i = 1, #ARGV do redis.call('XADD', KEYS[1], '*', 'e', ARGV[i]) end"
        self._server.command("EVAL", script, 1, f"{self._base}inbox|{machine}!", *texts)

    def has_been_read(self, machine: str) -> bool:
        """Whether the stream of ``@MACHINE`` is trimmed to what was taken in last."""
        return int(self._server.command("XLEN", f"{self._base}inbox|{machine}!")) <= 1

    def machine(self) -> str:
        """The name of the one machine that the server knows."""
        (key,) = self._server.command("KEYS", f"{self._base}alive|@*")
        return str(key.rpartition(b"|")[2].decode())

    def publish(self, kind: str, name: str, texts: list[bytes]) -> None:
        script = "for i = 2, #ARGV do redis.call('PUBLISH', ARGV[1], ARGV[i]) end"
        self._server.command("EVAL", script, 0, f"{self._base}{kind}|{name}", *texts)


async def until_undecodable(layer: Any, count: int) -> None:

    async def are_counted() -> bool:
        return bool((await layer.statistics())["undecodable"] >= count)

    await wait_until(are_counted, f"{count} are counted")


@pytest.mark.parametrize("way", WAYS)
async def test_everywhere(way: str, make: Make, server: Server, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    layer = make(WAYS[way], expiry=10, block_time=0.5, capacity=5000)
    own = await layer.new_channel()
    await layer.group_add("g", own)
    if way.startswith("hybrid"):
        await layer.group_add("m", "local")
    await layer.send("normal", {"n": 0})
    assert await layer.receive("normal") == {"n": 0}
    stranger = Stranger(server, prefix)
    part = own.partition("!")[0] + "!"
    process = part.rpartition(".")[2][:-1]
    bad = entries(stranger.epoch, own.encode(), stranger.stamp)
    bad_own = bad + entries(stranger.epoch, b"specific.OTHER!1", stranger.stamp)[:20]
    bad_notes = notes(stranger.epoch, own.encode(), stranger.stamp)
    assert len(bad) > 200
    expected = (await layer.statistics())["undecodable"]
    for number in (1, 2):
        waiting = [asyncio.create_task(layer.receive(name)) for name in ("normal", own)]
        if number > 1:
            await listens_here(layer)
        stranger.push("queue", "normal", bad)
        expected += len(bad)
        if "pubsub" in way:
            stranger.publish("process", process, [text for text in bad_own if not text.startswith((b"g|", b"n|"))])
            stranger.publish("process", process, [b"g|g|" + text for text in bad_own])
            stranger.publish("process", process, [b"n|" + text for text in bad_notes])
            stranger.publish("group", "g", bad)
            stranger.publish("epoch", "", epochs(stranger.epoch))
        else:
            stranger.push("inbox", part, bad)
            stranger.push("notes", process, bad_notes)
        await layer.send("normal", {"n": number})
        await layer.send(own, {"n": number})
        if way.startswith("hybrid"):
            machine = stranger.machine()
            odd_names = [b"", b"@!!", b"local", f"{machine}!local".encode(), b"specific.OTHER!1", b"=", b"=g", b"=g,x"]
            of_group = entries(stranger.epoch, b"=m,1", stranger.stamp)
            stranger.add(machine, of_group)
            stranger.add(machine, [b"1|%s|%s|%s|x" % (stranger.stamp, stranger.epoch, name) for name in odd_names])
            stranger.add(machine, [note for note in bad_notes if not note.startswith(b"f|")])
            expected += len(of_group) + len(odd_names)
            await wait_until(partial(stranger.has_been_read, machine), "the machine has read the stream")
            await layer.group_send("m", {"n": number})
            assert await asyncio.wait_for(layer.receive("local"), 10) == {"n": number}
        async with asyncio.timeout(10):
            assert [await task for task in waiting] == [{"n": number}] * 2
            await layer.group_send("g", {"n": -number})
            assert await layer.receive(own) == {"n": -number}
    await until_undecodable(layer, expected)
    statistics = await layer.statistics()
    assert not {key: statistics[key] for key in ("dead", "errors", "expired", "slow") if statistics[key]}
    assert server.command("EXISTS", f"{prefix}|1|alive|{process}") or "pubsub" in way
    warnings = [text for text in caplog.messages if "cannot read" in text]
    assert 1 <= len(warnings) <= 4
