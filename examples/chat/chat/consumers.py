"""One browser tab in a room.

Three ways through the channel layer, one beside the other:

* everybody in the room: a *group*; each tab's channel is a member, whichever process holds its socket;
* one tab: its *process-specific channel*, the name that `self.channel_name` holds ("specific.PROCESS!n");
* any worker: the *normal channel* "jobs", which `manage.py runworker jobs` reads.

The handlers named `chat_...` and `job_...` receive what came through the layer; `Channels` finds them by the message's
type. The methods named `ask_...` do what the browser asks for.
"""

import asyncio
import contextlib
import json
import os
import secrets
import time
from typing import Any, ClassVar
from urllib.parse import parse_qs

from channels.exceptions import ChannelFull
from channels.generic.websocket import AsyncWebsocketConsumer

from chat.limits import MAX_NAME, MAX_TEXT, Rate, clean

Message = dict[str, Any]

HEARTBEAT_SECONDS = 5
JOB_SECONDS = 90  # after this, a job that reported nothing is given up, and another may be asked for
MAX_PEOPLE = 200
ELSEWHERE = 4001  # close code: this is the process that the browser wanted to avoid


class ChatConsumer(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        self.id = secrets.token_urlsafe(6)
        self.name = "Somebody"
        self.group = "chat.room." + self.scope["url_route"]["kwargs"]["room"]
        self.people: dict[str, str] = {}  # id -> channel name, of those in the room that were heard of
        self.rate = Rate(per_second=4, burst=12)
        self.job_deadline = 0.0
        self.heartbeat: asyncio.Task[None] | None = None

        await self.accept()
        query = parse_qs(self.scope["query_string"].decode("ascii", "replace"))
        if query.get("elsewhere") == [str(os.getpid())]:
            # For the demo only: a second tab would rather see another process than what the kernel happened to pick.
            await self.close(code=ELSEWHERE)
            return
        self.name = clean(query.get("name", [""])[0], MAX_NAME) or self.name
        try:
            await self.channel_layer.group_add(self.group, self.channel_name)
            await self.tell("welcome", id=self.id, name=self.name, pid=os.getpid(), channel=self.channel_name)
            await self.to_room("chat.hello")
        except ConnectionError:
            await self.close(code=1013)  # "try again later": the remote is down; the page comes back by itself
            return
        self.heartbeat = asyncio.create_task(self.beat())

    async def disconnect(self, code: int) -> None:
        if self.heartbeat is None:
            return
        self.heartbeat.cancel()
        with contextlib.suppress(ConnectionError):
            await self.channel_layer.group_discard(self.group, self.channel_name)
            await self.to_room("chat.left")

    async def beat(self) -> None:
        """Nobody keeps a list of who is here: each says so itself, and who falls silent is gone.

        The browser hears its own beat too, which has then come the whole way through the layer.
        """
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            with contextlib.suppress(ConnectionError):
                # A membership ends `group_expiry` after the last group_add, so a tab left open for days renews it.
                await self.channel_layer.group_add(self.group, self.channel_name)
                await self.to_room("chat.here")

    # What the browser asks for

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            request = json.loads(text_data or "")
            ask = self.REQUESTS[request["type"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            await self.tell("refused", reason="That was not understood.")
            return
        if not self.rate.allows():
            await self.tell("refused", reason="A little slower, please.")
            return
        try:
            await ask(self, request)
        except ChannelFull:
            await self.tell("refused", reason="There is no room for it just now. Please try again in a moment.")
        except ConnectionError:
            await self.tell("refused", reason="The remote cannot be reached, so it was not delivered.")

    async def ask_name(self, request: Message) -> None:
        self.name = clean(request.get("name"), MAX_NAME) or self.name
        await self.to_room("chat.here")

    async def ask_say(self, request: Message) -> None:
        if text := clean(request.get("text"), MAX_TEXT):
            await self.to_room("chat.said", text=text, private=False, sent=time.monotonic())

    async def ask_whisper(self, request: Message) -> None:
        """To one tab, over its own channel. The browser knows ids, never channel names, so it cannot make one up."""
        to, text = request.get("to"), clean(request.get("text"), MAX_TEXT)
        channel = self.people.get(to) if isinstance(to, str) else None
        if channel is None:
            await self.tell("refused", reason="That person has left.")
        elif text:
            said = self.about_me("chat.said", text=text, private=True, to=to, sent=time.monotonic())
            for receiver in {channel, self.channel_name}:
                await self.channel_layer.send(receiver, said)

    async def ask_job(self, request: Message) -> None:
        if time.monotonic() < self.job_deadline:
            await self.tell("refused", reason="Your job is not done yet.")
            return
        job = secrets.token_urlsafe(6)
        await self.channel_layer.send("jobs", {"type": "job.run", "job": job, "reply_to": self.channel_name})
        self.job_deadline = time.monotonic() + JOB_SECONDS
        await self.tell("job", job=job, state="waiting", pid=os.getpid())

    REQUESTS: ClassVar = {"name": ask_name, "say": ask_say, "whisper": ask_whisper, "job": ask_job}

    # What arrives through the channel layer

    async def chat_hello(self, message: Message) -> None:
        """Somebody came: tell them, and only them, who is here already."""
        await self.chat_here(message)
        if message["id"] != self.id:
            with contextlib.suppress(ChannelFull):  # in a very full room the next heartbeat does
                await self.channel_layer.send(message["channel"], self.about_me("chat.here"))

    async def chat_here(self, message: Message) -> None:
        if message["id"] in self.people or len(self.people) < MAX_PEOPLE:
            self.people[message["id"]] = message["channel"]
        await self.tell("here", id=message["id"], name=message["name"], pid=message["pid"])

    async def chat_left(self, message: Message) -> None:
        self.people.pop(message["id"], None)
        await self.tell("left", id=message["id"], name=message["name"])

    async def chat_said(self, message: Message) -> None:
        # Processes of one machine share this clock. What comes from another machine has another one, which shows.
        ms = (time.monotonic() - message["sent"]) * 1000
        parts = {key: message.get(key) for key in ("id", "name", "pid", "kind", "text", "private", "to")}
        await self.tell("said", **parts, ms=ms if 0 <= ms < 5000 else None)

    async def job_report(self, message: Message) -> None:
        if message["state"] == "done":
            self.job_deadline = 0.0
        await self.tell("job", **{key: value for key, value in message.items() if key != "type"})

    # Small helpers

    def about_me(self, type: str, **more: Any) -> Message:
        me = {"id": self.id, "name": self.name, "pid": os.getpid(), "kind": "web", "channel": self.channel_name}
        return {"type": type, **me, **more}

    async def to_room(self, type: str, **more: Any) -> None:
        await self.channel_layer.group_send(self.group, self.about_me(type, **more))

    async def tell(self, type: str, **parts: Any) -> None:
        # A socket that has just closed raises an OSError, as ASGI has it. Left alone, that would end the consumer
        # before its disconnect(), and its membership of the group would stay behind.
        with contextlib.suppress(OSError):
            await self.send(text_data=json.dumps({"type": type, **parts}))
