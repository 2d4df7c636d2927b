"""The tests. Many check what ended processes left in /dev/shm, so only tests of that let processes remove it."""

import contextlib

with contextlib.suppress(ImportError):  # the package without its local half
    from hybrid_layer.ipc import attachments

    attachments.has_swept = True
