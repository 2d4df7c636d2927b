# SPDX-License-Identifier: BSD-3-Clause
"""Those who share a subscribed connection, what arrives for them, and the commands that wait for an answer."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from redis.exceptions import ResponseError


class Lost(NamedTuple):
    """An item that ends a subscription: it gets nothing more over this connection."""

    cause: str
    error: Exception | None = None


Item = list[bytes] | None | ResponseError | Lost
"""What arrived for a subscription: a message, a positive answer, a refusal, or the end."""


class Member(ABC):
    """One of those who share a connection. What others read for it is in `items`, in the server's order."""

    def __init__(self, on_idle: Callable[[], None]) -> None:
        self.on_idle = on_idle
        self.items: deque[Item] = deque()
        """Grows while the others go on and this one does not read: while it takes over, for some seconds at most."""
        self.waiter: asyncio.Future[None] | None = None
        """Waits until there is an item, or nobody reads."""
        self.was_confirmed = False
        """The server has subscribed it to something."""

    @abstractmethod
    def take_message(self, channel: bytes, text: bytes) -> None:
        """Take what was published on a pub/sub channel."""

    @abstractmethod
    def take_item(self, item: Item) -> None:
        """Take an item. Raises `ReadingLost` if it is the end."""

    def add(self, item: Item) -> None:
        """Note what has arrived."""
        self.items.append(item)
        self.wake()

    def wake(self) -> None:
        """Let it look again, if it waits."""
        waiter = self.waiter
        if waiter is not None and not waiter.done() and not waiter.get_loop().is_closed():
            waiter.set_result(None)


class Command:
    """A command that the server has not answered completely."""

    __slots__ = ("kind", "left", "member", "names")

    def __init__(self, kind: Literal["subscribe", "unsubscribe", "ping"], member: Member | None, names: Sequence[str]):
        self.kind = kind
        self.member = member
        self.left = len(names)
        """Confirmations that a SUBSCRIBE still gets."""
        self.names = {name.encode() for name in names} if kind == "unsubscribe" else ()
