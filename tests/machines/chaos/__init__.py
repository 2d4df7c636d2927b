"""Chaos across machines: three of them at one server or several, with processes killed and stopped, servers
killed, and machines cut off.

    python -m tests.machines.chaos --seconds 600 [--seed S] [--servers 3] [--remote pubsub]

It is `tests/chaos` for what travels between machines, and uses its arena, journals and testimony. Every worker sends to
and reads all kinds of channels. What may happen is what `docs/reliability.rst` allows:

- Nothing comes twice, to anybody it was not for, or out of order from one sender, whatever happens. (With several
  servers, directly and by each group. A group's messages to a normal channel, though, are fetched by several processes
  of the machine, and may change places.)
- A process that lives gets everything that is sent to it or to its groups, except while a server is away or its
  machine is cut off, and shortly before and after.
- A normal channel loses at most the message that a killed reader has just taken.
- A group's messages to a machine's normal channel are lost only with a killed process of that machine, which may have
  held a batch of them, or in such an outage.

    rounds.py   starts, kills, stops, replaces, lets everybody finish
    workers.py  what each process does
    judge.py    what the journals of all say about the promises above
"""
