"""What other programs may leave where this layer reads: entries, notes and announcements that cannot be read."""

from __future__ import annotations

import itertools

DIGITS = [b"", b"x", b"-1", b"+1", b" 1", b"1_0", b"1e5", b"1.5", b"nan", b"\xd9\xa1", b"\xff", b"9" * 16, b"9" * 5000]
"""Not a number that this layer would write, or an absurd one."""


def epochs(known: bytes) -> list[bytes]:
    """No epochs, or absurd ones of the incarnation that `known` is of."""
    incarnation = known.rpartition(b":")[0]
    starts = [b"", b"x:", b"\xff:", incarnation + b":"]
    found = [start + digits for start, digits in itertools.product(starts, DIGITS)]
    return [epoch for epoch in found if epoch] + [known.replace(b":", b""), incarnation + b":" + b"9" * 15]


def entries(known: bytes, names: bytes, stamp: bytes) -> list[bytes]:
    """Hundreds of entries like ``1|<stamp>|<epoch>|<names>|<payload>``, of which none can be read."""
    good = [b"1", stamp, known, names, b"\x80"]
    wrong = [
        [b"", b"0", b"2", b"1" * 5000, b"\xff"],
        DIGITS,
        epochs(known),
        [b"\xff", names + b"\xff", "ü!1".encode()],
    ]
    found = [b"", b"|", b"||||", b"1", b"1|", b"\x00" * 100, b"|" * 5000, b"1|" + stamp, b"|".join(good[:4])]
    for place, values in enumerate(wrong):
        found += [b"|".join([*good[:place], value, *good[place + 1 :]]) for value in values]
    found += [b"|".join([b"1", *two, names, b"\x80"]) for two in itertools.product(wrong[1], wrong[2][:12])]
    return found


def notes(known: bytes, member: bytes, stamp: bytes) -> list[bytes]:
    """Notes that cannot be read, or that are for another process."""
    found = [b"", b"|", b"+", b"-", b"f", b"+|a|b|c|d", b"-|\xff|\xff", b"\xff", b"+" * 5000, b"-|a|b|c"]
    found += [b"+|g|%s|%s|%s" % (member, digits, known) for digits in DIGITS]
    found += [b"+|g|%s|%s|%s" % (member, stamp, epoch) for epoch in epochs(known)]
    found += [b"f|" + epoch for epoch in epochs(known)]
    found += [b"+|g|%s|%s|%s" % (name, stamp, known) for name in (b"\xff", b"normal", b"specific.OTHER!1")]
    found += [b"-|g|specific.OTHER!1"]
    return found
