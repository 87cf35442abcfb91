"""Who asks, what they own, and what the cache may show them.

Rooms, from the door down: ``door`` (HTTP) and ``options`` (flags), ``identity`` and
``config`` (who is asking), ``selftest`` (proof at start-up), ``registry`` (where the
scheduler meets the cache), ``ownership`` (what a key belongs to), ``cache`` (the trees).
Beside the requests: ``detect`` (what a prompt says of somebody).
"""
