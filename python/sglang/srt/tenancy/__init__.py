"""Who asks, what they own, whose turn it is, and what the cache may show them.

Rooms, from the door down: ``door`` (HTTP) and ``options`` (flags), ``identity`` and
``config`` (who is asking), ``limits`` (how much at a time), ``selftest`` (proof at
start-up), ``registry`` (where the scheduler meets the cache), ``schedule`` (whose turn it
is), ``ownership`` (what a key belongs to), ``cache`` (the trees).
Beside the requests: ``detect`` (what a prompt says of somebody).
"""
