"""Measuring the error of a function: over every float32, over a walk of bit patterns, or at chosen points.

A sweep over all patterns goes in blocks; what is finished is kept in a small file, so that an interrupted sweep goes on
where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fastact.accuracy.judges import CHUNK, Against, Function, Judge, Measurement, SameBits
from fastact.accuracy.samples import Floats, numpy_dtype, samples, specials
from fastact.accuracy.ulp import FORMATS
from fastact.cpu.threads import available_cpus

__all__ = ["blocks", "count", "sweep"]

BLOCK = 1 << 22
"""Bit patterns in one unit of work."""


def blocks(dtype: str, stride: int = 1) -> list[tuple[int, int]]:
    """The bit patterns of a dtype as ranges of about `BLOCK` patterns each after striding."""
    total, step = 1 << FORMATS[dtype].bits, BLOCK * stride
    return [(start, min(start + step, total)) for start in range(0, total, step)]


def _left_out(dtype: str, stride: int) -> Floats:
    """The special numbers that a walk with this stride does not visit."""
    special = specials(dtype)
    left_out: Floats = special[special.view(FORMATS[dtype].unsigned) % stride != 0]
    return left_out


def count(dtype: str, stride: int = 1) -> int:
    """How many inputs a sweep with this stride has."""
    return -(-(1 << FORMATS[dtype].bits) // stride) + _left_out(dtype, stride).size


def _block(judge: Judge, dtype: str, bounds: tuple[int, int], stride: int) -> Measurement:
    unsigned, (start, stop) = FORMATS[dtype].unsigned, bounds
    # A block starts at a multiple of the stride plus what the ones before left over.
    for first in range(-(-start // stride) * stride, stop, CHUNK * stride):
        patterns = np.arange(first, min(first + CHUNK * stride, stop), stride, dtype=np.int64).astype(unsigned)
        judge.look(patterns.view(numpy_dtype(dtype)))
    return judge.found()


def sweep(
    function: Function,
    name: str,
    form: str,
    dtype: str,
    parameters: tuple[float, ...] = (),
    *,
    stride: int = 1,
    points: int = 20_000,
    kinks: Sequence[float] = (),
    threads: int | None = None,
    state: Path | None = None,
    progress: Callable[[float], None] = lambda share: None,
    parts: Sequence[Function] = (),
) -> Measurement:
    """Sweep one form of one function: every `stride`-th bit pattern, or for float64 about `points` stratified points.

    Zeros, infinities, NaN, the smallest and the largest numbers of both signs are always among them.
    `state` is the file that remembers finished blocks; it is removed at the end. `progress` is told the finished share.
    With `parts`, the results are only compared with those of these functions, bit for bit.
    """
    about = Measurement(name, form, dtype, tuple(parameters))

    def judge() -> Judge:
        return SameBits(function, parts, about) if parts else Against(function, about)

    if dtype == "float64":
        only = judge()
        x = samples(name, dtype, points, parameters, kinks)
        for start in range(0, x.size, 1000):
            only.look(x[start : start + 1000])
            progress(min(1.0, (start + 1000) / x.size))
        return only.found()
    ranges = blocks(dtype, stride)
    done, total = _load(state, about)
    left = {index: bounds for index, bounds in enumerate(ranges) if index not in done}

    for index, found in _finished(judge, dtype, left, stride, threads or available_cpus()):
        done.add(index)
        total = total + found
        _save(state, total, done)
        progress(len(done) / len(ranges))
    special = judge()
    special.look(_left_out(dtype, stride))
    total = total + special.found()
    if state is not None:
        state.unlink(missing_ok=True)
    return total


def _finished(
    judge: Callable[[], Judge],
    dtype: str,
    ranges: dict[int, tuple[int, int]],
    stride: int,
    threads: int,
) -> Iterator[tuple[int, Measurement]]:
    """The blocks by number, each as soon as one of the threads has finished it."""
    left = list(ranges)
    if left:
        # What Numba compiles is compiled here: it sometimes fails where threads begin to at the same time.
        judge().look(np.zeros(1, numpy_dtype(dtype)))
    with ThreadPoolExecutor(threads) as pool:
        running: dict[Future[Measurement], int] = {}
        try:
            while left or running:
                while left and len(running) < 2 * threads:
                    index = left.pop(0)
                    running[pool.submit(_block, judge(), dtype, ranges[index], stride)] = index
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()


def _load(state: Path | None, about: Measurement) -> tuple[set[int], Measurement]:
    """Finished blocks and what they found, from the file of an interrupted sweep of the same kind."""
    if state is None or not state.exists():
        return set(), about
    try:
        content = json.loads(state.read_text("utf-8"))
        found = content["found"]
        same = (found["name"], found["form"], found["dtype"], tuple(found["parameters"]))
        if same != (about.name, about.form, about.dtype, about.parameters):
            return set(), about
        found["parameters"] = tuple(found["parameters"])
        return set(content["done"]), Measurement(**found)
    except (ValueError, KeyError, TypeError):
        return set(), about


def _save(state: Path | None, total: Measurement, done: set[int]) -> None:
    if state is None:
        return
    state.parent.mkdir(parents=True, exist_ok=True)
    temporary = state.with_suffix(".new")
    temporary.write_text(json.dumps({"found": asdict(total), "done": sorted(done)}), "utf-8")
    temporary.replace(state)
