"""Addresses: those of the chat, and its metrics."""

from chat.urls import urlpatterns as of_the_chat
from django.urls import path

from hybrid_layer.contrib.prometheus import metrics

urlpatterns = [*of_the_chat, path("metrics", metrics)]
