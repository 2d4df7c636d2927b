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
    except ImportError as error:
        # In an unbuilt checkout the folder of its C files imports, as a package without anything in it.
        if error.name != "hybrid_layer._inbox" or error.path is not None:
            raise  # it is there, and does not load
        from hybrid_layer.interpreted import Inbox, Waiter, WaitQueue, Waker
else:
    from hybrid_layer.interpreted import Inbox, Waiter, WaitQueue, Waker

__all__ = ["Inbox", "WaitQueue", "Waiter", "Waker"]
