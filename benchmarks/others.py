"""Layers of others that need to be prepared before they can be imported."""

from __future__ import annotations

from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.management import call_command

_APP = "channels_postgres"


def _database(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path[1:],
        "USER": parts.username,
        "HOST": parts.hostname,
        "PORT": parts.port,
    }


def _set_up(url: str) -> None:
    """The package can be imported only where Django has this app."""
    if not settings.configured:
        settings.configure(INSTALLED_APPS=[_APP], DATABASES={"default": _database(url)})
        django.setup()


def make_tables(url: str) -> None:
    """The tables of channels_postgres. Raises `ImportError` if that is not installed."""
    import_module(_APP)
    _set_up(url)
    call_command("migrate", verbosity=0)


def channels_postgres(url: str, prefix: str) -> Any:
    """A layer of channels_postgres. Raises `ImportError` if that is not installed."""
    import_module(_APP)
    _set_up(url)
    more = {"PASSWORD": "", "TIME_ZONE": None, "OPTIONS": {}}
    return import_module(f"{_APP}.core").PostgresChannelLayer(prefix=prefix, **_database(url), **more)
