"""A site of several machines: processes that the test tells what to do, one call of the layer after the other."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hybrid_layer import HybridChannelLayer
from hybrid_layer.exceptions import HybridLayerError
from tests.support.closing import Closing
from tests.support.machines import Machine
from tests.support.process_main import Parent
from tests.support.processes import Process
from tests.support.servers import Server
from tests.support.waiting import block_until, cancelled

TIMEOUT = 1.0
"""The layers' `timeout`: a cut is noticed within this time."""
BLOCK_TIME = 0.5


class Peer:
    """The test's end of one process of a machine."""

    def __init__(self, machine: Machine, options: dict[str, Any]) -> None:
        self.machine = machine
        self.process: Process = machine.spawn(serve, options)
        self.process.ready()

    def call(self, name: str, *args: Any) -> Any:
        """Call the layer's method `name`, and return what it returns or raise what it raises."""
        self.process.send((name, args))
        answer, error = self.process.receive()
        if error is not None:
            raise error
        return answer

    def open(self, *groups: str) -> str:
        """Make a process-specific channel, a member of the groups, and read it from now on."""
        channel: str = self.call("new_channel")
        for group in groups:
            self.call("group_add", group, channel)
        self.read(channel)
        return channel

    def read(self, channel: str) -> None:
        """Read a channel until the end; `got` tells what came."""
        self.process.send(("read", [channel]))
        self.process.receive()

    def got(self, channel: str) -> list[Any]:
        """The numbers of the messages that came so far."""
        self.process.send(("got", [channel]))
        numbers: list[Any] = self.process.receive()[0]
        return numbers

    def send(self, channel: str, *numbers: Any) -> None:
        """Send one message for each of the numbers."""
        for n in numbers:
            self.call("send", channel, {"n": n})

    def group_send(self, group: str, *numbers: Any) -> None:
        """Send one message to a group for each of the numbers."""
        for n in numbers:
            self.call("group_send", group, {"n": n})

    def unsent(self) -> list[str]:
        """The connections of its machine to which the system still has something to send, as the kernel lists them."""
        lines = Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]
        return [line for line in lines if not line.split()[4].startswith("00000000:")]

    def expect(self, channel: str, numbers: Sequence[Any]) -> None:
        """Wait until so many messages have come. They must be these, in this order."""
        expect([self], channel, numbers)


def expect(readers: Sequence[Peer], channel: str, numbers: Sequence[Any]) -> None:
    """Wait until the readers have as many messages together. One reader has them in order; each is there once."""
    block_until(
        lambda: sum(len(reader.got(channel)) for reader in readers) >= len(numbers), f"{len(numbers)} come to {channel}"
    )
    got = [n for reader in readers for n in reader.got(channel)]
    assert (got if len(readers) == 1 else sorted(got)) == list(numbers)


class Site(Closing):
    """Machines, and the servers that they have in common."""

    def __init__(self, machines: Sequence[Machine], servers: Sequence[Server], options: dict[str, Any]) -> None:
        self.machines = machines
        self.servers = servers
        hosts = [server.url for server in servers]
        self.options = {"hosts": hosts, "timeout": TIMEOUT, "block_time": BLOCK_TIME, "capacity": 1000, **options}
        self.peers: list[Peer] = []

    def peer(self, machine: int) -> Peer:
        """Start a process on a machine."""
        self.peers.append(Peer(self.machines[machine], self.options))
        return self.peers[-1]

    def close(self) -> None:
        """End all processes in order. One that does not is killed with its machine, after the error."""
        left = [peer.process for peer in self.peers if peer.process.running]
        for process in left:
            process.send(None)
        for process in left:
            process.result()


async def serve(parent: Parent, options: dict[str, Any]) -> None:
    """The process: does what it is told."""
    layer = HybridChannelLayer(**options)
    got: dict[str, list[Any]] = defaultdict(list)
    reading: list[asyncio.Task[None]] = []
    logger = logging.getLogger("hybrid_layer")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())  # what is printed fails a test, and servers that are cut off are warned of

    async def read(channel: str) -> None:
        while True:
            got[channel].append((await layer.receive(channel))["n"])

    parent.ready()
    while (asked := await asyncio.to_thread(parent.receive)) is not None:
        name, args = asked
        answer: Any = None
        error: Exception | None = None
        if name == "read":
            reading.append(asyncio.create_task(read(*args)))
        elif name == "got":
            answer = got[args[0]]
        else:
            try:
                answer = await partial(getattr(layer, name), *args)()
            except HybridLayerError as raised:
                error = raised
        parent.send((answer, error))
    await cancelled(*reading)
    await layer.close()
