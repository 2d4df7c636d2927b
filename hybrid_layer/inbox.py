# SPDX-License-Identifier: BSD-3-Clause
"""The inbox: messages of a process's own channels, and the coroutines that wait for them.

The extension `_inbox` is written in C, since it runs for each member that a group's message reaches. Its twin in
Python, the package `interpreted`, documents it. The twin is used where the extension is not built, and with
HYBRID_LAYER_INTERPRETED=1 in the environment, such as for a debugger.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if not TYPE_CHECKING and os.environ.get("HYBRID_LAYER_INTERPRETED", "0") in ("", "0"):
    try:
        from hybrid_layer._inbox import Inbox, Waiter, WaitQueue, Waker
    except ImportError as error:
        # In an unbuilt checkout, the folder of the C files is imported as an empty package.
        if error.name != "hybrid_layer._inbox" or error.path is not None:
            raise  # it is built, and does not load
        from hybrid_layer.interpreted import Inbox, Waiter, WaitQueue, Waker
else:
    from hybrid_layer.interpreted import Inbox, Waiter, WaitQueue, Waker

__all__ = ["Inbox", "WaitQueue", "Waiter", "Waker"]
