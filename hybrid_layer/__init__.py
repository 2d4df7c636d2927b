# SPDX-License-Identifier: BSD-3-Clause
"""A channel layer for Django Channels: shared memory on one machine, sharded Redis or Valkey between machines."""

import sys

__version__ = "0.9.0"

if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError(
        "hybrid_layer needs Python's global interpreter lock, and this free-threaded Python runs without it. Start it "
        "with PYTHON_GIL=1 in the environment (or -X gil=1), or use the usual build of Python."
    )

from hybrid_layer.layer import HybridChannelLayer

__all__ = ["HybridChannelLayer"]
