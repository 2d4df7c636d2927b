"""What a browser may ask for: lengths, letters, how often."""

import re
import time

ROOM_PATTERN = r"[A-Za-z0-9_-]{1,40}"
MAX_NAME = 24
MAX_TEXT = 500

# Control characters, those that turn the direction of the text around them, and halves of UTF-16 pairs, which JSON can
# carry and UTF-8 cannot.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


def clean(value: object, length: int) -> str:
    """One line of at most `length` characters; empty when `value` is no text."""
    return _UNSEEN.sub(" ", value).strip()[:length] if isinstance(value, str) else ""


class Rate:
    """Lets `burst` requests pass at once and `per_second` of them in the long run."""

    def __init__(self, per_second: float, burst: int) -> None:
        self.per_second = per_second
        self.burst = burst
        self._left = float(burst)
        self._at = time.monotonic()

    def allows(self) -> bool:
        now = time.monotonic()
        self._left = min(self.burst, self._left + (now - self._at) * self.per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
