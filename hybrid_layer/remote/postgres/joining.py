# SPDX-License-Identifier: BSD-3-Clause
"""Messages to one channel that are sent in one turn of the loop travel as one call.

The server does once for all of them what it would do for each: look for the receiver, for room, for who sleeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from hybrid_layer.remote.delivery.replies import Outcome
from hybrid_layer.remote.postgres.calls import Call
from hybrid_layer.remote.postgres.statements import SEND, Argument

_PAYLOADS = 5
"""The place of the payloads among the arguments of `SEND`."""
_HINTS = 9
"""That of the first of those that say where to search."""
_MOST = 8192
"""Bytes of a payload with which it is joined: of larger ones the content is what costs."""


def joined(calls: Sequence[Call]) -> list[Call]:
    """The calls in their order. Each `SEND` is joined with those right behind it that differ in the payloads only."""
    found: list[Call] = []
    for what, group in groupby(calls, _all_but_payloads):
        same = list(group)
        found += same if what is None or len(same) == 1 else [_together(same)]
    return found


def _all_but_payloads(call: Call) -> Sequence[Argument] | None:
    """What must be the same. Where the queue is searched from may differ: it holds for all who say so."""
    if call.statement is not SEND or max(map(len, _payloads(call))) > _MOST:
        return None
    return (*call.arguments[:_PAYLOADS], *call.arguments[_PAYLOADS + 1 : _HINTS])


def _payloads(call: Call) -> tuple[bytes, ...]:
    payloads = call.arguments[_PAYLOADS]
    assert isinstance(payloads, tuple)
    return payloads


def _together(calls: Sequence[Call]) -> Call:
    first = calls[0]
    payloads = tuple(payload for call in calls for payload in _payloads(call))
    arguments = (*first.arguments[:_PAYLOADS], payloads, *first.arguments[_PAYLOADS + 1 :])
    deadline = min(call.deadline for call in calls)
    return _Joined(first.statement, arguments, deadline, first.future, first.key, None, parts=calls)


@dataclass(slots=True, eq=False)
class _Joined(Call):
    """Several calls as one."""

    parts: Sequence[Call] = field(default=())

    def succeed(self) -> None:
        """Tell each what was done for it: the first messages are stored, the others met a full queue."""
        ((outcome, expired, rang, epoch, now, done, *hint),) = self.rows or []
        for call in self.parts:
            number = len(_payloads(call))
            own = max(0, min(done, number))
            is_stored = outcome == Outcome.FULL.value and own == number
            call.rows = [(Outcome.STORED.value if is_stored else outcome, expired, rang, epoch, now, own, *hint)]
            done, expired = done - own, 0
            call.succeed()

    def fail(self, error: Exception) -> None:
        """Pass `error` on to each."""
        for call in self.parts:
            call.fail(error)
