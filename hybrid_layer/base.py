# SPDX-License-Identifier: BSD-3-Clause
"""The channel layer API, once for all classes: checks names, encodes messages, makes new names.

A subclass chooses the transport that carries a channel.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar

import channels.exceptions
from channels.layers import BaseChannelLayer

from hybrid_layer import exceptions, identity, propagation
from hybrid_layer.arguments import check_excluded, check_expiry
from hybrid_layer.configuration import LayerOptions
from hybrid_layer.envelope import fields_without, headers_in
from hybrid_layer.identity import PerProcess
from hybrid_layer.names import check_channel, check_group, machine_of, process_of
from hybrid_layer.policy import Policy
from hybrid_layer.serializers import Codec, to_group
from hybrid_layer.statistics import ChannelStatistics, GlobalStatistics, warn
from hybrid_layer.transport import Transport

_MOST_READABLE = 8192


class _Names:
    """Names of one layer object in one process. Objects share none: each has its own policy and inbox."""

    def __init__(self) -> None:
        self.process = identity.random_id()
        """``PROCESS`` in the names of its channels."""
        self.readable: set[str] = set()
        """Channels that passed the checks of `receive`, which skips them from then on."""


class BaseLayer(BaseChannelLayer):  # type: ignore[misc]  # channels has no types
    """The channel layer API of Channels 4 over one or two transports.

    Any number of event loops and threads may use one object at once, also in a forked child. Every method that takes a
    name raises `InvalidName` if it breaks the rules for names.
    """

    extensions: ClassVar[list[str]] = ["groups", "flush", "statistics", "group_channels"]
    ChannelFull = channels.exceptions.ChannelFull
    MessageTooLarge = exceptions.MessageTooLarge

    _transports: tuple[Transport, ...]
    """Every half, set by the subclass."""
    _group_transport: Transport
    """The half that carries groups, set by the subclass."""

    def __init__(self, options: LayerOptions) -> None:
        self.options = options
        """All that it was built with, a frozen dataclass: defaults, and what was given."""
        self._codec = Codec(options)
        self._policy = Policy(options)
        self.expiry = options.expiry
        self.group_expiry = options.group_expiry
        self.capacity = options.capacity
        self.channel_capacity = options.channel_capacity or {}
        self._names: PerProcess[_Names] = PerProcess()
        self._counter = itertools.count(1)

    @property
    def prefix(self) -> str:
        """The prefix of names, a str, as the calling process has it."""
        return self._policy.prefix

    def _transport_for(self, channel: str) -> Transport:
        """The half that carries `channel`: the only one, unless a subclass has a router."""
        return self._group_transport

    # Channels

    async def send(self, channel: str, message: dict[str, Any], *, expiry: float | None = None) -> None:
        """Store `message` for one reader of `channel`.

        Without a reader it expires in `expiry` seconds, an int or float; None: after those of the layer. Raises
        `InvalidArgument` if that is not above 0.

        Raises `ChannelFull` if there is no room, `MessageTooLarge`, `InvalidMessageType` or `InvalidMessageValue`; then
        nothing was stored. The halves add errors of their own, such as `SegmentBusy` and `RemoteUnavailable`.
        """
        channel = check_channel(channel)
        if expiry is not None:
            expiry = check_expiry(expiry)
        payload = self._codec.encode(message, channel)
        await self._transport_for(channel).send(channel, payload, expiry)

    async def send_multiple(self, channel: str, messages: Iterable[dict[str, Any]]) -> None:
        """Store `messages` for the readers of `channel`: in order, the first ones that there is room for.

        Raises `ChannelFull` if that is not all of them; its attribute ``stored`` is how many. Other errors are those of
        `send`; one that is raised when some are stored has that attribute, too, as the least number. With a wrong
        message, nothing is stored.
        """
        channel = check_channel(channel)
        payloads = [self._codec.encode(message, channel) for message in messages]
        if payloads:
            await self._transport_for(channel).send_multiple(channel, payloads)

    async def receive(self, channel: str) -> dict[str, Any]:
        """Wait for the next message of `channel`. A cancellation at any point loses no message.

        Raises `InvalidName` for a process-specific channel of another process or layer object.
        """
        names = self._names.last if self._names.page[0] else None
        if names is None or type(channel) is not str or channel not in names.readable:
            channel = check_channel(channel)
            self._note_readable(channel)
        transport = self._transport_for(channel)
        while True:
            payload = await transport.receive(channel)
            try:
                message = self._codec.decode(payload, channel)
                propagator = propagation.propagator
                return message if propagator is None else propagator.received(message, channel, headers_in(payload))
            except exceptions.Undecodable as error:
                transport.count("undecodable")
                warn(("undecodable", channel), f"Dropped a message on {channel} that cannot be read: {error}")
            except BaseException as error:  # a signal handler's
                transport.count("undecodable")
                cause = type(error).__name__
                warn(
                    ("interrupted", channel),
                    f"A message on {channel} is lost: {cause} was raised while it was decoded.",
                )
                raise

    def _note_readable(self, channel: str) -> None:
        """Raise `InvalidName` unless this process and layer object may receive on `channel`, a checked name."""
        names = self._names.get(_Names)
        owner = process_of(channel)
        if machine_of(channel):
            owner = owner.rpartition("-")[2]
        if "!" in channel and owner != names.process:
            raise exceptions.InvalidName(
                f"Cannot receive on {channel!r}: it belongs to another process or layer object; only the one whose "
                f"new_channel() made the name reads it."
            )
        if len(names.readable) >= _MOST_READABLE:
            names.readable = set()
        names.readable.add(channel)

    async def new_channel(self, prefix: str = "specific") -> str:
        """Return a new channel name, ``prefix.PROCESS!n``, on which only this process receives."""
        if not isinstance(prefix, str):
            raise exceptions.InvalidName(f"Invalid prefix {prefix!r} of a new channel: give a str.")
        inbox = f"{str.__str__(prefix)}.{await self._process_id()}!"
        name = f"{inbox}{next(self._counter)}"
        check_channel(name)
        await self._open_inbox(inbox)
        return name

    async def _process_id(self) -> str:
        """``PROCESS`` in the names of new channels."""
        return self._own_id()

    def _own_id(self) -> str:
        return self._names.get(_Names).process

    async def _open_inbox(self, inbox: str) -> None:
        await self._transport_for(inbox).open_inbox(inbox)

    # Groups

    async def group_add(self, group: str, channel: str) -> None:
        """Make `channel` a member of `group` for the next `group_expiry` seconds.

        Raises `GroupMemoryFull` if shared memory has no room for it, `RemoteUnavailable` if a server does not answer.
        """
        group = check_group(group)
        channel = check_channel(channel)
        await self._group_transport.group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """End the membership of `channel`, if it is a member."""
        group = check_group(group)
        channel = check_channel(channel)
        await self._group_transport.group_discard(group, channel)

    async def group_send(self, group: str, message: dict[str, Any], *, exclude: str | Iterable[str] = ()) -> None:
        """Send `message` to every member, but not to the channels in `exclude`: a name, or up to 1,000 names.

        Never raises `ChannelFull`: a member at capacity misses the message, counted as ``full``. Raises
        `MessageTooLarge`, `InvalidMessageType` or `InvalidMessageValue` as `send` does; the names count towards
        `max_message_size`. Raises `InvalidArgument` if they are too many.
        """
        group = check_group(group)
        if exclude:
            excluded = check_excluded(exclude)
            payload = self._codec.encode(message, to_group(group), fields_without(excluded))
            await self._group_transport.group_send_multiple(group, [payload], excluded)
            return
        payload = self._codec.encode(message, to_group(group))
        await self._group_transport.group_send(group, payload)

    async def group_send_multiple(self, group: str, messages: Iterable[dict[str, Any]]) -> None:
        """Send `messages` to every member as of now, in order, in one trip. Otherwise as `group_send`."""
        group = check_group(group)
        where = to_group(group)
        payloads = [self._codec.encode(message, where) for message in messages]
        if payloads:
            await self._group_transport.group_send_multiple(group, payloads, {})

    async def group_channels(self, group: str) -> list[str]:
        """The channels that are members of `group`, in the order of their names.

        Raises `RemoteUnavailable` if a process or machine did not say in time which of its channels are; the attribute
        ``partial`` is what the others have said.
        """
        return sorted(await self._members(group, False))

    async def group_count(self, group: str) -> int:
        """How many channels are members of `group`: a number of connections, not of users. Otherwise as
        `group_channels`."""
        return await self._number(group, False)

    async def group_clear(self, group: str) -> int:
        """End all memberships in `group`, and return how many. Otherwise as `group_channels`."""
        return await self._number(group, True)

    async def _number(self, group: str, ends: bool) -> int:
        try:
            return len(await self._members(group, ends))
        except exceptions.RemoteUnavailable as error:
            error.partial = len(error.partial)
            raise

    async def _members(self, group: str, ends: bool) -> list[str]:
        group = check_group(group)
        try:
            return await self._group_transport.group_channels(group, ends)
        except exceptions.RemoteUnavailable as error:
            error.partial = sorted(error.partial)
            raise

    # The rest

    async def flush(self) -> None:
        """Delete every message and group of this prefix. Calls of `receive` keep waiting."""
        for transport in self._transports:
            await transport.flush()

    async def close(self) -> None:
        """Close descriptors, tasks and connections of the running loop. The layer may be used again."""
        for transport in self._transports:
            await transport.close()

    async def statistics(self) -> dict[str, int]:
        """Numbers of messages sent, received, and dropped, by reason: the keys of `hybrid_layer.statistics.KEYS`.

        In shared memory they cover all processes of this machine that use the prefix. On servers they cover, in the
        hybrid, what these processes did there; in the remote classes all processes that use the prefix, which report
        with their heartbeats. Of a server that does not answer, they lack what others have reported since it last did.
        """
        total: Counter[str] = Counter()
        for transport in self._transports:
            total.update(await transport.statistics())
        return dict(total)

    async def global_statistics(self) -> GlobalStatistics:
        """How many messages were sent, and how many met a full channel: of the same processes as `statistics`."""
        counters = await self.statistics()
        return {"messages_count": counters["sent"], "channel_full_count": counters["full"]}

    async def channel_statistics(self, channel: str) -> ChannelStatistics:
        """What is known of `channel`: messages sent, unread, the oldest one's age, and how many met it full.

        For a local channel all of it is this machine's: another machine has a channel of the same name. A channel on a
        server is asked for there. The two counts are None for process-specific channels, and for a normal channel that
        is counted together with others, as there are more than 256. Of a process-specific channel, what is unread is
        that of its inbox: of all channels with the same name up to ``!``.

        Raises `InvalidName`, and `RemoteUnavailable` if the channel's server does not answer.
        """
        channel = check_channel(channel)
        return await self._transport_for(channel).channel_statistics(channel)

    def get_capacity(self, channel: str) -> int:
        """The capacity of `channel`, in messages."""
        return self._policy.capacity_for(channel)
