# SPDX-License-Identifier: BSD-3-Clause
"""E003: two aliases of one prefix that cannot agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from django.core.checks import Error

from hybrid_layer.base import BaseLayer
from hybrid_layer.configuration import ServerOptions
from hybrid_layer.ipc.layer import MemoryOptions

_SIZES = ("message_memory", "group_memory")
_CODEC = ("serializer_format", "symmetric_encryption_keys")


def check(layers: Mapping[str, BaseLayer]) -> Iterator[Any]:
    """Compare each two layers of one prefix."""
    for (one, first), (other, second) in combinations(layers.items(), 2):
        if first.prefix == second.prefix and (names := _differences(first, second)):
            yield Error(
                f"CHANNEL_LAYERS[{one!r}] and [{other!r}] have the prefix {first.prefix!r} in common, but not "
                f"{' and '.join(names)}.",
                hint="Give one of them another prefix, or the same values to both.",
                id="hybrid_layer.E003",
            )


def _differences(first: BaseLayer, second: BaseLayer) -> list[str]:
    one, other = first.options, second.options
    names: list[str] = []
    if isinstance(one, MemoryOptions) and isinstance(other, MemoryOptions):
        names += _SIZES  # of the one segment
        names += _CODEC
        # What a machine knows of its servers is kept by their places in `hosts`.
        names += ["hosts"] if _servers(one) and _servers(other) else []
    if _servers(one) and _servers(one) == _servers(other):
        names += [*_CODEC, "remote"]
    return [name for name in dict.fromkeys(names) if _value(first, name) != _value(second, name)]


def _servers(options: object) -> Any:
    """The servers of a layer, as its settings have them; None if it uses none."""
    if not isinstance(options, ServerOptions):
        return None
    if options.hosts is None:
        return None if isinstance(options, MemoryOptions) else "the default"
    return options.services or "those of hosts", [str(host) for host in options.hosts]


def _value(layer: BaseLayer, name: str) -> Any:
    if name == "hosts":
        return _servers(layer.options)
    if name == "remote":  # a class of its own stands for each value
        return getattr(layer.options, name, None) or getattr(layer, "_mode", None)
    value = getattr(layer.options, name)
    return list(value) if isinstance(value, tuple) else value
