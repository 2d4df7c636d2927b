"""The formats on the servers and between processes: names of keys, entries, published messages."""
