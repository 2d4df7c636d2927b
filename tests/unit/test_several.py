"""Which of several messages go in one step."""

from __future__ import annotations

import pytest

from hybrid_layer.several import next_step

K = 1024


@pytest.mark.parametrize(
    ("sizes", "steps"),
    [
        ([1], [1]),
        ([1] * 250, [100, 100, 50]),
        ([300 * K, 1, 1], [1, 2]),
        ([1, 300 * K, 1], [1, 1, 1]),
        ([100 * K, 100 * K, 56 * K, 1], [3, 1]),
    ],
)
def test_steps(sizes: list[int], steps: list[int]) -> None:
    payloads = [bytes(size) for size in sizes]
    begin = 0
    for number in steps:
        step = next_step(payloads, begin)
        assert step == tuple(payloads[begin : begin + number])
        begin += number
    assert begin == len(payloads)
