"""Start servers as forks of a process that has imported the engine, which takes seconds.

``client.py`` is what tests call, ``__main__.py`` the process that is forked, ``spawned.py``
does the same for the processes that a server spawns.
"""
