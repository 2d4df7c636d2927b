"""What a channel layer must do, asked of every class and configuration through the public API alone."""
