"""The remote half: channels and groups over Redis or Valkey servers."""

from hybrid_layer.remote.layer import RedisChannelLayer

__all__ = ["RedisChannelLayer"]
