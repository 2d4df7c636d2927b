# SPDX-License-Identifier: BSD-3-Clause
"""The remote layers: `RedisChannelLayer`, with queues on the servers, and `RedisPubSubChannelLayer`."""

from __future__ import annotations

from typing import ClassVar

from hybrid_layer.base import BaseLayer
from hybrid_layer.configuration import ServerOptions, takes
from hybrid_layer.remote.redis.connect import remote_transport
from hybrid_layer.remote.redis.options import remote_options


class RedisChannelLayer(BaseLayer):
    """Channels and groups over one or several Redis or Valkey servers. Messages wait in queues on the servers.

    The constructor raises `ConfigurationError` for an option that is unknown, of the wrong type or out of range. The
    process connects at the first call.
    """

    _mode: ClassVar[str] = "queue"

    @takes(ServerOptions)
    def __init__(self, options: ServerOptions) -> None:
        super().__init__(options)
        own = remote_options(options, self._mode, self._codec.encode)
        self._group_transport = remote_transport(self._policy, own)
        self._transports = (self._group_transport,)


class RedisPubSubChannelLayer(RedisChannelLayer):
    """Like `RedisChannelLayer`, but messages to process-specific channels and groups are published, not stored.

    That is faster, but reaches only processes that are connected at that moment. Normal channels are queues here, too.
    """

    _mode: ClassVar[str] = "pubsub"
