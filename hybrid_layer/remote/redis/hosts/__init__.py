"""What an entry of `hosts` leads to: a server, a name, a service of Sentinels, a cluster."""
