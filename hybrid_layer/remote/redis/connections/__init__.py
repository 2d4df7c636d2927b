"""Connections: which one a command travels on, blocking reads, subscriptions."""
