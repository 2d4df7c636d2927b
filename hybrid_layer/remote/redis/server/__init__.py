"""One server: its options, sockets, commands, and what its answers mean."""
