"""The Lua scripts that the servers run, one file each. Their headers say what KEYS and ARGV are and what is returned.

A line ``-- include: a b`` puts the files ``include/a.lua`` and ``include/b.lua`` in front.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

_INCLUDE = re.compile(r"^-- include:(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script as EVALSHA needs it."""

    name: str
    source: str
    sha: str

    def command(self, keys: list[str], *args: str | bytes | int) -> tuple[str | bytes | int, ...]:
        """The EVALSHA command that runs this script."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


def _load(name: str) -> Script:
    folder = resources.files(__name__)
    text = folder.joinpath(f"{name}.lua").read_text("utf-8")
    found = _INCLUDE.search(text)
    if found is None:
        raise ValueError(f"{name}.lua lacks its include line")
    parts = [folder.joinpath("include", f"{part}.lua").read_text("utf-8") for part in found[1].split()]
    source = "\n".join([*parts, text])
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


SEND = _load("send")
PUT_BACK = _load("put_back")
GROUP_ADD = _load("group_add")
GROUP_DISCARD = _load("group_discard")
GROUP_SEND = _load("group_send")
PUBLISH = _load("publish")
GROUP_PUBLISH = _load("group_publish")
RENEW = _load("renew")
FLUSH = _load("flush")
NOTE = _load("note")
WAKE = _load("wake")

ALL = (SEND, PUT_BACK, GROUP_ADD, GROUP_DISCARD, GROUP_SEND, PUBLISH, GROUP_PUBLISH, RENEW, FLUSH, NOTE, WAKE)
BY_SHA = {script.sha: script for script in ALL}


def name_of(command: tuple[str | bytes | int, ...]) -> str:
    """What `command` is called among people."""
    return f"the script {BY_SHA[str(command[1])].name}" if command[0] == "EVALSHA" else str(command[0])
