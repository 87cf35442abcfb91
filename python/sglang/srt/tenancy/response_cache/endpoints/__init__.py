"""The endpoints whose answers are stored, and how each answers: whole, in a stream, in samples."""
