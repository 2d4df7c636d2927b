# SPDX-License-Identifier: BSD-3-Clause
"""The layers of this package in ``CHANNEL_LAYERS``, built; and why some cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from channels.layers import channel_layers
from django.conf import settings
from django.core.checks import Error, Warning
from django.utils.module_loading import import_string

from hybrid_layer.base import BaseLayer
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.interruption import is_foreign
from hybrid_layer.ipc.layer import IPCChannelLayer, check_local_half
from hybrid_layer.layer import HybridChannelLayer


@dataclass
class Configured:
    """What ``CHANNEL_LAYERS`` says of layers of this package."""

    layers: dict[str, BaseLayer] = field(default_factory=dict)
    """By alias: those that can be built."""
    errors: list[Any] = field(default_factory=list)
    warnings: list[Any] = field(default_factory=list)


def configured() -> Configured:
    """Build each layer of this package, which connects to nothing. Layers of other packages are passed over."""
    found = Configured()
    layers = getattr(settings, "CHANNEL_LAYERS", {})
    for alias, entry in layers.items():
        name = str(entry.get("BACKEND", ""))
        backend = _imported(name)
        if not (_is_ours(backend) or name.startswith("hybrid_layer.")):
            continue
        if "TEST_CONFIG" in entry:
            found.warnings.append(_unused_test_config(alias))
        if (complaint := _lacks_local_half(backend)) is not None:
            found.errors.append(_error("E002", alias, complaint))
            continue
        try:
            found.layers[alias] = channel_layers.make_backend(alias)
        except Exception as error:  # of a user's subclass, too: whatever it is, it is the answer
            if is_foreign(error):
                raise
            found.errors.append(_error("E001", alias, f"{type(error).__name__}: {error}"))
    return found


def _imported(name: str) -> Any:
    try:
        return import_string(name)
    except ImportError:
        return None


def _is_ours(backend: Any) -> bool:
    return isinstance(backend, type) and issubclass(backend, BaseLayer)


def _lacks_local_half(backend: Any) -> str | None:
    """Why a layer with shared memory does not work here; None if it does, or needs none."""
    if not (_is_ours(backend) and issubclass(backend, (HybridChannelLayer, IPCChannelLayer))):
        return None
    try:
        check_local_half()
    except ConfigurationError as error:
        return str(error)
    return None


def _error(id: str, alias: str, complaint: str) -> Any:
    return Error(f"CHANNEL_LAYERS[{alias!r}] cannot be built: {complaint}", id=f"hybrid_layer.{id}")


def _unused_test_config(alias: str) -> Any:
    return Warning(
        f"CHANNEL_LAYERS[{alias!r}] has a TEST_CONFIG, which Channels ignores: tests share the prefix of the site.",
        hint="In the settings of tests: CHANNEL_LAYERS = hybrid_layer.testing.layers_for_tests(CHANNEL_LAYERS).",
        id="hybrid_layer.W001",
    )
