# SPDX-License-Identifier: BSD-3-Clause
"""The reader of a process's inboxes: while it sleeps, bells carry the messages themselves.

Bells come in the order of the ids. What one carries may be handed over if everything before it was: the session has
slept since its last look, which left nothing, and no bell has rung since that carried nothing. Else the reader looks.
Handed over, its row has to be removed. That may wait a little, so that one call removes several, but not for long:
until then the row takes room.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from hybrid_layer.clock import monotonic
from hybrid_layer.remote.delivery.context import DeliveryOptions
from hybrid_layer.remote.delivery.replies import Batch
from hybrid_layer.remote.delivery.shards import Shard
from hybrid_layer.remote.postgres.bells import Positions, carried
from hybrid_layer.remote.postgres.calls import Rows
from hybrid_layer.remote.postgres.connections import Connections
from hybrid_layer.remote.postgres.entries import Row, entry_of
from hybrid_layer.remote.postgres.link import Link
from hybrid_layer.remote.postgres.names import Names
from hybrid_layer.remote.postgres.reader import Reader
from hybrid_layer.remote.postgres.statements import DONE
from hybrid_layer.remote.runtime.backoff import ReadingLost
from hybrid_layer.timers import Timer, call_later

_PATIENCE = 0.05
"""Seconds that rows may wait to be removed."""
_SHARE = 8
"""The share of one read, which fits into every channel, that they may be."""


class InboxReader(Reader):
    """As `Reader`, of all inboxes of a process. `bell` is the process's secret channel."""

    def __init__(
        self,
        connections: Connections,
        shard: Shard,
        names: Names,
        options: DeliveryOptions,
        process: str,
        bell: str,
        positions: Positions,
    ) -> None:
        super().__init__(connections, shard, names, options, process)
        self._bell = bell
        self._positions = positions
        self._carried: deque[tuple[str, Row]] = deque()
        """What bells have carried here, with the inbox, and was not returned yet."""
        self._early: list[bytes] = []
        """Bells since a look was sent: what they carry may be later than what that finds."""
        self._latest: dict[str, int] = {}
        """By inbox, the highest id that is known in this session."""
        self._unremoved = 0
        """Messages that were returned, and whose rows were not removed yet."""
        self._most = 1
        """Messages that one read returns."""
        self._timer: Timer | None = None
        self._knows_server = False
        """Its ids go on from those that the process has met."""
        self._look_at = -math.inf
        """When the next look is due, if only to notice that the server is gone."""

    async def _open(self) -> bool:
        is_new = await super()._open()
        if is_new and self._link is not None:
            self._knows_server = self._positions.is_empty
            self._link.listen([self._bell], self._rung_with, self._deadline())
        return is_new

    def _forget(self) -> None:
        super()._forget()
        self._carried.clear()  # the rows are there
        self._early.clear()
        self._latest.clear()

    def rung(self, *_: object) -> None:
        super().rung()
        self._remove()

    def _rung_with(self, _: str, text: bytes) -> None:
        """A bell has rung that carries a message."""
        if not self._hears_all:
            if self._looks:
                self._early.append(text)
            return  # else the next look finds it
        found = carried(text)
        if found is None or found[0] not in self._sources:
            return self.rung()
        inbox, row = found
        if row[1] <= self._latest.get(inbox, 0):
            return  # a look has found it
        self._latest[inbox] = row[1]
        self._carried.append(found)
        self._news.set()
        if len(self._carried) > 1:
            self._remove()  # whoever has to wait for a consumer should find all the room that there is
        if self._link is not None and len(self._carried) > self._most // 2:
            self._wake(self._link, self._numbers)

    def _must_look(self) -> bool:
        return not self._hears_all or self._rung or monotonic() >= self._look_at

    def _is_told(self) -> bool:
        return bool(self._carried)

    def _told(self, count: int) -> Batch | None:
        self._most = count
        found: list[Row] = []
        source = self._carried[0][0] if self._carried else ""
        while self._carried and self._carried[0][0] == source and len(found) < count:
            found.append(self._carried.popleft()[1])
        if not found:
            return None
        if not self._positions.take_over(self, source, found[-1]):
            self._carried.clear()
            self._hears_all = self._is_empty = False
            return None
        self._unremoved += len(found)
        if self._carried or self._unremoved * _SHARE >= count:
            self._remove()
        elif self._timer is None:
            self._timer = call_later(self._loop, _PATIENCE, self._remove_at_last)
        return Batch(source, [entry_of(row) for row in found])

    async def _take(self, count: int) -> list[Row]:
        if not self._knows_server:
            epoch = await self._learn()
            if epoch is None and self.cancelled:
                return []
            if epoch is None:
                self._forget()
                raise ReadingLost("no answer")
            self._positions.met(epoch)
            self._knows_server = True
        self._positions.begin(self)
        self._look_at = monotonic() + self._block_time
        self._unremoved = 1  # also what another reader has left
        self._remove()
        return await super()._take(count)

    def _found(self, rows: Rows) -> None:
        places: Sequence[str] = ["", *self._sources]  # the first has notes
        for row in rows:
            inbox = places[row[0] - 1]
            self._latest[inbox] = max(row[1], self._latest.get(inbox, 0))
        early, self._early = self._early, []
        for text in early:
            self._rung_with("", text)

    def _remove_at_last(self) -> None:
        self._timer = None
        self._remove()

    def _remove(self) -> None:
        """Have the rows removed whose messages were returned."""
        link = self._link
        if link is None or not self._unremoved:
            return
        self._unremoved = 0
        for inbox, low, high in self._positions.left():
            self._remove_up_to(link, inbox, low, high)

    def _remove_up_to(self, link: Link, inbox: str, low: int, high: int) -> None:
        def removed(rows: Rows | None) -> None:
            if rows is not None:
                self._positions.removed(inbox, high)

        link.call(DONE, [self._names.queue(inbox), low, high], self._deadline(), then=removed)

    async def close(self) -> None:
        link = self._link
        if link is not None:
            self._remove()
            link.unlisten([self._bell], self._rung_with, self._deadline())
        await super().close()
