"""What tests share: servers, processes, clocks, and other parts of the world that they need."""
