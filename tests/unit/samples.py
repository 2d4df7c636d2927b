"""Messages to test with: any that hypothesis can think of, and values of types that arrive as others."""

import array
import enum
from collections import OrderedDict, defaultdict, namedtuple
from typing import Any

from django.db.models import TextChoices
from django.utils.safestring import mark_safe
from hypothesis import strategies as st

from hybrid_layer.messages import INT_MAX, INT_MIN

ENCODABLE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(INT_MIN, INT_MAX)
    | st.floats(allow_nan=False)
    | ENCODABLE
    | st.binary(max_size=20)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ENCODABLE, inner, max_size=4)
)
MESSAGES = st.dictionaries(ENCODABLE, VALUES, max_size=5)


class Colour(TextChoices):
    RED = "red", "Red"


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    def __str__(self) -> str:
        return "something else"


class Number(int):
    def __int__(self) -> int:
        return -1


class Ratio(float):
    """As numpy's float64 is."""

    def __float__(self) -> float:
        return -1.0


class Blob(bytes):
    def __bytes__(self) -> bytes:
        return b"something else"


class Array(bytearray):
    def __bytes__(self) -> bytes:
        return b"something else"


class Items(list[Any]):
    pass


Point = namedtuple("Point", "x y")

# What is sent, and what arrives.
CONVERTED: list[tuple[Any, Any]] = [
    (mark_safe("<b>"), "<b>"),
    (Text("text"), "text"),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    (Number(5), 5),
    (Ratio(0.5), 0.5),
    (Blob(b"\xff"), b"\xff"),
    (Array(b"\xff"), b"\xff"),
    (bytearray(b"abc"), b"abc"),
    (memoryview(b"abc"), b"abc"),
    (memoryview(b"abcdef")[::2], b"ace"),
    (memoryview(b"abcdef").cast("B", (2, 3)), b"abcdef"),
    (memoryview(array.array("h", [0, 0])), b"\0\0\0\0"),
    ((1, ("a", ())), [1, ["a", []]]),
    (Point(1, Level.HIGH), [1, 3]),
    (OrderedDict(b=1, a=OrderedDict()), {"b": 1, "a": {}}),
    (Items([1]), [1]),
    (defaultdict(list, a=[1]), {"a": [1]}),
    ({Text("key"): 1}, {"key": 1}),
    ({Colour.RED: 1, Text("key"): [mark_safe("x")]}, {"red": 1, "key": ["x"]}),
]


def same(one: Any, other: Any) -> bool:
    """Equal and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if type(one) is dict:
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if type(one) is list:
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def nested(levels: int) -> dict[str, Any]:
    """A message of that many containers, one in the other, dicts and lists in turn."""
    value: Any = "x"
    for level in range(levels - 1):
        value = [value] if level % 2 else {"a": value}
    return {"a": value}
