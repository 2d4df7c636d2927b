# SPDX-License-Identifier: BSD-3-Clause
"""``healthcheck``: whether messages travel, or whether a channel is being read."""

from __future__ import annotations

import asyncio
import secrets
from argparse import Namespace
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from channels.exceptions import ChannelFull

from hybrid_layer.base import BaseLayer
from hybrid_layer.clock import monotonic
from hybrid_layer.commands.output import Output, duration, wrapped
from hybrid_layer.commands.target import CannotLook, Target, local_layer, remote_layer
from hybrid_layer.configuration import ServerOptions
from hybrid_layer.exceptions import HybridLayerError, SegmentNotFound
from hybrid_layer.ipc.layer import IPCChannelLayer

_LEAST_MEMORY = 64 * 1024


@dataclass
class Check:
    """One thing that was tried."""

    what: str
    good: bool
    seconds: float | None
    detail: str = ""


def healthcheck(target: Target, arguments: Namespace, output: Output) -> int:
    """0: all is well; 1: something is not."""
    if arguments.channel is not None:
        checks = [_is_read(target, arguments.channel, arguments.max_age)]
    else:
        checks = asyncio.run(_round_trips(target))
    healthy = all(check.good for check in checks)
    lines = (line for check in checks for line in wrapped(_line(check)))
    output.show({"healthy": healthy, "checks": checks}, lines)
    return 0 if healthy else 1


def _line(check: Check) -> str:
    took = "" if check.seconds is None else f"  {duration(check.seconds)}"
    return f"{check.what}: {'good' if check.good else 'BAD'}{took}{f'  {check.detail}' if check.detail else ''}"


async def _round_trips(target: Target) -> list[Check]:
    """A message to this process and back, through each half that the layer has."""
    halves: list[Awaitable[Check]] = []
    if target.memory is not None:
        halves.append(_through_memory(target))
    if (servers := target.servers) is not None:
        halves.append(_through_servers(target, servers))
    return list(await asyncio.gather(*halves))


async def _tried(what: str, timeout: float, attempt: Callable[[], Awaitable[str]]) -> Check:
    began = monotonic()
    try:
        async with asyncio.timeout(timeout):
            detail = await attempt()
    except TimeoutError:
        return Check(what, False, None, f"no message came back within {timeout:g} s")
    except (HybridLayerError, ChannelFull) as error:
        return Check(what, False, None, str(error))
    return Check(what, True, monotonic() - began, detail)


async def _through_memory(target: Target) -> Check:
    detail = ""
    try:
        layer = local_layer(target.prefix, expiry=target.timeout)
    except SegmentNotFound as error:
        if _is_elsewhere(target.prefix):
            raise CannotLook(str(error)) from None
        # A site that has just started has none until its first message, and a tool makes none for it.
        other = f"healthcheck-{secrets.token_hex(8)}"
        layer = IPCChannelLayer(prefix=other, message_memory=_LEAST_MEMORY, group_memory=_LEAST_MEMORY)
        detail = f"(no process uses prefix {target.prefix!r} yet; through a segment for this message alone)"
    except HybridLayerError as error:
        return Check("shared memory", False, None, str(error))

    async def attempt() -> str:
        await _there_and_back(layer, await layer.new_channel("healthcheck"))
        return detail

    return await _tried("shared memory", target.timeout, attempt)


def _is_elsewhere(prefix: str) -> bool:
    """Whether another user or another release has a segment of this prefix: the probe runs in the wrong place."""
    from hybrid_layer.ipc.inventory import segments
    from hybrid_layer.ipc.objects import digest

    return any(each.digest == digest(prefix) for each in segments())


async def _through_servers(target: Target, servers: ServerOptions) -> Check:
    """Through a queue on each server. What a failure leaves there expires."""
    from hybrid_layer.commands.servers import names_on_each

    layer = remote_layer(servers, expiry=max(1.0, target.timeout), timeout=target.timeout)
    names = names_on_each(servers, f"healthcheck.{secrets.token_hex(8)}")

    async def attempt() -> str:
        await asyncio.gather(*(_there_and_back(layer, name) for name in names))
        return ""

    try:
        return await _tried("servers", target.timeout, attempt)
    finally:
        await layer.close()


async def _there_and_back(layer: BaseLayer, channel: str) -> None:
    await layer.send(channel, {"type": "healthcheck"})
    await layer.receive(channel)


def _is_read(target: Target, channel: str, max_age: float) -> Check:
    """From shared memory alone: neither the worker nor this process does anything for it."""
    with target.observer() as observer:
        found = next((each for each in observer.channels() if each.name == channel), None)
        counted = observer.channel_counts().get(channel)
    what = f"channel {channel}"
    if found is not None and found.pending and found.oldest_age > max_age:
        never = "" if found.was_read else ", and no process has read it"
        return Check(what, False, None, f"its oldest message is {duration(found.oldest_age)} old{never}")
    if found is not None and (found.waiting or found.was_read):
        return Check(what, True, None, f"{found.pending} unread")
    if counted is not None and counted.received:
        return Check(what, True, None, "0 unread")
    if found is not None and found.pending:
        return Check(what, True, None, f"{found.pending} unread, not read yet")
    return Check(what, False, None, "no process waits for its messages, or has ever read any")
