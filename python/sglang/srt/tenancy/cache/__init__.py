"""The trees: upstream's, taught to keep out what must not stay."""
