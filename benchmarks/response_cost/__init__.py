"""What a repeated request costs, by what answers it."""

import serving.server  # noqa: F401  # makes scripts/ importable
