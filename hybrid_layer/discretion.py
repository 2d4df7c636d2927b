# SPDX-License-Identifier: BSD-3-Clause
"""Keeps passwords and keys out of error texts, and out of tracebacks.

Django's error page and other tools print the local variables of each frame of a traceback. Options hold passwords in
many places, including wrong ones. So an error met while they are read is raised again from a frame without them.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from hybrid_layer.exceptions import HybridLayerError
from hybrid_layer.options import MOST_SHOWN, shown

Constructor = TypeVar("Constructor", bound=Callable[..., None])


def described(value: object) -> str:
    """A value that may be secret, for an error text: the value if it holds no password, else its type."""
    return shown(value) if _is_harmless(value) else f"<{type(value).__name__}>"


def described_names(value: object) -> str:
    """As `described`, for one or several names: the value unless part of it is bytes or looks like a URI."""
    names = list(value) if isinstance(value, (list, tuple, set, dict)) else [value]
    text = shown(value)
    may_hide = "@" in text or "://" in text or len(text) >= MOST_SHOWN
    return described(value) if may_hide or any(isinstance(name, (bytes, bytearray)) for name in names) else text


def _is_harmless(value: object, depth: int = 3) -> bool:
    """Whether it holds no password: nothing but numbers, and texts too short for one."""
    if type(value) in (list, tuple, set) and depth:
        return all(_is_harmless(each, depth - 1) for each in cast(Iterable[object], value))
    if type(value) is dict and depth:
        return all(_is_harmless(each, depth - 1) for pair in value.items() for each in pair)
    return value is None or type(value) in (bool, int, float) or (type(value) in (str, bytes) and len(value) <= 1)  # type: ignore[arg-type]


def discreet(initialize: Constructor) -> Constructor:
    """Decorate a constructor: the traceback of its errors ends here, and shows no arguments."""

    @functools.wraps(initialize)
    def initialized(*args: Any, **options: Any) -> None:
        given = _Hidden(functools.partial(initialize, *args, **options))
        del args, options  # the traceback shows this frame
        error = given.run()
        if error is not None:
            raise error

    return cast(Constructor, initialized)


class _Hidden:
    """A step whose repr shows no arguments."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step

    def run(self) -> Exception | None:
        """Run the step. Return its error without frames; an unexpected error gets them as a note, in text."""
        try:
            self._step()
        except Exception as error:  # noqa: BLE001  # it is raised again
            if not isinstance(error, HybridLayerError):
                error.add_note("Without local variables, which may hold passwords:\n" + traceback.format_exc())
            return without_frames(error)
        return None


def without_frames(error: Exception) -> Exception:
    """`error`, with its causes, without their frames and without contexts that are suppressed."""
    at: BaseException | None = error
    while at is not None and at.__traceback__ is not None:
        at.__traceback__ = None
        if at.__suppress_context__:
            at.__context__ = None
        at = at.__cause__ or at.__context__
    return error
