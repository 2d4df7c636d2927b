# SPDX-License-Identifier: BSD-3-Clause
"""Storing a message in the queue of a normal channel or in an inbox."""

from __future__ import annotations

from hybrid_layer.exceptions import ChannelFull
from hybrid_layer.names import non_local
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.replies import Outcome
from hybrid_layer.remote.delivery.store import Store


async def send_to_queue(
    context: Context, store: Store, channel: str, payload: bytes, expiry: float | None = None
) -> None:
    """Store `payload` for `channel`, for `expiry` seconds. Raises `ChannelFull`, or `RemoteUnavailable` in time."""
    capacity = context.policy.capacity_for(channel)
    outcome, expired = await store.send(context.shard_of(channel), channel, payload, capacity, expiry)
    count = context.statistics.count
    if expired:
        count("expired", expired)
    if outcome is Outcome.FULL:
        count("full")
        raise ChannelFull(_full_text(channel, capacity))
    count("sent")
    if outcome is Outcome.DEAD:
        count("dead")


def _full_text(channel: str, capacity: int) -> str:
    if "!" not in channel:
        return f"{channel} is full: it holds {capacity} unread messages, its capacity."
    return (
        f"{channel} is full: the inbox {non_local(channel)}, which all its channels share, holds {capacity} unread "
        f"messages, its capacity."
    )
