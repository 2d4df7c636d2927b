# SPDX-License-Identifier: BSD-3-Clause
"""The Django app: system checks, and the command ``manage.py channel_layer``. The layers work without it."""

from django.apps import AppConfig
from django.core.checks import register

from hybrid_layer.checks import TAG, check_deployment, check_layers


class HybridLayerConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    """``"hybrid_layer"`` in ``INSTALLED_APPS``."""

    name = "hybrid_layer"
    verbose_name = "Channel layer"

    def ready(self) -> None:
        """Register the checks."""
        register(check_layers, TAG)
        register(check_deployment, TAG, deploy=True)
