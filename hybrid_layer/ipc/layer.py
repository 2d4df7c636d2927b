"""The machine-local layer on its own: every kind of channel and groups, any number of processes, one machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from re import Pattern
from typing import TYPE_CHECKING, Any, ClassVar

from hybrid_layer.base import MIB, BaseLayer
from hybrid_layer.discretion import discreet
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import positive_int
from hybrid_layer.transport import Settings, Transport

if TYPE_CHECKING:
    from hybrid_layer.ipc.transport import LocalTransport

MINIMUM_MEMORY = 64 * 1024
MAXIMUM_MEMORY = 64 * 1024 * MIB
"""Less than the segment's block numbers can reach."""


def check_memory(message_memory: object, group_memory: object) -> None:
    """Raise `ConfigurationError` for sizes, in bytes, that no segment can have."""
    positive_int("message_memory", message_memory, MINIMUM_MEMORY, MAXIMUM_MEMORY)
    positive_int("group_memory", group_memory, MINIMUM_MEMORY, MAXIMUM_MEMORY)


def local_transport(settings: Settings, message_memory: int, group_memory: int) -> LocalTransport:
    """The local half. Raises `ConfigurationError` where it does not exist, so that the remote classes work there."""
    try:
        from hybrid_layer.ipc._core import Segment  # noqa: F401  # in an unbuilt tree the C folder would import, too
        from hybrid_layer.ipc.transport import LocalTransport
    except ImportError as error:
        if error.name == "hybrid_layer.ipc":  # a sub-interpreter, which the core refuses in a whole sentence
            raise ConfigurationError(f"{error}.") from error
        if error.name not in ("fcntl", "posix_ipc", "hybrid_layer.ipc._core"):
            raise  # a mistake of ours or in the installation, not of the system
        if error.name == "hybrid_layer.ipc._core" and os.path.exists(os.path.join(os.path.dirname(__file__), "_core")):
            raise ConfigurationError(
                "The machine-local layer is not built: this is a checkout, whose C core was not compiled for this "
                "Python. Run `make build`, or `pip install -e .` in it. Without that, "
                "hybrid_layer.remote.RedisChannelLayer works."
            ) from error
        raise ConfigurationError(
            f"The machine-local layer is not available here ({error}). It needs Linux or macOS, and its compiled core: "
            f"`pip install hybrid_layer` brings or builds it. Elsewhere use hybrid_layer.remote.RedisChannelLayer."
        ) from error
    return LocalTransport(settings, message_memory, group_memory)


class IPCChannelLayer(BaseLayer):
    """A channel layer for one machine, in shared memory. Needs no server.

    "One machine" means the processes of one user that see the same /dev/shm.

    `message_memory` and `group_memory` are the most that unread messages, and groups, may take of /dev/shm, in bytes.
    They are taken as needed, and have to be the same in all processes that use a prefix at one time.

    Raises `ConfigurationError` for an option that is unknown or out of range. The segment is attached at first use.
    """

    _options: ClassVar[tuple[str, ...]] = (*BaseLayer._options, "message_memory", "group_memory")

    @discreet
    def __init__(
        self,
        *,
        prefix: str | Callable[[], str] = "asgi",
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: Mapping[str | Pattern[str], int] | None = None,
        message_memory: int = 100 * MIB,
        group_memory: int = 20 * MIB,
        max_message_size: int = 4 * MIB,
        symmetric_encryption_keys: list[str | bytes] | tuple[str | bytes, ...] | None = None,
        serializer_format: str = "msgpack",
        **unknown: Any,
    ) -> None:
        super().__init__(
            prefix=prefix,
            expiry=expiry,
            group_expiry=group_expiry,
            capacity=capacity,
            channel_capacity=channel_capacity,
            max_message_size=max_message_size,
            serializer_format=serializer_format,
            symmetric_encryption_keys=symmetric_encryption_keys,
            unknown=unknown,
        )
        check_memory(message_memory, group_memory)
        self.message_memory = message_memory
        self.group_memory = group_memory
        self._transport = local_transport(self._settings, message_memory, group_memory)

    def _transport_for(self, channel: str) -> Transport:
        return self._transport

    def _transports(self) -> tuple[Transport, ...]:
        return (self._transport,)
