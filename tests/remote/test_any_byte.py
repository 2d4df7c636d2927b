"""A connection that breaks, falls silent or stalls at any byte: nothing twice, nothing lost of what was promised.

The faults lie close together where a byte matters: in the replies to a send, and around a pop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from hybrid_layer.exceptions import RemoteUnavailable
from tests.remote.tools import Make
from tests.support.loops import Run
from tests.support.proxy import Direction, Fault, Proxy
from tests.support.servers import Server
from tests.support.waiting import any_moment, succeeds, turns, wait_until

pytestmark = pytest.mark.any_server

TIMEOUT = 0.25


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


async def ids(layer: Any, channel: str, last: int) -> list[int]:
    """The ids received from `channel`, up to `last`."""
    found: list[int] = []
    async with asyncio.timeout(10):
        while not found or found[-1] != last:
            found.append((await layer.receive(channel))["id"])
    return found


async def sent(layer: Any, channel: str, last: int) -> None:
    """Send `last` as soon as the server can be reached."""
    await succeeds(lambda: layer.send(channel, {"id": last}), RemoteUnavailable)


@pytest.mark.parametrize(
    ("fault", "direction", "bytes_"),
    [
        ("cut", "replies", [*range(140), *range(140, 1400, 31)]),
        ("cut", "commands", [*range(0, 1200, 17), *range(1200, 6000, 397)]),
        ("swallow", "replies", range(0, 140, 6)),
        ("swallow", "commands", range(0, 1200, 60)),
        ("stall", "replies", range(0, 140, 20)),
    ],
)
def test_sends(
    make_layer: Make, run: Run, proxy: Proxy, fault: Fault, direction: Direction, bytes_: list[int] | range
) -> None:
    """A send that raised may have stored its message, once; one that did not raise has stored it, once."""
    sender, reader = make_layer(hosts=[proxy.url], timeout=TIMEOUT), make_layer()

    async def main() -> None:
        outcomes: Counter[str] = Counter()
        number = 0
        own = await reader.new_channel()
        await reader.group_add("g", own)
        for after in bytes_:
            await sent(sender, "normal", -1)
            proxy.fail(fault, direction, after)
            stored, doubtful = set(), set()
            while not proxy.has_failed:
                calls = {
                    number: sender.send("normal", {"id": number}),
                    number + 1: sender.send(own, {"id": number + 1}),
                    number + 2: sender.group_send("g", {"id": number + 2}),
                }
                number += 3
                results = await asyncio.gather(*calls.values(), return_exceptions=True)
                for id_, result in zip(calls, results, strict=True):
                    assert result is None or isinstance(result, RemoteUnavailable), repr(result)
                    (doubtful if result else stored).add(id_)
            proxy.heal()
            await sent(sender, "normal", number)
            await sent(sender, own, number)
            for channel, rest in (("normal", {0}), (own, {1, 2})):
                got = [id_ for id_ in await ids(reader, channel, number) if id_ not in (-1, number)]
                assert len(got) == len(set(got)), f"twice after {after} bytes"
                lost = {id_ for id_ in stored if (id_ - number) % 3 in rest} - set(got)
                assert not lost, f"lost after {after} bytes: {lost}"
                assert set(got) <= stored | doubtful
                outcomes["stored, with an error"] += len(doubtful & set(got))
            outcomes["errors"] += len(doubtful)
            number += 3
        if fault != "stall":
            assert outcomes["errors"] > len(bytes_) / 2
        if fault != "stall" and direction == "replies":
            assert outcomes["stored, with an error"], "the fault was never between execution and reply"

    run(main(), seconds=120)


@pytest.mark.parametrize(
    ("fault", "bytes_"),
    [("cut", [*range(120), *range(120, 600, 17)]), ("swallow", range(0, 120, 24)), ("stall", range(0, 120, 15))],
)
@pytest.mark.parametrize("kind", ["normal", "specific"])
def test_receivers(
    make_layer: Make, run: Run, proxy: Proxy, kind: str, fault: Fault, bytes_: list[int] | range
) -> None:
    """A receiver that waits gets the next message, and none twice. At most the messages of one pop are lost."""
    reader = make_layer(hosts=[proxy.url], timeout=TIMEOUT, block_time=0.5, capacity=1000)
    sender = make_layer(capacity=1000)

    async def main() -> None:
        channel = await reader.new_channel() if kind == "specific" else "normal"
        got: list[int] = []

        async def read() -> None:
            while True:
                got.append((await reader.receive(channel))["id"])

        reading = asyncio.create_task(read())
        number = lost = 0
        for after in bytes_:
            first, seen = number, len(got)
            proxy.fail(fault, "replies", after)
            while not proxy.has_failed:
                await sender.send(channel, {"id": number})
                number += 1
                await turns()
            await any_moment(0.02)
            proxy.heal()

            async def last_has_come(seen: int = seen) -> bool:
                nonlocal number
                assert not reading.done(), reading
                if number - 1 in got[seen:]:
                    return True
                await sender.send(channel, {"id": number})
                number += 1
                return False

            # The layer recovers at once from an end that it sees, from another one after the block time.
            seconds = 1 if fault == "cut" else 3.5
            await wait_until(last_has_come, f"what is sent comes again, after {after} bytes", seconds)
            missing = set(range(first, number)) - set(got[seen:])
            lost += len(missing)
            if fault == "stall":
                assert not missing, f"after {after} bytes"
        assert len(got) == len(set(got))
        assert got == sorted(got)
        if kind == "normal":
            assert lost <= len(bytes_), "a pop of a normal channel takes one message"
        reading.cancel()

    run(main(), seconds=120)
