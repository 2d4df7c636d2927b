# SPDX-License-Identifier: BSD-3-Clause
"""What a run of tests leaves in shared memory: workers of test runners end without running any code."""

from __future__ import annotations

from hybrid_layer.ipc import attachments
from hybrid_layer.ipc.inventory import segments
from hybrid_layer.ipc.sweeping import remove_if_left


def remove_segments(run: str) -> None:
    """Remove the segments whose prefix begins with `run`, with all that is unread in them."""
    own = {segment.name for segment in attachments.all_attached()}
    for each in segments():
        if each.name not in own and (each.prefix or "").startswith(run):
            remove_if_left(each.name, even_if_needed=True)
