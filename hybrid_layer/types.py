# SPDX-License-Identifier: BSD-3-Clause
"""The types of the public API, for annotations: all classes of layers have `ChannelLayer`'s attributes and methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from re import Pattern
from typing import Any, Protocol

from hybrid_layer.statistics import ChannelStatistics, GlobalStatistics

Message = dict[str, Any]
"""A message: see `docs/messages.rst`."""


class ChannelLayer(Protocol):
    """A channel layer, whichever class it is of::

    layer = cast(ChannelLayer, channels.layers.get_channel_layer())
    """

    extensions: list[str]
    ChannelFull: type[Exception]
    MessageTooLarge: type[Exception]
    expiry: float
    group_expiry: float
    capacity: int
    channel_capacity: Mapping[str | Pattern[str], int]

    @property
    def prefix(self) -> str:
        """The prefix of names, as the calling process has it."""

    async def send(self, channel: str, message: Message, *, expiry: float | None = None) -> None:
        """Store `message` for one reader. It expires in `expiry` seconds, or after those of the layer."""

    async def send_multiple(self, channel: str, messages: Iterable[Message]) -> None:
        """Store the first of `messages` that there is room for. ``ChannelFull.stored`` says how many."""

    async def receive(self, channel: str) -> Message:
        """Wait for the next message."""

    async def new_channel(self, prefix: str = "specific") -> str:
        """A new name, on which only this process receives."""

    async def group_add(self, group: str, channel: str) -> None:
        """Make `channel` a member for `group_expiry` seconds."""

    async def group_discard(self, group: str, channel: str) -> None:
        """End the membership, if there is one."""

    async def group_send(self, group: str, message: Message, *, exclude: str | Iterable[str] = ()) -> None:
        """Send `message` to every member, but not to `exclude`."""

    async def group_send_multiple(self, group: str, messages: Iterable[Message]) -> None:
        """Send `messages` to every member as of now, in order."""

    async def group_channels(self, group: str) -> list[str]:
        """The members."""

    async def group_count(self, group: str) -> int:
        """How many members there are."""

    async def group_clear(self, group: str) -> int:
        """End all memberships, and return how many."""

    async def flush(self) -> None:
        """Delete every message and group of the prefix."""

    async def close(self) -> None:
        """Close what belongs to the running loop."""

    async def statistics(self) -> dict[str, int]:
        """Counters by reason: see `docs/errors.rst`."""

    async def global_statistics(self) -> GlobalStatistics:
        """What was counted of all channels together: see `docs/statistics.rst`."""

    async def channel_statistics(self, channel: str) -> ChannelStatistics:
        """What is known of `channel`."""

    def get_capacity(self, channel: str) -> int:
        """The capacity of `channel`, in messages."""
