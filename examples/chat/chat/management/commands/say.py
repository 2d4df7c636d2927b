"""`manage.py say lobby "Good morning"`: any process of this machine may speak, even one that lives for a second."""

import os
import re
import time
from argparse import ArgumentParser
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.core.management.base import BaseCommand, CommandError

from chat.limits import MAX_TEXT, ROOM_PATTERN, clean


class Command(BaseCommand):
    help = "Say something in a room of the chat."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("room")
        parser.add_argument("text")

    def handle(self, *args: Any, **options: Any) -> None:
        if not re.fullmatch(ROOM_PATTERN, options["room"]):
            raise CommandError(f"{options['room']!r} is not a room's name.")
        message = {
            "type": "chat.said",
            "id": "",
            "name": "A shell",
            "pid": os.getpid(),
            "kind": "command",
            "text": clean(options["text"], MAX_TEXT),
            "private": False,
            "sent": time.monotonic(),
        }
        async_to_sync(get_channel_layer().group_send)(f"chat.room.{options['room']}", message)
