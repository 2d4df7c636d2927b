"""The figures of a run."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.arena import Doing


@dataclass
class Report:
    rebuilds: int = 0
    sent: int = 0
    received: int = 0
    ground: int = 0
    """Messages that grinders sent."""
    refused: int = 0
    expired: int = 0
    in_flight: int = 0
    """Sends that were cut short by death."""
    lost: Counter[str] = field(default_factory=Counter)
    """Messages that were sent and never read, by where the dead held them."""
    pauses: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The longest of each operation: all of it, and without the time in which there was no processor for it."""
    late: float = 0.0
    """By how much this process, which only sleeps and kills, has slept too long at most."""
    kills: Counter[str] = field(default_factory=Counter)
    kills_of: Counter[str] = field(default_factory=Counter)

    def killed(self, role: str, doing: Doing) -> None:
        self.kills[doing.name.lower().replace("_", " ")] += 1
        self.kills_of[role] += 1

    def sleep(self, seconds: float) -> None:
        """Sleep, as a measure of how long a process that is ready waits for a processor."""
        until = time.monotonic() + seconds
        time.sleep(seconds)  # measures by how much it is longer
        self.late = max(self.late, time.monotonic() - until)

    def pause(self, operation: str, whole: float, net: float) -> None:
        longest = self.pauses.get(operation, (0.0, 0.0))
        self.pauses[operation] = max(longest[0], whole), max(longest[1], net)

    def lines(self) -> list[str]:
        """A table for people."""
        rows = [("kills", f"{self.kills.total()}")]
        rows += [(f"  of a {role}", f"{n}") for role, n in self.kills_of.most_common()]
        rows += [(f"  while {doing}", f"{n}") for doing, n in self.kills.most_common()]
        rows += [
            ("deaths inside the lock (rebuilds)", f"{self.rebuilds}"),
            ("messages sent", f"{self.sent + self.ground} ({self.ground} by grinders)"),
            ("received by others than grinders", f"{self.received}"),
            ("refused: channel full", f"{self.refused}"),
            ("expired unread", f"{self.expired}"),
            ("sends cut short by death", f"{self.in_flight}"),
        ]
        rows += [(f"lost {where}", f"{n}") for where, n in sorted(self.lost.items())]
        rows += [
            (f"longest {operation}", f"{net * 1000:.1f} ms ({whole * 1000:.1f} ms with waits for a processor)")
            for operation, (whole, net) in sorted(self.pauses.items())
        ]
        rows.append(("this process slept too long by", f"{self.late * 1000:.1f} ms"))
        width = max(len(name) for name, _ in rows)
        return [f"{name:{width}}  {value}" for name, value in rows]
