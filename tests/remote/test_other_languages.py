"""The wire format is what its page says: a program that is not Python sends, in the words of the page's example."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import pytest

from hybrid_layer.names import machine_of
from hybrid_layer.remote.delivery.shards import shard_for
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.wire.entries import parse
from hybrid_layer.remote.redis.wire.keys import Keys
from hybrid_layer.remote.redis.wire.stream import read_answer
from tests.docs import texts
from tests.remote.stores import CHANNEL, START, M, redis_store, view
from tests.remote.tools import Make
from tests.support.servers import Server

pytestmark = pytest.mark.any_server

FOLDER = texts.ROOT / "examples" / "other_languages"
PAGE = "docs/wire_format.rst"

ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": str(texts.ROOT),
}


@contextmanager
def running_consumer(server: Server, prefix: str) -> Iterator[subprocess.Popen[str]]:
    consumer = subprocess.Popen(
        [sys.executable, "-W", "error", FOLDER / "consumer.py", server.url, prefix],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        yield consumer
    finally:
        consumer.kill()
        consumer.communicate()


def send(server: Server, prefix: str, *words: str) -> str:
    environment = {**ENVIRONMENT, "SERVER": server.url, "PREFIX": prefix}
    return subprocess.run(
        [FOLDER / "send.sh", *words], env=environment, check=True, capture_output=True, text=True, timeout=20
    ).stdout


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="there is no redis-cli on this machine")
def test_the_example_sends_into_a_running_consumer(server: Server, prefix: str) -> None:
    with running_consumer(server, prefix) as consumer:
        assert consumer.stdout is not None
        channel = consumer.stdout.readline().strip()
        for text in ("Good morning", "Grüße", "x" * 255):
            expected = str({"type": "say", "text": text})
            for where in (("channel", channel), ("group", "news")):
                send(server, prefix, *where, text)
                assert consumer.stdout.readline().strip() == expected


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="there is no redis-cli on this machine")
def test_the_example_says_what_became_of_the_message(server: Server, prefix: str) -> None:
    first_lines = [send(server, prefix, "channel", name, "x").split()[0] for name in ("jobs", f"{prefix}.AAAAAAAAAA!1")]
    assert first_lines == ["0", "2"], "stored; the process is gone"


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="there is no redis-cli on this machine")
async def test_the_example_sends_to_a_machine(server: Server, prefix: str) -> None:
    async with redis_store([server.url], prefix) as opened:
        (shard,) = opened.shards
        await opened.store.renew(shard, "PROCESSAAA", 60)  # without an epoch, the server may have lost the machine
        assert (await asyncio.to_thread(send, server, prefix, "channel", CHANNEL, "x")).split()[0] == "2"
        await opened.store.renew_machine(shard, M, 60, view(), 1)
        await opened.store.register(shard, "news", M, 60, 0)
        for where in (("channel", CHANNEL), ("group", "news")):
            await asyncio.to_thread(send, server, prefix, *where, "x")
        reader = opened.store.stream(shard, M)
        await reader.connect()
        items = await reader.read(START, 10)
        await reader.close()
        assert [item.group for item in items] == ["", "news"]
        assert [msgpack.unpackb(item.entry.payload)["text"] for item in items if item.entry] == ["x", "x"]


def test_a_script_is_printed_whole(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    for script in scripts.ALL:
        monkeypatch.setattr(sys, "argv", ["scripts", script.name])
        runpy.run_module("hybrid_layer.remote.redis.scripts", run_name="__main__")
        assert hashlib.sha1(capsysbinary.readouterr().out).hexdigest() == script.sha


# The page


async def test_the_publishing_of_the_page(make_pubsub: Make, server: Server) -> None:
    layer = make_pubsub()
    channel = await layer.new_channel()
    seconds, micros = server.command("TIME")
    stamp = 1000 * seconds + micros // 1000 + 5000
    process = channel.partition("!")[0].rpartition(".")[2]
    entry = b"1|%d||%s|%s" % (stamp, channel.encode(), msgpack.packb({"type": "say"}))
    assert server.command("PUBLISH", f"{layer.prefix}|1|process|{process}", entry) == 1
    assert await asyncio.wait_for(layer.receive(channel), 5) == {"type": "say"}


def test_the_keys_of_the_page() -> None:
    (named,) = texts.first_cells(texts.section(PAGE, "Keys"))
    keys = Keys("asgi")
    assert named == [
        keys.queue("CHANNEL"),
        keys.inbox("PART"),
        keys.group("GROUP"),
        keys.parts("GROUP"),
        keys.alive("PROCESS"),
        keys.counts(""),
        keys.notes("PROCESS"),
        keys.epoch,
        keys.wake("READER"),
    ]


def test_the_entry_of_the_page() -> None:
    (example,) = texts.code(texts.section(PAGE, "Entries"), "text")
    entry = parse(example.encode().decode("unicode_escape").encode("latin-1"))
    assert entry is not None
    assert msgpack.unpackb(entry.payload) == {"type": "say", "text": "Good morning"}
    assert list(entry.names) == ["specific.GV7Q2M4XKA!1", "specific.GV7Q2M4XKA!2"]


def test_the_machine_of_the_page() -> None:
    where = texts.section(PAGE, "Machines")
    (example,) = texts.code(where, "text")
    text = example.encode().decode("unicode_escape").encode("latin-1")
    items = read_answer([[b"key", [[b"5-0", [b"e", text]]]]], b"key", "M7KPQ2XAGB")
    assert items is not None
    (item,) = items
    assert (item.group, item.t) == ("news", 1795172800000)
    assert item.entry is not None
    assert msgpack.unpackb(item.entry.payload) == {"type": "say", "text": "Good morning"}
    (notes,) = texts.first_cells(where)
    channel, epoch = "specific.M7KPQ2XAGB-GV7Q2M4XKA!1", "1794990000-123456:0"
    for note in notes:
        for word, value in (("GROUP", "news"), ("CHANNEL", channel), ("DEADLINE", "1795"), ("EPOCH", epoch)):
            note = note.replace(word, value)
        (item,) = read_answer([[b"key", [[b"5-0", [b"e", note.encode()]]]]], b"key", "M7KPQ2XAGB") or ()
        assert item.note is not None, note
    assert len(notes) == 3


def test_the_names_of_a_machines_channel_on_the_page() -> None:
    text = texts.section(PAGE, "Keys").astext()
    name, inbox, addressee = re.findall(r"\S*M7KPQ2XAGB[^\s.:]*", text)
    machine = machine_of(name)
    assert (inbox, addressee) == (f"@{machine}!", f"@{machine}")


def test_the_servers_of_the_page() -> None:
    rows = re.findall(r"``(\S+)`` +(\d+) +(\d+) +(\d+)", (texts.ROOT / PAGE).read_text())
    assert len(rows) >= 4
    for name, *expected in rows:
        assert [str(shard_for(name, count)) for count in (2, 3, 4)] == expected, name
