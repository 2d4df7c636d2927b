# SPDX-License-Identifier: BSD-3-Clause
"""The twin of the extension `_inbox`, in Python: for where that is not built, and for readers.

Both do the same, and the same tests run on both.
"""

from hybrid_layer.interpreted.inbox import Inbox
from hybrid_layer.interpreted.waiters import Waiter, WaitQueue, Waker

__all__ = ["Inbox", "WaitQueue", "Waiter", "Waker"]
