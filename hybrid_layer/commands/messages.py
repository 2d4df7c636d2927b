# SPDX-License-Identifier: BSD-3-Clause
"""``send``, ``group-send``, ``receive`` and ``peek``."""

from __future__ import annotations

import asyncio
import json
from argparse import Namespace
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from hybrid_layer.commands.output import Output, cut, duration, size
from hybrid_layer.commands.target import CannotLook, Target, closing
from hybrid_layer.exceptions import Undecodable
from hybrid_layer.names import check_channel
from hybrid_layer.serializers import Codec

if TYPE_CHECKING:
    from hybrid_layer.ipc.observer import Message


def send(target: Target, arguments: Namespace, output: Output) -> int:
    """0: the message was stored."""
    message = _message(arguments.message)
    _run(target, target.layer.send(arguments.channel, message))
    output.show({"channel": arguments.channel, "sent": True}, [f"Sent to {arguments.channel}."])
    return 0


def group_send(target: Target, arguments: Namespace, output: Output) -> int:
    """0: the message was given to the group's members, if there are any."""
    message = _message(arguments.message)
    _run(target, target.layer.group_send(arguments.group, message))
    output.show({"group": arguments.group, "sent": True}, [f"Sent to group {arguments.group}."])
    return 0


def receive(target: Target, arguments: Namespace, output: Output) -> int:
    """0: as many messages as asked for; 1: fewer came in time. Those that came are printed."""
    if not arguments.yes:
        raise CannotLook("receive takes messages away from their readers: add --yes. peek looks without taking them.")
    check_channel(arguments.channel)
    messages: list[dict[str, Any]] = []

    async def take() -> None:
        try:
            async with asyncio.timeout(target.timeout):
                while len(messages) < arguments.count:
                    messages.append(await target.layer.receive(arguments.channel))
        except TimeoutError:
            pass  # its exit code says so

    try:
        _run(target, take())
    except BaseException:
        if messages:  # nobody else has them any more
            _show(messages, arguments, output)
        raise
    _show(messages, arguments, output)
    return 0 if len(messages) == arguments.count else 1


def _show(messages: list[dict[str, Any]], arguments: Namespace, output: Output) -> None:
    output.show({"channel": arguments.channel, "messages": messages}, map(_json, messages))


def _run(target: Target, work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(closing(target.layer, work, 2 * target.timeout))  # what `work` awaits has a time limit of its own


def _message(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except ValueError as error:
        raise CannotLook(f"The message is not valid JSON: {error}.") from None
    if not isinstance(message, dict):
        raise CannotLook("""The message must be a JSON object, such as '{"type": "job.run"}'.""")
    return message


def _json(message: object) -> str:
    return json.dumps(message, default=lambda value: repr(value))


def peek(target: Target, arguments: Namespace, output: Output) -> int:
    """Always 0: no message is an answer, too."""
    check_channel(arguments.channel)
    with target.observer() as observer:
        found = observer.peek(arguments.channel, arguments.count, body=arguments.body)
    codec = Codec(target.options)
    shown = [{**_facts(message), **({"body": _body(codec, message)} if arguments.body else {})} for message in found]
    output.show({"channel": arguments.channel, "messages": shown}, _lines(shown) if shown else ["No unread message."])
    return 0


def _facts(message: Message) -> dict[str, Any]:
    return {key: value for key, value in message._asdict().items() if key != "payload"}


def _lines(shown: list[dict[str, Any]]) -> list[str]:
    lines = []
    for each in shown:
        group = "  to a group" if each["is_to_group"] else ""
        line = f"{each['channel']}  {size(each['size'])}  {duration(each['age'])} old  expires in "
        lines.append(cut(f"{line}{duration(each['left'])}{group}"))
        if "body" in each:
            lines.append(f"    {_json(each['body'])}")
    return lines


def _body(codec: Codec, message: Message) -> Any:
    try:
        return codec.decode(message.payload or b"", message.channel)
    except Undecodable as error:
        return f"cannot be read: {error}"
