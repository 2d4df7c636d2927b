"""Storing a message in a queue on a server: that of a normal channel, or an inbox."""

from __future__ import annotations

from hybrid_layer.clock import boottime
from hybrid_layer.exceptions import ChannelFull
from hybrid_layer.names import non_local
from hybrid_layer.remote.delivery.context import Context, Shard
from hybrid_layer.remote.redis import scripts
from hybrid_layer.remote.redis.connections.connections import Connections
from hybrid_layer.remote.redis.server import replies

_FULL, _DEAD = 1, 2


async def store(
    context: Context, connections: Connections, shard: Shard, channel: str, payload: bytes, keys: list[str]
) -> None:
    """Store `payload` on `shard` or raise `ChannelFull`. `keys` are those of ``scripts/send.lua``."""
    capacity = context.policy.capacity_for(channel)
    asked, told = boottime(), shard.for_scripts()
    command = scripts.SEND.command(keys, payload, channel, capacity, context.expiry_ms, told)
    outcome, expired, epoch, now_ms = await connections.run(shard.number, command, replies.is_outcome)
    shard.clock.measured(now_ms / 1000, asked)
    shard.epoch.meet(epoch)
    if expired:
        context.statistics.count("expired", expired)
    if outcome == _FULL:
        context.statistics.count("full")
        raise ChannelFull(_full_text(channel, capacity))
    context.statistics.count("sent")
    if outcome == _DEAD:
        context.statistics.count("dead")
    else:
        shard.ran(told, asked)


def _full_text(channel: str, capacity: int) -> str:
    if "!" not in channel:
        return f"{channel} is full: it holds {capacity} unread messages, its capacity."
    return (
        f"{channel} is full: the inbox {non_local(channel)}, which all its channels share, holds {capacity} unread "
        f"messages, its capacity."
    )
