"""The remote half over Redis servers, those that are named and those that only Sentinels know."""

from __future__ import annotations

from hybrid_layer.loops import LoopLocal
from hybrid_layer.remote.delivery.context import Context
from hybrid_layer.remote.redis.discovery import DiscoveredTransport
from hybrid_layer.remote.redis.options import RemoteOptions
from hybrid_layer.remote.redis.store import RedisStore
from hybrid_layer.remote.runtime.calls import LoopState
from hybrid_layer.remote.transport import RemoteTransport
from hybrid_layer.transport import Machine, RemoteHalf, Settings


def remote_transport(settings: Settings, options: RemoteOptions, machine: Machine | None = None) -> RemoteHalf:
    """The transport for `options`."""

    def build(options: RemoteOptions) -> RemoteTransport:
        def open_store(context: Context, loops: LoopLocal[LoopState]) -> RedisStore:
            return RedisStore(context, loops, options.hosts)

        return RemoteTransport(settings, options, [host.label for host in options.hosts], open_store, machine)

    return build(options) if options.all_services is None else DiscoveredTransport(options, build)
