# SPDX-License-Identifier: BSD-3-Clause
"""The errors that the layers raise.

All derive from :class:`HybridLayerError`, and from the built-in or Django class that a caller would expect for the same
mistake. Each text names the cause and the remedy.
"""

from typing import Any

from channels.exceptions import ChannelFull
from django.core.exceptions import ImproperlyConfigured

__all__ = [
    "ChannelFull",
    "ConfigurationError",
    "GroupMemoryFull",
    "HybridLayerError",
    "InvalidArgument",
    "InvalidMessageType",
    "InvalidMessageValue",
    "InvalidName",
    "MessageTooLarge",
    "RemoteUnavailable",
    "SegmentBusy",
    "SegmentDamaged",
    "SegmentNotFound",
    "SegmentUnavailable",
    "TooManyProcesses",
    "Undecodable",
]


class HybridLayerError(Exception):
    """The base of all errors here, except ``ChannelFull``, which belongs to Channels."""


class ConfigurationError(HybridLayerError, ImproperlyConfigured):  # type: ignore[misc]  # Django has no types
    """An option in ``CHANNEL_LAYERS`` is unknown, of the wrong type, out of range, or contradicts another."""


class InvalidName(HybridLayerError, TypeError):
    """A channel or group name breaks the rules for names."""


class InvalidArgument(HybridLayerError, ValueError):
    """An argument of a call is wrong, such as a negative ``expiry``."""


class InvalidMessageType(HybridLayerError, TypeError):
    """A message, or something inside it, is of a type that messages cannot hold."""


class InvalidMessageValue(HybridLayerError, ValueError):
    """A value inside a message has an allowed type, but cannot be sent (too large an int, too deep, not UTF-8)."""


class MessageTooLarge(HybridLayerError, ValueError):
    """The serialized message is larger than ``max_message_size``."""


class RemoteUnavailable(HybridLayerError, ConnectionError):
    """A server could not be reached in time, or the connection broke during a call."""

    partial: Any = ()
    """What is known in spite of that, with the type of the call's result: of a call that asks several."""


class SegmentBusy(HybridLayerError):
    """The lock of the shared segment could not be acquired in time: its holder makes no progress."""


class SegmentDamaged(HybridLayerError):
    """The shared segment held inconsistent data and is being repaired. The message may be lost."""


class SegmentNotFound(HybridLayerError, FileNotFoundError):
    """There is no shared segment to observe: no process of this user uses the prefix, and nothing unread is left."""


class SegmentUnavailable(ConfigurationError, OSError):
    """The system refused what the shared segment needs: a descriptor, a record lock, address space, room for a file.

    If one system call was refused, its `OSError` is the ``__cause__``.
    """


class GroupMemoryFull(HybridLayerError):
    """There is no room for another group or membership: ``group_memory`` is used up."""


class TooManyProcesses(HybridLayerError):
    """The shared segment has no room for another process: 1,024 use it."""


class Undecodable(HybridLayerError):
    """A payload cannot be decrypted or decoded. Internal: readers count it, drop it and go on."""
