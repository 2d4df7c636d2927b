"""The tests. Many look at what ended processes left in /dev/shm, so none of theirs removes it but those about that."""

import contextlib

with contextlib.suppress(ImportError):  # the package without its local half
    from hybrid_layer.ipc import attachments

    attachments.has_swept = True
