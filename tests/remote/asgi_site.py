"""A site for ASGI servers: each websocket gets what any of them sends. Its CONFIG is LAYER_OPTIONS (environment)."""

from __future__ import annotations

import json
import os
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from tests.support import django_settings

django_settings.configure()
settings.CHANNEL_LAYERS = {
    "default": {"BACKEND": "hybrid_layer.HybridChannelLayer", "CONFIG": json.loads(os.environ["LAYER_OPTIONS"])}
}


class Hall(AsyncWebsocketConsumer):
    """One websocket, with one process-specific channel, a member of one group."""

    groups = ("hall",)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.channel_layer.group_send("hall", {"type": "said", "text": text_data})

    async def said(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])


application = Hall.as_asgi()
