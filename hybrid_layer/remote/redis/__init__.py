"""Redis and Valkey as the store: layer and options, then the store, its connections, hosts and servers."""
