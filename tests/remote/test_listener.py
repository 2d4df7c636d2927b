"""The subscribed connection moves between event loops, and nothing is lost, repeated or reordered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.remote import RedisPubSubChannelLayer
from tests.remote.tools import Make, listens_here
from tests.support.forked import exit_code, fork
from tests.support.loops import Run
from tests.support.probe import probe
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.servers import NewServer, Server
from tests.support.waiting import block_until, cancelled, receiving, wait_until

LOST, BACK = "test.lost", "test.back"


def back_in_thread(layer: Any) -> None:
    block_until(lambda: probe(layer).listens_in_thread, "the connection is back in the I/O thread")


async def write(parent: Parent, options: dict[str, Any], channel: str) -> int:
    """Send numbers until asked to stop, some directly, some to the group `g`. Returns how many."""
    layer = RedisPubSubChannelLayer(**options)
    told = threading.Event()
    threading.Thread(target=lambda: (parent.receive(), told.set()), daemon=True).start()
    parent.ready()
    n = 0
    while not told.is_set():
        await (layer.send(channel, {"n": n}) if n % 3 else layer.group_send("g", {"n": n}))
        n += 1
    await layer.send(channel, {"n": None})
    return n


@pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])
def test_every_message_once_and_in_order_while_it_moves(
    make_pubsub: Make, server: Server, prefix: str, spawn: Spawn, run: Run
) -> None:
    """Loops start and end under traffic: some end while subscribed, some close the layer, some are too short."""
    layer = make_pubsub(capacity=100_000, on_disconnect=LOST, on_reconnect=BACK)
    name = async_to_sync(layer.new_channel)()
    async_to_sync(layer.group_add)("g", name)
    got: list[Any] = []
    writer = spawn(write, {"hosts": [server.url], "prefix": prefix, "capacity": 100_000}, name, flags=("-W", "error"))
    writer.ready()

    async def read(move: bool, close: bool) -> None:
        moving = asyncio.create_task(listens_here(layer)) if move else None
        while moving is None or not moving.done():
            got.append((await asyncio.wait_for(layer.receive(name), 10)).get("n", "a notice"))
            if moving is None and len(got) % 50 == 0:
                break
        got.extend([(await asyncio.wait_for(layer.receive(name), 10)).get("n", "a notice") for _ in range(30)])
        if close:
            await layer.close()

    for turn in range(6):
        run(read(move=turn % 3 != 2, close=turn % 2 == 0))

    async def read_rest() -> None:
        while got[-1] is not None:
            got.append((await asyncio.wait_for(layer.receive(name), 10)).get("n", "a notice"))

    writer.send("stop")
    run(read_rest())
    assert got == [*range(writer.result()), None]


def test_a_loop_that_ends_while_it_takes_over_delivers_first(
    make_pubsub: Make, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before it has ended at the mark, so nobody else would read what comes next."""
    layer, other = (make_pubsub(capacity=100_000, on_disconnect=LOST, on_reconnect=BACK) for _ in range(2))
    own = async_to_sync(layer.new_channel)()
    async_to_sync(layer.group_add)("g", own)
    got: list[Any] = []
    ended = 0

    async def end_at_the_mark(run_command: Callable[[], Any], command: Any) -> Any:
        nonlocal ended
        reply = await run_command()
        if command[0] == "PUBLISH" and bytes(command[2]).startswith(b"m|") and probe(layer).cancel_take_over():
            ended += 1
        return reply

    async def receive_some() -> None:
        until_then = ended + 1
        while ended < until_then or not probe(layer).listens_in_thread:
            got.append((await asyncio.wait_for(layer.receive(own), 10)).get("n", "a notice"))

    stopped = threading.Event()

    async def send() -> int:
        n = 0
        while not stopped.is_set():
            await other.group_send("g", {"n": n})
            n += 1
        await other.close()
        return n

    probe(layer).around_commands(monkeypatch, end_at_the_mark)
    with ThreadPoolExecutor() as executor:
        sending = executor.submit(asyncio.run, send())
        for _ in range(3):
            asyncio.run(receive_some())
        stopped.set()
        sent = sending.result()

    async def receive_rest() -> None:
        while len(got) < sent:
            got.append((await asyncio.wait_for(layer.receive(own), 10)).get("n", "a notice"))

    asyncio.run(receive_rest())
    assert got == list(range(sent))


def test_a_take_over_that_fails_when_the_other_has_ended_begins_anew(
    make_pubsub: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the I/O thread, with no loop that would notice: the mark arrives, but the answer to it is lost."""
    layer = make_pubsub()
    own = async_to_sync(layer.new_channel)()
    has_failed = False

    async def lose_the_answer(run_command: Callable[[], Any], command: Any) -> Any:
        nonlocal has_failed
        other = probe(layer).term
        reply = await run_command()
        if command[0] == "PUBLISH" and bytes(command[2]).startswith(b"m|") and not other.in_thread and not has_failed:
            await wait_until(other.gone.done, "the other one has ended at the mark")
            has_failed = True
            raise RemoteUnavailable("The answer was lost.")
        return reply

    async def take_it_over() -> None:
        waiting = await receiving(layer, own)
        await listens_here(layer)
        probe(layer).around_commands(monkeypatch, lose_the_answer)
        await cancelled(*waiting)
        await layer.close()

    asyncio.run(take_it_over())
    block_until(lambda: has_failed, "the take-over has failed")
    back_in_thread(layer)
    async_to_sync(layer.send)(own, {"n": 1})
    assert async_to_sync(layer.receive)(own) == {"n": 1}


def test_another_loop_takes_over_when_the_first_ends(make_pubsub: Make, run: Run) -> None:
    layer = make_pubsub(capacity=10_000)
    names: dict[str, str] = {}
    second_waits, first_ended = threading.Event(), threading.Event()
    got: list[int] = []

    async def second() -> None:
        names["second"] = await layer.new_channel()
        second_waits.set()
        got.extend([(await asyncio.wait_for(layer.receive(names["second"]), 10))["n"] for _ in range(200)])
        await asyncio.to_thread(first_ended.wait, 10)
        got.extend([(await asyncio.wait_for(layer.receive(names["second"]), 10))["n"] for _ in range(200)])

    async def first() -> None:
        names["first"] = await layer.new_channel()
        waiting = asyncio.create_task(layer.receive(names["first"]))
        await listens_here(layer)
        thread.start()
        await asyncio.to_thread(second_waits.wait, 10)
        for n in range(200):
            await layer.send(names["second"], {"n": n})
        waiting.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(second()))
    run(first())
    first_ended.set()
    for n in range(200, 400):
        async_to_sync(layer.send)(names["second"], {"n": n})
    thread.join(20)
    assert got == list(range(400))


def test_short_loops_leave_it_where_it_is(make_pubsub: Make) -> None:
    layer = make_pubsub()
    name = async_to_sync(layer.new_channel)()
    seat = probe(layer).term
    for n in range(20):
        async_to_sync(layer.send)(name, {"n": n})
        assert async_to_sync(layer.receive)(name) == {"n": n}
    assert probe(layer).term is seat
    assert probe(layer).listens_in_thread


def test_a_loop_that_does_not_run_is_replaced_and_that_is_an_outage(make_pubsub: Make) -> None:
    layer = make_pubsub(on_disconnect=LOST, on_reconnect=BACK)
    loop = asyncio.new_event_loop()
    name = loop.run_until_complete(layer.new_channel())
    waiting = loop.create_task(layer.receive(name))
    loop.run_until_complete(listens_here(layer))

    async def other() -> list[Any]:
        own = await layer.new_channel()
        receiving = asyncio.create_task(layer.receive(own))
        await listens_here(layer)
        await layer.send(own, {"type": "test.one"})
        types = [(await receiving)["type"]]
        types += [(await asyncio.wait_for(layer.receive(own), 5))["type"] for _ in range(2)]
        await layer.send(name, {"type": "test.two"})
        await layer.close()
        return types

    assert asyncio.run(other()) == [LOST, BACK, "test.one"]
    back_in_thread(layer)
    types = [loop.run_until_complete(waiting)["type"]]
    types += [loop.run_until_complete(layer.receive(name))["type"] for _ in range(2)]
    assert types == [LOST, BACK, "test.two"]
    loop.run_until_complete(layer.close())
    loop.close()


def test_a_loop_closed_without_notice_is_replaced_and_that_is_an_outage(make_pubsub: Make, run: Run) -> None:
    layer = make_pubsub(on_disconnect=LOST, on_reconnect=BACK)
    loop = asyncio.new_event_loop()
    name = loop.run_until_complete(layer.new_channel())
    waiting = loop.create_task(layer.receive(name))
    loop.run_until_complete(listens_here(layer))
    waiting.cancel()
    loop.run_until_complete(asyncio.gather(waiting, return_exceptions=True))
    loop.close()

    async def other() -> list[Any]:
        await layer.group_add("g", name)
        await layer.group_send("g", {"type": "test.one"})
        return [(await asyncio.wait_for(layer.receive(name), 5))["type"] for _ in range(3)]

    assert run(other()) == [LOST, BACK, "test.one"]


async def test_a_take_over_that_fails_leaves_the_other_in_place(make_pubsub: Make, new_server: NewServer) -> None:
    server = new_server("valkey")
    layer = make_pubsub(hosts=[server.url], on_disconnect=LOST)
    name = await layer.new_channel()
    await layer.group_add("g", name)
    for _ in range(2):  # the second over a connection of this loop
        await layer.send(name, {"n": "before"})
        await layer.receive(name)
    server.command("CONFIG", "SET", "maxclients", "3")  # those that are there: not one more
    assert probe(layer).listens_in_thread

    failed = threading.Event()
    probe(layer).when_take_over_fails(failed.set)
    for n in range(10):
        (waiting,) = await receiving(layer, name)
        if n == 5:
            await wait_until(failed.is_set, "the loop was refused a connection of its own")
        await layer.group_send("g", {"n": n})
        assert await asyncio.wait_for(waiting, 5) == {"n": n}
    assert probe(layer).listens_in_thread


def fork_while_it_listens(parent: Parent, options: dict[str, Any]) -> list[Any]:
    """Fork again and again while a child sends: the parent misses nothing, whichever of its loops is subscribed."""
    layer = RedisPubSubChannelLayer(**options)
    name = async_to_sync(layer.new_channel)()

    def send(number: int) -> None:
        for n in range(10):
            async_to_sync(layer.send)(name, {"n": (number, n)})

    pids = [fork(partial(send, number)) for number in range(3)]

    async def read() -> list[Any]:
        return [(await asyncio.wait_for(layer.receive(name), 10))["n"] for _ in range(30)]

    got = asyncio.run(read())
    return [*sorted(map(tuple, got)), *map(exit_code, pids)]


def test_a_fork_interrupts_no_listening(server: Server, prefix: str, spawn: Spawn) -> None:
    options = {"hosts": [server.url], "prefix": prefix, "capacity": 1000, "on_disconnect": LOST}
    process = spawn(fork_while_it_listens, options)
    assert process.result() == [*((number, n) for number in range(3) for n in range(10)), *[0] * 3]
