"""What the channel layer of this machine is doing, for the page "Inside": read only, and without a trace.

A site with users shows such a page to its staff alone (`user_passes_test`). This one has no login.
"""

from typing import Any

from channels.layers import get_channel_layer
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from chat.views import POLICY
from hybrid_layer.exceptions import HybridLayerError
from hybrid_layer.ipc.observer import Observer

MOST = 20
"""Channels, and processes, on the page."""


def page(request: HttpRequest) -> HttpResponse:
    response = render(request, "chat/inside.html", {"hosts": settings.HOSTS, "prefix": get_channel_layer().prefix})
    response["Content-Security-Policy"] = POLICY
    return response


def numbers(request: HttpRequest) -> JsonResponse:
    """All counters since the segment was made: the page itself makes rates of them."""
    layer = get_channel_layer()
    try:
        with Observer(layer.prefix) as observer:
            return JsonResponse(observed(observer))
    except HybridLayerError as error:  # the segment is just being made anew, or its lock is held
        return JsonResponse({"error": str(error)}, status=503)


def observed(observer: Observer) -> dict[str, Any]:
    counts = observer.channel_counts()
    channels = [each for each in observer.channels() if "!" not in each.name]
    channels.sort(key=lambda each: (-each.pending, each.name))
    here, remote = observer.counters(), observer.remote_counters()
    messages, groups = observer.areas()
    return {
        "machine": observer.machine,
        "counters": {key: number + remote.get(key, 0) for key, number in here.items()},
        "memory": {"messages": messages._asdict(), "groups": groups._asdict()},
        "channels": [
            {**each._asdict(), "sent": counts[each.name].sent, "received": counts[each.name].received}
            if each.name in counts
            else {**each._asdict(), "sent": None, "received": None}
            for each in channels[:MOST]
        ],
        "processes": [
            {
                "pid": each.pid,
                "command": each.command,
                "unread": each.unread,
                "waiting": each.waiting,
                "members": each.members,
            }
            for each in observer.processes()[:MOST]
            if each.is_alive
        ],
    }
