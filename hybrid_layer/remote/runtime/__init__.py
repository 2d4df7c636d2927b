"""What runs in a process for its remote half: the I/O thread, calls, pauses between tries."""
