# SPDX-License-Identifier: BSD-3-Clause
"""The remote half over Redis servers: those that `hosts` names, and those that only Sentinels know."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hybrid_layer.policy import Policy
from hybrid_layer.remote.delivery.machine_delivery import check_shards
from hybrid_layer.remote.process import Process
from hybrid_layer.remote.redis.discovery import DiscoveredTransport
from hybrid_layer.remote.redis.hosts.sentinel import Sentinels
from hybrid_layer.remote.redis.options import RemoteOptions
from hybrid_layer.remote.redis.server.host import Host
from hybrid_layer.remote.redis.store import RedisStore
from hybrid_layer.remote.transport import RemoteTransport
from hybrid_layer.transport import Machine, RemoteHalf


def remote_transport(policy: Policy, options: RemoteOptions, machine: Machine | None = None) -> RemoteHalf:
    """The transport for `options`."""

    def build(hosts: Sequence[Host]) -> RemoteTransport:
        if machine is not None:
            check_shards(len(hosts))
        labels, open_store = [host.label for host in hosts], partial(RedisStore, hosts=hosts)
        return RemoteTransport(partial(Process, policy, options, labels, open_store, machine))

    hosts = options.hosts
    return DiscoveredTransport(hosts, options.timeout, build) if isinstance(hosts, Sentinels) else build(hosts)
