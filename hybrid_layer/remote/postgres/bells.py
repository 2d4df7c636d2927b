# SPDX-License-Identifier: BSD-3-Clause
"""Messages that bells carry to a process, and how far it has taken over what is in its inboxes.

What a bell carries is also a row, which stays until the process has removed it. So a process that takes a message from
a bell must neither take the row as well nor lose its place in the order, whatever session or loop reads next.
"""

from __future__ import annotations

import base64
import binascii
import threading

from hybrid_layer.remote.delivery.epoch import number_in, read_epoch
from hybrid_layer.remote.postgres.entries import Row

_MOST_DIGITS = 18


def carried(text: bytes) -> tuple[str, Row] | None:
    """The inbox of a message that a bell carries, and its row; None if `text` is none."""
    try:
        number, stamp, epoch, names, payload = text.split(b"|")
        stamp_ms = number_in(stamp)
        if stamp_ms is None or read_epoch(epoch) is None or not number.isdigit() or len(number) > _MOST_DIGITS:
            return None
        named = names.decode("ascii")
        inbox, mark, _ = named.partition("!")
        row = 0, int(number), stamp_ms, epoch.decode("ascii"), named, base64.b64decode(payload)
        return (inbox + mark, row) if mark else None
    except (ValueError, binascii.Error):
        return None


class Positions:
    """Up to which ids a process has taken messages over from bells, by inbox, and removed their rows, on one shard.

    Its readers, of which one reads at a time, share the object. Any thread may use it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reader: object = None
        self._taken: dict[str, int] = {}
        self._removed: dict[str, int] = {}
        self._incarnation = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was taken over yet."""
        return not self._taken

    def begin(self, reader: object) -> None:
        """Let `reader` look for rows. From now on it alone may take messages over from bells."""
        with self._lock:
            self._reader = reader

    def take_over(self, reader: object, inbox: str, row: Row) -> bool:
        """Note that the process has the message of `row` and all before it. False: another reader has begun."""
        with self._lock:
            if self._reader is not reader:
                return False
            self._taken[inbox] = row[1]
            self._incarnation = row[3].partition(":")[0]
            return True

    def left(self) -> list[tuple[str, int, int]]:
        """Inboxes with rows to remove, and above and up to which id."""
        with self._lock:
            return [
                (inbox, low, high) for inbox, high in self._taken.items() if (low := self._removed.get(inbox, 0)) < high
            ]

    def removed(self, inbox: str, high: int) -> None:
        """Note that rows are removed up to the id `high`."""
        with self._lock:
            if inbox in self._taken:
                self._removed[inbox] = max(high, self._removed.get(inbox, 0))

    def met(self, epoch: str) -> None:
        """Forget all if the server, whose epoch this is, has lost its data since: its ids may begin anew."""
        with self._lock:
            if epoch.partition(":")[0] != self._incarnation:
                self._taken.clear()
                self._removed.clear()
