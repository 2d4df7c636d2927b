"""Settings: the chat, with its metrics at /metrics. Not for the public: a proxy should keep others out."""

from chat.settings import *  # noqa: F403

ROOT_URLCONF = "monitored_urls"
