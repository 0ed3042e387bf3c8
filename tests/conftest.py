"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Compiled code is kept beside pytest's own cache, so that tests neither use nor fill the user's cache directory.
os.environ.setdefault("FASTACT_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "fastact"))
os.environ.setdefault("JAX_PLATFORMS", "cpu")


@pytest.fixture(scope="session")
def cuda_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cuda")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, cuda_directory: Path) -> Iterator[Any]:
    """A GPU that is the CPU: a `tests.cuda_host.HostDriver`."""
    from fastact.cuda import functions, rows

    from .cuda_host import HostDriver

    yield HostDriver(cuda_directory).install(monkeypatch)
    for module in (functions, rows):
        module._kernel.cache_clear()


@pytest.fixture
def idle(gpu: Any) -> Any:
    """A GPU that only notes what it is asked to do."""
    gpu.idle = True
    return gpu
