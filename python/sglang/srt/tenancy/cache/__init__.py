"""The prefix cache with owners: ``core`` decides, ``adapters`` bind it to engines."""
