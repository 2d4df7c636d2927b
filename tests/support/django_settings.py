"""The least that Channels needs of Django, the same in the test run and in its second processes."""

from __future__ import annotations

import django
from django.conf import settings


def configure() -> None:
    """Configure Django, once."""
    if not settings.configured:
        settings.configure(SECRET_KEY="only for tests", ALLOWED_HOSTS=["*"], CHANNEL_LAYERS={}, USE_TZ=True)
        django.setup()
