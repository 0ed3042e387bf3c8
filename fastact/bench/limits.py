"""What no implementation can beat on this machine: moving the bytes, and doing the arithmetic.

The time to copy as many bytes is measured beside each function. The arithmetic is bounded by LLVM's model of the
CPU: ``llvm-mca``, where it is installed, says how many cycles the ports need for one turn of the compiled loop, and
loops of products and of additions tell how long a cycle is. What the loop really takes where no memory is in the way
is measured too: the same loop, on as many threads, over data that stay in each core's first cache.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from llvmlite import ir

from fastact.bench.arrays import aligned, numpy_dtype
from fastact.cpu.emit import Block

__all__ = ["Bound", "NoBound", "analyser", "bound_of", "clock", "copies", "in_cache", "parse_report", "turns_of"]

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
    """the most loaded ports, with nothing else in the way"""
    simulated: float
    """the model's run of the loop: dependencies, buffers and the front end included"""
    instructions: float


@cache
def analyser() -> str | None:
    """The llvm-mca to call: the highest version there is, for it knows most CPUs; else the plain name."""
    found: dict[int, str] = {}
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        for file in Path(directory or ".").glob("llvm-mca-*"):
            version = file.name.removeprefix("llvm-mca-")
            if version.isdecimal() and os.access(file, os.X_OK):
                found.setdefault(int(version), str(file))
    return found[max(found)] if found else shutil.which("llvm-mca")


def _block_of(public: str, dtype: str) -> Block:
    import fastact as fa
    from fastact.cpu.layout import SCALARS
    from fastact.cpu.ufunc import BLOCKS

    getattr(fa, public)  # makes its loops
    label = f"{public}-default" if (f"{public}-default", dtype) in BLOCKS else public
    if (label, dtype) not in BLOCKS:
        raise NoBound(f"{public} is not one loop over its elements")
    return BLOCKS[label, dtype](SCALARS)


@cache
def bound_of(public: str, dtype: str) -> Bound:
    """The bound of the loop that the function called `public` runs for `dtype` at default parameters.

    Raises `NoBound` where there is none: no llvm-mca, a CPU that it does not know, a function along an axis.
    """
    from fastact.cpu import machine
    from fastact.cpu.compiler import assembly_of_block

    program = analyser()
    if program is None:
        raise NoBound("llvm-mca is not installed")
    block = _block_of(public, dtype)
    body, elements = turns_of(assembly_of_block(block), block.lanes)
    cpu = machine.cpu()[0]
    command = [program, f"-mcpu={cpu}", "-iterations=200", "-instruction-info=0", "-"]
    ran = subprocess.run(command, input=body, capture_output=True, text=True, check=False, timeout=60)
    if "not a recognized processor" in ran.stderr or "not a recognized cpu" in ran.stderr.lower():
        raise NoBound(f"{Path(program).name} does not know the CPU {cpu}")
    if ran.returncode:
        reason = ran.stderr.strip().splitlines() or ["no message"]
        raise NoBound(f"{Path(program).name} cannot read the loop: {reason[0][:100]}")
    bound = parse_report(ran.stdout, elements)
    if "zmm" not in body:
        return bound
    # Copies of registers are made where registers are renamed, not by a port.
    body = "".join(line for line in body.splitlines(keepends=True) if not _COPY.fullmatch(line.strip()))
    ran = subprocess.run(command, input=body, capture_output=True, text=True, check=True, timeout=60)
    wide = zen4_products(body) if cpu == "znver4" else wide_ports(ran.stdout)
    least = max(parse_report(ran.stdout, elements).throughput, wide / elements)
    return replace(bound, throughput=least)


_COPY = re.compile(r"vmov\w+\s+%zmm\d+, %zmm\d+")


def wide_ports(report: str) -> float:
    """Cycles a turn that two ports of an Intel CPU need for arithmetic on 512 bits, which no other does; 0 of others.

    What the model calls the throughput of a block takes some operations to be done by the ports of narrower ones too,
    and counts those that only one of the two does apart from those that both do. So here is what the model's run of
    the loop puts on each.
    """
    found = re.search(r"^Resource pressure per iteration:\n(.*)\n(.*)$", report, re.MULTILINE)
    numbers = dict(re.findall(r"^(\[\d+(?:\.\d+)?\])\s+- \w+Port0?([05])$", report, re.MULTILINE))
    if found is None or len(numbers) != 2:
        return 0.0
    pressure = dict(zip(found[1].split(), found[2].split(), strict=True))
    return sum(float(pressure[number].replace("-", "0")) for number in numbers) / 2


_ON_TWO_PIPES = re.compile(r"^\s*(vfn?m|vmul|vcmp|vdiv|vperm[it]2).*%zmm", re.MULTILINE)


def zen4_products(body: str) -> float:
    """Cycles a turn that a Zen 4 needs for what two of its four pipes do, of 512 bits one a cycle.

    These are products, comparisons and divisions, which take two, but also what looks up in two registers: the model
    takes other pipes to do that, but 12 of those and 12 fused multiply-adds take 24 cycles.
    """
    found = Counter(_ON_TWO_PIPES.findall(body))
    return float(found.total() + found["vdiv"])


_ROOM = 8192  # bytes of each operand: with those of all operands they stay in the first cache


@cache
def _in_cache_ufunc(public: str, dtype: str) -> np.ufunc:
    from fastact.cpu import machine, ufunc
    from fastact.cpu.compiler import compile_emitted
    from fastact.cpu.emit import ITEMSIZE, counted, emit_block

    block = _block_of(public, dtype)
    if block.scalars:
        raise NoBound(f"{public} has parameters without defaults")
    size = ir.IntType(64)(_ROOM // ITEMSIZE[dtype])

    def emit(builder: Any, args: Any, n: Any) -> None:
        def again(done: Any) -> None:
            left = builder.sub(n, done)
            now = builder.select(builder.icmp_signed("<", left, size), left, size)
            emit_block(builder, args, now, block, machine.target())

        counted(builder, ir.IntType(64)(0), n, size.constant, again)

    operands, name = (block.inputs, block.outputs), f"{block.name}-in-cache"
    loop = ufunc.block_loop(
        name, block.kernel, operands, dtype, 0, block.lanes * block.width // 8 // machine.vector_bytes()
    )
    loop.block = loop.block_past_caches = machine.load(*compile_emitted(name, emit))
    return ufunc.make_ufunc(
        name, "", operands, [ufunc.BuiltLoop([numpy_dtype(dtype)] * sum(operands), loop, "elementwise")]
    )


def in_cache(public: str, dtype: str, x: Any) -> Call:
    """The arithmetic of the function called `public` for as many elements as `x` has, without the memory.

    fastact's own loop, with its threads and the size of their chunks, but each chunk goes round in its first elements.
    Raises `NoBound` where there is no such loop.
    """
    made = _in_cache_ufunc(public, dtype)
    return partial(made, *[x] * made.nin, out=tuple(np.empty_like(x) for _ in range(made.nout)))


_LABEL = re.compile(r"^([.\w$]+):")
_COMMENT = re.compile(r"(#+(\s|$)|//).*")  # on Arm a number begins with #
_ADDITION = re.compile(r"\b(add|sub)[a-z]*\s+.*?[$#](-?\d+)\b")


def turns_of(assembly: str, lanes: int) -> tuple[str, int]:
    """The instructions of the main loop of a compiled block, and how many elements one turn does.

    The main loop is the longest stretch between a label and a jump back to it that is the first one after the counter
    has gone up: what is rare lies behind the loop, and jumps back into it. The compiler may have unrolled the loop:
    then the counter goes up by a multiple of `lanes`.
    """
    lines = [_COMMENT.sub("", line).rstrip() for line in assembly.splitlines()]
    labels: dict[str, int] = {}
    found = [(False, 0, 0, lanes)]
    steps: list[tuple[int, int]] = []  # since the last jump back
    for number, line in enumerate(lines):
        label = _LABEL.match(line)
        if label:
            labels[label[1]] = number
            continue
        step = _step(line)
        if step >= lanes and step % lanes == 0:
            steps.append((number, step))
        start = labels.get(line.split()[-1]) if line else None
        if start is not None:
            inside = [step for place, step in steps if place > start]
            found.append((bool(inside), number - start, start, min(inside, default=lanes)))
            steps = []
    _, length, start, elements = max(found)
    if not length:
        raise NoBound("there is no loop in the compiled code")
    body = lines[start : start + length + 1]
    return "\n".join(line for line in body if not line.lstrip().startswith(".") or line.endswith(":")) + "\n", elements


def _step(line: str) -> int:
    """What an instruction adds to a counter."""
    found = _ADDITION.search(line)
    return 0 if found is None else int(found[2]) * (1 if found[1] == "add" else -1)


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

_TURNS = 2_000
_STEPS = 168  # of a turn
_CHAINS = 14  # products that do not wait for each other: as many as 16 registers hold beside their two factors


def _emit_additions(builder: Any, room: Any, turns: Any) -> None:
    """Additions and exclusive ors, each of which needs the one before: a cycle each."""

    def step(k: int, link: Any) -> Any:
        return builder.add(link, numbers[0]) if k % 2 else builder.xor(link, numbers[1])

    places = [builder.gep(builder.bitcast(room, ir.IntType(64).as_pointer()), [ir.IntType(64)(k)]) for k in range(2)]
    numbers = [builder.load(place) for place in places]
    (last,) = _emit_steps(builder, turns, [numbers[0]], step)
    builder.store(last, places[0])


def _emit_products(builder: Any, room: Any, turns: Any) -> None:
    """Fused multiply-adds of the widest vectors, as many at once as there are units for them."""
    from fastact.cpu.emit import repeat
    from fastact.cpu.lanes import call_intrinsic, suffix, vector
    from fastact.cpu.machine import target

    lanes = target().vector_bytes // 4
    kind = vector(ir.FloatType(), lanes)
    floats = builder.bitcast(room, ir.FloatType().as_pointer())
    places = [builder.gep(floats, [ir.IntType(64)(k)]) for k in (4, 5)]
    factor, term = (repeat(builder, builder.load(place), lanes) for place in places)

    def step(k: int, value: Any) -> Any:
        return call_intrinsic(builder, f"llvm.fma.{suffix(kind)}", kind, [value, factor, term])

    total, *others = _emit_steps(builder, turns, [term] * _CHAINS, step)
    for other in others:
        total = builder.fadd(total, other)
    builder.store(builder.extract_element(total, ir.IntType(32)(0)), floats)


def _emit_steps(builder: Any, turns: Any, starts: list[Any], step: Callable[[int, Any], Any]) -> list[Any]:
    before, inside, after = builder.block, builder.append_basic_block("turn"), builder.append_basic_block("done")
    builder.branch(inside)
    builder.position_at_end(inside)
    count, states = builder.phi(ir.IntType(64)), [builder.phi(start.type) for start in starts]
    values = list(states)
    for k in range(_STEPS):
        values[k % len(values)] = step(k, values[k % len(values)])
    following = builder.add(count, ir.IntType(64)(1))
    for phi, start, end in zip([count, *states], [ir.IntType(64)(0), *starts], [following, *values], strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(end, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, turns), inside, after)
    builder.position_at_end(after)
    return values


@cache
def _compiled(name: str, emit: Callable[[Any, Any, Any], None]) -> Call:
    from fastact.cpu import machine
    from fastact.cpu.compiler import compile_emitted

    loop = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_ssize_t)(machine.load(*compile_emitted(name, emit)))
    room = np.array([3, 5, 0], np.int64)
    room[2:].view(np.float32)[:] = 0.5, 1.0
    return lambda turns: loop(room.ctypes.data, turns)


def _rate(run: Call) -> float:
    """Steps a second: the best of three short runs."""
    best = float("inf")
    for _ in range(3):
        start = perf_counter()
        run(_TURNS)
        best = min(best, perf_counter() - start)
    return _TURNS * _STEPS / best


@cache
def _units() -> int:
    """How many products are done at once: so many more than additions in a chain, but for what the clock loses."""
    rates = [(_products(), _rate(_compiled("bench_additions", _emit_additions))) for _ in range(10)]
    products, additions = max(rate for rate, _ in rates), max(rate for _, rate in rates)
    return max(1, math.ceil(products / additions - 0.25))


def _products() -> float:
    return _rate(_compiled("bench_products", _emit_products))


def clock() -> float:
    """Cycles a second, now, while the vector units are busy: many CPUs slow down for those."""
    return _products() / _units()
