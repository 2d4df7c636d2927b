"""Chaos: senders and receivers of one segment, killed with SIGKILL every few milliseconds and replaced at once.

    python -m tests.chaos --seconds 600 [--seed S]      # or: make chaos SECONDS=600

What may happen then is little: the message that a dead process had just taken is gone, and what lay in its own inbox;
the send that it was in the middle of may have arrived or not. Everything else arrives, once, in order, without anybody
waiting a second for it. A run consists of rounds, each of which ends with a judgement:

    rounds.py     a round: start, kill and replace for a while, let everybody finish, judge
    zygote.py     the process that forks the workers, so that a replacement costs milliseconds
    workers.py    what senders and receivers do, through the public API
    grinder.py    a worker that calls the C core without a pause, so that many a kill hits inside the lock
    life.py       one worker's life
    arena.py      memory that the workers of a round share with the judge
    journal.py    what each worker has written down of what it did, and survives it
    testimony.py  what all journals of a round say together
    judge.py      compares them, and says which promise was broken
    segment.py    the segment itself: sound, empty and without litter at the end of a round
    report.py     figures of a run

Beside them, `passing.py`: thousands of processes that come and go, and leave nothing.
"""
