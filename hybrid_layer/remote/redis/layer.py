"""The remote layers alone: `RedisChannelLayer`, where messages wait in Redis or Valkey, and its pub/sub sister."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from re import Pattern
from typing import Any, ClassVar

from hybrid_layer.base import MIB, BaseLayer
from hybrid_layer.discretion import discreet
from hybrid_layer.remote.redis.connect import remote_transport
from hybrid_layer.remote.redis.options import HostOption, remote_options
from hybrid_layer.transport import Transport


class RedisChannelLayer(BaseLayer):
    """Channels and groups over one or several Redis or Valkey servers. Every message waits there in a queue."""

    _options: ClassVar[tuple[str, ...]] = (
        *BaseLayer._options,
        "block_time",
        "connection_kwargs",
        "hosts",
        "on_disconnect",
        "on_reconnect",
        "random_prefix_length",
        "sentinel_refresh_interval",
        "services",
        "timeout",
    )
    _mode: ClassVar[str] = "queue"

    @discreet
    def __init__(
        self,
        *,
        hosts: Sequence[HostOption] | None = None,
        prefix: str | Callable[[], str] = "asgi",
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: Mapping[str | Pattern[str], int] | None = None,
        symmetric_encryption_keys: list[str | bytes] | tuple[str | bytes, ...] | None = None,
        serializer_format: str = "msgpack",
        max_message_size: int = 4 * MIB,
        connection_kwargs: Mapping[str, Any] | None = None,
        timeout: float = 5,
        block_time: float = 2,
        on_disconnect: str | None = None,
        on_reconnect: str | None = None,
        services: Sequence[str] | str | None = None,
        sentinel_refresh_interval: float = 0,
        random_prefix_length: object = None,
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
        options = remote_options(
            hosts=hosts,
            connection_kwargs=connection_kwargs,
            timeout=timeout,
            block_time=block_time,
            services=services,
            sentinel_refresh_interval=sentinel_refresh_interval,
            random_prefix_length=random_prefix_length,
            remote=self._mode,
            on_disconnect=on_disconnect,
            on_reconnect=on_reconnect,
            encode=self._codec.encode,
        )
        self._transport = remote_transport(self._settings, options)

    def _transport_for(self, channel: str) -> Transport:
        return self._transport

    def _transports(self) -> tuple[Transport, ...]:
        return (self._transport,)


class RedisPubSubChannelLayer(RedisChannelLayer):
    """As `RedisChannelLayer`, but messages to process-specific channels and groups are published, not stored.

    That is faster, and reaches only processes that are connected at that moment. Normal channels are queues here too.
    """

    _mode: ClassVar[str] = "pubsub"
