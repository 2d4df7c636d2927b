# SPDX-License-Identifier: BSD-3-Clause
"""The app `hybrid_layer.postgres`, for INSTALLED_APPS. It has no models."""

from __future__ import annotations

from django.apps import AppConfig


class PostgresConfig(AppConfig):  # type: ignore[misc]
    """Its migrations make the schema of the layer."""

    name = "hybrid_layer.postgres"
    label = "hybrid_layer_postgres"
    verbose_name = "hybrid_layer's schema in PostgreSQL"
