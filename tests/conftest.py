"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

# Compiled code is kept beside pytest's own cache, so that tests neither use nor fill the user's cache directory.
os.environ.setdefault("FASTACT_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "fastact"))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
