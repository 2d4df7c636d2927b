"""The whole set-up: no database, no sessions, no login; one channel layer."""

import os
import secrets
from typing import Any

# Nothing is signed here, so a key that lives as long as its process is enough.
SECRET_KEY = secrets.token_urlsafe(32)
DEBUG = False
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "127.0.0.1,localhost").split(",")

INSTALLED_APPS = ["channels", "django.contrib.staticfiles", "hybrid_layer", "chat"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.clickjacking.XFrameOptionsMiddleware"]
ROOT_URLCONF = "chat.urls"
ASGI_APPLICATION = "chat.asgi.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STATIC_URL = "/static/"
USE_TZ = True

# Without "hosts" everything stays on this machine, in shared memory. With hosts, the chat (groups and process-specific
# channels) travels over Redis or Valkey and may span machines; the job (a normal channel) stays on its machine.
HOSTS = [host.strip() for host in os.environ.get("HYBRID_LAYER_HOSTS", "").split(",") if host.strip()]

LAYER_OPTIONS: dict[str, Any] = {
    "prefix": os.environ.get("HYBRID_LAYER_PREFIX", "chat"),
    # A job nobody could start within a minute is of no use any more, and twenty of them in front of it are enough:
    # beyond, the page says "try again later" at once.
    "expiry": 60,
    "channel_capacity": {"jobs": 20},
}
if HOSTS:
    LAYER_OPTIONS["hosts"] = HOSTS

# "machine": the servers know machines, and each machine its processes. Then a message crosses the server once for each
# machine, and never between two tabs on the same one. May be set before there are hosts.
if locality := os.environ.get("HYBRID_LAYER_LOCALITY"):
    LAYER_OPTIONS["locality"] = locality

CHANNEL_LAYERS = {"default": {"BACKEND": "hybrid_layer.HybridChannelLayer", "CONFIG": LAYER_OPTIONS}}

# What goes wrong is seen in the terminal; what goes right is seen in the browser.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"short": {"format": "%(levelname)s %(process)d %(name)s: %(message)s"}},
    "handlers": {"terminal": {"class": "logging.StreamHandler", "formatter": "short"}},
    "root": {"handlers": ["terminal"], "level": "WARNING"},
    "loggers": {"django": {"level": "WARNING"}},
}
