# SPDX-License-Identifier: BSD-3-Clause
"""``flush``."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from typing import Any

from hybrid_layer.commands.output import Output, plural
from hybrid_layer.commands.questions import ask
from hybrid_layer.commands.target import Target, closing
from hybrid_layer.exceptions import SegmentNotFound


def run(target: Target, arguments: Namespace, output: Output) -> int:
    """0: all is deleted; 2: the person, or nobody, said no."""
    facts: dict[str, Any] = {"prefix": target.prefix}
    lines = [f"Prefix {target.prefix!r}:"]
    if target.memory is not None:
        try:
            with target.observer() as observer:
                facts["processes"] = sum(process.is_alive for process in observer.processes())
                facts["unread"] = sum(channel.pending for channel in observer.channels())
                facts["groups"] = len(observer.groups())
            lines.append(
                f"  on this machine {plural(facts['processes'], 'process')}, {facts['unread']:,} unread, "
                f"{plural(facts['groups'], 'group')}"
            )
        except SegmentNotFound as error:
            if target.servers is None:
                raise
            lines.append(f"  {error}")
    if target.servers is not None:
        lines.append(f"  and all that is on its servers: {plural(len(target.servers.hosts or ['']), 'host')}")
    ask("flush", [*lines, "All messages and groups are deleted. No process has to be restarted."], arguments, output)

    asyncio.run(closing(target.layer, target.layer.flush(), max(target.timeout, 1)))
    output.show({**facts, "flushed": True}, ["Deleted."])
    return 0
