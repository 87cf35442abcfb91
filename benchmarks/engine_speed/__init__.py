"""The same requests to several engines: servers, upstream's own wheel, Hugging Face's generate."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# These hold programs, not packages; the benchmarks use what they are made of.
sys.path += [str(ROOT / "scripts"), str(ROOT / "patches")]
