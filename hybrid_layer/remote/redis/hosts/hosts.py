# SPDX-License-Identifier: BSD-3-Clause
"""The option `hosts`: its entries, checked when the layer is built.

Nothing here needs an event loop or opens a connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hybrid_layer.configuration import ServerOptions
from hybrid_layer.discretion import described, described_names
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.options import positive_int
from hybrid_layer.remote.kinds import refuse_strange_keys
from hybrid_layer.remote.redis.hosts.addresses import server_options
from hybrid_layer.remote.redis.hosts.cluster import Cluster
from hybrid_layer.remote.redis.hosts.sentinel import Sentinels
from hybrid_layer.remote.redis.server.host import Host
from hybrid_layer.remote.redis.server.server import Server, refuse_no_number, refuse_unused, server

DEFAULT = "redis://localhost:6379"
_VIRTUAL_SHARDS = 16
_MOST_VIRTUAL_SHARDS = 256
ALL = "*"
"""The value of `services` for all of them."""


def parse_hosts(options: ServerOptions) -> tuple[Host, ...] | Sentinels:
    """The hosts that these options describe, or what will find them. Raises `ConfigurationError`."""
    return _parse(_Parser(options), options)


def plain_servers(options: ServerOptions) -> list[str]:
    """The servers that these options reach over a network without TLS, by their labels. Raises `ConfigurationError`."""
    parser = _Parser(options)
    _parse(parser, options)
    plain = [each.label for each in parser.servers if not each.is_private]
    # Where they are, only the Sentinels know.
    return ["the services of the Sentinels"] if plain and options.services is not None else plain


def _parse(parser: _Parser, options: ServerOptions) -> tuple[Host, ...] | Sentinels:
    entries = _entries([DEFAULT] if options.hosts is None else options.hosts)
    if (services := options.services) is not None:
        if options.hosts is None:
            raise ConfigurationError(f"services={described_names(services)} needs hosts: the Sentinels that know them.")
        return parser.services(entries, _checked_services(services))
    found = tuple(host for index, entry in enumerate(entries) for host in parser.hosts(entry, f"hosts[{index}]"))
    refuse_unused(parser.defaults, parser.servers)
    return found


def _entries(hosts: object) -> list[object] | tuple[object, ...]:
    if isinstance(hosts, (str, bytes)):
        raise ConfigurationError(
            f"hosts is a single {type(hosts).__name__}; give a list, even for one host: hosts=[...]."
        )
    if isinstance(hosts, Mapping):
        raise ConfigurationError("hosts is a single dict; give a list, even for one host: hosts=[{...}].")
    if not isinstance(hosts, (list, tuple)):
        raise ConfigurationError(f"hosts must be a list of URIs, (host, port) pairs or dicts, not {described(hosts)}.")
    if not hosts:
        raise ConfigurationError(
            "hosts=[] names no server. Leave hosts out for the default, or name at least one, such as "
            "'redis://localhost:6379'."
        )
    if len(hosts) == 2 and isinstance(hosts[0], str) and isinstance(hosts[1], int):
        raise ConfigurationError("hosts is one (host, port) pair; put it into a list: hosts=[(host, port)].")
    return hosts


def _checked_services(services: object) -> list[str] | None:
    if services == ALL:
        return None
    if (
        not isinstance(services, (list, tuple))
        or not services
        or not all(isinstance(name, str) and name for name in services)
    ):
        raise ConfigurationError(
            f"services must be a list of names of services that the Sentinels in hosts know, or {ALL!r} for all, not "
            f"{described_names(services)}."
        )
    if len(set(services)) < len(services):
        raise ConfigurationError(f"services={described_names(services)} names a service twice.")
    return list(services)


class _Parser:
    """Makes hosts from entries. `options` apply to all of them."""

    def __init__(self, options: ServerOptions) -> None:
        defaults = self.defaults = {} if options.connection_kwargs is None else options.connection_kwargs
        if not isinstance(defaults, Mapping) or not all(isinstance(key, str) for key in defaults):
            raise ConfigurationError(
                f"connection_kwargs must be a dict of options of redis-py, not {described(defaults)}."
            )
        self._block_time = options.block_time
        self._refresh_interval = options.sentinel_refresh_interval
        self.servers: list[Server] = []
        """The servers that use `defaults`."""

    def hosts(self, entry: object, where: str) -> tuple[Host, ...]:
        """The hosts of an entry: one, or several for a cluster."""
        if isinstance(entry, Mapping):
            refuse_strange_keys(entry, where)
            if "cluster" in entry:
                return self._cluster(dict(entry), where)
            if entry.keys() & {"sentinels", "master_name"}:
                return (self._service(dict(entry), where),)
        return (self._server(server_options(entry, where), where),)

    def services(self, sentinels: Sequence[object], names: list[str] | None) -> tuple[Host, ...] | Sentinels:
        """The services called `names`, or all if it is None, of the Sentinels in `hosts`."""
        places = [(entry, f"hosts[{index}]") for index, entry in enumerate(sentinels)]
        servers = [server(server_options(entry, at), {}, at, 0) for entry, at in places]
        together = Sentinels(servers, self._server({"host": "any"}, "connection_kwargs"), self._refresh_interval)
        return together if names is None else tuple(map(together.service, names))

    def _cluster(self, options: dict[str, Any], where: str) -> tuple[Host, ...]:
        nodes = options.pop("cluster")
        shards = options.pop("virtual_shards", _VIRTUAL_SHARDS)
        refuse_no_number(f"{where}: virtual_shards", shards)
        shards = positive_int(f"{where}: virtual_shards", shards, maximum=_MOST_VIRTUAL_SHARDS)
        if not isinstance(nodes, (list, tuple)) or not nodes:
            raise ConfigurationError(
                f"{where} has cluster={described(nodes)}; give a list of nodes, such as ['redis://a:6379', ...]."
            )
        for key in sorted(options.keys() & {"address", "host", "port", "path", "sentinels", "master_name"}):
            raise ConfigurationError(f"{where} has cluster and {key}; put the addresses of its nodes into the list.")
        found = []
        for number, entry in enumerate(nodes):
            at = f"{where}['cluster'][{number}]"
            found.append(self._server({**options, **server_options(entry, at)}, at))
            _refuse_as_node(found[-1], found[0], at)
        return Cluster(found).shards(shards)

    def _service(self, options: dict[str, Any], where: str) -> Host:
        name, sentinels = options.pop("master_name", None), options.pop("sentinels", None)
        own = options.pop("sentinel_kwargs", None)
        fewest_others = options.pop("min_other_sentinels", 0)
        refuse_no_number(f"{where}: min_other_sentinels", fewest_others)
        if not isinstance(name, str) or not name:
            raise ConfigurationError(
                f"{where} has master_name={described_names(name)}; give the name of a service as str."
            )
        if not isinstance(sentinels, (list, tuple)) or not sentinels:
            raise ConfigurationError(
                f"{where} has sentinels={described(sentinels)}; give a list such as [(host, port)]."
            )
        for key in sorted(options.keys() & {"address", "host", "port", "path"}):
            raise ConfigurationError(f"{where} has sentinels and a {key}; give one or the other.")
        if own is None:  # like redis-py
            own = {
                key: value for key, value in options.items() if key.startswith("socket_") and key != "socket_timeout"
            }
        if not isinstance(own, Mapping):
            raise ConfigurationError(
                f"{where} has sentinel_kwargs={described(own)}; give a dict of options of redis-py."
            )
        places = [(entry, f"{where}['sentinels'][{n}]") for n, entry in enumerate(sentinels)]
        servers = [server(server_options(entry, at), own, at, 0) for entry, at in places]
        shared = self._server({**options, "host": name}, where)
        return Sentinels(servers, shared, self._refresh_interval, fewest_others).service(name)

    def _server(self, options: Mapping[str, Any], where: str) -> Server:
        self.servers.append(server(options, self.defaults, where, self._block_time))
        return self.servers[-1]


def _refuse_as_node(node: Server, first: Server, at: str) -> None:
    if "path" in node.kwargs:
        raise ConfigurationError(f"{at} is a Unix socket; the nodes of a cluster name one another by host and port.")
    if node.kwargs.get("db") not in (None, 0):
        raise ConfigurationError(f"{at} names the database {node.kwargs['db']}; a cluster has only the database 0.")
    if replace(first.at(*node.address), tls=None) != replace(node, tls=None):
        raise ConfigurationError(
            f"{at} has other options than the first node. All nodes, even those not listed, must have the same "
            f"options; write them beside 'cluster', such as {{'cluster': [...], 'password': ...}}."
        )
