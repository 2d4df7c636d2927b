"""Connections to one place: which one a command travels on, blocking reads, subscriptions."""
