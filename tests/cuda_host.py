"""Kernels for a GPU on the CPU: their CUDA C compiled by the machine's C++ compiler, and a driver that runs it.

With this in place of the driver the whole way of a call is tested, from an array to its result: layout, choice of the
kernel, launch arguments, and the bits that the kernel's own source gives.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fastact.cuda import driver, functions, rows

from .functions import outputs

DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}
HEADER = Path(__file__).with_name("cuda_host.h")
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler: kernels cannot run on the CPU")

_ASM = re.compile(r'asm\("([\w.]+) %0, %1(?:, %2)?;" : "=\w"\((\w+)\) : (.*)\);')
_SIGNATURE = re.compile(r'extern "C" __global__ void __launch_bounds__\([\w, ]+\) (\w+)\(([^)]*)\)')


def host_source(source: str, architecture: int) -> str:
    """CUDA C made into C++ for the CPU, with an entry `run` that takes its arguments as 64-bit words.

    It returns how often threads of a warp missed each other.
    """

    def called(match: re.Match[str]) -> str:
        operands = re.findall(r'"\w"\(([^()]*(?:\[\d\])?)\)', match[3])
        return f"{match[2]} = ptx_{match[1].replace('.', '_')}({', '.join(operands)});"

    found = _SIGNATURE.search(source)
    assert found is not None
    types = [p.rsplit(" ", 1)[0].strip() if "*" not in p else p.rsplit("*", 1)[0] + "*" for p in found[2].split(",")]
    words = []
    for k, kind in enumerate(types):
        plain = {"float": f"cast<float>((unsigned)a[{k}])", "double": f"cast<double>(a[{k}])"}
        words.append(plain.get(kind, f"({kind})a[{k}]"))
    return f"""#define __CUDA_ARCH__ {architecture}
#include "{HEADER}"
{_ASM.sub(called, source)}
extern "C" int run(unsigned blocks, unsigned threads, const unsigned long long *a) {{
  missed = 0;
  blockDim.x = threads;
  for (unsigned b = 0; b < blocks; b++) {{
    blockIdx.x = b;
    run_block(threads, [&] {{ {found[1]}({", ".join(words)}); }});
  }}
  return missed;
}}
"""


class HostDriver:
    """The driver of a machine whose GPU is its CPU. `launches` lists what was enqueued: device, stream, grid, block."""

    def __init__(self, directory: Path, architecture: int = 900) -> None:
        self.directory, self.architecture = directory, architecture
        self.launches: list[tuple[int, ...]] = []
        self.arguments: list[tuple[Any, ...]] = []
        self.loaded: dict[bytes, Any] = {}
        self.idle = False  # whether launches are only noted

    def install(self, monkeypatch: pytest.MonkeyPatch) -> HostDriver:
        for name in ("capability", "load", "launch", "device_of"):
            monkeypatch.setattr(driver, name, getattr(self, name))
        for module in (functions, rows):
            monkeypatch.setattr(module, "cubin", lambda name, source, capability: self.compile(source()))
            module._kernel.cache_clear()
        return self

    def capability(self, device: int) -> tuple[int, int]:
        return self.architecture // 100, self.architecture // 10 % 10

    def device_of(self, pointer: int) -> int:
        return 0

    def compile(self, source: str) -> bytes:
        return host_source(source, self.architecture).encode()

    def load(self, code: bytes, name: str) -> Any:
        if code not in self.loaded:
            if self.idle:
                return None
            stem = self.directory / hashlib.sha256(code).hexdigest()[:24]
            if not stem.with_suffix(".so").exists():
                stem.with_suffix(".cpp").write_bytes(code)
                options = ["-std=c++17", "-O1", "-ffp-contract=off", "-w", "-shared", "-fPIC"]
                if platform.machine() in ("x86_64", "AMD64"):
                    options.append("-mfma")
                subprocess.run([COMPILER, *options, f"{stem}.cpp", "-o", f"{stem}.so"], check=True)
            self.loaded[code] = ctypes.CDLL(f"{stem}.so")
        return self.loaded[code]

    def launch(self, device: int, stream: int, kernel: Any, grid: int, block: int, arguments: Sequence[Any]) -> None:
        assert 0 < grid < 2**31
        self.launches.append((device, stream, grid, block))
        self.arguments.append(tuple(arguments))
        if self.idle:
            return
        words = (ctypes.c_uint64 * len(arguments))()
        for k, value in enumerate(arguments):
            if isinstance(value, np.float32):
                words[k] = int(value.view(np.uint32))
            elif isinstance(value, float):
                words[k] = int(np.float64(value).view(np.uint64))
            else:
                words[k] = value & (2**64 - 1)
        assert kernel.run(grid, block, words) == 0, "threads of a warp that should exchange something do not meet"


class Array:
    """A NumPy array that says it lies on a GPU, of a library of the array API standard."""

    def __init__(self, array: np.ndarray[Any, Any], read_only: bool = False, stream: int | None = None) -> None:
        self.array, self.read_only, self.stream = array, read_only, stream

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        kind = "<V2" if self.array.dtype == ml_dtypes.bfloat16 else self.array.dtype.str
        return {
            "shape": self.array.shape,
            "typestr": kind,
            "data": (self.array.ctypes.data, self.read_only),
            "strides": None if self.array.flags.c_contiguous else self.array.strides,
            "version": 3,
            "stream": self.stream,
        }

    @property
    def dtype(self) -> Any:
        return self.array.dtype

    @property
    def device(self) -> str:
        return "gpu"

    def __array_namespace__(self) -> Any:
        return Namespace


class Namespace:
    """What a library of the array API standard is asked for."""

    @staticmethod
    def empty(shape: tuple[int, ...], dtype: Any, device: str) -> Array:
        assert device == "gpu"
        return Array(np.full(shape, 77, dtype))


class Huge:
    """An array that has an address and a shape, and no memory."""

    def __init__(self, shape: tuple[int, ...], pointer: int = 1 << 40, strides: tuple[int, ...] | None = None) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "<f4",
            "data": (pointer, False),
            "strides": strides,
            "version": 3,
        }


def same(got: Any, want: Any) -> bool:
    """Whether results on the GPU have the bits of those on the CPU (any NaN equals any NaN)."""
    results = got if isinstance(got, tuple) else (got,)
    pairs = list(zip([r.array for r in results], outputs(want), strict=True))
    for a, b in pairs:
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        x, y = a.astype(np.float64), b.astype(np.float64)
        if not np.all((x == y) & (np.signbit(x) == np.signbit(y)) | (x != x) & (y != y)):
            return False
    return True
