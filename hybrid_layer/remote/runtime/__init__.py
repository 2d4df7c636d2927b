"""What runs in a process for its remote half: the I/O thread, and pauses between tries."""
