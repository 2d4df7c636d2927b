"""Commands that look: what they say, and that they leave no trace."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import redis
from django.core.management import call_command
from django.test import override_settings

from hybrid_layer.commands import top
from hybrid_layer.commands.arguments import COMMANDS
from hybrid_layer.commands.findings import REASONS, findings
from hybrid_layer.commands.output import Output, cut, duration, size
from hybrid_layer.commands.survey import Memory, Survey
from hybrid_layer.commands.target import of_arguments
from hybrid_layer.ipc import IPCChannelLayer, _core
from hybrid_layer.ipc.inventory import SegmentFile
from hybrid_layer.ipc.objects import digest, segment_name
from hybrid_layer.ipc.observer import Area, ChannelState, ProcessInfo
from hybrid_layer.remote import RedisChannelLayer
from hybrid_layer.remote.redis.inspection import ServerState
from hybrid_layer.statistics import KEYS
from tests.commands.conftest import Command
from tests.docs import texts
from tests.support.loops import Run
from tests.support.servers import HOST, Server, free_port
from tests.support.waiting import receiving

LOOKING = (
    ["status"],
    ["doctor"],
    ["channels"],
    ["channels", "*!"],
    ["processes"],
    ["groups"],
    ["members", "room"],
    ["peek", "jobs", "--body"],
    ["segments"],
    ["top", "--interval", "0.01", "--count", "1"],
)


async def fill(layer: IPCChannelLayer) -> None:
    """Some of everything."""
    await layer.group_add("room", await layer.new_channel())
    await layer.group_send("room", {"type": "hello"})
    for name, number in (("jobs", 3), ("mail", 1)):
        for _ in range(number):
            await layer.send(name, {"type": name, "text": "é" * 200})


@pytest.mark.parametrize("arguments", LOOKING, ids=" ".join)
def test_80_columns_and_no_trace(command: Command, layer: IPCChannelLayer, run: Run, arguments: list[str]) -> None:
    run(fill(layer))
    before = run(layer.statistics())
    done = command(*arguments)
    assert (done.code, done.err) == (0, "")
    assert done.lines
    assert "\x1b" not in done.out
    if "--body" not in arguments:
        assert max(map(len, done.lines)) <= 80
    assert run(layer.statistics()) == before
    assert command("--json", *arguments).json["command"] == arguments[0]


def test_status(command: Command, layer: IPCChannelLayer, run: Run) -> None:
    run(fill(layer))
    lines = command("status").lines
    assert lines[-1] == "0 problems; doctor says more"
    assert any(line.split()[:1] == ["3"] and line.endswith("jobs") for line in lines)
    assert any(line.split()[:1] == [str(os.getpid())] for line in lines)
    found = command("status", "--json").json
    assert found["problems"] == 0
    assert found["memory"]["counters"]["sent"] == 5
    assert {each["name"]: each["pending"] for each in found["memory"]["channels"] if "!" not in each["name"]} == {
        "jobs": 3,
        "mail": 1,
    }


def test_lists(command: Command, layer: IPCChannelLayer, run: Run) -> None:
    run(fill(layer))
    assert [line.split()[-1] for line in command("channels", "--sort", "name").lines[1:]] == ["jobs", "mail"]
    assert [line.split()[-1] for line in command("channels").lines[1:]] == ["jobs", "mail"]
    limited = command("channels", "--limit", "1").lines
    assert limited[-1] == "1 channel more: see --limit."
    assert command("channels", "m*", "--json").json["total"] == 1
    (own,) = command("processes", "--json").json["processes"]
    assert (own["pid"], own["unread"], own["members"]) == (os.getpid(), 1, 1)
    assert command("processes", "no such *").out == "No process.\n"


def test_top_says_what_happens(command: Command, layer: IPCChannelLayer, run: Run) -> None:
    run(fill(layer))
    slept: list[float] = []

    def work(seconds: float) -> None:
        slept.append(seconds)
        for _ in range(3):
            run(layer.receive("jobs")) if len(slept) == 1 else None
        time_sleep(0.001)

    time_sleep = time.sleep
    with mock.patch.object(top.time, "sleep", work):
        first, second = command("top", "--count", "2", "--json").out.splitlines()
    assert slept == [2.0, 2.0]
    before, after = json.loads(first), json.loads(second)
    assert before["received"] > 0
    assert before["p50"] is not None
    assert before["unread"] == after["unread"] == 2
    assert after["received"] == 0


def test_top_on_a_terminal(layer: IPCChannelLayer, run: Run, prefix: str) -> None:
    """It returns to the screen that was there before, however it ends."""
    run(fill(layer))

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    with mock.patch.object(top.time, "sleep", side_effect=[None, KeyboardInterrupt]):
        top.run(
            of_arguments(prefix, None, 5),
            Namespace(interval=1.0, count=None),
            Output(screen, "top", as_json=False, no_color=False),
        )
    text = screen.getvalue()
    assert text.startswith("\x1b[?1049h")
    assert text.rstrip().endswith("\x1b[?1049l\x1b[?25h")
    assert "jobs" in text


def test_after_a_move_to_another_segment_rates_are_0() -> None:
    counters = dict.fromkeys((*KEYS, "repairs", "reaped"), 5)
    last = top.Look(0.0, counters, (4, 0), [], {})
    now = top.Look(2.0, {**counters, "sent": 1}, (0, 1), [], {})
    assert top.between(last, now).sent == 0
    assert top.between(last, replace(last, at=2.0, counters={**counters, "sent": 9})).sent == 2


# Servers


@pytest.fixture
def remote(hosts: list[str], prefix: str, run: Run) -> RedisChannelLayer:
    layer = RedisChannelLayer(prefix=prefix, hosts=hosts[:2])
    run(layer.send("jobs", {}))
    run(layer.close())
    return layer


def test_servers(
    command: Command, remote: RedisChannelLayer, layer: IPCChannelLayer, hosts: list[str], run: Run
) -> None:
    run(layer.send("jobs", {}))
    clients = [redis.Redis.from_url(host) for host in hosts[:2]]

    def keys() -> list[list[bytes]]:
        return [sorted(client.keys(f"{layer.prefix}|*")) for client in clients]

    before = keys()
    both = ("--hosts", hosts[0], "--hosts", hosts[1])
    found = command(*both, "status", "--json").json["servers"]
    assert [each["up"] for each in found] == [True, True]
    assert sum(each["keys"].get("queue", 0) for each in found) == 1
    assert all(each["version"] and 0 < each["round_trip"] < 5 for each in found)
    assert command(*both, "doctor").code in (0, 1)
    assert keys() == before
    assert command(*both, "healthcheck").code == 0
    assert [[key for key in each if b"|queue|healthcheck" in key] for each in keys()] == [[], []]
    for client in clients:
        client.close()


def test_a_server_that_is_down(command: Command, layer: IPCChannelLayer, hosts: list[str], run: Run) -> None:
    run(layer.send("jobs", {}))
    down = f"{HOST}:{free_port()}"
    some = ("--hosts", hosts[0], "--hosts", f"redis://user:secret@{down}", "--timeout", "2")
    done = command(*some, "status")
    assert done.code == 1
    assert any(line.lstrip().startswith("DOWN") and down in line for line in done.lines)
    assert done.lines[-1] == "1 problem: see doctor"
    assert any(line.endswith("jobs") for line in done.lines), "the rest is shown"
    assert "D001 ERROR" in command(*some, "doctor").out
    bad = command(*some, "healthcheck")
    assert bad.code == 1
    assert down in bad.out
    assert "secret" not in done.out + bad.out


def test_a_server_that_does_not_answer(command: Command, layer: IPCChannelLayer, new_server: Any, run: Run) -> None:
    server: Server = new_server()
    run(layer.send("jobs", {}))
    server.pause()
    began = time.monotonic()
    found = command("--hosts", server.url, "--timeout", "0.3", "status", "--json").json
    assert time.monotonic() - began < 5
    assert not found["servers"][0]["up"]
    server.resume()


def test_what_a_server_does_not_allow_is_skipped(command: Command, new_server: Any, prefix: str) -> None:
    server: Server = new_server()
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "few", "on", ">word", "~*", "&*", "+@all", "-info", "-scan")
    found = command("--hosts", server.url.replace("//", "//few:word@"), "doctor", "--json").json
    assert [each.rpartition(": ")[2] for each in found["skipped"]] == ["INFO is not allowed", "SCAN is not allowed"]


# Health


def test_health_of_a_channel(command: Command, layer: IPCChannelLayer, run: Run) -> None:
    async def read() -> None:
        task, *_ = await receiving(layer, "read")
        await layer.send("read", {})
        await task
        await layer.send("jobs", {})

    run(read())
    assert command("healthcheck", "--channel", "read").code == 0
    assert command("healthcheck", "--channel", "jobs").code == 0
    assert command("healthcheck", "--channel", "jobs", "--max-age", "0.000001").code == 1
    nobody = command("healthcheck", "--channel", "nobody")
    assert nobody.code == 1
    assert "no process waits" in nobody.out


def test_its_message_is_counted_and_nothing_else(command: Command, layer: IPCChannelLayer, run: Run) -> None:
    run(fill(layer))
    before = run(layer.statistics())
    assert command("healthcheck").code == 0
    assert run(layer.statistics()) == {**before, "sent": before["sent"] + 1, "received": before["received"] + 1}


def test_health_of_a_memory_that_is_full(command: Command, layer: IPCChannelLayer, run: Run) -> None:
    async def fill() -> None:
        for length in (10_000, 100, 0):
            with contextlib.suppress(layer.ChannelFull):
                for number in itertools.count():
                    await layer.send(f"jobs.{length}.{number}", {"data": b"x" * length})

    run(fill())
    done = command("healthcheck")
    assert done.code == 1
    assert "shared memory: BAD" in done.out


def test_a_probe_costs_little_and_leaves_nothing(prefix: str) -> None:
    """What a probe must not import; its time is measured by no test."""
    program = f"""
import sys
from hybrid_layer.commands.program import main
code = main(["--prefix", {prefix!r}, "healthcheck"])
heavy = {{"redis", "psutil", "cryptography", "hybrid_layer.remote", "django.core.management", "django.db"}}
print(code, *sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""
    assert not [name for name in os.listdir("/dev/shm") if segment_name(prefix, os.geteuid()) in name]


def test_a_reader_that_has_seen_enough(layer: IPCChannelLayer, run: Run, prefix: str) -> None:
    run(fill(layer))
    command = f"{sys.executable} -m hybrid_layer --prefix {prefix} top -i 0.01 | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30, check=True)
    assert "sent" in done.stdout
    assert done.stderr == ""


# Django


def layers(backend: str, **config: Any) -> dict[str, Any]:
    return {"default": {"BACKEND": backend, "CONFIG": config}}


def test_of_a_site(prefix: str, run: Run) -> None:
    out, err = io.StringIO(), io.StringIO()

    def manage(*arguments: str) -> int:
        out.truncate(0)
        with pytest.raises(SystemExit) if arguments[-1] == "bad" else mock.MagicMock() as end:
            call_command("channel_layer", *[each for each in arguments if each != "bad"], stdout=out, stderr=err)
        return int(end.value.code) if arguments[-1] == "bad" else 0

    ipc = layers("hybrid_layer.ipc.IPCChannelLayer", prefix=prefix, message_memory=1 << 20, group_memory=1 << 20)
    with override_settings(INSTALLED_APPS=["hybrid_layer"], CHANNEL_LAYERS=ipc):
        manage("send", "jobs", '{"type": "job"}')
        manage("status")
        assert "0 problems" in out.getvalue()
        assert manage("status", "--layer", "other", "bad") == 2
        assert "no alias 'other'; it has default" in err.getvalue()
        manage("flush", "--noinput")
    with override_settings(
        INSTALLED_APPS=["hybrid_layer"], CHANNEL_LAYERS=layers("channels.layers.InMemoryChannelLayer")
    ):
        assert manage("status", "bad") == 2
        assert "not of hybrid_layer" in err.getvalue()
    for wrong, said in (("nowhere.Layer", "Cannot import BACKEND"), ("hybrid_layer.HybridChannelLayer", "capactiy")):
        site = layers(wrong, capactiy=1)
        with override_settings(INSTALLED_APPS=["hybrid_layer"], CHANNEL_LAYERS=site):
            assert manage("status", "bad") == 2
            assert said in err.getvalue()
    with override_settings(
        INSTALLED_APPS=["hybrid_layer"], CHANNEL_LAYERS=layers("hybrid_layer.remote.RedisChannelLayer")
    ):
        assert manage("channels", "bad") == 2
        assert "no half in shared memory" in err.getvalue()


# Findings

MEMORY = Memory(
    "M", "", Area(0, 0, 1000), Area(0, 0, 1000), dict.fromkeys(KEYS, 0), dict.fromkeys(KEYS, 0), [], {}, [], 0, 0
)
SURVEY = Survey("p", 1, MEMORY, shm=(10_000, 9_000))
UP = ServerState("a:1", round_trip=0.001, version="redis 7.2.0")


def channel(**values: Any) -> Survey:
    given = {"pending": 1, "oldest_age": 1.0, "waiting": 1, "was_read": True, "capacity": 100, **values}
    return memory(channels=[ChannelState("jobs", **given)])


def memory(**values: Any) -> Survey:
    return replace(SURVEY, memory=replace(MEMORY, **values))


def process(**values: Any) -> Survey:
    usual = ProcessInfo(0, 5, True, "python", (), 1, 1.0, 0, 0)
    return memory(processes=[replace(usual, **values)])


def file(**values: Any) -> Survey:
    usual = SegmentFile("n", 1, _core.LAYOUT_VERSION, digest("p"), "p", 4096, is_inhabited=True, processes=1)
    return replace(SURVEY, segments=[usual._replace(**values)])


def servers(**values: Any) -> Survey:
    return replace(SURVEY, servers=[replace(UP, **values)])


FOUND: list[tuple[Survey, list[str]]] = [
    (SURVEY, []),
    (channel(), []),
    (process(), []),
    (file(), []),
    (servers(), []),
    (servers(error="gone"), ["D001"]),
    (servers(round_trip=0.5), ["D002"]),
    (servers(info={"maxmemory": "10", "maxmemory_policy": "allkeys-lru", "used_memory": "9"}), ["D003", "D004"]),
    (servers(info={"maxmemory": "0", "maxmemory_policy": "allkeys-lru"}), []),
    (servers(version="redis 5.0.1"), ["D005"]),
    (replace(SURVEY, memory=None, why_no_memory="It is locked."), ["D010"]),
    (replace(SURVEY, memory=None, why_no_memory="There is none.", is_missing=True), []),
    (file(user=2), ["D011"]),
    (file(layout=1), ["D012"]),
    (file(is_inhabited=False), ["D013"]),
    (memory(messages=Area(900, 0, 1000)), ["D020"]),
    (memory(groups=Area(900, 0, 1000)), ["D021"]),
    (replace(SURVEY, shm=(10_000, 100)), ["D022"]),
    (channel(oldest_age=99.0, waiting=0, was_read=False), ["D030"]),
    (channel(oldest_age=99.0), ["D031"]),
    (channel(pending=90), ["D032"]),
    (process(oldest_age=99.0), ["D040"]),
    (process(is_alive=False), ["D041"]),
    *((memory(counters={reason: 1}), [f"D05{number}"]) for number, reason in enumerate(REASONS)),
    (memory(remote_counters={"full": 1}), ["D050"]),
]


@pytest.mark.parametrize(("survey", "expected"), FOUND)
def test_findings(survey: Survey, expected: list[str]) -> None:
    found = findings(survey)
    assert [each.id for each in found] == expected
    for each in found:
        assert each.remedy.endswith(".")
        assert each.evidence


def test_each_finding_is_described() -> None:
    described = [
        cell for table in texts.first_cells(texts.section("docs/operating.rst", "What to do")) for cell in table
    ]
    assert sorted(described) == sorted({id for _, expected in FOUND for id in expected})
    assert set(REASONS) == set(KEYS) - {"sent", "received"}


def test_each_command_is_described(command: Command) -> None:
    (described, *_) = texts.first_cells(texts.section("docs/operating.rst", "The command"))
    assert {cell.split()[0] for cell in described} == set(COMMANDS)
    for cell in described:
        options = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", cell)
        known = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", command(cell.split()[0], "--help").out)
        assert set(options) <= set(known), cell


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (size(0), "0 B"),
        (size(2048), "2.0 KiB"),
        (size(3 << 30), "3.0 GiB"),
        (duration(0.0004), "0.4 ms"),
        (duration(2), "2.0 s"),
        (duration(600), "10 min"),
        (duration(86400), "24.0 h"),
        (cut("a\x1b[31mb"), "a?[31mb"),
        (cut("a" * 90), "a" * 77 + "..."),
    ],
)
def test_how_it_is_shown(shown: str, expected: str) -> None:
    assert shown == expected
