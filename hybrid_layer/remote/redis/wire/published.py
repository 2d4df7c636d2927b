# SPDX-License-Identifier: BSD-3-Clause
"""Published messages, and the pub/sub channels for them: see docs/wire_format.rst.

On the channel of a process: ``1|...``, an entry; ``g|GROUP|1|...``, an entry for members that another process added to
a group; ``n|NOTE``, a change by another process to a membership (``scripts/include/notes.lua``); ``m|MARK``, a mark.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hybrid_layer.remote.delivery.store import Kind
from hybrid_layer.remote.delivery.written import parse_note
from hybrid_layer.remote.redis.wire.entries import parse
from hybrid_layer.remote.redis.wire.keys import Keys


def _tag_in(channel: bytes) -> bytes:
    return channel[channel.find(b"{") : channel.find(b"}") + 1]


class Verbs:
    """The commands of pub/sub, and the first words of what arrives. Sharded ones are for clusters."""

    def __init__(self, are_sharded: bool) -> None:
        # In a cluster, a plain PUBLISH would reach all nodes.
        start = "S" if are_sharded else ""
        self.are_sharded = are_sharded
        self.subscribe, self.unsubscribe, self.publish = f"{start}SUBSCRIBE", f"{start}UNSUBSCRIBE", f"{start}PUBLISH"
        self.subscribed, self.unsubscribed = self.subscribe.lower().encode(), self.unsubscribe.lower().encode()
        self.message = f"{start}message".lower().encode()
        self.tag_in: Callable[[bytes], bytes] = _tag_in if are_sharded else lambda channel: b""
        """Returns the hash tag in the name of a pub/sub channel, with its braces; empty if names have none."""


class Published:
    """The pub/sub channels of the process `name`, and how to read what is published there."""

    def __init__(self, keys: Keys, name: str) -> None:
        self.verbs = Verbs(bool(keys.tag))
        self.own_names = [keys.process(name), keys.epoch]
        """The channels to subscribe to regardless of groups."""
        self.name_of = keys.group
        """Returns the channel to subscribe to for a group."""
        self._groups = keys.group("").encode()
        self._epoch = keys.epoch.encode()

    def read(self, channel: bytes, text: bytes) -> tuple[Kind, str, Any]:
        """The arguments for `hybrid_layer.remote.delivery.store.Take`."""
        if channel.startswith(self._groups):
            return "group", channel[len(self._groups) :].decode("ascii", "replace"), parse(text)
        if channel == self._epoch:
            return "flush", "", text
        if text.startswith(b"g|"):
            _, group, *rest = text.split(b"|", 2)
            return "added", group.decode("ascii", "replace"), parse(rest[0]) if rest else None
        if text.startswith(b"n|"):
            return "note", "", parse_note(text[2:])
        if text.startswith(b"m|"):
            return "mark", "", text[2:]
        return "direct", "", parse(text)
