"""Try grammars in a process of their own, before one reaches the scheduler (docs/grammars.md)."""
