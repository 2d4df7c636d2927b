"""How messages reach their channels over servers of any kind: nothing here knows Redis. `store` says what a kind of
servers can do."""
