# SPDX-License-Identifier: BSD-3-Clause
"""``top``: rates and waiting times, live. Not on a terminal, a line for each interval."""

from __future__ import annotations

import shutil
import time
from argparse import Namespace
from dataclasses import dataclass
from itertools import accumulate

from hybrid_layer.clock import monotonic
from hybrid_layer.commands.findings import REASONS
from hybrid_layer.commands.output import WIDTH, Output, duration, table
from hybrid_layer.commands.target import Target
from hybrid_layer.exceptions import SegmentNotFound
from hybrid_layer.ipc.observer import WAIT_BOUNDS, ChannelCounts, ChannelState, Observer

_ENTER, _LEAVE, _HOME = "\x1b[?1049h\x1b[?25l", "\x1b[?1049l\x1b[?25h", "\x1b[H\x1b[J"
"""To another screen without a cursor, back, and to the top of an empty one."""
_HEADING = 6
"""Lines that are no channels."""


@dataclass
class Look:
    """What is counted at one moment."""

    at: float
    counters: dict[str, int]
    waits: tuple[int, ...]
    channels: list[ChannelState]
    counts: dict[str, ChannelCounts]


@dataclass
class Rates:
    """What happened between two looks, by second."""

    seconds: float
    sent: float
    received: float
    dropped: float
    p50: float | None
    """The median of waiting times, in seconds: the bound of its class. None if no message was read."""
    p99: float | None
    unread: int


def run(target: Target, arguments: Namespace, output: Output) -> int:
    """Until it is interrupted, or has looked ``--count`` times."""
    with target.observer() as observer:
        is_live = output.is_terminal and not output.as_json
        if is_live:
            output.write(f"{_ENTER}\n")
        try:
            _watch(observer, target, arguments, output, is_live)
        except KeyboardInterrupt:
            pass
        finally:
            if is_live:
                output.write(f"{_LEAVE}\n")
    return 0


def _watch(observer: Observer, target: Target, arguments: Namespace, output: Output, is_live: bool) -> None:
    last, shown = _look(observer), 0
    while True:
        time.sleep(arguments.interval)
        try:
            now = _look(observer)
        except SegmentNotFound:
            if not is_live:
                raise
            output.write(f"{_HOME}{target.prefix}: no process uses it any more; waiting for one.\n")
            continue
        rates = between(last, now)
        if is_live:
            output.write(_HOME + "\n".join(_screen(target.prefix, rates, last, now)) + "\n")
        else:
            output.show(vars(rates), [_line(rates)])
        last, shown = now, shown + 1
        if shown == arguments.count:
            return


def _look(observer: Observer) -> Look:
    counters = observer.counters()
    for key, number in observer.remote_counters().items():
        counters[key] += number
    waits = observer.waits().counts
    return Look(monotonic(), counters, tuple(waits), list(observer.channels()), observer.channel_counts())


def between(last: Look, now: Look) -> Rates:
    """The rates from one look to the next. After a move to another segment, which counts anew, they are 0."""
    seconds = max(now.at - last.at, 1e-3)
    is_another = any(now.counters[key] < last.counters[key] for key in now.counters)
    old = now if is_another else last
    changes = {key: (now.counters[key] - old.counters[key]) / seconds for key in now.counters}
    waits = [after - before for before, after in zip(old.waits, now.waits, strict=True)]
    return Rates(
        seconds,
        changes["sent"],
        changes["received"],
        sum(changes[key] for key in REASONS),
        _percentile(waits, 0.5),
        _percentile(waits, 0.99),
        sum(each.pending for each in now.channels),
    )


def _percentile(waits: list[int], part: float) -> float | None:
    total = sum(waits)
    if total <= 0:
        return None
    reached = next(number for number, seen in enumerate(accumulate(waits)) if seen >= part * total)
    return float(WAIT_BOUNDS[min(reached, len(WAIT_BOUNDS) - 1)])


def _line(rates: Rates) -> str:
    moment = time.strftime("%H:%M:%S")
    return f"{moment}  {_rates(rates)}"


def _rates(rates: Rates) -> str:
    waits = ""
    if rates.p50 is not None and rates.p99 is not None:
        waits = f"  wait p50 <{duration(rates.p50)} p99 <{duration(rates.p99)}"
    done = f"sent {_rate(rates.sent)}  read {_rate(rates.received)}  dropped {_rate(rates.dropped)}"
    return f"{done}  unread {rates.unread:,}{waits}"


def _rate(number: float) -> str:
    return f"{number:,.0f}/s" if number >= 10 or number == 0 else f"{number:.1f}/s"


def _screen(prefix: str, rates: Rates, last: Look, now: Look) -> list[str]:
    width, lines = shutil.get_terminal_size((WIDTH, 24))
    counts = [(each, now.counts.get(each.name), last.counts.get(each.name)) for each in now.channels]
    counts.sort(key=lambda each: (-each[0].pending / (each[0].capacity or 100), -each[0].oldest_age, each[0].name))
    rows = [
        (
            f"{state.pending:,}",
            f"{state.capacity:,}" if state.capacity else "-",
            duration(state.oldest_age) if state.pending else "-",
            _change(after and after.sent, before and before.sent, rates.seconds),
            _change(after and after.received, before and before.received, rates.seconds),
            f"{state.waiting:,}",
            state.name,
        )
        for state, after, before in counts[: max(1, lines - _HEADING)]
    ]
    head = f"{prefix}  {time.strftime('%H:%M:%S')}  every {duration(rates.seconds)}  (Ctrl-C ends)"
    body = table(("unread", "capacity", "oldest", "sent", "read", "waiting", "channel"), rows, width)
    return [head[:width], "", _rates(rates)[:width], "", *body]


def _change(after: int | None, before: int | None, seconds: float) -> str:
    return "-" if after is None or before is None or after < before else _rate((after - before) / seconds)
