"""What each kind of connection goes to: the page, the chat's sockets, and the worker's channel."""

import os

from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chat.settings")
pages = get_asgi_application()

# Only now, because these import what needs Django to be set up.
import chat.urls  # noqa: E402, F401  (registers the "room" converter)
from chat.consumers import ChatConsumer  # noqa: E402
from chat.jobs import JobConsumer  # noqa: E402

application = ProtocolTypeRouter(
    {
        # Django itself serves the style sheet and the scripts, so that the demo needs no web server in front.
        "http": ASGIStaticFilesHandler(pages),
        # Pages of other sites that are open in the same browser cannot talk to the chat.
        "websocket": AllowedHostsOriginValidator(URLRouter([path("ws/<room:room>/", ChatConsumer.as_asgi())])),
        # `manage.py runworker jobs` receives on the channel "jobs" and hands each message to this consumer.
        "channel": ChannelNameRouter({"jobs": JobConsumer.as_asgi()}),
    }
)
