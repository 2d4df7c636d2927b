# SPDX-License-Identifier: BSD-3-Clause
"""The Lua scripts that the servers run, one file each. Their headers describe KEYS, ARGV and the reply.

A line ``-- include: a b`` stands for the files ``include/a.lua`` and ``include/b.lua``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeGuard

from hybrid_layer.remote.redis.server.replies import are_texts, is_number, is_text, is_time
from hybrid_layer.remote.redis.wire.stream import read_position
from hybrid_layer.remote.runtime.calls import Shape

_REGISTRATION, _RUN_ID = re.compile(rb"[0-9]{1,20}"), re.compile(rb"[0-9a-f]{0,16}")
_NUMBER, _NUMBER_OR_NONE = re.compile(rb"-?[0-9]{1,20}"), re.compile(rb"[0-9]{0,20}")
_INCLUDE = re.compile(r"^-- include:(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script and what EVALSHA needs to run it."""

    name: str
    source: str
    sha: str
    shape: Shape
    """Says whether a reply is as the header describes."""

    def command(self, keys: list[str], *args: str | bytes | int) -> tuple[str | bytes | int, ...]:
        """The EVALSHA command that runs this script."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


def _load(name: str, shape: Shape = is_number) -> Script:
    folder = resources.files(__name__)
    text = folder.joinpath(f"{name}.lua").read_text("utf-8")
    found = _INCLUDE.search(text)
    if found is None:
        raise ValueError(f"{name}.lua lacks its include line")
    parts = [folder.joinpath("include", f"{part}.lua").read_text("utf-8") for part in found[1].split()]
    source = "\n".join([text[: found.start()], *parts, text[found.end() :]])
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(), shape)


def _is_record(reply: object, *kinds: type) -> TypeGuard[list[Any]]:
    return isinstance(reply, list) and len(reply) == len(kinds) and all(map(isinstance, reply, kinds))


def _is_sent(reply: object) -> bool:
    kinds = (int, int, bytes, int)
    return (_is_record(reply, *kinds) or _is_record(reply, *kinds, int)) and 0 <= reply[0] <= 2


def _is_published(reply: object) -> bool:
    return _is_record(reply, int, bytes, bytes, bytes) and is_time(reply[2:])


def _is_renewal(reply: object) -> bool:
    return isinstance(reply, list) and _is_published(reply[:4]) and are_texts(reply[4:])


def _are_counters(reply: object) -> bool:
    return are_texts(reply) and len(reply) % 2 == 0 and all(map(_NUMBER.fullmatch, reply[1::2]))


def _is_queue_state(reply: object) -> bool:
    return _is_record(reply, int, int, bytes, bytes) and all(map(_NUMBER_OR_NONE.fullmatch, reply[2:]))


def _is_group_sent(reply: object) -> bool:
    if isinstance(reply, list) and reply[:1] == [-1]:
        return are_texts(reply[1:])
    return _is_record(reply, int, int, int, int, bytes, int) or (
        _is_record(reply, int, int, int, int, bytes, int, list) and are_texts(reply[6])
    )


def _is_group_published(reply: object) -> bool:
    return is_number(reply) or _is_group_sent(reply)


def _is_added(reply: object) -> bool:
    return _is_record(reply, int, bytes)


def _is_registration(reply: object) -> bool:
    return _is_record(reply, int, bytes, int)


def _is_machine_renewal(reply: object) -> bool:
    return (
        _is_record(reply, bytes, bytes, bytes, bytes, bytes, bytes)
        and _REGISTRATION.fullmatch(reply[0]) is not None
        and _RUN_ID.fullmatch(reply[1]) is not None
        and read_position(reply[2]) is not None
        and is_time(reply[4:])
    )


SEND = _load("send", _is_sent)
PUT_BACK = _load("put_back")
GROUP_ADD = _load("group_add", _is_added)
GROUP_DISCARD = _load("group_discard")
GROUP_SEND = _load("group_send", _is_group_sent)
GROUP_SEND_MULTIPLE = _load("group_send_multiple", _is_group_sent)
GROUP_CHANNELS = _load("group_channels", are_texts)
PUBLISH = _load("publish", _is_published)
GROUP_PUBLISH = _load("group_publish", _is_group_published)
RENEW = _load("renew", _is_renewal)
FLUSH = _load("flush", is_text)
NOTE = _load("note")
WAKE = _load("wake")
REGISTER = _load("register", _is_registration)
FORGET = _load("forget")
MACHINE_ADD = _load("machine_add", _is_added)
MACHINE_NOTE = _load("machine_note")
RENEW_MACHINE = _load("renew_machine", _is_machine_renewal)
EMPTY_STREAMS = _load("empty_streams")
COUNTERS = _load("counters", _are_counters)
QUEUE_STATE = _load("queue_state", _is_queue_state)

ALL = (
    *(SEND, PUT_BACK, GROUP_ADD, GROUP_DISCARD, GROUP_SEND, PUBLISH, GROUP_PUBLISH, RENEW, FLUSH, NOTE, WAKE),
    *(GROUP_SEND_MULTIPLE, GROUP_CHANNELS, REGISTER, FORGET, MACHINE_ADD, MACHINE_NOTE, RENEW_MACHINE, EMPTY_STREAMS),
    *(COUNTERS, QUEUE_STATE),
)
BY_SHA = {script.sha: script for script in ALL}


def name_of(command: tuple[str | bytes | int, ...]) -> str:
    """The name of `command` in error texts."""
    return f"the script {BY_SHA[str(command[1])].name}" if command[0] == "EVALSHA" else str(command[0])
