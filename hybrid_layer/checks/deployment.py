# SPDX-License-Identifier: BSD-3-Clause
"""W010 to W014: what is right on a developer's machine, and not where a site is deployed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core.checks import Warning

from hybrid_layer.base import BaseLayer
from hybrid_layer.commands.survey import shm_room
from hybrid_layer.configuration import MIB, LayerOptions, ServerOptions
from hybrid_layer.ipc.layer import MemoryOptions


def check_classes() -> Iterator[Any]:
    """W010, for any alias."""
    for alias, entry in getattr(settings, "CHANNEL_LAYERS", {}).items():
        if entry.get("BACKEND") == "channels.layers.InMemoryChannelLayer":
            yield Warning(
                f"CHANNEL_LAYERS[{alias!r}] is InMemoryChannelLayer: its messages do not leave their process.",
                hint="hybrid_layer.HybridChannelLayer connects the processes of a machine, and needs no server.",
                id="hybrid_layer.W010",
            )


def check_layers(layers: Mapping[str, BaseLayer]) -> Iterator[Any]:
    """The others, for layers of this package."""
    for alias, layer in layers.items():
        where, options = f"CHANNEL_LAYERS[{alias!r}]", layer.options
        if isinstance(options, ServerOptions) and _has_servers(options):
            yield from _default_prefix(where, layer)
            yield from _in_the_clear(where, options)
        if isinstance(options, MemoryOptions):
            yield from _of_another_user(where, layer.prefix)
    yield from _small_shm(layers)


def _has_servers(options: ServerOptions) -> bool:
    return options.hosts is not None or not isinstance(options, MemoryOptions)


def _default_prefix(where: str, layer: BaseLayer) -> Iterator[Any]:
    if layer.prefix == LayerOptions().prefix:
        yield Warning(
            f"{where} has the default prefix {layer.prefix!r}: it shares messages with any other site on its servers.",
            hint='Name the site: "CONFIG": {"prefix": "mysite", ...}.',
            id="hybrid_layer.W011",
        )


def _in_the_clear(where: str, options: ServerOptions) -> Iterator[Any]:
    if options.symmetric_encryption_keys:
        return
    # Imported here, since a site does not load the client library of servers that it does not use.
    from hybrid_layer.remote.options import are_databases

    if are_databases(options):
        from hybrid_layer.remote.postgres.hosts import plain_servers
    else:
        from hybrid_layer.remote.redis.hosts.hosts import plain_servers
    servers = plain_servers(options)
    if servers:
        yield Warning(
            f"{where} sends messages in the clear to {', '.join(servers)}.",
            hint="Use TLS (rediss://..., postgresql://...?sslmode=verify-full), or set symmetric_encryption_keys.",
            id="hybrid_layer.W014",
        )


def _of_another_user(where: str, prefix: str) -> Iterator[Any]:
    from hybrid_layer.ipc.objects import ROOT, digest

    pattern = re.compile(rf"hybrid_layer\.(\d+)\.{digest(prefix)}\.\d+")
    try:
        found = filter(None, map(pattern.fullmatch, os.listdir(ROOT)))
    except OSError:
        return  # the first call of the layer will say so
    for user in sorted({int(each[1]) for each in found} - {os.geteuid()}):
        yield Warning(
            f"{where}: user {user} has a segment of the prefix {prefix!r}, too, and this process is user "
            f"{os.geteuid()}. Processes of different users do not see each other's messages.",
            hint="Run all processes of the site as one user, or give the other site another prefix.",
            id="hybrid_layer.W013",
        )


def _small_shm(layers: Mapping[str, BaseLayer]) -> Iterator[Any]:
    wanted = {
        layer.prefix: layer.options.message_memory + layer.options.group_memory
        for layer in layers.values()
        if isinstance(layer.options, MemoryOptions)
    }
    room, total = shm_room() if wanted else None, sum(wanted.values())
    if room is not None and room[0] < total:
        yield Warning(
            f"/dev/shm has {room[0] // MIB} MiB, and the layers may take {total // MIB} MiB (message_memory and "
            f"group_memory). When it is full, send raises ChannelFull.",
            hint="Make it larger (docker run --shm-size, shm_size in Compose, an emptyDir with medium: Memory in "
            "Kubernetes), or lower the two options.",
            id="hybrid_layer.W012",
        )
