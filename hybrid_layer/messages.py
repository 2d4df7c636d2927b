# SPDX-License-Identifier: BSD-3-Clause
"""What a message may hold, and its copy in base types.

A message is a dict with str keys. Its values are bytes, str, int of signed 64 bits, float, list, dict, bool and None,
nested at most MAX_DEPTH deep. Subclasses of these, tuples, bytearrays and memoryviews may be sent, too, and arrive as
the base types.

Every message is checked, so the check only finds out *whether* something is wrong. For a wrong message, a second walk
finds what and where.
"""

import json
from collections.abc import Callable
from typing import Any

from django.utils.functional import LazyObject, Promise

from hybrid_layer.exceptions import HybridLayerError, InvalidMessageType, InvalidMessageValue
from hybrid_layer.options import shown

MAX_DEPTH = 100
INT_MIN = -(2**63)
INT_MAX = 2**63 - 1

# Types of which every value may be sent as it is.
_PLAIN = frozenset({bool, float, bytes, type(None)})

_ALLOWED = "use str, bytes, int, float, bool, None, list or dict"


def check(message: dict[str, Any]) -> bool:
    """Raise `InvalidMessageType` or `InvalidMessageValue`, with the key path, unless `message` may be sent.

    Returns True if it consists of base types only, so that any serializer takes it as it is. False: `plain` has to copy
    it first.
    """
    try:
        if type(message) is dict:
            return _check_dict(message, MAX_DEPTH)
        if issubclass(type(message), dict):
            _check_subclass(message, MAX_DEPTH)
            return False
    except _Wrong:
        raise _fault(message, "message", MAX_DEPTH) or InvalidMessageValue(
            "The message was changed by other code while it was being sent; send a copy of it."
        ) from None
    raise InvalidMessageType(
        f"A message must be a dict, not {_type_name(message)}: {shown(message)}. Send it under a key, such as "
        '{"type": "chat.message", "text": ...}.'
    )


def plain(message: dict[str, Any]) -> dict[str, Any]:
    """A copy of a checked message, in base types only. It shares nothing mutable with the original."""
    copy: dict[str, Any] = _plain(message)
    return copy


class _Wrong(Exception):
    """Something in the message is wrong. It says no more, since the check keeps no path."""


def _check_dict(container: dict[str, Any], depth: int) -> bool:
    """Whether keys and values are of base types. Raises `_Wrong`. `depth` is the number of levels allowed from here."""
    if not depth:
        raise _Wrong
    exact = True
    # items(), even if a subclass overrides it (as MultiValueDict does), since the copy is made from it.
    for key, value in container.items():
        if type(key) is not str:
            if not issubclass(type(key), str):
                raise _Wrong
            exact = False
        if not key.isascii():
            _check_encodes(key)
        kind = type(value)
        if kind is str:
            if not value.isascii():
                _check_encodes(value)
        elif kind is int:
            if not INT_MIN <= value <= INT_MAX:
                raise _Wrong
        elif kind not in _PLAIN and not _check_other(value, depth):
            exact = False
    return exact


def _check_subclass(container: dict[str, Any], depth: int) -> None:
    if depth and any(_is_one_of_several(container, key, value) for key, value in container.items()):
        raise _Wrong
    _check_dict(container, depth)


def _is_one_of_several(container: dict[Any, Any], key: Any, value: Any) -> bool:
    """Whether a dict with several values for a key (MultiValueDict, MultiDict) shows `value` and hides the others."""
    held: Any = dict.get(container, key)
    return held is not value and issubclass(type(held), list) and any(each is value for each in list.__iter__(held))


def _check_list(container: list[Any] | tuple[Any, ...], depth: int) -> bool:
    if not depth:
        raise _Wrong
    exact = True
    for value in container:
        kind = type(value)
        if kind is str:
            if not value.isascii():
                _check_encodes(value)
        elif kind is int:
            if not INT_MIN <= value <= INT_MAX:
                raise _Wrong
        elif kind not in _PLAIN and not _check_other(value, depth):
            exact = False
    return exact


def _check_other(value: Any, depth: int) -> bool:
    """As `_check_dict`, for a value that is a container, of a subclass, or wrong."""
    kind = type(value)
    if kind is dict:
        return _check_dict(value, depth - 1)
    if kind is list:
        return _check_list(value, depth - 1)
    # From here on the copy is needed. issubclass, not isinstance: lazy objects claim the class of what they wrap.
    if issubclass(kind, dict):
        _check_subclass(value, depth - 1)
    elif issubclass(kind, (list, tuple)):
        _check_list(value, depth - 1)
    elif issubclass(kind, str):
        _check_encodes(value)
    elif issubclass(kind, int):
        if not INT_MIN <= int.__int__(value) <= INT_MAX:
            raise _Wrong
    elif not issubclass(kind, (float, bytes, bytearray, memoryview)):
        raise _Wrong
    return False


def _check_encodes(text: str) -> None:
    try:
        str.encode(text)
    except UnicodeEncodeError:
        raise _Wrong from None


def _plain(value: Any) -> Any:
    convert = _CONVERT.get(type(value))
    if convert is None:
        convert = next(convert for base, convert in _CONVERT.items() if issubclass(type(value), base))
    return convert(value)


def _plain_dict(value: dict[str, Any]) -> dict[str, Any]:
    return {key if type(key) is str else str.__str__(key): _plain(item) for key, item in value.items()}


def _plain_list(value: list[Any] | tuple[Any, ...]) -> list[Any]:
    return [_plain(item) for item in value]


# The methods of the base classes, since a subclass may override them (an enum's str() is not its value). They return
# values of the exact type as they are. Searched in this order, so bool comes before int.
_CONVERT: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    bool: bool,
    int: int.__int__,
    float: float.__float__,
    type(None): lambda none: none,
    dict: _plain_dict,
    list: _plain_list,
    tuple: _plain_list,
    bytes: bytes.__bytes__,
    bytearray: lambda value: memoryview(value).tobytes(),  # bytes() would call a subclass's __bytes__
    memoryview: memoryview.tobytes,
}


def _fault(value: Any, path: str, depth: int) -> HybridLayerError | None:
    """The error for the first wrong thing in `value`, which is at `path`, by the same rules as the check."""
    kind = type(value)
    if issubclass(kind, (dict, list, tuple)):
        if not depth:
            return InvalidMessageValue(
                f"{_short(path)}: more than {MAX_DEPTH} levels deep; is something inside itself?"
            )
        return _fault_in_dict(value, path, depth) if issubclass(kind, dict) else _fault_in_list(value, path, depth)
    if issubclass(kind, str):
        return _fault_in_text(value, path)
    if issubclass(kind, int):
        if INT_MIN <= int.__int__(value) <= INT_MAX:
            return None
        number = f"an int of {value.bit_length()} bits" if value.bit_length() > 128 else int.__repr__(value)
        return InvalidMessageValue(f"{_short(path)}: {number} does not fit into 64 bits (signed); send it as a str.")
    if issubclass(kind, (Promise, LazyObject)):
        return InvalidMessageType(
            f"{_short(path)}: lazy objects ({_type_name(value)}) are not allowed; send what they stand for, such "
            "as str() of a translation."
        )
    if kind in _PLAIN or issubclass(kind, (float, bytes, bytearray, memoryview)):
        return None
    return InvalidMessageType(f"{_short(path)}: {_type_name(value)} is not allowed; {_ALLOWED}.")


def _fault_in_dict(container: dict[Any, Any], path: str, depth: int) -> HybridLayerError | None:
    for key, value in container.items():
        if type(container) is not dict and _is_one_of_several(container, key, value):
            return InvalidMessageType(
                f"{_short(path)}: {_type_name(container)} may hold several values under a key, of which one would be "
                f"sent. Send all, as lists: dict(value.lists()); or one of each: value.dict(), or value.to_dict()."
            )
        if not issubclass(type(key), str):
            return InvalidMessageType(
                f"{_short(path)}: the key {shown(key)} ({_type_name(key)}) is not allowed; keys must be str."
            )
        fault = _fault_in_text(key, f"a key of {path}") or _fault(value, f"{path}[{_quoted(key)}]", depth - 1)
        if fault is not None:
            return fault
    return None


def _fault_in_list(container: list[Any] | tuple[Any, ...], path: str, depth: int) -> HybridLayerError | None:
    faults = (_fault(value, f"{path}[{index}]", depth - 1) for index, value in enumerate(container))
    return next((fault for fault in faults if fault is not None), None)


def _fault_in_text(text: str, path: str) -> HybridLayerError | None:
    try:
        str.encode(text)
    except UnicodeEncodeError as error:
        return InvalidMessageValue(
            f"{_short(path)}: {str.__repr__(text[error.start])} at position {error.start} is half of a surrogate pair, "
            "which UTF-8 has no bytes for; clean the str with .encode(errors='replace').decode()."
        )
    return None


def _quoted(key: str) -> str:
    return json.dumps(key if len(key) <= 60 else key[:57] + "...", ensure_ascii=not key.isprintable())


def _short(path: str) -> str:
    return path if len(path) <= 300 else f"{path[:120]} ... {path[-120:]}"


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
