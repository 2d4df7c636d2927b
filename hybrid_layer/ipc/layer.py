# SPDX-License-Identifier: BSD-3-Clause
"""The machine-local layer: all kinds of channels, and groups, for the processes of one machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from hybrid_layer.base import BaseLayer
from hybrid_layer.configuration import MIB, LayerOptions, option, takes
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import positive_int
from hybrid_layer.policy import Policy

if TYPE_CHECKING:
    from hybrid_layer.ipc.transport import LocalTransport

_memory = partial(positive_int, minimum=64 * 1024, maximum=64 * 1024 * MIB)
"""The check of a size, in bytes. The maximum is less than the segment's block numbers can reach."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class MemoryOptions(LayerOptions):
    """Options of classes with shared memory."""

    message_memory: int = option(100 * MIB, _memory)
    group_memory: int = option(20 * MIB, _memory)


def local_transport(policy: Policy, options: MemoryOptions) -> LocalTransport:
    """The local half. Raises `ConfigurationError` if it does not exist here."""
    check_local_half()
    # Imported here, so that the remote classes work where it does not exist.
    from hybrid_layer.ipc.transport import LocalTransport

    return LocalTransport(policy, options.message_memory, options.group_memory)


def check_local_half() -> None:
    """Raise `ConfigurationError` if the local half does not exist here, or not for this Python."""
    try:
        from hybrid_layer.ipc._core import Segment  # noqa: F401  # in an unbuilt tree, the C folder is imported as a package
        from hybrid_layer.ipc.transport import LocalTransport  # noqa: F401
    except ImportError as error:
        if error.name == "hybrid_layer.ipc":  # the core refuses a sub-interpreter
            raise ConfigurationError(f"{error}.") from error
        if error.name not in ("fcntl", "posix_ipc", "hybrid_layer.ipc._core"):
            raise  # a mistake of this package or of its installation
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


class IPCChannelLayer(BaseLayer):
    """A channel layer for one machine, in shared memory. It needs no server.

    It connects the processes of one user that see the same /dev/shm.

    `message_memory` and `group_memory` are the most bytes of /dev/shm that unread messages, and groups, may take. The
    layer takes them as needed. All processes that use a prefix at the same time need the same values.

    The constructor raises `ConfigurationError` for an option that is unknown, of the wrong type or out of range. The
    process attaches to the segment with the first call.
    """

    @takes(MemoryOptions)
    def __init__(self, options: MemoryOptions) -> None:
        super().__init__(options)
        self._group_transport = local_transport(self._policy, options)
        self._transports = (self._group_transport,)
