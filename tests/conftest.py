"""What all tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Compiled code is kept beside pytest's own cache, so that tests neither use nor fill the user's cache directory.
os.environ.setdefault("FASTACT_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "fastact"))
os.environ.setdefault("JAX_PLATFORMS", "cpu")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite in as many processes as there are CPUs, a file at a time, where pytest-xdist is installed."""
    option, whole = config.option, config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if not whole or not config.pluginmanager.hasplugin("xdist") or "PYTEST_XDIST_WORKER" in os.environ:
        return
    if option.numprocesses is None and not option.usepdb:
        option.numprocesses, option.dist = "logical", "loadfile"
        option.loadscopereorder = False  # the last files would be those of the fewest tests, which take longest


@pytest.fixture
def with_driver(tmp_path: Path) -> Path:
    """A cache directory that holds the loop driver, which takes seconds to compile, and no function yet."""
    import numpy as np

    import fastact
    from fastact.cpu import cache

    fastact.relu(np.zeros(1, np.float32))
    return copy_driver(cache.root() / cache.key(), tmp_path / "with-driver" / cache.key()).parent


def copy_driver(source: Path, to: Path) -> Path:
    """Copy what all functions share from one directory of compiled code to another."""
    to.mkdir(parents=True)
    for file in source.glob("*.bin"):
        if "-" not in file.name:  # functions have dtypes
            shutil.copy(file, to)
    return to


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
