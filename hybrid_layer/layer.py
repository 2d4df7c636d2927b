"""The hybrid: a local half, a remote half, and a router between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from re import Pattern
from typing import TYPE_CHECKING, Any, ClassVar

from hybrid_layer.base import MIB, BaseLayer
from hybrid_layer.discretion import described_names, discreet
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.ipc.layer import IPCChannelLayer, check_memory, local_transport
from hybrid_layer.options import one_of, shown
from hybrid_layer.router import Route, Router
from hybrid_layer.transport import Machine, RemoteHalf, Transport

if TYPE_CHECKING:
    from hybrid_layer.remote.redis.options import HostOption

_REMOTE_OPTIONS = (
    "block_time",
    "connection_kwargs",
    "on_disconnect",
    "on_reconnect",
    "random_prefix_length",
    "remote",
    "sentinel_refresh_interval",
    "services",
    "timeout",
)


class HybridChannelLayer(BaseLayer):
    """Normal channels through this machine's shared memory; process-specific channels and groups over servers.

    Without `hosts` everything stays on this machine and no server is needed. With `hosts`, a list as
    `hybrid_layer.remote.RedisChannelLayer` takes it, processes on several machines reach each other; `routes` then
    sends normal channels whose readers are elsewhere over the servers too.

    Capacity and expiry are one policy for both sides. Raises `ConfigurationError` for an option that is unknown, out of
    range, or needs `hosts` and has none.
    """

    _options: ClassVar[tuple[str, ...]] = (*IPCChannelLayer._options, *_REMOTE_OPTIONS, "hosts", "routes")

    @discreet
    def __init__(
        self,
        *,
        hosts: Sequence[HostOption] | None = None,
        routes: Mapping[str | Pattern[str], str] | None = None,
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
        connection_kwargs: Mapping[str, Any] | None = None,
        timeout: float = 5,
        block_time: float = 2,
        remote: str = "queue",
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
        check_memory(message_memory, group_memory)
        self.message_memory = message_memory
        self.group_memory = group_memory
        self._local = local_transport(self._settings, message_memory, group_memory)
        self._remote: RemoteHalf | None = None
        self._router = Router(routes)
        one_of("remote", remote, ("queue", "pubsub"))
        if hosts is not None:
            self._remote = self._connect(
                hosts=hosts,
                connection_kwargs=connection_kwargs,
                timeout=timeout,
                block_time=block_time,
                remote=remote,
                on_disconnect=on_disconnect,
                on_reconnect=on_reconnect,
                services=services,
                sentinel_refresh_interval=sentinel_refresh_interval,
                random_prefix_length=random_prefix_length,
                encode=self._codec.encode,
            )
        elif services is not None:
            raise ConfigurationError(f"services={described_names(services)} needs hosts: the Sentinels that know them.")
        elif routes:
            raise ConfigurationError(f"routes={shown(routes)} needs hosts; without them every channel is local.")

    async def receive(self, channel: str) -> dict[str, Any]:
        """As `BaseLayer.receive`."""
        if self._remote is not None:
            # Whoever added a normal channel of this machine to a group may be gone; its readers see to the groups then.
            self._remote.serve_machine()
        return await super().receive(channel)

    def _connect(self, **options: Any) -> RemoteHalf:
        # Imported here, so that a machine-local site does not load the client library.
        from hybrid_layer.remote.redis.connect import remote_transport
        from hybrid_layer.remote.redis.options import remote_options

        router = self._router  # not by way of self, which the remote half must not keep alive
        machine = Machine(
            id=self._local.machine_id,
            deliver=self._local.deliver,
            has_members=self._local.has_remote_members,
            mark_members=self._local.mark_remote_members,
            meet_flush=self._local.meet_remote_flush,
            keeps=lambda channel: router.route(channel) is Route.LOCAL,
        )
        return remote_transport(self._settings, remote_options(**options), machine)

    def _transport_for(self, channel: str) -> Transport:
        if self._remote is None or self._router.route(channel) is Route.LOCAL:
            return self._local
        return self._remote

    def _transports(self) -> tuple[Transport, ...]:
        return (self._local,) if self._remote is None else (self._local, self._remote)
