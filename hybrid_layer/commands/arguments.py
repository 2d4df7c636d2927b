# SPDX-License-Identifier: BSD-3-Clause
"""The commands and their arguments, for both entry points."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import NamedTuple

import hybrid_layer
from hybrid_layer.configuration import LayerOptions


class Command(NamedTuple):
    """A command, before its module is imported."""

    help: str
    place: str
    """Module and function, as "health:healthcheck"."""
    add_arguments: Callable[[ArgumentParser], None]
    needs_class: bool = False
    """With servers, it needs the class of the layer, which only the settings of a site tell."""


def add_arguments(parser: ArgumentParser, of_site: bool) -> None:
    """Add all commands to `parser`. `of_site`: for ``manage.py``, which knows the layers of a site."""
    _add_common(parser, of_site)
    parser.set_defaults(json=False, timeout=5.0, layer="default", prefix=LayerOptions.prefix, hosts=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.help, description=f"{command.help[0].upper()}{command.help[1:]}.")
        command.add_arguments(own)
        _add_common(own, of_site)


def _add_common(parser: ArgumentParser, of_site: bool) -> None:
    """The arguments that may stand before and after the command. Without a default here: the second would undo it."""
    add = parser.add_argument
    if of_site:
        add("--layer", metavar="ALIAS", default=SUPPRESS, help="a key of CHANNEL_LAYERS (default)")
    else:
        add("--prefix", metavar="P", default=SUPPRESS, help="the option prefix of the layer (asgi)")
        add(
            "--hosts",
            metavar="URI",
            action="append",
            default=SUPPRESS,
            help="a server; again for each one in its hosts",
        )
        add("--version", action="version", version=hybrid_layer.__version__)
        add("--no-color", action="store_true", default=SUPPRESS, help="no colours, on a terminal either")
    add("--json", action="store_true", default=SUPPRESS, help="print JSON, whose format has a version")
    add("--timeout", type=_seconds, metavar="S", default=SUPPRESS, help="seconds to wait for an answer (5)")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < 1e9:
        raise ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _nothing(parser: ArgumentParser) -> None:
    pass


def _health(parser: ArgumentParser) -> None:
    parser.add_argument("--channel", metavar="NAME", help="ask instead whether this normal channel is being read")
    parser.add_argument(
        "--max-age", type=_seconds, metavar="S", default=30.0, help="seconds that its oldest message may be old (30)"
    )


def _list(*sorts: str) -> Callable[[ArgumentParser], None]:
    def add(parser: ArgumentParser) -> None:
        parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="", help="a glob, such as 'jobs.*'")
        parser.add_argument("--sort", choices=sorts, default=sorts[0])
        parser.add_argument("--limit", type=_number, metavar="N", default=50, help="lines to show (50)")

    return add


def _members(parser: ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP")
    parser.add_argument("--count", action="store_true", help="their number alone")


def _peek(parser: ArgumentParser) -> None:
    parser.add_argument("channel", metavar="CHANNEL", help="a normal channel, or the part of a name up to '!'")
    parser.add_argument("--count", type=_number, metavar="N", default=10, help="messages to show (10)")
    parser.add_argument("--body", action="store_true", help="show what is in them, too")


def _send(parser: ArgumentParser) -> None:
    parser.add_argument("channel", metavar="CHANNEL")
    parser.add_argument("message", metavar="JSON", help="""such as '{"type": "job.run", "job": 1}'""")


def _group_send(parser: ArgumentParser) -> None:
    parser.add_argument("group", metavar="GROUP")
    parser.add_argument("message", metavar="JSON")


def _receive(parser: ArgumentParser) -> None:
    parser.add_argument("channel", metavar="CHANNEL")
    parser.add_argument("--count", type=_number, metavar="N", default=1, help="messages to take (1)")
    parser.add_argument("--yes", action="store_true", help="yes, take them: no worker gets them")


def _no_input(parser: ArgumentParser) -> None:
    parser.add_argument("--noinput", "--no-input", action="store_true", dest="no_input", help="do not ask")


def _clean(parser: ArgumentParser) -> None:
    parser.add_argument("--unread", action="store_true", help="those with unread messages, too")
    _no_input(parser)


def _doctor(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--fail-level", choices=("INFO", "WARNING", "ERROR"), default="WARNING", help="what makes the exit code 1"
    )


def _top(parser: ArgumentParser) -> None:
    parser.add_argument("-i", "--interval", type=_seconds, metavar="S", default=2.0, help="seconds between looks (2)")
    parser.add_argument("--count", type=_number, metavar="N", help="looks, then end")


COMMANDS = {
    "status": Command("memory, servers, counters, processes and channels on one screen", "status:run", _nothing),
    "top": Command("rates and waiting times, live; not on a terminal, a line for each interval", "top:run", _top),
    "doctor": Command("what is wrong, with evidence and remedy", "doctor:run", _doctor),
    "healthcheck": Command("send a message to itself, for probes", "health:healthcheck", _health),
    "channels": Command(
        "normal channels; with a pattern for names with '!', inboxes", "lists:channels", _list("unread", "age", "name")
    ),
    "groups": Command("groups with members on this machine", "lists:groups", _list("members", "name")),
    "processes": Command(
        "processes that use the layer on this machine", "lists:processes", _list("unread", "age", "name")
    ),
    "members": Command("members of a group", "lists:members", _members),
    "peek": Command("unread messages, without taking them", "messages:peek", _peek),
    "send": Command("send a message to a channel", "messages:send", _send, needs_class=True),
    "group-send": Command("send a message to a group", "messages:group_send", _group_send, needs_class=True),
    "receive": Command("take messages off a channel", "messages:receive", _receive, needs_class=True),
    "flush": Command("delete all messages and groups of the prefix", "flush:run", _no_input, needs_class=True),
    "segments": Command("the segments on this machine, of any prefix", "segments:segments", _nothing),
    "clean": Command("remove segments that no process uses", "segments:clean", _clean),
}
