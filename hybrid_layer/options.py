# SPDX-License-Identifier: BSD-3-Clause
"""Checks of option values. Each error names the option, the value, and what is expected.

They run when a layer is built, so that a wrong setting shows at start and not with the first message.
"""

import math
import re
from collections.abc import Iterable
from fnmatch import translate

from hybrid_layer.exceptions import ConfigurationError
from hybrid_layer.interruption import is_foreign

_PREFIX = re.compile(r"[A-Za-z0-9_.:/\-]{1,50}")


def refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise `ConfigurationError` if one of the names `given` is not among the `known` options of the class `where`."""
    known = sorted(known)
    name = next((name for name in given if name not in known), None)
    if name is not None:
        raise ConfigurationError(
            f"{where} has no option {name!r}.{did_you_mean(name, known)} Known options: {', '.join(known)}."
        )


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A sentence, after a space, that offers the nearest known name. Empty if no name is near."""
    # Case is ignored, since CONFIG = {"CAPACITY": 10} is an easy mistake among upper-case settings.
    from difflib import get_close_matches  # here, since it would take a tenth of the time of importing the package

    by_folded = {candidate.casefold(): candidate for candidate in known}
    near = get_close_matches(str(name).casefold(), by_folded, n=1)
    return f" Did you mean {by_folded[near[0]]!r}?" if near else ""


LARGEST = 1_000_000_000
"""The longest duration, in seconds. Every clock here can hold it."""
LARGEST_INT = 2**62


def positive_number(name: str, value: object) -> float | int:
    """Return `value`. Raise `ConfigurationError` unless it is an int or float above 0 and at most `LARGEST`."""
    # A bool is an int in Python, and expiry=True is a mistake.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ConfigurationError(f"{name} must be a number greater than 0, not {shown(value)}.")
    if value > LARGEST:
        raise ConfigurationError(f"{name} must be a number of at most {LARGEST:,}, not {shown(value)}.")
    return value


def positive_int(name: str, value: object, minimum: int = 1, maximum: int = LARGEST_INT) -> int:
    """Return `value`. Raise `ConfigurationError` unless it is an int from `minimum` to `maximum`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        expected = "an int greater than 0" if minimum == 1 else f"an int of at least {minimum}"
        raise ConfigurationError(f"{name} must be {expected}, not {shown(value)}.")
    if value > maximum:
        raise ConfigurationError(f"{name} must be an int of at most {maximum:,}, not {shown(value)}.")
    return int(value)  # also of an IntEnum, which redis-py would send by its name, or not at all


def one_of(name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return `value`. Raise `ConfigurationError` unless it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        expected = " or ".join(map(repr, choices))
        raise ConfigurationError(f"{name} must be {expected}, not {shown(value)}.{did_you_mean(value, choices)}")
    return value


def check_prefix(prefix: object) -> str:
    """Return `prefix`. Raise `ConfigurationError` unless names of keys and files can begin with it."""
    if not isinstance(prefix, str) or _PREFIX.fullmatch(prefix) is None:
        raise ConfigurationError(
            f"prefix must be 1 to 50 ASCII letters, digits and characters of '_.:/-', not {shown(prefix)}."
        )
    return prefix


def compiled_pattern(option: str, pattern: object) -> re.Pattern[str]:
    """A key of the dict `option`, as a pattern whose ``match`` decides. A glob has to match the whole name.

    Raises `ConfigurationError` for a key of another kind.
    """
    if isinstance(pattern, str) and pattern:
        return re.compile(translate(pattern))
    if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
        return pattern
    raise ConfigurationError(
        f"{option} has the key {shown(pattern)}; a key must be a glob, such as 'http.*', or a regular expression for "
        "str from re.compile()."
    )


MOST_SHOWN = 120
"""The most characters of a value in an error."""


def shown(value: object) -> str:
    """The repr of `value`, short enough for one line of a log, also of a value whose repr fails."""
    try:
        text = repr(value)
    except Exception as error:  # a user's __repr__ may raise anything, and the error to report is another one
        if is_foreign(error):
            raise
        return f"<{type(value).__name__} without a repr()>"
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."
