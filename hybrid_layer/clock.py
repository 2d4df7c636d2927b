"""The one clock of this package: seconds that only grow, whatever a test does to the `time` module.

freezegun replaces `time.monotonic` wherever it finds that function as an attribute of a module, and a frozen clock
here would drop messages that the C core and the servers, whose clocks go on, still hold. So the real clock is asked
through an object that no such search finds. Every deadline in memory is on this clock; the C core reads the same one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

monotonic: Callable[[], float]
"""Seconds since some moment before this process began. The machine's processes share that moment."""

if hasattr(time, "clock_gettime"):
    monotonic = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
else:  # Windows
    monotonic = partial(time.monotonic)
