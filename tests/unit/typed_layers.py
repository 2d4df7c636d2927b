"""For mypy, not to be run: each class is a `ChannelLayer`, and calls have the types that users write."""

from __future__ import annotations

from hybrid_layer import HybridChannelLayer
from hybrid_layer.ipc import IPCChannelLayer
from hybrid_layer.remote import RedisChannelLayer, RedisPubSubChannelLayer
from hybrid_layer.types import ChannelLayer

LAYERS: list[ChannelLayer] = [
    HybridChannelLayer(),
    IPCChannelLayer(),
    RedisChannelLayer(hosts=["redis://localhost"]),
    RedisPubSubChannelLayer(hosts=["redis://localhost"]),
]


async def use(layer: ChannelLayer) -> int:
    await layer.send("jobs", {"type": "job"}, expiry=2)
    await layer.send_multiple("jobs", [{"type": "job"}])
    await layer.group_send("news", {"type": "news"}, exclude=await layer.new_channel())
    pending: int = (await layer.channel_statistics("jobs"))["messages_pending"]
    names: list[str] = await layer.group_channels("news")
    return pending + len(names) + await layer.group_count("news")
