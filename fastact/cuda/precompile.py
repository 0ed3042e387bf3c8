"""``python -m fastact.cuda.precompile``: compile all that `fastact.cuda.check` uses, in parallel, into the cache.

It needs no GPU. Done elsewhere, with ``--kernels`` for the GPU's code alone, what it makes can be carried: that code
lies in one directory of the cache, whose name it prints, and depends on this package's sources and the versions of
cuda-core and nvidia-cuda-nvrtc. Loops for the CPU depend on the CPU, and are to be compiled where the check runs.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

import numpy as np

import fastact

from ..api import LOSSES, elementwise_forms
from ..cpu import cache as disk
from ..cpu.threads import available_cpus
from . import check, check_corners, check_rows, compiler, driver, functions, rows
from .check_results import Result

SECTIONS = ("corners", "bits", "rows", "options", "losses", "call", "row-speed")  # speed has the kernels of bits
ALONE = ("losses", "options", "rows", "row-speed")  # where each case has a kernel of its own
patterns = check.patterns
_addresses = itertools.count(1 << 40, 1 << 38)


class Nowhere:
    """An array that has an address, and no memory."""

    def __init__(
        self, shape: tuple[int, ...], dtype: Any, address: int | None = None, strides: tuple[int, ...] | None = None
    ) -> None:
        self.shape, self.dtype, self.address = shape, np.dtype(dtype), next(_addresses) if address is None else address
        item = self.dtype.itemsize
        self._interface = {
            "shape": shape,
            "typestr": "<V2" if self.dtype.name == "bfloat16" else self.dtype.str,
            "data": (self.address, False),
            "strides": None if strides is None else tuple(s * item for s in strides),
            "version": 3,
        }

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self._interface

    def part(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...] | None = None) -> Nowhere:
        return Nowhere(shape, self.dtype, self.address + offset * self.dtype.itemsize, strides)


class NoGpu:
    """What `fastact.cuda.hardware.Gpu` has, and does nothing."""

    name, stream, waiting_stream = "none", 0, 0

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Nowhere:
        return Nowhere(shape, dtype)

    def upload(self, array: np.ndarray[Any, Any]) -> Nowhere:
        return Nowhere(array.shape, array.dtype)

    def download(self, memory: Nowhere) -> np.ndarray[Any, Any]:
        return np.zeros(memory.shape, memory.dtype)

    def copy(self, to: Nowhere, source: Nowhere, stream: int = 0) -> None:
        pass

    def wait(self) -> None:
        pass

    def seconds(self, work: Callable[[int], Any]) -> float:
        work(0)
        return 1.0

    def captured(self, work: Callable[[int], Any]) -> Callable[[], None]:
        return lambda: work(0)


class NoCpu:
    """Stands for `fastact` where only the kernels for GPUs are wanted: results of the right shapes."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def function(*operands: Any, axis: int = -1, **options: Any) -> Any:
            arrays = [np.asarray(a) for a in operands]
            if name in LOSSES:
                rest = [n for k, n in enumerate(arrays[0].shape) if k != axis % arrays[0].ndim]
                found: tuple[Any, ...] = (np.zeros(rest, arrays[0].dtype), np.zeros_like(arrays[0]))
                return found if name.endswith("_with_gradient") else found[0]
            row = rows.row_functions().get(name)
            shape = np.broadcast_shapes(*(a.shape for a in arrays[: len(row.rows) if row is not None else None]))
            if row is not None and row.write is None:
                shape = shape[:-1]
            elementwise = elementwise_forms().get(name)
            outputs = 1 if elementwise is None else len(elementwise[1].outputs)
            found = tuple(np.zeros(shape, arrays[0].dtype) for _ in range(outputs))
            return found if outputs > 1 else found[0]

        return function


_cases: list[check.Case] = []


def _begin(capability: tuple[int, int], names: Sequence[str], quick: bool) -> None:
    """Make this process one that runs no kernel."""
    vars(driver).update(
        capability=lambda device: capability,
        device_of=lambda pointer: 0,
        load=lambda cubin, name: None,
        launch=lambda *arguments: None,
    )
    fastact.set_num_threads(1)
    _cases[:] = check.cases(NoGpu(), names, quick, alone=True)


def _prepare(what: str) -> None:
    """Let this process compile "kernels" for GPUs, or "loops" for the CPU, and nothing else."""
    kernels = what == "kernels"
    for module in (check, check_corners, check_rows):
        vars(module)["fastact"] = NoCpu() if kernels else fastact
    # how many numbers there are is nothing to a kernel
    vars(check)["patterns"] = (lambda dtype, count: np.zeros(256, dtype)) if kernels else patterns
    for part in (functions, rows):
        part._kernel.cache_clear()
        vars(part)["cubin"] = compiler.cubin if kernels else lambda name, source, capability: b""


def _do(what: str, numbers: Sequence[int]) -> list[str]:
    """Run some of the cases; what failed, for the check will find that again."""
    failed = []
    _prepare(what)
    for number in numbers:
        section, name, dtype, case = _cases[number]
        try:
            found = case()
            list([found] if isinstance(found, Result) else found)
        except Exception as error:
            failed.append(f"{section} {name} {dtype}: {type(error).__name__}: {error}"[:500])
    return failed


def tasks(names: Sequence[str], quick: bool, only: Sequence[str], what: Sequence[str]) -> dict[str, list[list[int]]]:
    """The cases by what is compiled, in groups for one process each: those that share a loop go together."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, (section, name, dtype, _) in enumerate(check.cases(NoGpu(), names, quick, alone=True)):
        if section not in only or section not in SECTIONS:
            continue
        about = (section, "" if section == "corners" else name, dtype)
        if "kernels" in what:
            alone = str(number) if section in ALONE else ""
            groups.setdefault(("kernels", *about, alone), []).append(number)
        if "loops" in what and section not in ("call", "row-speed"):
            groups.setdefault(("loops", *about), []).append(number)
    first = sorted(groups, key=lambda key: key[1] not in ALONE)  # what takes longest
    return {kind: [groups[key] for key in first if key[0] == kind] for kind in what}


def run(
    capability: tuple[int, int],
    names: Sequence[str] = (),
    quick: bool = False,
    only: Sequence[str] = SECTIONS,
    what: Sequence[str] = ("kernels", "loops"),
    jobs: int = 1,
    seconds: float | None = None,
) -> list[str]:
    """Compile what the check needs for one compute capability, for so many seconds; what failed."""
    found, started = tasks(names, quick, only, what), time.monotonic()
    failed: list[str] = []
    # spawned, not forked: a forked child may not use what this process has of the GPU
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (capability, tuple(names), quick)) as pool:
        waiting: list[Future[list[str]]] = [pool.submit(_do, "kernels", group) for group in found.get("kernels", ())]
        if found.get("loops"):
            _shared_loops()
        waiting += [pool.submit(_do, "loops", group) for group in found.get("loops", ())]
        left = None if seconds is None else max(0.0, seconds - (time.monotonic() - started))
        try:
            for future in as_completed(waiting, left):
                failed += future.result()
        except TimeoutError:
            failed.append(f"after {seconds:.0f} s {sum(not f.done() for f in waiting)} groups were not compiled yet")
        pool.shutdown(cancel_futures=True)
    return failed


def _shared_loops() -> None:
    """Those that all functions share are compiled once, before the processes would all do that."""
    from ..cpu.ufunc import load_rows, load_views

    fastact.relu(np.zeros(1, np.float32))
    load_rows()
    load_views()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastact.cuda.precompile", description=__doc__)
    parser.add_argument("functions", nargs="*", help="only for these; by default all")
    parser.add_argument("--quick", action="store_true", help="for the check's --quick")
    parser.add_argument("--only", nargs="+", choices=check.SECTIONS, default=check.SECTIONS, metavar="PART")
    parser.add_argument("--capability", default="9.0", help="of the GPU: 9.0, which is the default, for an H200")
    parser.add_argument("--kernels", action="store_true", help="no loops for the CPU")
    parser.add_argument(
        "--jobs", type=int, default=available_cpus(), help="processes; by default as many as there are CPUs"
    )
    parser.add_argument("--seconds", type=float, help="stop after so many")
    options = parser.parse_args(arguments)
    major, _, minor = options.capability.partition(".")
    if not (major.isdigit() and minor.isdigit()):
        parser.error(f"--capability must be of the form 9.0, not {options.capability!r}")
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, not {options.jobs}")
    started = time.monotonic()
    what = ("kernels",) if options.kernels else ("kernels", "loops")
    capability = int(major), int(minor)
    failed = run(capability, options.functions, options.quick, options.only, what, options.jobs, options.seconds)
    print(*failed, sep="\n", end="\n" if failed else "")
    print(f"{time.monotonic() - started:.1f} s; kernels are in {disk.root() / compiler.directory()}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
