"""A signal handler raises while a message is serialized: that is no fault of the message."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hybrid_layer.configuration import LayerOptions
from hybrid_layer.exceptions import InvalidMessageValue, Undecodable
from hybrid_layer.interruption import is_foreign
from hybrid_layer.options import shown
from hybrid_layer.serializers import Codec, register_serializer
from tests.ipc.tools import layer_of
from tests.support.probe import own_serializers


class SoftLimit(Exception):
    """As Celery's, an ordinary exception."""


def interrupt(*_: object) -> None:
    raise SoftLimit


class Handler:
    """Handlers of other kinds."""

    def method(self, *_: object) -> None:
        raise SoftLimit

    def __call__(self, *_: object) -> None:
        raise SoftLimit


HANDLERS = [interrupt, Handler().method, Handler(), functools.partial(interrupt, 1)]


@contextlib.contextmanager
def handled_by(handler: Callable[..., None]) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


class Slow:
    """A serializer that is interrupted at its work."""

    def dumps(self, message: dict[str, Any], /) -> bytes:
        signal.raise_signal(signal.SIGUSR1)
        return b"x"

    def loads(self, payload: bytes, /) -> dict[str, Any]:
        signal.raise_signal(signal.SIGUSR1)
        return {}


class Interrupted:
    def __repr__(self) -> str:
        signal.raise_signal(signal.SIGUSR1)
        return "never"


@pytest.fixture(autouse=True)
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    own_serializers(monkeypatch)
    register_serializer("slow", Slow())


def codec() -> Codec:
    return Codec(LayerOptions(serializer_format="slow"))


@pytest.mark.parametrize("handler", HANDLERS, ids=["function", "method", "object", "partial"])
def test_it_comes_through(handler: Callable[..., None]) -> None:
    with handled_by(handler):
        with pytest.raises(SoftLimit):
            codec().encode({"a": 1}, "x")
        with pytest.raises(SoftLimit):
            codec().decode(b"x", "x")
        with pytest.raises(SoftLimit):
            shown(Interrupted())


def test_no_memory_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Slow, "dumps", fail)
    monkeypatch.setattr(Slow, "loads", fail)
    with pytest.raises(MemoryError):
        codec().encode({"a": 1}, "x")
    with pytest.raises(MemoryError):
        codec().decode(b"x", "x")


def test_what_the_serializer_raises_itself_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SoftLimit

    monkeypatch.setattr(Slow, "dumps", fail)
    monkeypatch.setattr(Slow, "loads", fail)
    with handled_by(interrupt):
        with pytest.raises(InvalidMessageValue):
            codec().encode({"a": 1}, "x")
        with pytest.raises(Undecodable):
            codec().decode(b"x", "x")
    assert not is_foreign(ValueError())


async def test_a_message_that_is_lost_to_it_is_counted(prefix: str) -> None:
    """The exception itself reaches the receiver, and the next message arrives."""
    layer = layer_of(prefix, serializer_format="slow")
    with handled_by(signal.SIG_IGN):  # type: ignore[arg-type]
        await layer.send("a", {"n": 1})
        await layer.send("a", {"n": 2})
    with handled_by(interrupt), pytest.raises(SoftLimit):
        await layer.receive("a")
    with handled_by(signal.SIG_IGN):  # type: ignore[arg-type]
        assert await layer.receive("a") == {}
    assert (await layer.statistics())["undecodable"] == 1
