"""A channel layer for Django Channels: shared memory on one machine, sharded Redis or Valkey between machines."""

__version__ = "0.1.0"

from hybrid_layer.layer import HybridChannelLayer

__all__ = ["HybridChannelLayer"]
