"""Published messages, and the pub/sub channels for them: see docs/wire_format.rst.

On the channel of a process: ``1|...``, an entry; ``g|GROUP|1|...``, an entry for members that another process added to
a group; ``n|NOTE``, a change by another process to a membership (``scripts/include/notes.lua``); ``m|MARK``, a mark.
"""

from __future__ import annotations

from typing import Any

from hybrid_layer.remote.delivery.store import Kind
from hybrid_layer.remote.redis.wire.entries import parse, parse_note
from hybrid_layer.remote.redis.wire.keys import Keys

_VERBS = ("SUBSCRIBE", "UNSUBSCRIBE", "PUBLISH")


class Published:
    """The pub/sub channels of the process `name`, and how to read what is published there."""

    def __init__(self, keys: Keys, name: str) -> None:
        # In a cluster, a plain PUBLISH would reach all nodes.
        sharded = "S" if keys.tag else ""
        self.subscribe, self.unsubscribe, self.publish = (f"{sharded}{verb}" for verb in _VERBS)
        self.message = f"{sharded}message".lower().encode()
        """The first word of what is published."""
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
