"""Two releases side by side on the same servers, as during a deployment: this tree, and the one before.

What each stores, the other finds: channels, groups, normal channels, flushes. That holds for the two classes of servers
alone. The hybrid's normal channels in groups changed their form before the first release (docs/upgrading.rst).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.compatibility.trees import ROOT, NoHistory, previous, unpack

CLASSES = ("RedisChannelLayer", "RedisPubSubChannelLayer")
SECONDS = 20
KEYS = ["a key of both"]


class Refused(Exception):
    """The layer of the other process raised an error of this name."""


class Peer:
    """A layer in a process of its own, with the methods of a layer."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.input, self.output = process.stdin, process.stdout
        self.numbers = itertools.count()
        self.answers: dict[int, asyncio.Future[Any]] = {}
        self.process = process

    def __getattr__(self, method: str) -> Any:
        async def call(*arguments: Any) -> Any:
            number = next(self.numbers)
            answer = self.answers[number] = asyncio.get_running_loop().create_future()
            self.say([number, method, arguments])
            async with asyncio.timeout(SECONDS):
                return await answer

        return call

    def say(self, value: Any) -> None:
        self.input.write(json.dumps(value).encode() + b"\n")

    async def hand_out_answers(self) -> None:
        while line := await self.output.readline():
            number, value, error = json.loads(line)
            if error is None:
                self.answers.pop(number).set_result(value)
            else:
                self.answers.pop(number).set_exception(Refused(error))


@contextlib.asynccontextmanager
async def peer(tree: Path, name: str, options: dict[str, Any]) -> AsyncIterator[Peer]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-W", "error", Path(__file__).with_name("peer.py")),
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    peer = Peer(process)
    try:
        peer.say([f"hybrid_layer.remote.{name}", options])
        async with asyncio.timeout(SECONDS):
            answer = await peer.output.readline()
        assert Path(json.loads(answer)).is_relative_to(tree / "hybrid_layer")
        answers = asyncio.create_task(peer.hand_out_answers())
        yield peer
        peer.input.close()
        await asyncio.wait_for(answers, SECONDS)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Pair(contextlib.AbstractAsyncContextManager["Pair"]):
    """`sender` and `receiver`, one of this tree and one of that before. The loop of the test enters it."""

    sender: Peer
    receiver: Peer

    def __init__(self, trees: tuple[Path, Path], name: str, options: dict[str, Any]) -> None:
        self.trees, self.name, self.options = trees, name, options
        self.stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Pair:
        peers = (peer(tree, self.name, self.options) for tree in self.trees)
        self.sender, self.receiver = await asyncio.gather(*map(self.stack.enter_async_context, peers))
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.stack.__aexit__(*error)


@pytest.fixture(params=["from before to now", "from now to before"])
def trees(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """The sender's and the receiver's."""
    before = previous()
    return (before, ROOT) if request.param == "from before to now" else (ROOT, before)


@pytest.fixture(params=CLASSES)
def pair(request: pytest.FixtureRequest, trees: tuple[Path, Path], hosts: list[str], prefix: str) -> Pair:
    options = {"hosts": hosts, "prefix": prefix, "capacity": 3, "symmetric_encryption_keys": KEYS}
    return Pair(trees, request.param, options)


def numbered(n: int) -> dict[str, Any]:
    return {"type": "number", "n": n, "text": "ä", "nested": [{"none": None, "float": 0.5}]}


async def test_direct_messages_arrive_in_order(pair: Pair) -> None:
    own = await pair.receiver.new_channel()
    for n in range(3):
        await pair.sender.send(own, numbered(n))
    assert [await pair.receiver.receive(own) for _ in range(3)] == [numbered(n) for n in range(3)]


async def test_both_are_members_of_a_group(pair: Pair) -> None:
    both = (pair.sender, pair.receiver)
    channels = [await each.new_channel() for each in both]
    for each, channel in zip(both, channels, strict=True):
        await each.group_add("room", channel)
    for n, each in enumerate(both):
        await each.group_send("room", numbered(n))
        assert [await each.receive(channel) for each, channel in zip(both, channels, strict=True)] == [numbered(n)] * 2


async def test_either_ends_the_memberships_of_the_other(pair: Pair) -> None:
    own = await pair.receiver.new_channel()
    await pair.receiver.group_add("room", own)
    await pair.sender.group_discard("room", own)
    await pair.sender.group_send("room", numbered(1))
    await pair.sender.group_add("room", own)
    await pair.sender.group_send("room", numbered(2))
    assert await pair.receiver.receive(own) == numbered(2)


async def test_normal_channels_are_on_the_same_servers_and_equally_full(pair: Pair) -> None:
    for channel in ("thumbnails", "video.cut", "emails"):
        for n in range(3):
            await pair.sender.send(channel, numbered(n))
        for each in (pair.sender, pair.receiver):
            with pytest.raises(Refused, match="ChannelFull"):
                await each.send(channel, numbered(3))
        assert [await pair.receiver.receive(channel) for _ in range(3)] == [numbered(n) for n in range(3)]


async def test_a_normal_channel_is_a_member_of_a_group(pair: Pair) -> None:
    await pair.receiver.group_add("room", "thumbnails")
    await pair.sender.group_send("room", numbered(1))
    assert await pair.receiver.receive("thumbnails") == numbered(1)


async def test_a_flush_is_one_for_the_other(pair: Pair) -> None:
    own = await pair.receiver.new_channel()
    await pair.receiver.group_add("room", own)
    await pair.sender.send(own, numbered(1))
    await pair.sender.send("thumbnails", numbered(1))
    await pair.sender.flush()
    await pair.sender.group_send("room", numbered(2))
    for channel in (own, "thumbnails"):
        await pair.sender.send(channel, numbered(3))
        assert await pair.receiver.receive(channel) == numbered(3)


def test_without_history_a_sentence_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NoHistory, match="need a clone with its history"):
        unpack(tmp_path, "0" * 40, tmp_path / "tree")
