"""Keeps passwords and keys out of texts, and out of what error pages show of our frames.

Django's error page prints the local variables of each frame of a traceback, and so do other tools. Options hold
passwords in many places, also in wrong ones. So while they are read, what goes wrong is raised anew from a frame that
has none of them.
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
    """A value that may hold a secret, for an error: itself if it cannot, else its type."""
    return shown(value) if _is_harmless(value) else f"<{type(value).__name__}>"


def described_names(value: object) -> str:
    """The same for what should be a name, or some names: itself unless something looks like a URI, or is bytes."""
    names = list(value) if isinstance(value, (list, tuple, set, dict)) else [value]
    text = shown(value)
    may_hide = "@" in text or "://" in text or len(text) >= MOST_SHOWN
    return described(value) if may_hide or any(isinstance(name, (bytes, bytearray)) for name in names) else text


def _is_harmless(value: object, depth: int = 3) -> bool:
    """Whether no password is in it: nothing but numbers, and texts that are too short for one."""
    if type(value) in (list, tuple, set) and depth:
        return all(_is_harmless(each, depth - 1) for each in cast(Iterable[object], value))
    if type(value) is dict and depth:
        return all(_is_harmless(each, depth - 1) for pair in value.items() for each in pair)
    return value is None or type(value) in (bool, int, float) or (type(value) in (str, bytes) and len(value) <= 1)  # type: ignore[arg-type]


def discreet(initialize: Constructor) -> Constructor:
    """Decorates a constructor: the traceback of what it raises ends here, and shows none of its arguments."""

    @functools.wraps(initialize)
    def initialized(*args: Any, **options: Any) -> None:
        given = _Hidden(functools.partial(initialize, *args, **options))
        del args, options  # this frame is the one that is shown
        error = given.run()
        if error is not None:
            raise error

    return cast(Constructor, initialized)


class _Hidden:
    """A step whose arguments repr() does not show."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step

    def run(self) -> Exception | None:
        """Do it. The error is one without frames; of an unexpected one they are told as text."""
        try:
            self._step()
        except Exception as error:  # noqa: BLE001  # it is raised again
            if not isinstance(error, HybridLayerError):
                error.add_note("Without local variables, which may hold passwords:\n" + traceback.format_exc())
            return without_frames(error)
        return None


def without_frames(error: Exception) -> Exception:
    """`error`, and what led to it, without the frames in which they were raised; and without what is not to be told."""
    at: BaseException | None = error
    while at is not None and at.__traceback__ is not None:
        at.__traceback__ = None
        if at.__suppress_context__:
            at.__context__ = None
        at = at.__cause__ or at.__context__
    return error
