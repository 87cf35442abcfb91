"""A queue of patches against one pinned upstream release. Standard library only."""
