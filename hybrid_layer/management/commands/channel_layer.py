# SPDX-License-Identifier: BSD-3-Clause
"""``manage.py channel_layer``: the commands of `hybrid_layer.commands` for a layer in ``CHANNEL_LAYERS``."""

from __future__ import annotations

import sys
from argparse import Namespace
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand

from hybrid_layer.commands.arguments import add_arguments
from hybrid_layer.commands.program import run
from hybrid_layer.commands.target import of_site


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types
    """Ends the process with the exit code of the command, if that is not 0."""

    help = "Look at a channel layer, send and receive, and clean up."
    requires_system_checks: list[str] = []  # noqa: RUF012  # Django's

    def add_arguments(self, parser: Any) -> None:
        """Called by Django."""
        add_arguments(parser, of_site=True)

    def handle(self, *args: Any, **options: Any) -> None:
        """Called by Django."""
        arguments = Namespace(**options)
        code = run(arguments, partial(of_site, arguments.layer, arguments.timeout), self.stdout, self.stderr)
        if code:
            sys.exit(code)
