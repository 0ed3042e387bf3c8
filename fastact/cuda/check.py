"""``python -m fastact.cuda.check``: whether this machine's GPU keeps what `fastact.cuda` promises.

Bits are compared with the CPU, times with a copy of device memory and with PyTorch and CuPy if they are installed. A
table goes to standard output and, with ``--json FILE``, everything measured to a file. The exit status is 1 if
anything missed its mark, 2 if there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

import fastact

from .. import cuda
from ..api import LOSSES, ROWS, elementwise_forms
from ..cpu.threads import available_cpus
from . import driver
from .check_corners import corners
from .check_libraries import Own, libraries
from .check_results import INTEGERS, Result, differences, dtypes
from .check_rows import loss_accuracy, loss_cases, option_accuracy, option_cases, row_accuracy, row_operands
from .rows import row_functions

COPY = {"elementwise": 90.0, "rows": 85.0}  # per cent of the bandwidth of a copy
SLOWER = 1.05  # than PyTorch, at most: what repeats of a measurement differ by
CALL = 5e-6  # seconds of the host
COLUMNS = (256, 512, 1024, 2048, 4096, 8192, 16384)
LARGE = 1 << 24  # elements that fill a GPU
SECTIONS = ("corners", "bits", "rows", "options", "losses", "call", "speed", "row-speed")


@lru_cache(4)
def patterns(dtype: np.dtype[Any], count: int) -> np.ndarray[Any, Any]:
    """`count` floats of a dtype whose bit patterns are spread evenly: all of them if there are no more."""
    integer = INTEGERS[dtype.itemsize]
    step = 2 ** (8 * dtype.itemsize) // count
    if step == 0:
        raise ValueError(f"there are not {count} different {dtype}")
    start = np.arange(count, dtype=integer) * integer(step)
    # the lower bits vary too
    made: np.ndarray[Any, Any] = start + np.arange(count, dtype=integer) * integer(0x9E37) % integer(step)
    return made.view(dtype)


def arguments(name: str) -> tuple[float, ...]:
    """Values for parameters without a default."""
    record, _ = elementwise_forms()[name]
    return tuple(0.25 for _ in record.parameters) if any(p.default is None for p in record.parameters) else ()


def as_tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def bits(gpu: Any, name: str, dtype_name: str, count: int) -> Result:
    """Whether a function gives the bits of the CPU."""
    _, form = elementwise_forms()[name]
    dtype = dtypes()[dtype_name]
    x = patterns(dtype, min(count, 2 ** (8 * dtype.itemsize)))
    operands = [np.resize(patterns(dtype, 1 << 16)[::-1], x.shape)] * (len(form.arrays) - 1) + [x]
    values = tuple(dtype.type(v) for v in arguments(name))
    with np.errstate(all="ignore"):
        want = as_tuple(getattr(fastact, name)(*operands, *values))
    outputs = tuple(gpu.empty(x.shape, dtype) for _ in want)
    getattr(cuda, name)(*(gpu.upload(a) for a in operands), *values, out=outputs)
    wrong = sum(differences(gpu.download(a), np.asarray(b)) for a, b in zip(outputs, want, strict=True))
    return Result("bits", name, dtype_name, x.size, wrong, "different", wrong == 0)


def filled(gpu: Any, size: int, dtype: Any) -> Any:
    """An array on the GPU with numbers from a normal distribution, made there from a few."""
    few = np.random.default_rng(0).normal(size=min(size, 1 << 16)).astype(dtype)
    return repeated(gpu, few, (size,))


def repeated(gpu: Any, few: np.ndarray[Any, Any], shape: tuple[int, ...]) -> Any:
    """An array on the GPU made of `few` elements again and again."""
    made, done, size = gpu.empty(shape, few.dtype), few.size, math.prod(shape)
    gpu.copy(made.part(0, (done,)), gpu.upload(few.reshape(-1)))
    while done < size:
        n = min(done, size - done)
        gpu.copy(made.part(done, (n,)), made.part(0, (n,)))
        done += n
    gpu.wait()
    return made


def bandwidth(gpu: Any, name: str, dtype_name: str, size: int, torch: Callable[..., Any] | None) -> Result:
    """The bytes a second of an elementwise function as a share of those of a copy."""
    _, form = elementwise_forms()[name]
    dtype, values = dtypes()[dtype_name], arguments(name)
    x = filled(gpu, size, dtype)
    inputs = [filled(gpu, size, dtype) for _ in form.arrays[1:]] + [x]
    outputs = tuple(gpu.empty((size,), dtype) for _ in form.outputs)
    function = getattr(cuda, name)
    own = gpu.seconds(lambda stream: function(*inputs, *values, out=outputs, stream=stream))
    copy = gpu.seconds(lambda stream: gpu.copy(outputs[0], x, stream))
    share = 100 * (len(inputs) + len(outputs)) / 2 * copy / own
    ratio = torch_time(torch, gpu.download(x), own) if torch is not None and len(inputs) == len(outputs) == 1 else None
    passed = share >= COPY["elementwise"] and (ratio is None or ratio * SLOWER >= 1)
    passed = passed or size < LARGE  # the bars begin there: those are for the record
    return Result("speed", name, dtype_name, size, share, "% of copy", passed, ratio)


def row_bandwidth(gpu: Any, name: str, columns: int, torch: Callable[..., Any] | None) -> Result:
    """The same for a row function on 2^26 elements."""
    rows, dtype = 2**26 // columns, np.dtype(np.float32)
    operands = row_operands(name, (256, columns), dtype)
    inputs = [repeated(gpu, a, (rows, *a.shape[1:])) for a in operands]
    want = (rows, columns) if row_functions()[name].write is not None else (rows,)
    out, room = gpu.empty(want, dtype), gpu.empty((rows, columns), dtype)
    own = gpu.seconds(lambda stream: getattr(cuda, name)(*inputs, out=out, stream=stream))
    copy = gpu.seconds(lambda stream: gpu.copy(room, inputs[0], stream))
    streams = len(row_functions()[name].rows) + (want == (rows, columns))
    share = 100 * streams / 2 * copy / own
    ratio = None
    if torch is not None and len(inputs) == 1:
        ratio = torch_time(lambda x: torch(x, -1), gpu.download(inputs[0]), own)
    return Result("row speed", name, "float32", columns, share, "% of copy", share >= COPY["rows"], ratio)


def torch_time(function: Callable[..., Any], array: np.ndarray[Any, Any], own: float) -> float:
    """The time of PyTorch's function on the same numbers, as a multiple of our own."""
    import torch

    if array.dtype.name == "bfloat16":
        x = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).cuda()
    else:
        x = torch.from_numpy(array).cuda()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    function(x)
    graph, calls, times = torch.cuda.CUDAGraph(), 10, []
    with torch.cuda.graph(graph):
        for _ in range(calls):
            function(x)
    for turn in range(23):
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        if turn >= 3:
            times.append(start.elapsed_time(end) / 1e3 / calls)
    return float(np.median(times)) / own


def torch_functions() -> dict[str, Callable[..., Any]]:
    """PyTorch's kernels by our names, if PyTorch and its GPU are there."""
    try:
        import torch
    except ImportError:
        return {}
    if not torch.cuda.is_available():
        return {}
    from torch.nn import functional

    found: dict[str, Callable[..., Any]] = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "log_sigmoid": functional.logsigmoid,
        "hard_tanh": functional.hardtanh,
        "hard_swish": functional.hardswish,
        "hard_sigmoid": functional.hardsigmoid,
        "logsumexp": torch.logsumexp,
    }
    for name in ("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "gelu", "mish", "softplus", "softsign"):
        found[name] = getattr(functional, name)
    return {**found, "softmax": functional.softmax, "log_softmax": functional.log_softmax}


def call_time(gpu: Any, library: Any = None) -> Result:
    """What a call costs the host, for one element with `out=`, on arrays of a library or the check's own."""
    library = library or Own(gpu)
    x, out = library.upload(np.ones(1, np.float32)), library.empty((1,), np.float32)
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(200):
            cuda.relu(x, out=out, stream=0)
        best = min(best, (time.perf_counter() - start) / 200)
        gpu.wait()
    # Numba's arrays do not say where they are, and those of DLPack are handed over: they are for the record
    passed = best < CALL or library.name in ("numba", "dlpack")
    return Result("call", "relu", library.name, 1, best * 1e6, "us", passed)


Case = tuple[str, str, str, Callable[[], Iterator[Result] | Result]]
"""The section, what it is about, the dtype, and the measurement."""


def cases(gpu: Any, names: Sequence[str], quick: bool, alone: bool = False) -> Iterator[Case]:
    """Everything, in the order in which a fault is easiest to understand; `alone`, with no other library."""
    count = 1 << 22 if quick else 1 << 26
    torch = {} if alone else torch_functions()
    others = [] if alone else list(libraries(gpu))
    rows = [name for name in row_functions() if not names or name in names]
    chosen = [
        name
        for name, (_, form) in elementwise_forms().items()
        if (name in names if names else not quick or form.kind in ("forward", "derivative"))
    ]
    for label, corner in corners(gpu, quick, LARGE, others):
        yield "corners", label, "", corner
    for name in chosen:
        kind = elementwise_forms()[name][1].kind
        for dtype in dtypes():
            size = {"float64": 1 << 18}.get(dtype, count if kind == "forward" else count >> 4)
            yield "bits", name, dtype, partial(bits, gpu, name, dtype, size)
    for name in rows:
        for dtype in dtypes():
            for columns in (1, 77, 1000, 4096, 16384, 40_000):
                yield "rows", name, dtype, partial(row_accuracy, gpu, name, dtype, columns)
    for dtype in dtypes():
        for columns in (1, 77, 1000, 4096, 40_000):
            for name, case in option_cases(names):
                yield "options", name, dtype, partial(option_accuracy, gpu, name, case, dtype, columns)
            for name, case in loss_cases(names):
                yield "losses", name, dtype, partial(loss_accuracy, gpu, name, case, dtype, columns)
    yield "call", "relu", "float32", partial(call_time, gpu)
    for library in others:
        yield "call", "relu", library.name, partial(call_time, gpu, library)
    for name in chosen:
        for dtype in ("float32", *({"bfloat16"} & set(dtypes()))):
            for size in (1 << 20, LARGE, 1 << 28) if elementwise_forms()[name][1].kind == "forward" else (LARGE,):
                yield "speed", name, dtype, partial(bandwidth, gpu, name, dtype, size, torch.get(name))
    for name in rows:
        for columns in COLUMNS:
            yield "row-speed", name, "float32", partial(row_bandwidth, gpu, name, columns, torch.get(name))


def run(gpu: Any, names: Sequence[str], quick: bool, only: Sequence[str] = SECTIONS) -> Iterator[Result]:
    """The results of all cases of some sections. One that fails is a miss; the others go on if the GPU does."""
    for section, name, dtype, case in cases(gpu, names, quick):
        if section not in only:
            continue
        try:
            found = case()
            yield from [found] if isinstance(found, Result) else found
        except Exception as error:  # of the driver, of NVIDIA's compiler, of PyTorch
            yield Result(section, name, dtype, 0, 0.0, f"{type(error).__name__}: {error}"[:500], False)
            gpu.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastact.cuda.check", description=__doc__)
    parser.add_argument("functions", nargs="*", help="only these; by default all")
    parser.add_argument(
        "--quick", action="store_true", help="fewer numbers, no vjp or with_derivative unless they are named"
    )
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, metavar="PART", help=f"only some of {', '.join(SECTIONS)}"
    )
    parser.add_argument("--seconds", type=float, help="stop after so many, and say so")
    parser.add_argument("--jobs", type=int, help="processes that compile before; by default as many as there are CPUs")
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.functions) - {*elementwise_forms(), *ROWS, *LOSSES}):
        parser.error(f"there is no function {unknown[0]!r}, or not by that name")
    try:
        from . import precompile
        from .hardware import Gpu

        gpu = Gpu()
    except (ImportError, RuntimeError) as error:
        print(f"There is nothing to check here: {error}")
        return 2
    print(f"{gpu.name}, compute capability {gpu.capability[0]}.{gpu.capability[1]}", flush=True)
    programs = versions()
    machine = {"gpu": gpu.name, "versions": programs}
    print(", ".join(f"{name} {number}" for name, number in programs.items()), flush=True)
    found, start, saved = list[Result](), time.monotonic(), 0.0
    left_out, only = False, options.only or SECTIONS
    jobs = available_cpus() if options.jobs is None else options.jobs
    if jobs > 1:
        failed = precompile.run(
            gpu.capability, options.functions, options.quick, only, jobs=jobs, seconds=options.seconds
        )
        print(*failed, f"compiled in {time.monotonic() - start:.1f} s", sep="\n", flush=True)
    for result in run(gpu, options.functions, options.quick, only):
        found.append(result)
        print(result, flush=True)
        spent = time.monotonic() - start
        if options.json and spent - saved > 5:  # for whoever is stopped
            save(options.json, machine, found)
            saved = spent
        if options.seconds and spent > options.seconds:
            left_out = True
            break
    if options.json:
        save(options.json, machine, found)
    missed = [r for r in found if not r.passed]
    if missed:
        print("missed:", *missed, sep="\n")
    print(f"{len(found)} checks, {len(missed)} missed{', others left out' if left_out else ''}")
    return 1 if missed or left_out else 0


def versions() -> dict[str, str]:
    """What decides what is measured."""
    found = {"driver": driver.version()}
    for name in ("cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc", "numba-cuda", "numba", "numpy", "torch", "cupy"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def save(path: str, machine: dict[str, Any], found: Sequence[Result]) -> None:
    """Write everything measured so far, so that whoever reads it sees all of that."""
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        json.dump({**machine, "results": [asdict(r) for r in found]}, file, indent=1)
    os.replace(f"{path}.part", path)


if __name__ == "__main__":
    sys.exit(main())
