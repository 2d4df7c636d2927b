"""What a channel layer must do: tests of every class and configuration, through the public API alone."""
