# SPDX-License-Identifier: BSD-3-Clause
"""Traces with OpenTelemetry. Needs the extra ``opentelemetry``.

``HybridLayerInstrumentor().instrument()`` does it, or the command ``opentelemetry-instrument``. The spans follow the
conventions for messaging: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/

- ``send CHANNEL`` and ``group_send`` where messages are sent;
- ``process CHANNEL`` around a consumer's handler, with a link to the span of the sender. Its parent is what is current
  there, such as the span of a WebSocket.

A span names normal channels only. Names of process-specific channels and of groups are too many, and may tell who takes
part; those of channels are replaced by ``(temporary)``. Where the text of an error of the layer may have such a name,
the span has the error's type only.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from channels.consumer import AsyncConsumer, SyncConsumer, get_handler_name
from channels.exceptions import ChannelFull, StopConsumer
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # it opts out of type checks
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    get_tracer,
)
from opentelemetry.util.types import AttributeValue

import hybrid_layer
from hybrid_layer.base import BaseLayer
from hybrid_layer.exceptions import HybridLayerError
from hybrid_layer.interruption import is_foreign
from hybrid_layer.propagation import propagate_with
from hybrid_layer.statistics import warn

_Method = Callable[..., Awaitable[Any]]
_TEMPORARY = "(temporary)"


class HybridLayerInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Makes spans where any layer of this process sends, and where any consumer handles one of its messages.

    ``instrument(tracer_provider=...)`` takes a provider; without one, the global provider is used. Messages then carry
    the headers of the global propagator in their envelope, where they have room up to ``max_message_size``. Processes
    that are not instrumented ignore them.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """What has to be installed, as requirements."""
        return ("channels >= 4.0",)

    def _instrument(self, **kwargs: Any) -> None:
        tracer = get_tracer(__name__, hybrid_layer.__version__, kwargs.get("tracer_provider"))
        self._originals = [(owner, name, vars(owner)[name]) for owner, name, _ in _WRAPPERS]
        for owner, name, wrapper in _WRAPPERS:
            setattr(owner, name, wrapper(tracer, vars(owner)[name]))
        propagate_with(_Headers())

    def _uninstrument(self, **kwargs: Any) -> None:
        for owner, name, original in self._originals:
            setattr(owner, name, original)
        propagate_with(None)


def sender_of(message: Mapping[str, Any]) -> Context:
    """The context in which `message` was sent, for code that calls `receive` itself, without a consumer.

    It is empty for a message that was sent without tracing, and for what `receive` has not returned, such as a copy.
    """
    origin = _origin_of(message)
    return Context() if origin is None else propagate.extract(origin.headers)


class _Origin(NamedTuple):
    """Where a message has come from."""

    channel: str
    headers: Mapping[str, str]


class _Received(dict[str, Any]):
    """A message, and what its consumer's span has to know. Nothing is added to the message itself.

    Its copies are plain dicts, also those that it is pickled for: where they are read, OpenTelemetry may be missing.
    """

    __slots__ = ("origin",)
    origin: _Origin

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def _origin_of(message: Mapping[str, Any]) -> _Origin | None:
    # A dict that other code has made of the same type has none.
    return getattr(message, "origin", None) if isinstance(message, _Received) else None


class _Headers:
    """The propagator: see `hybrid_layer.propagation.Propagator`."""

    def headers(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        if get_current_span() is INVALID_SPAN or not is_instrumentation_enabled():
            return carrier
        try:
            propagate.inject(carrier)
        except Exception as error:
            if is_foreign(error):
                raise
            warn(("trace",), f"Messages are sent without the headers of their trace, which cannot be written: {error}")
            return {}
        return carrier

    def received(self, message: dict[str, Any], channel: str, headers: Mapping[str, str]) -> dict[str, Any]:
        received = _Received(message)
        received.origin = _Origin(channel, headers)
        return received


_LAYERS_OWN = (HybridLayerError, ChannelFull)


@contextmanager
def _span(
    tracer: Tracer,
    name: str,
    kind: SpanKind,
    operation: str,
    untold: tuple[type[Exception], ...] = _LAYERS_OWN,
    **more: Any,
) -> Iterator[Span]:
    """A span. Of errors that are `untold`, it has the type only, as their texts may name groups and members."""
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "hybrid_layer",
        "messaging.operation.type": "process" if kind is SpanKind.CONSUMER else "send",
        "messaging.operation.name": operation,
    }
    with tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False, **more
    ) as span:
        try:
            yield span
        except StopConsumer:  # how a consumer ends
            raise
        except Exception as error:
            kind_of_error = type(error)
            module = "" if kind_of_error.__module__ == "builtins" else f"{kind_of_error.__module__}."
            span.set_attribute("error.type", f"{module}{kind_of_error.__qualname__}")
            if isinstance(error, untold):
                span.set_status(Status(StatusCode.ERROR, kind_of_error.__name__))
            else:
                span.record_exception(error)
                span.set_status(Status(StatusCode.ERROR, f"{kind_of_error.__name__}: {error}"))
            raise


def _name(channel: object) -> str:
    return str.__str__(channel) if isinstance(channel, str) and "!" not in channel else _TEMPORARY


def _note_channel(span: Span, channel: object) -> None:
    name = _name(channel)
    if name == _TEMPORARY:
        span.set_attribute("messaging.destination.temporary", True)
    else:
        span.set_attribute("messaging.destination.name", name)


def _sending(tracer: Tracer, original: Any) -> _Method:
    """Wraps a method that sends one message or several, to a channel or a group."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    async def sending(*args: Any, **kwargs: Any) -> None:
        if not is_instrumentation_enabled():
            await original(*args, **kwargs)
            return
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments
        to_group = "group" in given
        operation = "group_send" if to_group else "send"
        channel = _TEMPORARY if to_group else _name(given["channel"])
        name = operation if to_group else f"send {channel}"
        untold = _LAYERS_OWN if channel == _TEMPORARY else ()
        with _span(tracer, name, SpanKind.PRODUCER, operation, untold) as span:
            if not to_group:
                _note_channel(span, given["channel"])
            if "messages" in given:
                given["messages"] = list(given["messages"])
                span.set_attribute("messaging.batch.message_count", len(given["messages"]))
            await original(*bound.args, **bound.kwargs)

    return sending


def _dispatch(tracer: Tracer, original: Any) -> _Method:
    """Wraps the method that calls a consumer's handlers."""

    @functools.wraps(original)
    async def dispatch(self: AsyncConsumer, message: dict[str, Any]) -> None:
        handle = original.__get__(self, type(self))
        origin = _origin_of(message)
        if origin is None or not is_instrumentation_enabled():  # a client's, for example
            await handle(message)
            return
        sender = get_current_span(propagate.extract(origin.headers)).get_span_context()
        name = f"process {_name(origin.channel)}"
        links = [Link(sender)] if sender.is_valid else []
        with _span(tracer, name, SpanKind.CONSUMER, "process", links=links) as span:
            _note_channel(span, origin.channel)
            span.set_attribute("code.function.name", _handler(self, message))
            await handle(message)

    return dispatch


def _handler(consumer: AsyncConsumer, message: Mapping[str, Any]) -> str:
    kind = type(consumer)
    try:
        method = get_handler_name(message)
    except (ValueError, AttributeError):  # dispatch will say so
        method = "dispatch"
    return f"{kind.__module__}.{kind.__qualname__}.{method}"


_WRAPPERS: list[tuple[type, str, Callable[[Tracer, Any], _Method]]] = [
    *((BaseLayer, name, _sending) for name in ("send", "send_multiple", "group_send", "group_send_multiple")),
    *((consumer, "dispatch", _dispatch) for consumer in (AsyncConsumer, SyncConsumer)),
]
