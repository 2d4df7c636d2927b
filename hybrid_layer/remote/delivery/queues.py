# SPDX-License-Identifier: BSD-3-Clause
"""Storing a message in the queue of a normal channel or in an inbox."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid_layer.exceptions import ChannelFull
from hybrid_layer.names import non_local
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.delivery.replies import Outcome
from hybrid_layer.remote.delivery.store import Store
from hybrid_layer.several import next_step, note_stored


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
        if "!" not in channel:
            context.channel_counts.count("full", channel)
        raise ChannelFull(_full_text(channel, capacity))
    count("sent")
    if "!" not in channel:
        context.channel_counts.count("sent", channel)
    if outcome is Outcome.DEAD:
        count("dead")


async def send_several_to_queue(context: Context, store: Store, channel: str, payloads: Sequence[bytes]) -> None:
    """As `send_to_queue`, for several: in order, the first ones that there is room for. Errors have ``stored``."""
    capacity, shard, count = context.policy.capacity_for(channel), context.shard_of(channel), context.statistics.count
    stored = 0
    try:
        while stored < len(payloads):
            step = next_step(payloads, stored)
            outcome, expired, done = await store.send_multiple(shard, channel, step, capacity)
            stored += done
            for key, number in (("sent", done), ("expired", expired), ("dead", outcome is Outcome.DEAD and done)):
                if number:
                    count(key, number)
            if "!" not in channel:
                context.channel_counts.count("sent", channel, done)
            if outcome is Outcome.FULL:
                count("full")
                if "!" not in channel:
                    context.channel_counts.count("full", channel)
                raise ChannelFull(_full_text(channel, capacity))
    except Exception as error:
        note_stored(error, stored)
        raise


def _full_text(channel: str, capacity: int) -> str:
    if "!" not in channel:
        return f"{channel} is full: it holds {capacity} unread messages, its capacity."
    return (
        f"{channel} is full: the inbox {non_local(channel)}, which all its channels share, holds {capacity} unread "
        f"messages, its capacity."
    )
