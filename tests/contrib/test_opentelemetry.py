"""Traces: spans of the real SDK, and what travels with the messages."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from enum import StrEnum
from importlib.metadata import entry_points
from typing import Any

import msgpack
import pytest
from channels.consumer import AsyncConsumer, SyncConsumer
from channels.exceptions import StopConsumer
from channels.layers import channel_layers
from channels.worker import Worker
from django.test import override_settings
from opentelemetry import baggage, context, trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from hybrid_layer.base import BaseLayer
from hybrid_layer.contrib.opentelemetry import HybridLayerInstrumentor, sender_of
from hybrid_layer.envelope import enclosed, headers_in
from hybrid_layer.exceptions import InvalidArgument
from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.serializers import Codec
from tests.support.probe import probe
from tests.support.waiting import cancelled, wait_until

BACKENDS = ["ipc.IPCChannelLayer", "HybridChannelLayer", "remote.RedisChannelLayer", "remote.RedisPubSubChannelLayer"]
SECRET_GROUP = "room-of-alice-and-bob"


class Spans:
    """What was exported."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def attributes(self, name: str) -> list[dict[str, Any]]:
        return [dict(span.attributes or {}) for span in self.named(name)]

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def names(self) -> list[str]:
        return sorted(span.name for span in self._exporter.get_finished_spans())

    def texts(self) -> str:
        return " ".join(span.to_json() for span in self._exporter.get_finished_spans())


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Of this process, which is instrumented meanwhile."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = HybridLayerInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        yield Spans(exporter)
    finally:
        instrumentor.uninstrument()


@asynccontextmanager
async def layer_of(backend: str, prefix: str, hosts: list[str], **config: Any) -> AsyncIterator[BaseLayer]:
    config |= {"prefix": prefix} | ({} if backend.startswith("ipc") else {"hosts": hosts[:1]})
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": f"hybrid_layer.{backend}", "CONFIG": config}}):
        layer = channel_layers["default"]
        try:
            yield layer
        finally:
            await layer.close()


class Async(AsyncConsumer):
    """A consumer that joins a group, and notes what it gets."""

    def __init__(self, got: list[Any]) -> None:
        self.got = got

    async def start(self, message: dict[str, Any]) -> None:
        await self.channel_layer.group_add(SECRET_GROUP, self.channel_name)
        self.got.append(self.channel_name)

    async def note(self, message: dict[str, Any]) -> None:
        assert baggage.get_baggage("user") is None  # a link is no parent
        self.got.append(message)

    async def fail(self, message: dict[str, Any]) -> None:
        self.got.append(message)
        raise LookupError("no such order")

    async def stop(self, message: dict[str, Any]) -> None:
        raise StopConsumer


class Sync(SyncConsumer):
    def __init__(self, got: list[Any]) -> None:
        self.got = got

    def note(self, message: dict[str, Any]) -> None:
        self.got.append((message, trace.get_current_span().get_span_context().span_id))


class Client:
    """What a server passes to an application: one event, and then none."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self._events = list(events)

    async def receive(self) -> dict[str, Any]:
        if not self._events:
            await asyncio.Event().wait()
        return self._events.pop(0)

    async def send(self, message: dict[str, Any]) -> None:
        raise AssertionError(message)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_group(backend: str, prefix: str, hosts: list[str], spans: Spans) -> None:
    """Each member's span is linked to the sender's, and no span tells who the members are."""
    got: list[Any] = []
    async with layer_of(backend, prefix, hosts) as layer:
        tasks = [
            asyncio.create_task(Async.as_asgi(got=got)({}, client.receive, client.send))
            for client in (Client({"type": "start"}), Client({"type": "start"}))
        ]
        await wait_until(lambda: len(got) == 2, "both have joined")
        names, message = got.copy(), {"type": "note", "n": 1}
        await layer.group_send(SECRET_GROUP, message)
        await wait_until(lambda: len(spans.named("process (temporary)")) == 2, "both have it")
        await layer.group_send_multiple(SECRET_GROUP, iter([message] * 2))
        await layer.group_send(SECRET_GROUP, message, exclude=names[0])
        await wait_until(lambda: len(spans.named("process (temporary)")) == 7, "they have all")
        await cancelled(*tasks)
    assert got[2:] == [message] * 7
    sent = spans.named("group_send")
    assert [span.kind for span in sent] == [SpanKind.PRODUCER] * 3
    assert [each.get("messaging.batch.message_count") for each in spans.attributes("group_send")] == [None, 2, None]
    processed = spans.named("process (temporary)")
    assert {span.kind for span in processed} == {SpanKind.CONSUMER}
    links = [link.context.span_id for span in processed for link in span.links]
    assert [links.count(span.context.span_id) for span in sent] == [2, 4, 1]
    assert {span.parent for span in processed} == {None}
    handlers = {each["code.function.name"] for each in spans.attributes("process (temporary)")}
    assert handlers == {f"{__name__}.Async.note"}
    assert spans.names() == ["group_send"] * 3 + ["process (temporary)"] * 7, "a client's events make none"
    assert SECRET_GROUP not in spans.texts()
    assert not any(name in spans.texts() for name in names)


@pytest.mark.filterwarnings("ignore:async_to_sync was passed")  # by asgiref's worker
@pytest.mark.parametrize("consumer", [Async, Sync])
async def test_a_job_for_a_worker(consumer: Any, prefix: str, spans: Spans) -> None:
    got: list[Any] = []
    async with layer_of("ipc.IPCChannelLayer", prefix, []) as layer:
        worker = asyncio.create_task(Worker(consumer.as_asgi(got=got), ["jobs"], layer).handle())
        await layer.send(channel="jobs", message={"type": "note"}, expiry=5)
        await wait_until(lambda: bool(spans.named("process jobs")), "the worker has it")
        await layer.send_multiple("jobs", ({"type": "note"} for _ in range(2)))
        await wait_until(lambda: len(spans.named("process jobs")) == 3, "it has all")
        await cancelled(worker)
    first, second = spans.named("send jobs")
    usual = {
        "messaging.system": "hybrid_layer",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": "jobs",
    }
    assert spans.attributes("send jobs") == [usual, usual | {"messaging.batch.message_count": 2}]
    processed = spans.named("process jobs")
    assert [link.context.span_id for span in processed for link in span.links] == [
        span.context.span_id for span in (first, second, second)
    ]
    assert spans.attributes("process jobs") == 3 * [
        usual
        | {
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "code.function.name": f"{__name__}.{consumer.__name__}.note",
        }
    ]
    if consumer is Sync:
        assert [span_id for _, span_id in got] == [span.context.span_id for span in processed], "also in its thread"


async def test_errors_tell_no_names(prefix: str, spans: Spans) -> None:
    """Neither where they are raised, nor in the consumer that sent."""
    async with layer_of("ipc.IPCChannelLayer", prefix, [], capacity=1, max_message_size=200) as layer:
        name = await layer.new_channel()
        await layer.send(name, {"type": "note"})
        with pytest.raises(layer.ChannelFull, match=name):
            await layer.send(name, {"type": "note"})
        large = {"type": "note", "text": "x" * 200}
        with pytest.raises(layer.MessageTooLarge, match=SECRET_GROUP):
            await layer.group_send(SECRET_GROUP, large)

        class Forwarding(AsyncConsumer):
            async def note(self, message: dict[str, Any]) -> None:
                await layer.group_send(SECRET_GROUP, large)

        with pytest.raises(layer.MessageTooLarge):
            await Forwarding().dispatch(await layer.receive(name))
    assert spans.attributes("send (temporary)")[1]["error.type"] == "channels.exceptions.ChannelFull"
    failed = spans.named("group_send") + spans.named("process (temporary)")
    assert [(span.status.status_code, span.status.description) for span in failed] == [
        (StatusCode.ERROR, "MessageTooLarge")
    ] * 3
    assert SECRET_GROUP not in spans.texts()
    assert name not in spans.texts()


async def test_errors(prefix: str, spans: Spans) -> None:
    got: list[Any] = []
    async with layer_of("ipc.IPCChannelLayer", prefix, [], capacity=1) as layer:
        await layer.send("jobs", {"type": "fail"})
        with pytest.raises(layer.ChannelFull):
            await layer.send("jobs", {"type": "fail"})
        with pytest.raises(InvalidArgument):
            await layer.send("jobs", {"type": "fail"}, expiry=-1)
        types = [each.get("error.type") for each in spans.attributes("send jobs")]
        assert types == [None, "channels.exceptions.ChannelFull", "hybrid_layer.exceptions.InvalidArgument"]
        consumer = Async(got)
        with pytest.raises(LookupError):
            await consumer.dispatch(await layer.receive("jobs"))
        for strange in ({"type": "stop"}, {"type": 3}, {}):
            await layer.send("jobs", strange)
            with pytest.raises((StopConsumer, AttributeError, ValueError)):
                await consumer.dispatch(await layer.receive("jobs"))
    failed, stopped, *others = spans.named("process jobs")
    assert spans.attributes("process jobs")[0]["error.type"] == "LookupError"
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "LookupError: no such order")
    assert [event.name for event in failed.events] == ["exception"]
    assert (stopped.status.status_code, stopped.events) == (StatusCode.UNSET, ())
    assert [span.status.status_code for span in others] == [StatusCode.ERROR] * 2


@pytest.mark.parametrize("config", [{}, {"symmetric_encryption_keys": ["key"]}, {"serializer_format": "json"}])
async def test_what_travels(config: dict[str, Any], prefix: str, spans: Spans) -> None:
    """The headers of the global propagator, baggage too, outside of the message and its cipher."""
    message = {"type": "note", "n": 1}
    async with layer_of("ipc.IPCChannelLayer", prefix, [], **config) as layer:
        token = context.attach(baggage.set_baggage("user", "7"))
        await layer.send("jobs", message)
        context.detach(token)
        received = await layer.receive("jobs")
    assert received == message
    assert baggage.get_baggage("user", sender_of(received)) == "7"
    sender = trace.get_current_span(sender_of(received)).get_span_context()
    assert sender.span_id == spans.named("send jobs")[0].context.span_id


async def test_copies_of_a_message(prefix: str, spans: Spans) -> None:
    """They are plain dicts, which anybody can unpickle, and as good as the message where they are sent on."""
    message, got = {"type": "note", "items": [1]}, list[Any]()
    async with layer_of("ipc.IPCChannelLayer", prefix, []) as layer:
        await layer.send("jobs", message)
        received = await layer.receive("jobs")
        assert received == message
        pickled = [pickle.loads(pickle.dumps(received, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
        for other in (*pickled, copy.copy(received), copy.deepcopy(received), received.copy(), {**received}):
            assert type(other) is dict
            assert other == message
        remade = type(received)(received)
        assert sender_of(remade) == {}
        await Async(got).dispatch(remade)
        await layer.send("jobs", {"type": "note", "inner": received})
        assert await layer.receive("jobs") == {"type": "note", "inner": message}
    assert got == [message]
    assert spans.named("process jobs") == []


async def test_a_name_of_a_subclass_of_str(prefix: str, spans: Spans) -> None:
    class Name(StrEnum):
        JOBS = "jobs"

    async with layer_of("ipc.IPCChannelLayer", prefix, []) as layer:
        await layer.send(Name.JOBS, {"type": "note"})
    (attributes,) = spans.attributes("send jobs")
    assert attributes["messaging.destination.name"] == "jobs"


async def test_headers_that_cannot_be_written(prefix: str, spans: Spans, caplog: pytest.LogCaptureFixture) -> None:
    """No message fails for its trace."""
    async with layer_of("ipc.IPCChannelLayer", prefix, []) as layer:
        token = context.attach(baggage.set_baggage("user", "\ud800"))
        await layer.send("jobs", {"type": "note"})
        context.detach(token)
        received = await layer.receive("jobs")
    assert received == {"type": "note"}
    assert sender_of(received) == {}
    assert "without the headers of their trace" in caplog.text


async def test_processes_that_are_not_instrumented(prefix: str) -> None:
    layer = IPCChannelLayer(prefix=prefix)
    codec, message = Codec(layer.options), {"type": "note"}
    usual = codec.encode(message, "jobs")
    originals = [vars(BaseLayer)["send"], vars(AsyncConsumer)["dispatch"], vars(SyncConsumer)["dispatch"]]
    instrumentor = HybridLayerInstrumentor()
    instrumentor.instrument(tracer_provider=TracerProvider(shutdown_on_exit=False))
    assert codec.encode(message, "jobs") == usual, "outside of any span"
    await layer.send("jobs", message)
    with suppress_instrumentation():
        await layer.send("jobs", message)
    instrumentor.uninstrument()
    assert originals == [vars(BaseLayer)["send"], vars(AsyncConsumer)["dispatch"], vars(SyncConsumer)["dispatch"]]
    await layer.send("jobs", message)
    for _ in range(3):
        received = await layer.receive("jobs")
        assert type(received) is dict
        assert received == message
        assert sender_of(received) == {}
    await layer.close()


async def test_a_message_without_room_for_headers(prefix: str, spans: Spans) -> None:
    """A message that may be sent without tracing may be sent with it."""
    message = {"type": "note", "text": "x" * 200}
    size = len(Codec(IPCChannelLayer(prefix=prefix).options).encode(message, "jobs"))
    async with layer_of("ipc.IPCChannelLayer", prefix, [], max_message_size=size) as layer:
        await layer.send("jobs", message)
        received = await layer.receive("jobs")
    assert received == message
    assert not trace.get_current_span(sender_of(received)).get_span_context().is_valid


@pytest.mark.parametrize("headers", [3, [], {"traceparent": 3}, {"traceparent": "00-x"}, {b"traceparent": "00"}])
async def test_headers_that_a_stranger_made_up(headers: Any, prefix: str, spans: Spans) -> None:
    payload = enclosed(msgpack.packb({"type": "note"}), msgpack.packb({"h": headers}))
    assert all(isinstance(text, str) for pair in headers_in(payload).items() for text in pair)
    got: list[Any] = []
    async with layer_of("ipc.IPCChannelLayer", prefix, []) as layer:
        await probe(layer).local.send("jobs", payload)
        await Async(got).dispatch(await layer.receive("jobs"))
    assert got == [{"type": "note"}]
    (span,) = spans.named("process jobs")
    assert span.links == ()


def test_the_command_finds_it() -> None:
    (found,) = entry_points(group="opentelemetry_instrumentor", name="hybrid_layer")
    assert found.load() is HybridLayerInstrumentor
