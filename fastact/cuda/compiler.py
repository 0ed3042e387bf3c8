"""From CUDA C to a cubin, kept on disk for each compute capability."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from ..cpu import cache as disk
from ..cpu import locks
from .driver import missing_extra

# Contraction to fma is off and nothing is flushed to zero: the operations written are the operations done.
OPTIONS = {"fma": False, "ftz": False, "prec_div": True, "prec_sqrt": True, "std": "c++17"}


@cache
def directory() -> str:
    """The name of the cache directory: it follows from all that decides what a cubin does."""
    digest = disk.sources("cuda/*.py")
    for name in ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "cuda-core"):
        try:
            digest.update(f"{name} {version(name)}\n".encode())
        except PackageNotFoundError:
            continue
    return f"cuda-{digest.hexdigest()[:32]}"


def compile_cubin(source: str, capability: tuple[int, int], name: str) -> bytes:
    """Compile CUDA C for one compute capability; no driver is needed."""
    try:
        from cuda.core import Program, ProgramOptions
    except ImportError as error:
        raise missing_extra() from error
    options = ProgramOptions(arch=f"sm_{capability[0]}{capability[1]}", name=name, **OPTIONS)
    try:
        return bytes(Program(source, "c++", options).compile("cubin").code)
    except Exception as error:  # of cuda.core, whose classes differ between versions
        if "architecture" not in str(error):
            raise
        raise RuntimeError(
            f"NVIDIA's compiler, as it is installed, makes nothing for compute capability {capability[0]}."
            f"{capability[1]}: fastact.cuda needs 7.5 or later, and for new GPUs a new nvidia-cuda-nvrtc"
        ) from error


def cubin(name: str, source: Callable[[], str], capability: tuple[int, int]) -> bytes:
    """The cubin called `name`: from disk, or compiled from `source()` and kept there."""
    label = f"{name}-sm_{capability[0]}{capability[1]}"

    def compile() -> tuple[str, bytes]:
        return label, compile_cubin(source(), capability, label)

    return locks.alone(lambda: disk.load_or_compile(label, compile, directory()))[1]
