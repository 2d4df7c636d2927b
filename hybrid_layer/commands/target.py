# SPDX-License-Identifier: BSD-3-Clause
"""Which layer a command is about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import fields
from functools import cached_property
from re import Pattern
from typing import TYPE_CHECKING, Any, TypeVar

from hybrid_layer.base import BaseLayer
from hybrid_layer.configuration import LayerOptions, ServerOptions
from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.ipc.layer import IPCChannelLayer, MemoryOptions, check_local_half
from hybrid_layer.layer import HybridOptions

if TYPE_CHECKING:
    from hybrid_layer.ipc.observer import Observer

T = TypeVar("T")


class CannotLook(Exception):
    """The command cannot do what was asked. Its text is the one sentence that is printed."""


class Target:
    """The layer that a command looks at, by its options. It is built only for commands that send, receive or flush."""

    def __init__(
        self, prefix: str, options: LayerOptions, timeout: float, build: Callable[[], BaseLayer], knows_class: bool
    ) -> None:
        self.prefix = prefix
        self.options = options
        self.timeout = timeout
        """Seconds to wait for an answer."""
        self._build = build
        self.knows_class = knows_class
        """Whether the layer's class is known, and not only its prefix and servers."""

    @cached_property
    def layer(self) -> BaseLayer:
        """The layer, built at first use. Nothing that others have left is removed when it attaches."""
        if self.memory is not None:
            from hybrid_layer.ipc import attachments

            attachments.has_swept = True
        return self._build()

    def layer_on_servers(self) -> BaseLayer | None:
        """Its half over servers as a layer of its own, which takes no place in shared memory and waits as long as the
        command. None: there is no such half, or only servers are known."""
        if self.servers is None or not self.knows_class:
            return None
        from hybrid_layer.remote import RedisPubSubChannelLayer
        from hybrid_layer.remote.options import PostgresOptions

        if isinstance(self.options, (HybridOptions, PostgresOptions)):
            mode = self.options.remote
        else:
            mode = "pubsub" if isinstance(self.layer, RedisPubSubChannelLayer) else "queue"
        return remote_layer(self.servers, mode, timeout=self.timeout)

    @property
    def memory(self) -> MemoryOptions | None:
        """The options of its half in shared memory, if it has any."""
        return self.options if isinstance(self.options, MemoryOptions) else None

    @property
    def servers(self) -> ServerOptions | None:
        """The options of its half over servers, if it has any."""
        if not isinstance(self.options, ServerOptions):
            return None
        return self.options if self.options.hosts is not None or self.memory is None else None

    def observer(self) -> Observer:
        """A look at its segment. Raises `SegmentNotFound`, or `CannotLook` if it has none by its class."""
        if self.memory is None:
            raise CannotLook("This layer has no half in shared memory, which is what this command looks at.")
        check_local_half()
        from hybrid_layer.ipc.observer import Observer

        return Observer(self.prefix)


def of_arguments(prefix: str, hosts: Sequence[str] | None, timeout: float) -> Target:
    """What ``python -m hybrid_layer`` looks at."""
    options: ServerOptions = HybridOptions(prefix=prefix, hosts=hosts, timeout=timeout)
    try:
        check_local_half()
    except ConfigurationError:
        if hosts is None:
            raise
        options = ServerOptions(prefix=prefix, hosts=hosts, timeout=timeout)  # on Windows there is nothing else
    return Target(prefix, options, timeout, lambda: local_layer(prefix), knows_class=hosts is None)


def of_site(alias: str, timeout: float) -> Target:
    """What ``manage.py channel_layer`` looks at: a layer in ``CHANNEL_LAYERS``."""
    from channels.exceptions import InvalidChannelLayerError
    from channels.layers import channel_layers

    if alias not in channel_layers:
        known = ", ".join(channel_layers.configs) or "none"
        raise CannotLook(f"CHANNEL_LAYERS has no alias {alias!r}; it has {known}.")
    try:
        layer = channel_layers[alias]
    except InvalidChannelLayerError as error:
        raise CannotLook(f"{error}.") from None
    if not isinstance(layer, BaseLayer):
        raise CannotLook(f"CHANNEL_LAYERS[{alias!r}] is a {type(layer).__name__}, which is not of hybrid_layer.")
    return of_layer(layer, timeout)


def of_layer(layer: BaseLayer, timeout: float) -> Target:
    """A layer that this process has."""
    return Target(layer.prefix, layer.options, timeout, lambda: layer, knows_class=True)


async def closing(layer: BaseLayer, work: Coroutine[Any, Any, T], seconds: float) -> T:
    """The result of `work`, which has so many seconds. Then `layer` is closed."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    finally:
        await layer.close()


def local_layer(prefix: str, **options: Any) -> IPCChannelLayer:
    """A layer on the segment of `prefix`, of its size, with the capacities that the site's processes have used.

    Raises `SegmentNotFound`: no tool makes a segment.
    """
    from hybrid_layer.ipc.observer import Observer

    with Observer(prefix) as observer:
        messages, groups = observer.areas()
        capacities: dict[str | Pattern[str], int] = {
            name: each.capacity for name, each in observer.channel_counts().items() if each.capacity
        }
    return IPCChannelLayer(
        prefix=prefix,
        message_memory=messages.limit,
        group_memory=groups.limit,
        channel_capacity=capacities,
        **options,
    )


def remote_layer(servers: ServerOptions, mode: str = "queue", **others: Any) -> BaseLayer:
    """A layer on the servers alone, by queues or pub/sub, with `others` in place of some options."""
    from hybrid_layer import remote
    from hybrid_layer.remote.options import are_databases

    given = {each.name: getattr(servers, each.name) for each in fields(ServerOptions)}
    given |= others
    try:
        if are_databases(servers):
            return remote.PostgresChannelLayer(**given, remote=mode)
        return (remote.RedisPubSubChannelLayer if mode == "pubsub" else remote.RedisChannelLayer)(**given)
    except ConfigurationError as error:
        raise CannotLook(str(error)) from None
