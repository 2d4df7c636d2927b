# SPDX-License-Identifier: BSD-3-Clause
"""The machine-local half: a shared segment, its C core, doorbells, and a channel layer of its own."""

from hybrid_layer.ipc.layer import IPCChannelLayer

__all__ = ["IPCChannelLayer"]
