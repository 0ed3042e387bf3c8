"""What no implementation can beat on this machine: moving the bytes, and doing the arithmetic.

The time to copy as many bytes is measured beside each function. The arithmetic is bounded by LLVM's model of the
CPU: ``llvm-mca``, where it is installed, says how many cycles the ports need for one turn of the compiled loop, and a
chain of dependent additions tells how long a cycle is.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from fastact.bench.arrays import aligned

__all__ = ["Bound", "NoBound", "analyser", "bound_of", "clock", "copies", "parse_report", "turns_of"]

Call = Callable[..., Any]


class NoBound(LookupError):
    """There is no bound for this function; the message says why."""


# --- bytes ----------------------------------------------------------------------------------------


@cache
def _copy_loop() -> np.ufunc:
    """fastact's own driver around a loop that does nothing: it has the threads and the streaming stores."""
    from fastact.cpu.ufunc import elementwise

    return elementwise("bench_copy", lambda x: x, (1, 1), "A copy.", vectors=4)


def copies(moved: int, libraries: tuple[str, ...]) -> dict[str, Call]:
    """Ways to copy memory such that `moved` bytes are read or written; the fastest is the limit.

    That is half as many bytes from here to there. Which one is fastest depends on the size: memcpy, or a loop that has
    threads and stores past the caches.
    """
    count = max(1, moved // 8)
    source, target = aligned((count,), "float32"), aligned((count,), "float32")
    source.fill(1.0)
    target.fill(0.0)
    found: dict[str, Call] = {
        "memcpy": partial(np.copyto, target, source),
        "loop": partial(_copy_loop(), source, target),
    }
    if "torch" in libraries:
        torch = importlib.import_module("torch")
        found["torch"] = partial(torch.from_numpy(target).copy_, torch.from_numpy(source))
    return found


# --- arithmetic -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bound:
    """What llvm-mca says of one compiled loop, in cycles an element."""

    throughput: float
    """the most loaded port, with nothing else in the way"""
    simulated: float
    """the model's run of the loop: dependencies, buffers and the front end included"""
    instructions: float


@cache
def analyser() -> str | None:
    """The llvm-mca to call: the plain name, else the highest version there is."""
    plain = shutil.which("llvm-mca")
    if plain:
        return plain
    found: dict[int, str] = {}
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        for file in Path(directory or ".").glob("llvm-mca-*"):
            version = file.name.removeprefix("llvm-mca-")
            if version.isdecimal() and os.access(file, os.X_OK):
                found.setdefault(int(version), str(file))
    return found[max(found)] if found else None


@cache
def bound_of(public: str, dtype: str) -> Bound:
    """The bound of the loop that the function called `public` runs for `dtype` at default parameters.

    Raises `NoBound` where there is none: no llvm-mca, a CPU that it does not know, a function along an axis.
    """
    import fastact as fa
    from fastact.cpu import machine
    from fastact.cpu.compiler import assembly_of_block
    from fastact.cpu.layout import SCALARS
    from fastact.cpu.ufunc import BLOCKS

    program = analyser()
    if program is None:
        raise NoBound("llvm-mca is not installed")
    getattr(fa, public)  # makes its loops
    label = f"{public}-default" if (f"{public}-default", dtype) in BLOCKS else public
    if (label, dtype) not in BLOCKS:
        raise NoBound(f"{public} is not one loop over its elements")
    block = BLOCKS[label, dtype](SCALARS)
    body, elements = turns_of(assembly_of_block(block), block.lanes)
    cpu = machine.cpu()[0]
    command = [program, f"-mcpu={cpu}", "-iterations=200", "-instruction-info=0", "-resource-pressure=0", "-"]
    ran = subprocess.run(command, input=body, capture_output=True, text=True, check=False, timeout=60)
    if "not a recognized processor" in ran.stderr or "not a recognized cpu" in ran.stderr.lower():
        raise NoBound(f"{Path(program).name} does not know the CPU {cpu}")
    if ran.returncode:
        reason = ran.stderr.strip().splitlines() or ["no message"]
        raise NoBound(f"{Path(program).name} cannot read the loop: {reason[0][:100]}")
    return parse_report(ran.stdout, elements)


_LABEL = re.compile(r"^([.\w$]+):")


def turns_of(assembly: str, lanes: int) -> tuple[str, int]:
    """The instructions of the main loop of a compiled block, and how many elements one turn does.

    The main loop is the longest stretch between a label and a jump back to it. The compiler may have unrolled it: then
    the counter goes up by a multiple of `lanes`.
    """
    lines = [line.split("#")[0].rstrip() for line in assembly.splitlines()]
    labels: dict[str, int] = {}
    best: tuple[int, int] = (0, 0)
    for number, line in enumerate(lines):
        found = _LABEL.match(line)
        if found:
            labels[found[1]] = number
            continue
        words = line.split()
        start = labels.get(words[-1]) if words else None
        if start is not None and number - start > best[1] - best[0]:
            best = (start, number)
    body = lines[best[0] : best[1] + 1]
    if len(body) < 2:
        raise NoBound("there is no loop in the compiled code")
    steps = [int(step) for line in body for step in re.findall(r"\badd\S*\s+.*?[$#](\d+)\b", line)]
    multiples = [step for step in steps if step >= lanes and step % lanes == 0]
    return "\n".join(line for line in body if not line.lstrip().startswith(".") or line.endswith(":")) + "\n", min(
        multiples, default=lanes
    )


def parse_report(report: str, elements: int) -> Bound:
    """The figures in what llvm-mca prints, for `elements` elements a turn."""
    figures = dict(re.findall(r"^([\w ]+):\s+([\d.]+)$", report, re.MULTILINE))
    try:
        turns = float(figures["Iterations"])
        return Bound(
            float(figures["Block RThroughput"]) / elements,
            float(figures["Total Cycles"]) / turns / elements,
            float(figures["Instructions"]) / turns / elements,
        )
    except KeyError as missing:
        raise NoBound(f"llvm-mca prints no {missing}") from None


# --- the clock ------------------------------------------------------------------------------------

_TURNS = 4_000
_CHAIN = 32


@cache
def _chain() -> Call:
    """A compiled loop of additions and exclusive ors, each of which needs the one before: a cycle each."""
    numba = importlib.import_module("numba")

    def chain(x: int, a: int, b: int, turns: int) -> int:
        for _ in range(turns):
            x = (((((((x + a) ^ b) + a) ^ b) + a) ^ b) + a) ^ b
            x = (((((((x + a) ^ b) + a) ^ b) + a) ^ b) + a) ^ b
            x = (((((((x + a) ^ b) + a) ^ b) + a) ^ b) + a) ^ b
            x = (((((((x + a) ^ b) + a) ^ b) + a) ^ b) + a) ^ b
        return x

    return numba.njit("int64(int64, int64, int64, int64)")(chain)  # type: ignore[no-any-return]


def clock() -> float:
    """Cycles a second, now: the best of three short runs."""
    run = _chain()
    best = float("inf")
    for _ in range(3):
        start = perf_counter()
        run(1, 3, 5, _TURNS)
        best = min(best, perf_counter() - start)
    return _TURNS * _CHAIN / best
