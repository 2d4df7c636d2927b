"""Several machines at the same servers: namespaces on this one, see `tests/support/machines.py`."""
