"""What a request must be before the engine takes it (docs/threat-model.md)."""
