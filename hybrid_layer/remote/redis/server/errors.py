# SPDX-License-Identifier: BSD-3-Clause
"""What the error replies of servers mean: whether anything was executed, and the text that users read."""

from __future__ import annotations

import re

from redis import exceptions

from hybrid_layer.exceptions import RemoteUnavailable

_REFUSAL = re.compile(r"(?:Error running script.*? -)?([A-Z]+) (.*)", re.DOTALL)
_BY_CODE: dict[str, type[exceptions.ResponseError]] = {
    "READONLY": exceptions.ReadOnlyError,
    "MASTERDOWN": exceptions.MasterDownError,
    "CLUSTERDOWN": exceptions.ClusterDownError,
    "CROSSSLOT": exceptions.ClusterCrossSlotError,
    "TRYAGAIN": exceptions.TryAgainError,
    "MOVED": exceptions.MovedError,
    "ASK": exceptions.AskError,
}
_OF_CLUSTERS = (exceptions.AskError, exceptions.ClusterCrossSlotError)  # a MovedError is an AskError, too
_NO_SHARDED_PUBSUB = re.compile(
    r"unknown command.*\bS(?:SUBSCRIBE|PUBLISH)\b|Unknown Redis command called from", re.IGNORECASE
)


_ARGUMENTS = re.compile(r",? with args beginning with:.*", re.DOTALL)
"""What a server repeats of a command that it does not know: perhaps a password or a message."""


def safe_text(error: object) -> str:
    """The text of `error` without possible secrets."""
    return _ARGUMENTS.sub("", str(error))


class WrongServer(exceptions.RedisError):
    """The server is not of a kind that this layer can use."""


FINAL = (exceptions.AuthenticationError, exceptions.AuthorizationError, WrongServer)
"""Failures to connect that another try would meet as well."""


def unwrapped(error: Exception) -> Exception:
    """The refusal behind `error`: Redis before 7 wraps those within scripts, and redis-py 5 lacks classes for some."""
    found = _REFUSAL.match(str(error))
    if found is None or type(error) is not exceptions.ResponseError:
        return error
    kind = _BY_CODE.get(found[1], exceptions.ResponseError)
    # redis-py's classes keep the code in their text, but these two read an address from what follows it.
    try:
        return kind(found[2] if issubclass(kind, exceptions.AskError) else f"{found[1]} {found[2]}")
    except (ValueError, IndexError):  # there is no address
        return error


def is_not_now(error: Exception, in_cluster: bool) -> bool:
    """Whether `error`, unwrapped, says that nothing was executed and that the same command may succeed later."""
    # ASK is not followed either, but waited out. On the node that a slot moves to, a script would miss the keys that
    # are still on the other node. Without alive keys, it would remove memberships of live processes.
    return (
        isinstance(error, exceptions.BusyLoadingError | exceptions.ClusterDownError)
        or is_elsewhere(error, in_cluster)
        or (in_cluster and isinstance(error, exceptions.AskError | exceptions.TryAgainError))
    )


def is_elsewhere(error: Exception, in_cluster: bool) -> bool:
    """Whether another server may serve what this one refused with `error`, unwrapped. Nothing was executed."""
    return isinstance(error, exceptions.ReadOnlyError | exceptions.MasterDownError) or (
        in_cluster and isinstance(error, exceptions.MovedError | exceptions.ClusterDownError)
    )


def cause_of(error: object, in_cluster: bool = False) -> str:
    """The text of `error`, with its meaning where that is unclear. `in_cluster`: its host is part of a cluster."""
    if not isinstance(error, Exception):
        return safe_text(error)
    plain, text = unwrapped(error), safe_text(error) or type(error).__name__
    if isinstance(plain, _OF_CLUSTERS) and not in_cluster:
        return f"it is part of a Redis Cluster. Configure it as one: hosts=[{{'cluster': ['redis://...']}}] ({text})"
    if isinstance(plain, exceptions.AskError | exceptions.TryAgainError):
        return f"the slot of its keys is moving to another node ({type(plain).__name__}: {text})"
    if in_cluster and _NO_SHARDED_PUBSUB.search(text):
        return f"pub/sub in a cluster needs Redis 7 or Valkey; with this server, choose remote='queue' ({text})"
    return text


class NotConnected(RemoteUnavailable):
    """The connection could not be opened. Nothing was sent, and another try may succeed."""
