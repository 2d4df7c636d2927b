# SPDX-License-Identifier: BSD-3-Clause
"""The options of the remote half, checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from hybrid_layer.configuration import ServerOptions, option
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import one_of, shown
from hybrid_layer.remote.delivery.context import DeliveryOptions
from hybrid_layer.remote.kinds import kind_of
from hybrid_layer.serializers import to_group
from hybrid_layer.statistics import warn

_MESSAGE_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")
"""Channels calls the handler with that name. It refuses a leading underscore."""

Encode = Callable[[dict[str, Any], str], bytes]
"""Returns the payload of a message; the second argument names the message in error texts."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PostgresOptions(ServerOptions):
    """Options of the layer over PostgreSQL. Here, where they are known without a driver."""

    remote: str = option("queue", partial(one_of, choices=("queue", "pubsub")))


def are_databases(options: ServerOptions) -> bool:
    """Whether the servers are PostgreSQL. Raises `ConfigurationError`."""
    return isinstance(options, PostgresOptions) or kind_of(options.hosts) == "postgresql"


def delivery_options(options: ServerOptions, mode: str, encode: Encode) -> DeliveryOptions:
    """The options of the remote half, from those of the user. `mode` is ``queue`` or ``pubsub``.

    Raises `ConfigurationError`.
    """
    if options.random_prefix_length is not None:
        warn(
            "random_prefix_length",
            "random_prefix_length does nothing: names have as many random characters as they need.",
        )

    def notice(name: str, message_type: object) -> bytes | None:
        if message_type is None:
            return None
        if not isinstance(message_type, str) or not _MESSAGE_TYPE.fullmatch(message_type):
            raise ConfigurationError(
                f"{name} must be the type of a message to consumers, such as 'layer.disconnected', not "
                f"{shown(message_type)}."
            )
        return encode({"type": message_type}, to_group(name))  # encoded like a group's, it fits any channel

    return DeliveryOptions(
        options.timeout,
        options.block_time,
        mode,
        notice("on_disconnect", options.on_disconnect),
        notice("on_reconnect", options.on_reconnect),
    )
