# SPDX-License-Identifier: BSD-3-Clause
"""For pytest: ``pytest_plugins = ["hybrid_layer.testing.plugin"]`` in the ``conftest.py`` at the root of the tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from asgiref.sync import async_to_sync
from channels.layers import channel_layers
from django.conf import settings
from django.test.utils import override_settings

from hybrid_layer.base import BaseLayer
from hybrid_layer.exceptions import RemoteUnavailable
from hybrid_layer.testing import layers_for_tests


@pytest.fixture(scope="session", autouse=True)
def channel_layers_of_this_run() -> Iterator[None]:
    """``CHANNEL_LAYERS`` as `layers_for_tests` returns it, for the whole run.

    At its end what the run has stored on servers is deleted, too, as far as this process has used them.
    """
    with override_settings(CHANNEL_LAYERS=layers_for_tests(settings.CHANNEL_LAYERS)):
        yield
        for layer in list(channel_layers.backends.values()):
            if isinstance(layer, BaseLayer):
                with contextlib.suppress(RemoteUnavailable):  # what is there expires
                    async_to_sync(layer.flush)()
