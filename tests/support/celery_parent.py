"""The example's Celery application, in a worker whose parent has used the layer before the pool forks."""

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from jobs import app

async_to_sync(get_channel_layer().send)("warm-up", {"type": "warm.up"})

__all__ = ["app"]
