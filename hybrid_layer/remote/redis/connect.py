"""The remote half over Redis servers: those that `hosts` names, and those that only Sentinels know."""

from __future__ import annotations

from functools import partial

from hybrid_layer.remote.process import Process
from hybrid_layer.remote.redis.discovery import DiscoveredTransport
from hybrid_layer.remote.redis.options import RemoteOptions
from hybrid_layer.remote.redis.store import RedisStore
from hybrid_layer.remote.transport import RemoteTransport
from hybrid_layer.transport import Machine, RemoteHalf, Settings


def remote_transport(settings: Settings, options: RemoteOptions, machine: Machine | None = None) -> RemoteHalf:
    """The transport for `options`."""

    def build(options: RemoteOptions) -> RemoteTransport:
        labels, open_store = [host.label for host in options.hosts], partial(RedisStore, hosts=options.hosts)
        return RemoteTransport(partial(Process, settings, options, labels, open_store, machine))

    return build(options) if options.all_services is None else DiscoveredTransport(options, build)
