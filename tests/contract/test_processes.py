"""Several processes on one channel, one inbox, one group. Real processes, of which some are killed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from hybrid_layer.exceptions import HybridLayerError, RemoteUnavailable
from tests.contract import peers
from tests.contract.configurations import LayerMaker
from tests.contract.peers import OtherProcess
from tests.contract.tools import assert_silent, cancel, counted, receive, receive_numbers
from tests.support import processes
from tests.support.processes import Process, Spawn
from tests.support.waiting import any_moment, at_rest, outlive, wait_until

pytestmark = pytest.mark.processes
Start = Callable[..., Awaitable[OtherProcess]]


@pytest.fixture(scope="module")
def idle() -> Iterator[list[Process]]:
    """Processes that wait for the next test, since starting one takes as long as most tests."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        with process:
            process.send(None)
            process.result()


@pytest.fixture
def start(make_layer: LayerMaker, idle: list[Process]) -> Iterator[Start]:
    """`await start(**options)`: the layer under test in another process, which the test ends."""
    with contextlib.ExitStack() as stack:
        started: list[OtherProcess] = []

        async def start_process(**options: Any) -> OtherProcess:
            process = idle.pop() if idle else processes.spawn(peers.serve)
            started.append(OtherProcess(process))
            return await started[-1].build(make_layer.spec(**options))

        yield start_process
        for other in started:
            if other.has_ended and other.process.running:
                idle.append(other.process)
            else:
                stack.enter_context(other.process)  # which complains if it still runs


@pytest.mark.once
@pytest.mark.one_loop
async def test_two_workers_share_a_channel(make_layer: LayerMaker, spawn: Spawn) -> None:
    await share_10_000_messages(make_layer, spawn, 2, "asyncio")


@pytest.mark.configurations("each-path")
@pytest.mark.thorough
@pytest.mark.one_loop
async def test_three_workers_share_a_channel(make_layer: LayerMaker, spawn: Spawn) -> None:
    await share_10_000_messages(make_layer, spawn, 3, "uvloop")


async def share_10_000_messages(make_layer: LayerMaker, spawn: Spawn, workers: int, loop: str) -> None:
    """Each arrives exactly once, each worker's in order."""
    count = 10_000
    spec = make_layer.spec(capacity=count + workers)
    readers = [spawn(peers.read, spec, "jobs", loop=loop) for _ in range(workers)]
    for process in readers:
        process.ready()
    layer = make_layer(capacity=count + workers)
    # Many at a time, as requests would do; they arrive in the order of sending nevertheless.
    for start in range(0, count, 50):
        await asyncio.gather(*(layer.send("jobs", {"n": n}) for n in range(start, start + 50)))
    for _ in range(workers):
        await layer.send("jobs", {"n": None})
    shares = [process.result(50) for process in readers]  # 10,000 blocking pops take 10 s of a processor
    assert sorted(n for share in shares for n in share) == list(range(count))
    for share in shares:
        assert share == sorted(share)
        assert share  # no reader starves


@pytest.mark.once
@pytest.mark.configurations("each-path")
@pytest.mark.parametrize("kind", ["normal", "specific"])
def test_order_of_each_of_several_senders(make_layer: LayerMaker, spawn: Spawn, kind: str) -> None:
    # Where no error reports a full channel to the sender, there has to be room for all.
    spec = make_layer.spec(capacity=40 if make_layer.configuration.is_bounded(kind) else 401)
    reader = spawn(peers.read, spec, "jobs") if kind == "normal" else spawn(peers.read, spec)
    channel = reader.ready() or "jobs"
    senders = [spawn(peers.write, spec, channel, [(me, n) for n in range(200)]) for me in range(2)]
    for sender in senders:
        sender.ready()
    for sender in senders:
        sender.send("go")
    for sender in senders:
        sender.result()
    async_to_sync(make_layer().send)(channel, {"n": None})
    numbers = reader.result()
    for me in range(2):
        assert [n for sender_, n in numbers if sender_ == me] == list(range(200))
    assert len(numbers) == 400


@pytest.mark.one_loop
async def test_jobs_out_and_progress_back(make_layer: LayerMaker, spawn: Spawn) -> None:
    workers = [spawn(peers.answer_jobs, make_layer.spec(), "jobs") for _ in range(2)]
    for worker in workers:
        await asyncio.to_thread(worker.ready)
    layer = make_layer()

    async def browser(me: int) -> None:
        channel = await layer.new_channel()
        for n in range(10):
            await layer.send("jobs", {"n": f"{me}.{n}", "reply": channel})
            progress = [await receive(layer, channel) for _ in range(3)]
            assert progress == [{"type": "progress", "job": f"{me}.{n}", "progress": part} for part in range(3)]

    await asyncio.gather(*(browser(me) for me in range(5)))
    for _ in workers:
        await layer.send("jobs", {"reply": None})
    assert sum([await asyncio.to_thread(worker.result) for worker in workers]) == 50


@pytest.mark.one_loop
async def test_group_of_members_in_several_processes(make_layer: LayerMaker, spawn: Spawn) -> None:
    several = [spawn(peers.member, make_layer.spec(), "room", 2) for _ in range(3)]
    channels = [channel for process in several for channel in process.ready()]
    assert len(set(channels)) == 6
    layer, is_one_queue = make_layer(), make_layer.configuration.is_one_queue
    for n in range(50):
        await layer.group_send("room", {"n": n})
        if n % 10 == 0 and is_one_queue:  # else a direct message may come later than the last one to the group
            await layer.send(channels[0], {"n": f"direct {n}"})
    await layer.group_send("room", {"n": None})
    got = [numbers for process in several for numbers in process.result()]
    assert got[1:] == [list(range(50))] * 5
    with_direct: list[Any] = []
    for n in range(50):
        with_direct += [n, f"direct {n}"] if n % 10 == 0 and is_one_queue else [n]
    assert got[0] == with_direct


@pytest.mark.one_loop
async def test_group_membership_managed_by_another_process(make_layer: LayerMaker, start: Start) -> None:
    layer, other = make_layer(), await start()
    mine, theirs = await layer.new_channel(), await other.new_channel()
    await layer.group_add("room", theirs)
    await other.group_add("room", mine)
    await layer.group_send("room", {"n": 1})
    assert (await receive(layer, mine))["n"] == 1
    assert (await other.receive(theirs))["n"] == 1
    await layer.group_discard("room", theirs)
    await other.group_send("room", {"n": 2})
    await other.group_discard("room", mine)
    await other.group_send("room", {"n": 3})
    await layer.send(theirs, {"n": 4})
    await layer.send(mine, {"n": 4})
    assert sorted(await receive_numbers(layer, mine, 2)) == [2, 4]
    assert (await other.receive(theirs))["n"] == 4
    await other.end()


@pytest.mark.one_loop
async def test_receive_on_the_name_of_another_process_is_refused(make_layer: LayerMaker, start: Start) -> None:
    layer, other = make_layer(), await start()
    theirs = await other.new_channel()
    for name in (theirs, theirs[: theirs.index("!") + 1]):
        with pytest.raises(HybridLayerError, match=theirs[: theirs.index("!")]):
            await receive(layer, name, seconds=1)
    await layer.send(theirs, {"n": 1})
    assert (await other.receive(theirs))["n"] == 1
    await other.end()


@pytest.mark.parametrize("end", ["exit", "kill"])
@pytest.mark.one_loop
async def test_channel_of_a_process_that_is_gone(make_layer: LayerMaker, start: Start, end: str) -> None:
    layer, other = make_layer(expiry=1), await start(expiry=1)
    theirs = await other.new_channel()
    await layer.send(theirs, {"n": "unread"})
    await getattr(other, end)()

    async def is_counted() -> bool:
        await layer.send(theirs, {"n": "nobody is there"})  # succeeds
        return await counted(layer, "dead") > 0

    await wait_until(is_counted, "the dead member is counted")


@pytest.mark.one_loop
async def test_dead_members_stop_costing_anything(make_layer: LayerMaker, start: Start) -> None:
    layer = make_layer(expiry=1, capacity=10)
    living = await layer.new_channel()
    await layer.group_add("room", living)
    for _ in range(2):
        other = await start(expiry=1)
        for _ in range(5):
            await layer.group_add("room", await other.new_channel())
        await other.kill()

    async def is_cheap_again() -> bool:
        before = await layer.statistics()
        for n in range(5):
            await layer.group_send("room", {"n": n})
            assert (await receive(layer, living))["n"] == n
        after = await layer.statistics()
        return all(before[key] == after[key] for key in ("dead", "full", "expired"))

    await wait_until(is_cheap_again, "dead members cost nothing any more")


@pytest.mark.one_loop
async def test_message_goes_on_to_a_living_reader(make_layer: LayerMaker, start: Start) -> None:
    """A process that is killed while it waits delays no message."""
    layer, first = make_layer(), await start()
    doomed = asyncio.create_task(first.receive("jobs"))
    await first.at_rest("jobs")
    mine = asyncio.create_task(receive(layer, "jobs"))
    await at_rest(layer, "jobs")
    await first.kill()
    await layer.send("jobs", {"n": 1})
    assert (await mine)["n"] == 1
    with pytest.raises(AssertionError):  # its process ended before it answered
        await asyncio.wait_for(asyncio.gather(doomed, first.pump), 5)


@pytest.mark.one_loop
async def test_flush_by_another_process(make_layer: LayerMaker, start: Start) -> None:
    layer, other = make_layer(), await start()
    awaited, buffered = await layer.new_channel(), await layer.new_channel()
    theirs = await other.new_channel()
    for channel in (buffered, theirs):
        await other.group_add("room", channel)
    waiting = asyncio.create_task(receive(layer, awaited))
    await at_rest(layer, awaited)
    await layer.send(buffered, {"n": "taken in by this process"})
    await layer.send(awaited, {"n": 1})
    assert (await waiting)["n"] == 1
    await layer.send("jobs", {"n": "old"})
    await layer.send(theirs, {"n": "old"})
    waiting_for_job = asyncio.create_task(receive(layer, awaited))
    await at_rest(layer, awaited)
    await other.flush()
    await layer.group_send("room", {"n": "nobody is a member"})
    await layer.send(buffered, {"n": 2})
    await layer.send(theirs, {"n": 3})
    await layer.send("jobs", {"n": 4})
    await layer.send(awaited, {"n": 5})
    assert (await receive(layer, buffered))["n"] == 2
    assert (await other.receive(theirs))["n"] == 3
    assert (await other.receive("jobs"))["n"] == 4
    assert (await waiting_for_job)["n"] == 5
    await other.end()


@pytest.mark.configurations("each-path")
@pytest.mark.parametrize("close", [True, False], ids=["closed", "not closed"])
@pytest.mark.one_loop
async def test_message_outlives_its_sender(make_layer: LayerMaker, spawn: Spawn, close: bool) -> None:
    spawn(peers.send_and_exit, make_layer.spec(), "jobs", close).result()
    assert await receive(make_layer(), "jobs") == {"n": "left behind"}


@pytest.mark.one_loop
async def test_the_senders_policy_holds_between_processes(make_layer: LayerMaker, start: Start) -> None:
    layer, other = make_layer(capacity=3, expiry=60), await start(capacity=50, expiry=0.3)
    theirs = await other.new_channel()
    bounded = ["jobs", theirs] if make_layer.configuration.is_bounded("specific") else ["jobs"]
    for channel in bounded:
        for n in range(3):
            await layer.send(channel, {"n": n})
        with pytest.raises(layer.ChannelFull):
            await layer.send(channel, {"n": "too many for me"})
        await other.send(channel, {"n": "short-lived"})
    await outlive(0.3)
    for n in range(3):
        for channel in bounded:
            assert (await other.receive(channel))["n"] == n
    await assert_silent(layer, "jobs", 0.05)
    await other.end()


@pytest.mark.one_loop
async def test_slow_consumer_of_another_process(make_layer: LayerMaker, start: Start) -> None:
    layer, other = make_layer(capacity=10), await start(capacity=10)
    quick, slow = await other.new_channel(), await other.new_channel()
    for n in range(40):
        reading = asyncio.create_task(other.receive(quick))
        await layer.send(slow, {"n": n})
        await layer.send(quick, {"n": n})
        assert (await reading)["n"] == n
    assert [(await other.receive(slow))["n"] for _ in range(10)] == list(range(30, 40))
    assert (await other.statistics())["slow"] == 30
    assert [slow in text for text in await other.warnings()] == [True]
    await other.end()


@pytest.mark.one_loop
async def test_readers_in_two_processes_come_and_go(make_layer: LayerMaker, start: Start) -> None:
    layer, other = make_layer(capacity=1000), await start(capacity=1000)
    seen: list[int] = []

    async def mine() -> None:
        while True:
            try:
                seen.append((await asyncio.wait_for(layer.receive("jobs"), 0.003))["n"])
            except TimeoutError:
                await any_moment(0.002)

    async def theirs() -> None:
        while True:
            seen.append((await other.receive("jobs"))["n"])

    readers = [asyncio.create_task(mine()), asyncio.create_task(theirs())]
    for n in range(300):
        await layer.send("jobs", {"n": n})
        if n % 10 == 0:
            await any_moment(0.004)

    async def all_seen() -> bool:
        return len(seen) >= 300

    await wait_until(all_seen, "all messages have come")
    await cancel(readers[0])
    await layer.send("jobs", {"n": 300})

    async def last_seen() -> bool:
        return len(seen) >= 301

    await wait_until(last_seen, "the last message has come")
    readers[1].cancel()
    assert sorted(seen) == list(range(301))
    await other.kill()


@pytest.mark.one_loop
async def test_members_of_another_process(make_layer: LayerMaker, start: Start) -> None:
    layer, other = make_layer(), await start()
    mine, theirs = await layer.new_channel(), await other.new_channel()
    await layer.group_add("group", mine)
    await other.group_add("group", theirs)
    assert await layer.group_channels("group") == await other.group_channels("group") == sorted([mine, theirs])
    assert await other.group_clear("group") == 2
    assert await layer.group_count("group") == 0
    await layer.group_send("group", {"n": 1})
    await layer.group_add("group", theirs)
    assert await layer.group_channels("group") == [theirs]
    await layer.group_send("group", {"n": 2})
    assert await other.receive(theirs) == {"n": 2}
    await other.end()


@pytest.mark.one_loop
@pytest.mark.configurations("pubsub-1", "ipc")
async def test_members_of_a_process_that_is_stopped_or_killed(make_layer: LayerMaker, start: Start) -> None:
    """Only pub/sub has to ask it."""
    options = {"timeout": 1} if make_layer.configuration.hosts else {}
    layer, other = make_layer(**options), await start()
    mine, theirs = await layer.new_channel(), await other.new_channel()
    for each, channel in ((layer, mine), (other, theirs)):
        await each.group_add("group", channel)
    await asyncio.to_thread(other.process.pause)
    if options:
        with pytest.raises(RemoteUnavailable, match=r"^1 of 2 processes and machines on .* did not say") as caught:
            await layer.group_channels("group")
        assert caught.value.partial == [mine]
        with pytest.raises(RemoteUnavailable) as caught:
            await layer.group_count("group")
        assert caught.value.partial == 1
    else:
        assert await layer.group_channels("group") == sorted([mine, theirs])
    await other.kill()

    async def only_mine() -> bool:
        try:
            return bool(await layer.group_channels("group") == [mine])
        except RemoteUnavailable:
            return False

    await wait_until(only_mine, "it is known that the process has died")
