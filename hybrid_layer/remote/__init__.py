# SPDX-License-Identifier: BSD-3-Clause
"""The remote half: channels and groups over Redis or Valkey servers."""

from hybrid_layer.remote.redis.layer import RedisChannelLayer, RedisPubSubChannelLayer

__all__ = ["RedisChannelLayer", "RedisPubSubChannelLayer"]
