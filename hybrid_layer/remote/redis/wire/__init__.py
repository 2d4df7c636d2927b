"""What stands on the servers and between processes: names of keys, entries, what is published."""
