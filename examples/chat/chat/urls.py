"""Addresses: "/" leads to a room, "/room/kitchen/" is a room, "/ws/kitchen/" its socket, "/inside/" the layer."""

from django.urls import path, register_converter

from chat import inside, views
from chat.limits import ROOM_PATTERN


class RoomConverter:
    """A room's name becomes part of a group's name, so it has only letters that those may have."""

    regex = ROOM_PATTERN

    def to_python(self, value: str) -> str:
        return value

    to_url = to_python


register_converter(RoomConverter, "room")

urlpatterns = [
    path("", views.front, name="front"),
    path("room/<room:room>/", views.room, name="room"),
    path("inside/", inside.page, name="inside"),
    path("inside/numbers/", inside.numbers, name="numbers"),
]
