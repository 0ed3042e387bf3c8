"""Compiled code on disk.

A file holds one object: its symbol, its code and a checksum. Files live in a directory named after everything the code
depends on, so a stale file is never looked at: nothing is ever overwritten with different content, which is what makes
two processes filling the cache at once harmless.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_MAGIC = b"fastact object 1\n"


def root() -> Path:
    """The cache directory: FASTACT_CACHE_DIR, or the user's cache directory of the platform."""
    chosen = os.environ.get("FASTACT_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~\\AppData\\Local")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if base.startswith("~"):  # nobody's home is known: where nothing can be written, which is said once
        base = os.devnull
    return Path(base) / "fastact"


def sources(*patterns: str) -> Any:
    """A digest begun with what kernels are, on a CPU and on a GPU, and with the package's files of these patterns."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    patterns = ("kernels/*.py", "graph/*.py", "activation.py", "api.py", *patterns)
    for file in sorted(file for pattern in patterns for file in package.glob(pattern)):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest


@cache
def source_digest() -> str:
    """A digest of every source file that decides what compiled code does."""
    return str(sources("cpu/*.py").hexdigest())


@cache
def key() -> str:
    """The name of the directory for this package, these compilers and this CPU."""
    # Numba's version decides what it compiles, but asking Numba would import it: the metadata knows too.
    from importlib.metadata import version

    import llvmlite
    import numpy

    from .machine import cpu

    parts = (
        source_digest(),
        version("numba"),
        llvmlite.__version__,
        numpy.__version__,
        *cpu(),
        os.environ.get("NUMBA_OPT", ""),  # how much LLVM does once the code is for a machine: not to be had by others
        sys.platform,
        sys.version,
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@cache
def _complain(directory: Path, reason: str) -> None:
    warnings.warn(
        f"fastact cannot keep compiled code in {directory} ({reason}), so it is compiled anew in every process; "
        "set FASTACT_CACHE_DIR to a writable directory to avoid that",
        RuntimeWarning,
        stacklevel=2,
    )


def _read(file: Path) -> tuple[str, bytes] | None:
    """What `file` holds, or None if it is missing, cut short or damaged."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    head = len(_MAGIC) + 32
    if not content.startswith(_MAGIC) or hashlib.sha256(content[head:]).digest() != content[len(_MAGIC) : head]:
        return None
    symbol, _, code = content[head:].partition(b"\0")
    return symbol.decode(), code


def _write(file: Path, symbol: str, code: bytes) -> None:
    """Write `file` so that any reader sees all of it or nothing."""
    body = symbol.encode() + b"\0" + code
    # What tempfile makes is for its owner alone, but others may share the cache.
    temporary = file.parent / f".{os.urandom(8).hex()}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            stream.write(_MAGIC + hashlib.sha256(body).digest() + body)
        os.replace(temporary, file)
    except OSError as error:
        # On Windows a file that another process has open cannot be replaced; it holds the same code, so all is well.
        with suppress(OSError):
            temporary.unlink()
        if _read(file) is None:
            _complain(root(), error.strerror or str(error))


def load_or_compile(
    name: str, compile: Callable[[], tuple[str, bytes]], directory: str | None = None
) -> tuple[str, bytes]:
    """The object called `name`: from disk, or made by `compile` and kept on disk, by default under `key()`."""
    file = root() / (directory or key()) / f"{name}.bin"
    found = _read(file)
    if found is None:
        found = compile()
        _write(file, *found)
    return found
