"""The second processes of this suite: functions for `tests.support.processes.spawn`, and a layer that lives in one."""

from __future__ import annotations

import asyncio
import itertools
import logging
from functools import partial
from typing import Any

from tests.contract.configurations import build
from tests.support.process_main import Parent
from tests.support.processes import Process
from tests.support.waiting import at_rest, receiving, succeeds


class OtherProcess:
    """A layer in another process, with the methods of a layer, `warnings`, what it logged, and `at_rest`, to wait for.

    Calls run there concurrently, in one event loop.

    `receive` has a bound of its own, so that a failing test does not leave a call behind.
    """

    def __init__(self, process: Process) -> None:
        self.process = process
        self._numbers = itertools.count()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self.pump: asyncio.Task[None] | None = None
        self.has_ended = False

    def __getattr__(self, method: str) -> Any:
        async def call(*args: Any) -> Any:
            number = next(self._numbers)
            answer = self._pending[number] = asyncio.get_running_loop().create_future()
            self.process.send((number, method, args))
            if self.pump is None or self.pump.done():
                self.pump = asyncio.create_task(self._hand_out_answers())
            return await answer

        return call

    async def build(self, spec: dict[str, Any]) -> OtherProcess:
        """Have it build its layer."""
        self.process.send(spec)
        await asyncio.to_thread(self.process.ready)
        return self

    async def end(self) -> None:
        """Have it close its layer. The process waits for the next test."""
        self.process.send(None)
        await asyncio.to_thread(self.process.ready)
        self.has_ended = True

    async def exit(self) -> None:
        """Have it close its layer and exit, silently."""
        await self.end()
        self.process.send(None)
        await asyncio.to_thread(self.process.result)

    async def kill(self) -> None:
        """SIGKILL."""
        await asyncio.to_thread(self.process.kill)

    async def _hand_out_answers(self) -> None:
        while self._pending:
            number, value = await asyncio.to_thread(self.process.receive, 10)
            answer = self._pending.pop(number)
            if answer.cancelled():
                continue
            if isinstance(value, BaseException):
                answer.set_exception(value)
            else:
                answer.set_result(value)


class Warnings(logging.Handler):
    """Keeps what the layer logs, which would be printed otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


async def serve(parent: Parent) -> None:
    """The process of an `OtherProcess`. It builds one layer after another."""
    while (spec := await asyncio.to_thread(parent.receive)) is not None:
        await serve_one(parent, spec)


async def serve_one(parent: Parent, spec: dict[str, Any]) -> None:
    """Run calls on one layer until no call comes."""
    layer = build(spec)
    warnings = Warnings()
    logging.getLogger("hybrid_layer").addHandler(warnings)

    async def texts() -> list[str]:
        return warnings.texts

    calls: dict[str, Any] = {"warnings": texts, "at_rest": partial(at_rest, layer)}

    async def answer(number: int, method: str, args: tuple[Any, ...]) -> None:
        try:
            async with asyncio.timeout(5):
                value = await calls.get(method, getattr(layer, method, None))(*args)
        except Exception as error:  # noqa: BLE001  # whatever it is, the test is told
            value = error if error.args else type(error)(str(error))
        parent.send((number, value))

    parent.ready()
    tasks = set()
    while (call := await asyncio.to_thread(parent.receive)) is not None:
        task = asyncio.create_task(answer(*call))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await layer.close()
    logging.getLogger("hybrid_layer").removeHandler(warnings)
    parent.ready()


def build_twice(parent: Parent, spec: dict[str, Any]) -> list[str]:
    """What layers log when they are built."""
    warnings = Warnings()
    logging.getLogger("hybrid_layer").addHandler(warnings)
    for _ in range(2):
        build(spec)
    return warnings.texts


async def read(parent: Parent, spec: dict[str, Any], channel: str | None = None) -> list[Any]:
    """Read until the message None; return the numbers received. Without a channel, make one and report it."""
    layer = build(spec)
    if channel is None:
        channel = await layer.new_channel()
        (reading,) = await receiving(layer, channel)
        parent.ready(channel)
        numbers = [(await reading)["n"]]
    else:
        parent.ready()
        numbers = [(await layer.receive(channel))["n"]]
    while numbers[-1] is not None:
        numbers.append((await layer.receive(channel))["n"])
    await layer.close()
    return numbers[:-1]


async def write(parent: Parent, spec: dict[str, Any], channel: str, numbers: list[Any]) -> None:
    """Send a message for each of `numbers`, waiting for room if there is none."""
    layer = build(spec)
    parent.ready()
    await asyncio.to_thread(parent.receive)
    for n in numbers:
        await succeeds(partial(layer.send, channel, {"type": "number", "n": n}), layer.ChannelFull)
    await layer.close()


async def answer_jobs(parent: Parent, spec: dict[str, Any], channel: str) -> int:
    """A worker: reports on each job to the channel that the job names, until a job names none."""
    layer = build(spec)
    parent.ready()
    done = 0
    while (job := await layer.receive(channel))["reply"] is not None:
        for progress in range(3):
            await layer.send(job["reply"], {"type": "progress", "job": job["n"], "progress": progress})
        done += 1
    await layer.close()
    return done


async def member(parent: Parent, spec: dict[str, Any], group: str, members: int) -> list[list[Any]]:
    """Several members of a group, each of which reads until the message None. Returns what each got."""
    layer = build(spec)
    channels = [await layer.new_channel() for _ in range(members)]
    for channel in channels:
        await layer.group_add(group, channel)

    async def read_one(channel: str) -> list[Any]:
        numbers = [(await layer.receive(channel))["n"]]
        while numbers[-1] is not None:
            numbers.append((await layer.receive(channel))["n"])
        return numbers[:-1]

    reading = [asyncio.create_task(read_one(channel)) for channel in channels]
    await at_rest(layer, *channels)
    parent.ready(channels)
    got = await asyncio.gather(*reading)
    await layer.close()
    return list(got)


async def send_and_exit(parent: Parent, spec: dict[str, Any], channel: str, close: bool) -> None:
    """A process that sends one message and ends."""
    layer = build(spec)
    await layer.send(channel, {"n": "left behind"})
    if close:
        await layer.close()


async def add_member(parent: Parent, spec: dict[str, Any], group: str, channel: str) -> None:
    """A process that makes a channel a member, and ends."""
    layer = build(spec)
    await layer.group_add(group, channel)
    await layer.close()
