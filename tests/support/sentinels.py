"""Real Sentinels that watch a real master and its replica, in haste: they find one another in moments.

The services of one group share its Sentinels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from tests.support.servers import Kind, Server, free_port, start_server
from tests.support.waiting import block_until

_SECONDS = 20.0
_HASTE = {
    "info-period": 100,
    "publish-period": 100,
    "ask-period": 50,
    "election-timeout": 500,
    "default-down-after": 400,
    "default-failover-timeout": 3000,
}


class Sentinel(Server):
    """One Sentinel. `command` sends it a command, as to any server."""

    arguments: Sequence[str] = ("--sentinel",)


class Service:
    """A master and its replica, watched under a name. They swap their roles at a failover."""

    def __init__(self, name: str, servers: list[Server]) -> None:
        self.name = name
        self.servers = servers

    def of_role(self, role: bytes) -> Server:
        """The running server that says it is a b"master" or b"slave"."""
        return next(each for each in self.servers if each.running and each.command("ROLE")[0] == role)


class Group:
    """Sentinels and the services that they watch."""

    def __init__(self, services: list[Service], sentinels: list[Sentinel]) -> None:
        self.services = services
        self.sentinels = sentinels

    def host(self, service: int = 0, **options: Any) -> dict[str, Any]:
        """An entry of `hosts` that leads to a service."""
        addresses = [(each.host, each.port) for each in self.sentinels]
        return {"sentinels": addresses, "master_name": self.services[service].name, **options}

    def announced(self, service: int = 0) -> set[int]:
        """The ports of the master, as the Sentinels name it; several while they do not agree."""
        name = self.services[service].name
        return {
            int(each.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)[1]) for each in self.sentinels if each.running
        }

    def is_ready(self) -> bool:
        """Whether every Sentinel knows the others and sees a replica in step: a failover would succeed."""
        others = len(self.sentinels) - 1
        return all(_knows_all(each, service, others) for each in self.sentinels for service in self.services)


@contextlib.contextmanager
def sentinel_group(kind: Kind, *names: str, sentinels: int = 3, password: str = "", **config: Any) -> Iterator[Group]:
    """A group with a master and a replica of `kind` for each name, ready for failovers.

    `password` is the Sentinels' own.
    """
    with contextlib.ExitStack() as stack:
        services = []
        for name in names or ["mymaster"]:
            master = stack.enter_context(start_server(kind, repl_diskless_sync_delay=0, **config))
            replica = stack.enter_context(
                start_server(
                    kind,
                    replicaof=[master.host, master.port],
                    repl_diskless_sync_delay=0,
                    **config,
                    **({"masterauth": config["requirepass"]} if "requirepass" in config else {}),
                )
            )
            services.append(Service(name, [master, replica]))
        watchers = [
            stack.enter_context(_sentinel(services, sentinels // 2 + 1, password, config)) for _ in range(sentinels)
        ]
        for watcher in watchers:
            for name, value in _HASTE.items():
                watcher.command("SENTINEL", "DEBUG", name, value)
        group = Group(services, watchers)
        _wait_until_ready(group)
        for watcher in watchers:
            # In four times this a Sentinel turns a replica back that another one has just promoted.
            watcher.command("SENTINEL", "DEBUG", "publish-period", 2000)
        yield group


def _sentinel(services: list[Service], quorum: int, password: str, config: dict[str, Any]) -> Sentinel:
    own: dict[str, Any] = {"port": free_port(), **({"requirepass": password} if password else {})}
    if password:
        own["sentinel sentinel_pass"] = password
    for service in services:
        master = service.servers[0]
        own[f"sentinel monitor {service.name}"] = [master.host, master.port, quorum]
        own[f"sentinel down_after_milliseconds {service.name}"] = 400
        own[f"sentinel failover_timeout {service.name}"] = 3000
        if "requirepass" in config:
            own[f"sentinel auth_pass {service.name}"] = config["requirepass"]
    return Sentinel("valkey", own)  # whose periods can be set


def _wait_until_ready(group: Group) -> None:
    block_until(group.is_ready, "the Sentinels have found one another", _SECONDS)


def _knows_all(sentinel: Sentinel, service: Service, others: int) -> bool:
    found = _fields(sentinel.command("SENTINEL", "MASTER", service.name))
    replicas = [_fields(each) for each in sentinel.command("SENTINEL", "REPLICAS", service.name)]
    return (
        found[b"flags"] == b"master"
        and int(found[b"num-other-sentinels"]) == others
        and [each[b"master-link-status"] for each in replicas] == [b"ok"]
    )


def _fields(reply: Any) -> dict[bytes, bytes]:
    # A dict by RESP3, else a list; which of them redis-py asks for depends on its version.
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
