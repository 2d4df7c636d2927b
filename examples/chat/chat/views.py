"""The page. Everything that moves on it comes through the socket."""

import re

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from chat.limits import MAX_NAME, MAX_TEXT, ROOM_PATTERN

# Scripts and styles from this site only, none inside the page: a text that slipped past the escaping could do nothing.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'"


def front(request: HttpRequest) -> HttpResponse:
    wanted = request.GET.get("room", "").strip().replace(" ", "-")
    return redirect("room", room=wanted if re.fullmatch(ROOM_PATTERN, wanted) else "lobby")


def room(request: HttpRequest, room: str) -> HttpResponse:
    page = {"room": room, "hosts": settings.HOSTS, "max_name": MAX_NAME, "max_text": MAX_TEXT, "pattern": ROOM_PATTERN}
    response = render(request, "chat/room.html", page)
    response["Content-Security-Policy"] = POLICY + "; form-action 'self'"
    return response
