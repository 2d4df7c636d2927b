"""Channels' own code on top of the layer: consumers, communicators, workers, settings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.consumer import AsyncConsumer, SyncConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from channels.layers import BaseChannelLayer, channel_layers, get_channel_layer
from channels.testing import ApplicationCommunicator, WebsocketCommunicator
from channels.utils import await_many_dispatch
from channels.worker import Worker
from django.test import override_settings

from tests.contract.configurations import LayerMaker
from tests.contract.tools import cancel, counted, receive, receive_numbers
from tests.support.waiting import at_rest, turns


@pytest.fixture
def layer(make_layer: LayerMaker) -> Iterator[Any]:
    """The layer under test as Channels' default, built from settings as on a site."""
    spec = make_layer.spec()
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": spec["backend"], "CONFIG": spec["options"]}}):
        layer = get_channel_layer()
        assert isinstance(layer, BaseChannelLayer)
        make_layer.layers.append(layer)
        yield layer
    assert channel_layers.backends == {}


class Chat(AsyncJsonWebsocketConsumer):
    """Sends every message to the room, whose members are the open websockets."""

    groups = ["room"]  # noqa: RUF012  # as Channels has it

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.channel_layer.group_send("room", {"type": "chat.message", "text": content["text"]})

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send_json({"text": event["text"]})


class SyncChat(JsonWebsocketConsumer):
    """The same with sync handlers in threads, as most sites begin."""

    groups = ["room"]  # noqa: RUF012  # as Channels has it

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        async_to_sync(self.channel_layer.group_send)("room", {"type": "chat.message", "text": content["text"]})

    def chat_message(self, event: dict[str, Any]) -> None:
        self.send_json({"text": event["text"]})


@pytest.mark.parametrize("consumer", [Chat, SyncChat])
async def test_chat(layer: Any, make_layer: LayerMaker, consumer: Any) -> None:
    tabs = [WebsocketCommunicator(consumer.as_asgi(), "/") for _ in range(3)]
    for tab in tabs:
        connected, _ = await tab.connect(timeout=5)
        assert connected
    for n in range(5):
        await tabs[n % 3].send_json_to({"text": f"hello {n}"})
        for tab in tabs:
            assert await tab.receive_json_from(timeout=5) == {"text": f"hello {n}"}
    started = time.monotonic()
    await tabs[0].disconnect(timeout=1)
    assert time.monotonic() - started < 1
    await tabs[1].send_json_to({"text": "after the first left"})
    for tab in tabs[1:]:
        assert await tab.receive_json_from(timeout=5) == {"text": "after the first left"}
    await layer.group_send("room", {"type": "chat.message", "text": "from outside"})
    for tab in tabs[1:]:
        assert await tab.receive_json_from(timeout=5) == {"text": "from outside"}
        assert await tab.receive_nothing()
        await tab.disconnect(timeout=1)
    await layer.group_send("room", {"type": "chat.message", "text": "nobody is left"})
    # A message for a consumer that left may have waited in its inbox; nothing else was dropped.
    assert await counted(layer, "undecodable") == 0


async def test_websockets_that_close_lose_nothing_for_others(layer: Any, make_layer: LayerMaker) -> None:
    stays = WebsocketCommunicator(Chat.as_asgi(), "/")
    await stays.connect(timeout=5)
    for n in range(20):
        leaves = WebsocketCommunicator(Chat.as_asgi(), "/")
        await leaves.connect(timeout=5)
        await leaves.send_json_to({"text": n})
        if n % 2:
            await leaves.receive_json_from(timeout=5)
        await leaves.disconnect(timeout=1)
        await layer.group_send("room", {"type": "chat.message", "text": f"and {n}"})
    got: list[Any] = []
    while "and 19" not in got:
        got.append((await stays.receive_json_from(timeout=5))["text"])
    # A consumer whose websocket closes may miss its last message; the others all arrive, in order.
    assert [text for text in got if isinstance(text, str)] == [f"and {n}" for n in range(20)]
    numbers = [text for text in got if isinstance(text, int)]
    assert numbers == sorted(set(numbers))
    assert set(range(1, 20, 2)) <= set(numbers)
    await stays.disconnect(timeout=1)


class Jobs(AsyncConsumer):
    async def job_do(self, message: dict[str, Any]) -> None:
        await self.channel_layer.send(message["reply"], {"type": "job.done", "n": message["n"]})


class SyncJobs(SyncConsumer):
    def job_do(self, message: dict[str, Any]) -> None:
        async_to_sync(self.channel_layer.send)(message["reply"], {"type": "job.done", "n": message["n"]})


@pytest.mark.filterwarnings("ignore:async_to_sync was passed a non-async-marked callable")  # by asgiref's server
@pytest.mark.parametrize("consumer", [Jobs, SyncJobs])
async def test_worker(layer: Any, make_layer: LayerMaker, consumer: Any) -> None:
    """`runworker`: one `receive` for each of its channels, at once and for ever."""
    names = [f"jobs.{n}" for n in range(20)]
    worker = Worker(application=consumer.as_asgi(), channels=names, channel_layer=layer)
    working = asyncio.create_task(worker.handle())
    try:
        reply = await layer.new_channel()
        for n in range(60):
            await layer.send(names[n % 20], {"type": "job.do", "n": n, "reply": reply})
        assert sorted(await receive_numbers(layer, reply, 60)) == list(range(60))
    finally:
        await cancel(working)
        await asyncio.gather(*(cancel(task) for task in asyncio.all_tasks() - {asyncio.current_task()}))


async def test_application_communicator(layer: Any, make_layer: LayerMaker) -> None:
    communicator = ApplicationCommunicator(Jobs.as_asgi(), {"type": "channel", "channel": "jobs"})
    reply = await layer.new_channel()
    await communicator.send_input({"type": "job.do", "n": 1, "reply": reply})
    assert await receive(layer, reply) == {"type": "job.done", "n": 1}
    communicator.stop()


async def test_await_many_dispatch_cancels_a_pending_receive(make_layer: LayerMaker) -> None:
    """What Channels does when a websocket closes. The next reader gets what `receive()` had not returned."""
    layer = make_layer()
    channel = await layer.new_channel()
    returned: list[int] = []

    async def from_layer() -> Any:
        message = await layer.receive(channel)
        returned.append(message["n"])
        return message

    async def dispatch(message: dict[str, int]) -> None:
        await turns()

    sent = 0
    for number in range(80):
        websocket: asyncio.Queue[dict[str, int]] = asyncio.Queue()
        task = asyncio.create_task(await_many_dispatch([websocket.get, from_layer], dispatch))
        await turns()
        for _ in range(2):
            await layer.send(channel, {"n": sent})
            sent += 1
        websocket.put_nowait({"other": 1})
        await turns(number % 10)
        started = time.monotonic()
        await cancel(task)
        assert time.monotonic() - started < 1
        while len(returned) < sent:
            returned.append((await receive(layer, channel))["n"])
    assert returned == list(range(sent))


async def test_closing_is_quick_however_many_wait(layer: Any, make_layer: LayerMaker) -> None:
    names = []

    class Named(Chat):
        async def connect(self) -> None:
            names.append(self.channel_name)
            await self.accept()

    tabs = [WebsocketCommunicator(Named.as_asgi(), "/") for _ in range(30)]
    for tab in tabs:
        await tab.connect(timeout=5)
    await at_rest(layer, *names)
    started = time.monotonic()
    await asyncio.gather(*(tab.disconnect(timeout=5) for tab in tabs))
    assert time.monotonic() - started < 3
