"""Settings: the chat, with its metrics at /metrics. Not for the public: a proxy should keep others out."""

from chat.settings import *  # noqa: F403
from chat.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "hybrid_layer"]
ROOT_URLCONF = "monitored_urls"
