# SPDX-License-Identifier: BSD-3-Clause
"""The remote half: channels and groups over Redis or Valkey servers, or PostgreSQL databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybrid_layer.remote.redis.layer import RedisChannelLayer, RedisPubSubChannelLayer

if TYPE_CHECKING:
    from hybrid_layer.remote.postgres.layer import PostgresChannelLayer

__all__ = ["PostgresChannelLayer", "RedisChannelLayer", "RedisPubSubChannelLayer"]


def __getattr__(name: str) -> object:
    if name == "PostgresChannelLayer":  # at first use: sites without PostgreSQL need no psycopg
        from hybrid_layer.remote.postgres.layer import PostgresChannelLayer

        return PostgresChannelLayer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
