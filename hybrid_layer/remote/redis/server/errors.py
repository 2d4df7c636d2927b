"""What the error replies of servers mean: which say that nothing was executed, and what people are told of them."""

from __future__ import annotations

import re
from typing import Protocol

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import MovedError as MovedError

from hybrid_layer.exceptions import RemoteUnavailable

_REFUSAL = re.compile(r"(?:Error running script.*? -)?([A-Z]+) (.*)", re.DOTALL)
_BY_CODE: dict[str, type[ResponseError]] = {
    "READONLY": ReadOnlyError,
    "MASTERDOWN": MasterDownError,
    "CLUSTERDOWN": ClusterDownError,
    "CROSSSLOT": ClusterCrossSlotError,
    "TRYAGAIN": TryAgainError,
    "MOVED": MovedError,
    "ASK": AskError,
}
_OF_CLUSTERS = (AskError, ClusterCrossSlotError)  # a MovedError is an AskError
_NO_SHARDED_PUBSUB = re.compile(
    r"unknown command.*\bS(?:SUBSCRIBE|PUBLISH)\b|Unknown Redis command called from", re.IGNORECASE
)


_ARGUMENTS = re.compile(r",? with args beginning with:.*", re.DOTALL)
"""Of a command that a server does not know, as it repeats them: a password, or a message."""


def told(error: object) -> str:
    """The text of `error` without what may be a secret."""
    return _ARGUMENTS.sub("", str(error))


class WrongServer(RedisError):
    """What answers there is nothing that this layer could use."""


class Named(Protocol):
    """What an error is about: a `host.Host`."""

    @property
    def label(self) -> str:
        """What people call it."""

    @property
    def tag(self) -> str:
        """Its hash tag if it is a part of a cluster, else empty."""


FINAL = (AuthenticationError, AuthorizationError, WrongServer)
"""Failures to connect that the next try would meet as well."""


def unwrapped(error: Exception) -> Exception:
    """The refusal behind `error`: Redis before 7 wraps those that a script meets, redis-py 5 has no class for some."""
    found = _REFUSAL.match(str(error))
    if found is None or type(error) is not ResponseError:
        return error
    kind = _BY_CODE.get(found[1], ResponseError)
    # Its other classes keep the code in their text, these two read an address from what follows it.
    try:
        return kind(found[2] if issubclass(kind, AskError) else f"{found[1]} {found[2]}")
    except (ValueError, IndexError):  # there is none
        return error


def is_not_now(error: Exception, in_cluster: bool) -> bool:
    """Whether `error`, unwrapped, says that nothing was executed, and that the same may succeed later."""
    # ASK too is not followed but waited out. At the node that a slot moves to, a script would take for missing whatever
    # is still at the other one: alive keys, so that memberships of the living would go.
    return (
        isinstance(error, BusyLoadingError | ClusterDownError)
        or is_elsewhere(error, in_cluster)
        or (in_cluster and isinstance(error, AskError | TryAgainError))
    )


def is_elsewhere(error: Exception, in_cluster: bool) -> bool:
    """Whether another server may serve what this one refused with `error`, unwrapped. Nothing was executed."""
    return isinstance(error, ReadOnlyError | MasterDownError) or (
        in_cluster and isinstance(error, MovedError | ClusterDownError)
    )


def cause_of(error: object, in_cluster: bool = False) -> str:
    """The text of `error`, or what it means where that does not tell. `in_cluster`: of a host that is a cluster."""
    if not isinstance(error, Exception):
        return told(error)
    plain, text = unwrapped(error), told(error) or type(error).__name__
    if isinstance(plain, _OF_CLUSTERS) and not in_cluster:
        return f"it is part of a Redis Cluster, which is named as such: hosts=[{{'cluster': ['redis://...']}}] ({text})"
    if isinstance(plain, AskError | TryAgainError):
        return f"the slot of its keys moves to another node ({type(plain).__name__}: {text})"
    if in_cluster and _NO_SHARDED_PUBSUB.search(text):
        return f"pub/sub in a cluster needs Redis 7 or Valkey; with this server choose remote='queue' ({text})"
    return text


def unavailable(host: Named, cause: object) -> RemoteUnavailable:
    """The error for a server that failed, by name and cause."""
    return RemoteUnavailable(f"The server {host.label} is not available: {cause_of(cause, bool(host.tag))}")


class NotConnected(RemoteUnavailable):
    """The connection could not be opened, so nothing was sent, and another try may succeed."""
