"""What an entry of `hosts` leads to."""

from __future__ import annotations

from typing import Protocol

from hybrid_layer.remote.redis.server.server import AnyConnection


class Host(Protocol):
    """An entry of `hosts`: something that leads to a server."""

    @property
    def label(self) -> str:
        """What errors and logs call it. Contains no password."""

    @property
    def tag(self) -> str:
        """The hash tag in all its keys if it is a part of a cluster, else empty."""

    @property
    def read_timeout(self) -> float | None:
        """The user's `socket_timeout`, in seconds."""

    @property
    def switch_after(self) -> float | None:
        """Seconds after which a try to connect is given up, since another server may have taken over; None if none can.

        A call that was not sent yet is then tried again until its time is up.
        """

    async def endpoint(self) -> Host:
        """What sending connections lead to; hosts whose place is the same object share them. Raises as `connection`."""

    async def connection(self) -> AnyConnection:
        """A new connection to the server, not opened yet. Raises `RedisError` or `OSError` if none can be found."""

    def invalidate(self, cause: object = None) -> None:
        """The server that `endpoint` and `connection` led to does not serve, or no more; `cause` may be its refusal."""


def open_within(host: Host, timeout: float) -> float:
    """Seconds that a try to connect may take, of a call that may take `timeout`."""
    return timeout if host.switch_after is None else min(timeout, host.switch_after)
