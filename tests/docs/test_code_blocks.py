"""Every block of code in the texts works: Python is run, settings carry messages, commands name what is there.

A page's Python blocks are run one after the other, as a reader would paste them. `await` may stand outside of
functions, and a text block that follows is what they print. Fragments find the names of `preamble`. What a block
defines is then used:

- ``CHANNEL_LAYERS``: the layers of the rest of the page, with servers and a prefix of the test. Messages pass through.
- ``hosts``, ``CONFIG``: a layer is built from them.
- consumers with ``receive_json``: two browsers talk through them.
- functions ``test_...``: they pass.

A comment ``.. not run: REASON`` before a block exempts it. What a page includes from a file is tested with the file.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.test import override_settings
from django.utils.module_loading import import_string
from docutils import nodes

from hybrid_layer.contrib.opentelemetry import HybridLayerInstrumentor
from hybrid_layer.remote import RedisChannelLayer
from tests.docs import commands, texts
from tests.support.loops import Run
from tests.support.probe import own_serializers

MOST_EXEMPT = 10
EXEMPT = "not run: "

PYTHON, SHELL, OUTPUT, COMPOSE = "python", "sh", "text", "yaml"
"""The languages of blocks. A block that names none has commands for a shell."""


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    exempt: str | None
    """The reason for not running it."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def blocks(page: str) -> list[Block]:
    """The blocks of a text, from top to bottom, but for what it includes."""
    found = []
    for node in texts.tree(page).findall(nodes.literal_block):
        if "source" in node or texts.source(node) != texts.ROOT / page:
            continue
        before = node.parent[node.parent.index(node) - 1]
        comment = before.astext() if isinstance(before, nodes.comment) else ""
        reason = comment.removeprefix(EXEMPT) if comment.startswith(EXEMPT) else None
        found.append(Block(page, node.line or 0, texts.language(node) or SHELL, node.astext(), reason))
    return found


ALL = [block for page in texts.TEXTS for block in blocks(page)]


def of(language: str) -> list[Block]:
    return [block for block in ALL if block.language == language and block.exempt is None]


def pages(language: str) -> list[str]:
    return [*dict.fromkeys(block.page for block in of(language))]


def test_every_block_is_of_a_language_that_is_tested() -> None:
    assert len(ALL) > 60
    assert {block.language for block in ALL} <= {PYTHON, SHELL, OUTPUT, COMPOSE}


def test_few_blocks_are_exempt_and_each_says_why() -> None:
    exempt = [block for block in ALL if block.exempt is not None]
    assert len(exempt) <= MOST_EXEMPT
    assert all(block.exempt for block in exempt)


# Python

PAGE = "page"
"""The module of what a page defines."""


@dataclass
class Session:
    """One page, as a reader pastes it."""

    run: Run
    hosts: list[str]
    prefix: str
    settings: contextlib.ExitStack
    number: int = 0

    def use(self, layers: dict[str, Any]) -> None:
        """From now on, with a prefix and servers of the test."""
        self.number += 1
        config = {**layers["default"].get("CONFIG", {}), "prefix": f"{self.prefix}-{self.number}"}
        if "hosts" in config:
            config["hosts"] = self.hosts[: len(config["hosts"])]
        layers = {"default": {"BACKEND": layers["default"]["BACKEND"], "CONFIG": config}}
        self.settings.enter_context(override_settings(CHANNEL_LAYERS=layers))

    def execute(self, block: Block, namespace: dict[str, Any]) -> None:
        code = compile("\n" * (block.line - 1) + block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:
            self.run(eval(code, namespace))
        else:
            exec(code, namespace)

    def try_out(self, defined: dict[str, Any]) -> None:
        """What the block has defined."""
        for name, value in defined.items():
            if name == "CHANNEL_LAYERS":
                default = value["default"]
                import_string(default["BACKEND"])(**default.get("CONFIG", {}))
                if default["BACKEND"].startswith("hybrid_layer."):
                    self.use(value)
                    self.run(talk())
            elif name == "hosts":
                RedisChannelLayer(hosts=value)
            elif name == "CONFIG":
                RedisChannelLayer(**value)
            elif name.startswith("test_"):
                self.run(value())
            elif getattr(value, "__module__", "") == PAGE and "receive_json" in vars(value):
                self.run(two_browsers(value))


def preamble() -> dict[str, Any]:
    """What the fragments of a page take for granted: a layer, messages, and the consumer that they are a part of."""
    layer = get_channel_layer()
    messages = [{"type": "news.said", "text": text} for text in ("Good morning", "Good night")]
    consumer = SimpleNamespace(channel_layer=layer, channel_name="specific.PROCESS!1", room="room.lobby")
    return {"channel_layer": layer, "message": messages[0], "messages": messages, "self": consumer}


async def talk() -> None:
    """To each kind of channel, and to a group."""
    layer: Any = get_channel_layer()
    own = await layer.new_channel()
    await layer.group_add("test.room", own)
    for normal in ("thumbnails", "video.cut"):
        await layer.send(normal, {"type": "job"})
        assert await layer.receive(normal) == {"type": "job"}
    await layer.send(own, {"type": "direct"})
    assert await layer.receive(own) == {"type": "direct"}
    await layer.group_send("test.room", {"type": "group"})
    assert await layer.receive(own) == {"type": "group"}
    await layer.close()


async def two_browsers(consumer: type[AsyncJsonWebsocketConsumer]) -> None:
    """What one says, both hear."""
    browsers = [WebsocketCommunicator(consumer.as_asgi(), "/") for _ in range(2)]
    for browser in browsers:
        browser.scope["url_route"] = {"kwargs": {"room": "test"}}
        assert (await browser.connect())[0]
    await browsers[0].send_json_to({"text": "Good morning"})
    for browser in browsers:
        assert await browser.receive_json_from() == {"text": "Good morning"}
        await browser.disconnect()


@pytest.fixture
def session(run: Run, hosts: list[str], prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv("LAYER_KEY", "a key for tests")
    own_serializers(monkeypatch)
    with contextlib.ExitStack() as settings:
        session = Session(run, hosts, prefix, settings)
        session.use({"default": {"BACKEND": "hybrid_layer.HybridChannelLayer"}})
        yield session
    if (instrumentor := HybridLayerInstrumentor()).is_instrumented_by_opentelemetry:  # by a block
        instrumentor.uninstrument()


@pytest.mark.parametrize("page", pages(PYTHON))
def test_python(page: str, session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {"__name__": PAGE}
    every = blocks(page)
    for block, after in zip(every, [*every[1:], None], strict=True):
        if block.language != PYTHON or block.exempt is not None:
            continue
        namespace |= preamble()
        before = dict(namespace)
        session.execute(block, namespace)
        printed = capsys.readouterr().out
        if printed:
            assert after is not None
            assert after.language == OUTPUT, f"{block} prints {printed!r}, and the page does not show it"
            shown = doctest.OutputChecker().check_output(f"{after.text}\n", printed, doctest.ELLIPSIS)
            assert shown, f"{block} prints {printed!r}"
        session.try_out({key: value for key, value in namespace.items() if before.get(key) is not value})


@pytest.mark.parametrize("page", texts.TEXTS)
def test_what_is_included_is_whole(page: str) -> None:
    """Files are included by numbers of lines, too."""
    for node in texts.tree(page).findall(nodes.literal_block):
        if "source" in node and texts.language(node) == PYTHON:
            ast.parse(node.astext())


@pytest.mark.parametrize(("call", "code"), [('"news", {}', 0), ('"news"', 1)], ids=["right", "wrong"])
def test_a_type_checker_knows_the_layer(call: str, code: int, tmp_path: Path) -> None:
    """As the page on types says. Without Channels' types, as in this environment."""
    (block,) = texts.code(texts.tree("docs/typing.rst"), PYTHON)
    module = tmp_path / "module.py"
    module.write_text(f"{block}\n\nasync def main() -> None:\n    await channel_layer().group_send({call})\n")
    check = [sys.executable, "-m", "mypy", "--strict", module]
    done = subprocess.run(check, cwd=texts.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert bool(code) == ("Missing positional argument" in done.stdout)


# Commands


@pytest.mark.parametrize("page", pages(SHELL))
def test_commands(page: str) -> None:
    for block in of(SHELL):
        if block.page == page:
            for command in commands.of(block.text):
                assert (wrong := commands.mistake(command)) is None, f"{block}: {' '.join(command)}: {wrong}"


@pytest.mark.parametrize("page", texts.TEXTS)
def test_commands_for_operators_within_sentences(page: str) -> None:
    for literal in texts.tree(page).findall(nodes.literal):
        found = re.fullmatch(r"(?:python )?(-m hybrid_layer|(?:manage\.py )?channel_layer) (.*)", literal.astext())
        if found is not None and "COMMAND" not in found[2]:
            program = "-m hybrid_layer" if found[1].startswith("-m") else "manage.py channel_layer"
            (words,) = commands.of(f"python {program} {found[2]}")
            assert (wrong := commands.mistake(words)) is None, f"{literal.astext()}: {wrong}"


@pytest.mark.parametrize(
    "command",
    [
        "make tset",
        "make test TESTS=tests/nowhere.py",
        "pip install 'hybrid_layer[hierdis]'",
        "python manage.py runwroker jobs",
        "python manage.py channel_layer stauts",
        "python -m benchmarks --quikc",
        "python -m hybrid_layer stauts",
        "python -m hybrid_layer healthcheck --max-aeg 60",
        "python -m hybrid_layer.nowhere",
        "python examples/nowhere.py",
        "python -c 'import nowhere'",
        "gti clone",
        "DEBUG=1 .venv/bin/nox --tags nothing",
    ],
)
def test_a_mistake_in_a_command_is_found(command: str) -> None:
    (words,) = commands.of(command)
    assert commands.mistake(words)


# Compose files


@pytest.mark.parametrize("block", of(COMPOSE), ids=str)
def test_compose(block: Block, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(block.text)
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, tmp_path / "compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^services:", block.text)
