"""Commands that send, take and delete messages, and remove segments."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
from channels.layers import channel_layers
from django.core.management import call_command
from django.test import override_settings

from hybrid_layer import HybridChannelLayer
from hybrid_layer.base import BaseLayer
from hybrid_layer.commands.target import of_layer
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.ipc.inventory import segments
from hybrid_layer.ipc.objects import segment_name
from hybrid_layer.ipc.observer import Observer
from hybrid_layer.remote import PostgresChannelLayer, RedisChannelLayer, RedisPubSubChannelLayer
from tests.commands.conftest import Command
from tests.support.loops import Run
from tests.support.process_main import Parent
from tests.support.processes import Spawn
from tests.support.servers import HOST, free_port
from tests.support.waiting import block_until, cancelled


def test_send_peek_and_receive(command: Command, layer: IPCChannelLayer, run: Run) -> None:
    run(layer.send("jobs", {"type": "first", "data": b"\xff"}))  # there is a segment from here on
    assert command("send", "jobs", '{"type": "second"}').code == 0
    looked = command("peek", "jobs", "--body")
    assert looked.code == 0
    assert looked.lines[0].startswith("jobs  ")
    assert looked.lines[1::2] == ["""    {"type": "first", "data": "b'\\\\xff'"}""", '    {"type": "second"}']
    sizes = command("peek", "jobs", "--count", "1", "--json").json["messages"]
    assert [set(each) for each in sizes] == [{"channel", "size", "age", "left", "is_to_group"}]
    taken = command("--json", "receive", "jobs", "--count", "2", "--yes")
    assert taken.code == 0
    assert [each["type"] for each in taken.json["messages"]] == ["first", "second"]
    assert taken.json["messages"][0]["data"] == "base64:/w=="
    assert command("receive", "jobs", "--yes", "--timeout", "0.1").code == 1
    assert command("peek", "jobs").out == "No unread message.\n"


def test_what_was_taken_is_printed_though_it_is_interrupted(layer: IPCChannelLayer, run: Run, prefix: str) -> None:
    run(layer.send("jobs", {"type": "first"}))
    # The shell that runs the tests may ignore the signal, and what it starts would, too.
    heeds_it = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program = f"{heeds_it}from hybrid_layer.commands.program import main; raise SystemExit(main())"
    arguments = ["--prefix", prefix, "receive", "jobs", "--count", "2", "--yes", "--timeout", "60"]
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True) as process:
        with Observer(prefix) as observer:
            block_until(
                lambda: [(each.pending, each.waiting) for each in observer.channels()] == [(0, 1)],
                "the first message is taken",
            )
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert out == '{"type": "first"}\n'
    assert process.returncode == 130


def test_send_keeps_to_the_sites_capacity(command: Command, prefix: str, run: Run) -> None:
    """Without its settings: a capacity of its own would also be shown as the channel's from then on."""
    site = IPCChannelLayer(prefix=prefix, message_memory=1 << 20, group_memory=1 << 20, channel_capacity={"few": 1})
    run(site.send("few", {}))
    assert "at its capacity of 1 unread" in command("send", "few", "{}").err


def test_group_send(command: Command, layer: IPCChannelLayer, run: Run) -> None:
    async def members() -> str:
        own = await layer.new_channel()
        await layer.group_add("room", own)
        return own

    own = run(members())
    assert command("group-send", "room", '{"type": "hello"}').code == 0
    assert run(layer.receive(own)) == {"type": "hello"}
    assert command("members", "room").lines[1].endswith(own)
    assert command("members", "room", "--count").out == "1\n"
    assert command("groups", "--json").json["groups"] == {"room": 1}
    assert command("members", "nobody").out == "No member on this machine.\n"


@pytest.mark.parametrize(
    ("site", "other"),
    [
        ({"BACKEND": "hybrid_layer.HybridChannelLayer"}, RedisChannelLayer),
        ({"BACKEND": "hybrid_layer.HybridChannelLayer", "remote": "pubsub"}, RedisPubSubChannelLayer),
        ({"BACKEND": "hybrid_layer.HybridChannelLayer", "locality": "machine"}, RedisChannelLayer),
        ({"BACKEND": "hybrid_layer.remote.RedisPubSubChannelLayer"}, RedisPubSubChannelLayer),
    ],
)
def test_members_on_all_machines(
    site: dict[str, str], other: type[RedisChannelLayer | RedisPubSubChannelLayer], prefix: str, hosts: list[str]
) -> None:
    """That of the other layer is not in shared memory, as if it were on another machine."""
    options = {"prefix": prefix, "hosts": hosts}
    backend, config = site["BACKEND"], {key: value for key, value in site.items() if key != "BACKEND"} | options
    out = io.StringIO()

    def members(*arguments: str) -> str:
        out.truncate(0)
        out.seek(0)
        call_command("channel_layer", "members", "room", *arguments, stdout=out)
        return out.getvalue()

    async def ask() -> None:
        here, there = channel_layers["default"], other(**options)
        names = [await each.new_channel() for each in (here, there)]
        receiving = [asyncio.create_task(each.receive(name)) for each, name in zip((here, there), names, strict=True)]
        for each, name in zip((here, there), names, strict=True):
            await each.group_add("room", name)
        assert (await asyncio.to_thread(members)).splitlines() == sorted(names)
        assert await asyncio.to_thread(members, "--count") == "2\n"
        found = json.loads(await asyncio.to_thread(members, "--json"))
        assert (found["count"], found["machines"], found["error"]) == (2, "all", None)
        assert [each["channel"] for each in found["members"]] == sorted(names)
        await here.group_clear("room")
        assert await asyncio.to_thread(members) == "No member.\n"
        await cancelled(*receiving)
        await here.close()
        await there.close()

    with override_settings(
        INSTALLED_APPS=["hybrid_layer"], CHANNEL_LAYERS={"default": {"BACKEND": backend, "CONFIG": config}}
    ):
        asyncio.run(ask())


@pytest.mark.parametrize(
    ("build", "kind", "mode"),
    [
        (partial(HybridChannelLayer, remote="pubsub"), RedisPubSubChannelLayer, "pubsub"),
        (RedisChannelLayer, RedisChannelLayer, "queue"),
        (RedisPubSubChannelLayer, RedisPubSubChannelLayer, "pubsub"),
        (partial(PostgresChannelLayer, remote="pubsub"), PostgresChannelLayer, "pubsub"),
    ],
)
def test_members_waits_as_long_as_it_is_told(build: Callable[..., BaseLayer], kind: type, mode: str) -> None:
    """Whatever the site's own timeout is, so that it can say which members are known by then."""
    is_database = kind is PostgresChannelLayer
    layer = build(hosts=["postgresql://localhost/site" if is_database else "redis://localhost"], timeout=60)
    asks = of_layer(layer, timeout=3).layer_on_servers()
    assert asks is not None
    assert asks is not layer
    assert type(asks) is kind
    assert asks.options.timeout == 3
    assert getattr(asks.options, "remote", mode) == mode


def test_members_that_are_not_all_known(prefix: str, hosts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"prefix": prefix, "hosts": hosts}
    site = {"default": {"BACKEND": "hybrid_layer.remote.RedisChannelLayer", "CONFIG": config}}
    out, err = io.StringIO(), io.StringIO()

    known: list[str] = []

    async def group_channels(self: BaseLayer, group: str) -> list[str]:
        error = RemoteUnavailable("1 of 2 machines did not say in time")
        error.partial = known
        raise error

    monkeypatch.setattr(BaseLayer, "group_channels", group_channels)
    with override_settings(INSTALLED_APPS=["hybrid_layer"], CHANNEL_LAYERS=site):
        for names, code, printed in (
            (["a", "b\x1b[2J"], 1, "a\nb?[2J\n1 of 2 machines did not say in time\n"),  # a stranger's
            ([], 2, ""),
        ):
            known[:] = names
            out.truncate(0)
            out.seek(0)
            with pytest.raises(SystemExit) as end:
                call_command("channel_layer", "members", "room", stdout=out, stderr=err)
            assert (end.value.code, out.getvalue()) == (code, printed)
    assert "did not say" in err.getvalue()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["receive", "jobs"], "add --yes"),
        (["send", "jobs", "{"], "not valid JSON"),
        (["send", "jobs", "[]"], "must be a JSON object"),
        (["send", "a b", "{}"], "Invalid channel name"),
        (["send", "full", "{}"], "is at its capacity"),
        (["flush"], "add --noinput"),
        (["clean", "--unread"], "add --noinput"),
        (["peek", "!"], "Invalid channel name"),
        (["--hosts", "redis://localhost", "send", "jobs", "{}"], "manage.py channel_layer send"),
        (["--hosts", "localhost", "status"], "is not a URI"),
        (["healthcheck", "--max-age", "soon"], "no number of seconds"),
        (["chanels"], "invalid choice"),
    ],
)
def test_wrong_use_changes_nothing(
    command: Command, layer: IPCChannelLayer, run: Run, arguments: list[str], said: str
) -> None:
    async def fill() -> dict[str, int]:
        for _ in range(layer.capacity):
            await layer.send("full", {})
        return await layer.statistics()

    before = run(fill())
    done = command(*arguments)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    after = run(layer.statistics())
    assert (after["sent"], after["received"]) == (before["sent"], before["received"])


def test_without_a_segment(command: Command, prefix: str) -> None:
    for arguments in (["send", "jobs", "{}"], ["peek", "jobs"], ["flush", "--noinput"], ["status"], ["channels"]):
        done = command(*arguments)
        assert (done.code, done.out) == (2, "")
        assert prefix in done.err
    assert command("channels", "--json").json["error"]
    assert segment_name(prefix, os.geteuid()) not in os.listdir("/dev/shm")


def test_of_another_user(command: Command, of_another_user: int) -> None:
    for arguments in (["status"], ["healthcheck"], ["send", "jobs", "{}"]):
        done = command(*arguments)
        assert done.code == 2
        assert f"user {of_another_user}" in done.err
    found = command("segments", "--json").json["segments"]
    assert of_another_user in {each["user"] for each in found}


def test_flush(command: Command, layer: IPCChannelLayer, run: Run) -> None:
    run(layer.send("jobs", {}))
    done = command("flush", "--noinput")
    assert done.code == 0
    assert "1 process, 1 unread, 0 groups" in done.lines[1]
    assert command("channels").out == "No channel.\n"


def test_what_a_server_that_is_down_leaves_undone(prefix: str, run: Run) -> None:
    """The exit code is 2, and this machine's part is done: docs/operating.rst says so."""
    config = {"prefix": prefix, "hosts": [f"redis://{HOST}:{free_port()}"], "timeout": 1}
    site = {"default": {"BACKEND": "hybrid_layer.HybridChannelLayer", "CONFIG": config}}
    out = io.StringIO()
    with override_settings(INSTALLED_APPS=["hybrid_layer"], CHANNEL_LAYERS=site):
        layer = channel_layers["default"]
        run(layer.send("jobs", {}))
        with pytest.raises(SystemExit) as end:
            call_command("channel_layer", "flush", "--noinput", stdout=out, stderr=out)
        assert end.value.code == 2
        assert "is not available" in out.getvalue()
        with Observer(prefix) as observer:
            assert not any(each.pending for each in observer.channels())


async def leave(parent: Parent, prefix: str, number: int) -> None:
    layer = IPCChannelLayer(prefix=prefix, message_memory=1 << 20, group_memory=1 << 20)
    await layer.new_channel()
    for _ in range(number):
        await layer.send("jobs", {})
    parent.ready()
    parent.receive()


def test_clean(command: Command, prefix: str, spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """What processes have left that ended without a word."""
    empty, unread = f"{prefix}.empty", f"{prefix}.unread"
    for name, number in ((empty, 0), (unread, 3)):
        process = spawn(leave, name, number)
        process.ready()
        process.close()
    # Of this test alone: a person's are on this machine, too, and other tests'.
    monkeypatch.setattr(
        "hybrid_layer.commands.segments.all_segments",
        lambda: [each for each in segments() if each.prefix in (empty, unread)],
    )
    done = command("clean", "--json").json
    assert done["removed"] == [empty]
    assert done["kept"] == {unread: 3}
    assert command("clean", "--unread", "--noinput", "--json").json["removed"] == [unread]
    assert command("segments", "--json").json["segments"] == []
