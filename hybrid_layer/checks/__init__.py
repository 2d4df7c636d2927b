# SPDX-License-Identifier: BSD-3-Clause
"""System checks of ``CHANNEL_LAYERS``. None of them opens a connection, or touches a segment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hybrid_layer.checks import agreement, deployment, patterns
from hybrid_layer.checks.configured import configured

TAG = "channel_layers"
"""``manage.py check --tag channel_layers``."""


def check_layers(app_configs: Any, **kwargs: Any) -> list[Any]:
    """Errors and warnings of any site: E001 to E003, W001 to W003. Called by Django."""
    return list(_check_layers())


def check_deployment(app_configs: Any, **kwargs: Any) -> list[Any]:
    """Warnings for ``manage.py check --deploy``: W010 to W014. Called by Django."""
    found = configured()
    return [*deployment.check_classes(), *deployment.check_layers(found.layers)]


def _check_layers() -> Iterator[Any]:
    found = configured()
    yield from found.errors
    yield from found.warnings
    yield from agreement.check(found.layers)
    for alias, layer in found.layers.items():
        yield from patterns.check(alias, layer.options)
