"""The messages of one process's own channels, and the coroutines that wait for them: which code does that.

The extension `_inbox`, written in C, runs for each member that a group's message reaches. Where it is not built, and
with HYBRID_LAYER_INTERPRETED=1 in the environment, say for a debugger, its twin in Python serves, the package
`interpreted`, which also says how it all works.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if not TYPE_CHECKING and os.environ.get("HYBRID_LAYER_INTERPRETED", "0") in ("", "0"):
    try:
        from hybrid_layer._inbox import Inbox, Waiter, WaitQueue, Waker
    except ModuleNotFoundError:
        from hybrid_layer.interpreted import Inbox, Waiter, WaitQueue, Waker
else:
    from hybrid_layer.interpreted import Inbox, Waiter, WaitQueue, Waker

__all__ = ["Inbox", "WaitQueue", "Waiter", "Waker"]
