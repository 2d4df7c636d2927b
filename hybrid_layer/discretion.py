"""Keeps passwords and keys out of texts, and out of what error pages show of our frames.

Django's error page prints the local variables of each frame of a traceback, and so do other tools. Options hold
passwords in many places, also in wrong ones. So while they are read, what goes wrong is raised anew from a frame that
has none of them.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any, TypeVar, cast

from hybrid_layer.exceptions import HybridLayerError
from hybrid_layer.options import shown

Constructor = TypeVar("Constructor", bound=Callable[..., None])


def described(value: object) -> str:
    """A value that may hold a secret, for an error: itself if it cannot, else its type."""
    if value is None or isinstance(value, (bool, int, float)) or (isinstance(value, (str, bytes)) and not value):
        return repr(value)
    if isinstance(value, (list, tuple, dict)) and not value:
        return repr(value)
    return f"<{type(value).__name__}>"


def described_names(value: object) -> str:
    """The same for what should be a name, or a list of names: itself unless something looks like a URI."""
    names = value if isinstance(value, (list, tuple)) else [value]
    are_names = all(isinstance(name, str) and "@" not in name and "://" not in name for name in names)
    return shown(value) if are_names else described(value)


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
