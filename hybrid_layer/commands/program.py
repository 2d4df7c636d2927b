# SPDX-License-Identifier: BSD-3-Clause
"""Runs a command: finds its module, and turns errors into a sentence and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from functools import partial
from typing import TextIO

from channels.exceptions import ChannelFull
from django.core.exceptions import ImproperlyConfigured

from hybrid_layer.commands.arguments import COMMANDS, add_arguments
from hybrid_layer.commands.output import Output
from hybrid_layer.commands.target import CannotLook, Target, of_arguments
from hybrid_layer.exceptions import HybridLayerError

GOOD, UNHEALTHY, CANNOT_LOOK = 0, 1, 2
"""The exit codes."""
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m hybrid_layer``. Returns the exit code."""
    parser = ArgumentParser(
        prog="python -m hybrid_layer",
        description="Look at a channel layer without importing its site. manage.py channel_layer knows the site, too.",
    )
    add_arguments(parser, of_site=False)
    arguments = parser.parse_args(argv)
    open_target = partial(of_arguments, arguments.prefix, arguments.hosts, arguments.timeout)
    return run(arguments, open_target, sys.stdout, sys.stderr)


def run(arguments: Namespace, open_target: Callable[[], Target], stdout: TextIO, stderr: TextIO) -> int:
    """Run the command that `arguments` name, on the layer that `open_target` finds. Returns the exit code."""
    output = Output(stdout, arguments.command, arguments.json, getattr(arguments, "no_color", False))
    command = COMMANDS[arguments.command]
    try:
        target = open_target()
        if command.needs_class and not target.knows_class:
            raise CannotLook(
                f"{arguments.command} with --hosts needs the layer's class and options: use manage.py channel_layer "
                f"{arguments.command}."
            )
        module, _, function = command.place.partition(":")
        code: int = getattr(importlib.import_module(f"hybrid_layer.commands.{module}"), function)(
            target, arguments, output
        )
        stdout.flush()
        return code
    except (CannotLook, HybridLayerError, ImproperlyConfigured, ChannelFull, TimeoutError) as error:
        text = str(error) or f"There was no answer within {arguments.timeout:g} s."
        output.refuse(text)
        stderr.write(f"{text}\n")
        return CANNOT_LOOK
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # head has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD
