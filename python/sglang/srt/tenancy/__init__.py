"""Who asks, what they own, who is served next, and what the cache may show them.

``http``: who asks, how much at a time, and operators' endpoints. ``registry``: where the
scheduler meets the cache. ``schedule``: whose request is next. ``cache``: the trees. ``detect``:
what a prompt says of somebody. Imports point down; pyproject.toml has the order.
"""
