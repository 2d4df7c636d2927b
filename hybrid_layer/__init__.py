# SPDX-License-Identifier: BSD-3-Clause
"""A channel layer for Django Channels: shared memory on one machine, servers between machines.

The servers are sharded Redis or Valkey, or PostgreSQL databases.
"""

import sys

__version__ = "0.9.0"

if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError(
        "hybrid_layer needs Python's global interpreter lock, and this free-threaded Python runs without it. Start it "
        "with PYTHON_GIL=1 in the environment (or -X gil=1), or use the usual build of Python."
    )

__all__ = ["HybridChannelLayer"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hybrid_layer.layer import HybridChannelLayer
else:

    def __getattr__(name: str) -> type:
        """Import the class at its first use: a site with another one, and a probe, do not load it."""
        if name != "HybridChannelLayer":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from hybrid_layer.layer import HybridChannelLayer

        globals()[name] = HybridChannelLayer
        return HybridChannelLayer

    def __dir__() -> list[str]:
        """With the class, for `help` and completion."""
        return sorted({*globals(), *__all__})
