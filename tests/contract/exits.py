"""What `test_exit` runs in second processes: programs that use a layer in some way and then end."""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync

from hybrid_layer.ipc import objects
from hybrid_layer.loops import leave_pending
from tests.contract.peers import build
from tests.support.process_main import Parent
from tests.support.waiting import at_rest, cancelled, receiving


async def use(layer: Any) -> None:
    """Makes every call once, and cancels waiters."""
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    await layer.send("normal", {"n": 1})
    await layer.send(channel, {"n": 1})
    await layer.group_send("room", {"n": 2})
    async with asyncio.timeout(5):
        assert (await layer.receive("normal"))["n"] == 1
        assert sorted([(await layer.receive(channel))["n"] for _ in range(2)]) == [1, 2]
    await layer.statistics()
    for name in ("normal", channel):
        try:
            await asyncio.wait_for(layer.receive(name), 0.01)
        except TimeoutError:
            continue


def never_used(parent: Parent, spec: dict[str, Any]) -> None:
    build(spec)


def one_loop(parent: Parent, spec: dict[str, Any], close: bool) -> None:
    async def main() -> None:
        layer = build(spec)
        await use(layer)
        if close:
            await layer.close()

    asyncio.run(main())


def layer_kept_in_a_global(parent: Parent, spec: dict[str, Any]) -> None:
    """Keeps the layer as Django does: the object lives until the interpreter ends."""
    sys.modules[__name__].kept = build(spec)  # type: ignore[attr-defined]
    asyncio.run(use(sys.modules[__name__].kept))


def waiting_at_the_end(parent: Parent, spec: dict[str, Any], close: bool) -> None:
    """`asyncio.run` cancels the coroutines that still wait."""
    layer = build(spec)

    async def main() -> None:
        tasks = await receiving(layer, "normal", await layer.new_channel())
        if close:
            await cancelled(*tasks)
            await layer.close()

    asyncio.run(main())


def pending_at_the_end(parent: Parent, spec: dict[str, Any], loops: int, closed: bool, kept: bool) -> None:
    """Leaves tasks in a `receive()` in loops that are never ended. The collector finds them as the interpreter ends."""
    layer = build(spec)
    alive: list[Any] = []

    async def consume(name: str) -> None:
        await layer.receive(name)

    async def main() -> None:
        names = [await layer.new_channel() for _ in range(3)]
        tasks = [asyncio.create_task(consume(name)) for name in names]
        tasks.append(asyncio.create_task(layer.receive("normal")))
        for task in tasks:
            leave_pending(task)
        alive.extend(tasks)
        await at_rest(layer, *names, "normal")

    for _ in range(loops):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        if closed:
            loop.close()
        alive.append(loop)
    if kept:  # until the modules themselves are removed
        sys.modules[__name__].alive = alive  # type: ignore[attr-defined]
    alive.append(alive)


def sync_code(parent: Parent, spec: dict[str, Any], close: bool) -> None:
    layer = build(spec)
    async_to_sync(use)(layer)
    for n in range(5):
        async_to_sync(layer.send)("normal", {"n": n})
    async_to_sync(layer.group_send)("room", {"n": 1})
    if close:
        async_to_sync(layer.close)()


def many_loops(parent: Parent, spec: dict[str, Any], close: bool) -> None:
    layer = build(spec)

    async def main() -> None:
        await use(layer)
        if close:
            await layer.close()

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
        thread.join()
    for _ in range(3):
        asyncio.run(main())


def exit_inside(parent: Parent, spec: dict[str, Any]) -> None:
    """`sys.exit()` in a coroutine, as a signal handler of a server may do it."""
    layer = build(spec)

    async def main() -> None:
        await use(layer)
        (waiting,) = await receiving(layer, "normal")
        del waiting
        raise SystemExit

    try:
        asyncio.run(main())
    except SystemExit:
        return


def no_thread_starts_at_the_end(parent: Parent, spec: dict[str, Any]) -> None:
    """As with Python 3.12, from the moment on when the interpreter ends."""
    asyncio.run(use(build(spec)))

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    atexit.register(setattr, threading.Thread, "start", refuse)


def layers_come_and_go(parent: Parent, spec: dict[str, Any]) -> None:
    """Objects that are dropped without `close()`, as a test run with overridden settings does it."""

    async def main() -> None:
        await use(build(spec))

    for _ in range(5):
        asyncio.run(main())


def shared_memory_in_use() -> set[str]:
    """The paths of shared memory, and of what is beside it, that this process maps or holds open."""
    places = ("/dev/shm/", f"{objects.ROOT}/hybrid_layer.")
    maps = Path("/proc/self/maps").read_text().splitlines()
    mapped = {line.split(maxsplit=5)[-1] for line in maps if "/dev/shm/" in line}
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            mapped.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:  # the directory's own
            continue
    return {path for path in mapped if path.startswith(places)}


def doorbells_in_use() -> list[str]:
    """Those of them that are named pipes."""
    return [path for path in shared_memory_in_use() if Path(path).is_fifo()]


def tell_shared_memory(parent: Parent, spec: dict[str, Any], close: bool, leave: str) -> set[str]:
    """Reports what the layer has in /dev/shm while it is in use; `leave` says what it leaves behind."""
    layer = build(spec)
    seen: set[str] = set()

    async def main() -> None:
        channel = await layer.new_channel()
        (waiting,) = await receiving(layer, channel)
        seen.update(shared_memory_in_use())
        await cancelled(waiting)
        if leave == "a message":
            await layer.send("normal", {"n": "left behind"})
        elif leave == "a member":
            await layer.group_add("room", "normal")
        elif leave == "its own things":
            await layer.send(channel, {"n": "nobody will read it"})
            await layer.group_add("room", channel)
        if close:
            await layer.close()

    asyncio.run(main())
    return seen


async def one_loop_program(parent: Parent, spec: dict[str, Any], close: bool) -> None:
    """A coroutine function: the process runs it on the loop that the test asks for."""
    layer = build(spec)
    await use(layer)
    if close:
        await layer.close()


def tell_and_end(parent: Parent, spec: dict[str, Any]) -> None:
    layer = build(spec)

    async def main() -> None:
        tasks = await receiving(layer, "normal", await layer.new_channel())
        parent.ready()
        del tasks

    asyncio.run(main())


def use_without_hosts(parent: Parent, prefix: str) -> list[str]:
    """A hybrid that has no hosts; which modules it imported that could reach a server."""

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a connection was tried")

    socket.socket.connect = forbidden  # type: ignore[assignment, method-assign]
    socket.socket.connect_ex = forbidden  # type: ignore[assignment, method-assign]

    async def main(options: dict[str, Any]) -> None:
        layer = build({"backend": "hybrid_layer.HybridChannelLayer", "options": {"prefix": prefix, **options}})
        await use(layer)
        await layer.group_add("group", "normal")
        await layer.flush()
        await layer.close()

    for options in ({}, {"hosts": None}):
        asyncio.run(main(options))
    return sorted(name for name in sys.modules if name == "redis" or name.startswith("hybrid_layer.remote"))
