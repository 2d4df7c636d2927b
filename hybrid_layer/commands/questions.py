# SPDX-License-Identifier: BSD-3-Clause
"""The question before something is deleted."""

from __future__ import annotations

import sys
from argparse import Namespace

from hybrid_layer.commands.output import Output
from hybrid_layer.commands.target import CannotLook


def ask(command: str, lines: list[str], arguments: Namespace, output: Output) -> None:
    """Show `lines` and ask. Raises `CannotLook` unless the answer is yes, or nobody is to be asked."""
    if not output.as_json:
        output.write("\n".join(lines) + "\n")
    if arguments.no_input:
        return
    if output.as_json or not sys.stdin.isatty():
        raise CannotLook(f"{command} asks first, and nobody is here to answer: add --noinput. Nothing was changed.")
    output.write("Type yes to go on:\n")
    if sys.stdin.readline().strip().lower() != "yes":
        raise CannotLook("Nothing was changed.")
