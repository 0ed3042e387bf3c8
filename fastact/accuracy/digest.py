"""A fingerprint of what a kernel computes: the operations it is made of, not the text that says so.

A kernel is traced once more, with lanes that record instead of emitting code: each value is known by the digest of its
operation, the digests of what it is made from and its constants, bit by bit. So the fingerprint changes with any
operation, operand, constant or order of evaluation that a result depends on, and with nothing else: not with a comment,
a helper function, an order of statements, nor with the CPU, the number of lanes or a version of LLVM.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from fastact.activation import Activation, all_forms
from fastact.api import default_kernel
from fastact.cpu import emit
from fastact.kernels.rows import RowFunction
from fastact.kernels.sparse import Projection

__all__ = ["elementwise_digest", "kernel_digest", "row_digest"]

SIZE = 12
"""Bytes of a fingerprint: enough that no two of a few thousand are equal by chance."""


class Recorded:
    """A stand-in for `fastact.cpu.lanes.Lanes` that is known by the digest of how it was made."""

    __slots__ = ("digest", "kind", "width")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, kind: str, width: int, *made: bytes) -> None:
        self.kind, self.width = kind, width
        self.digest = hashlib.blake2b(b"\0".join([kind.encode(), str(width).encode(), *made]), digest_size=32).digest()

    def const(self, value: float, kind: str | None = None) -> Recorded:
        kind = kind or self.kind
        if kind == "float":
            with np.errstate(over="ignore"):
                bits = (np.float32 if self.width == 32 else np.float64)(value).tobytes()
        else:
            bits = str(int(value) & ((1 << self.width) - 1)).encode()
        return Recorded(kind, self.width, b"constant", bits)

    def _known(self, other: Any, kind: str | None = None) -> bytes:
        return (other if isinstance(other, Recorded) else self.const(other, kind)).digest

    def _made(self, kind: str, name: str, *operands: bytes) -> Recorded:
        return Recorded(kind, self.width, name.encode(), *operands)

    def __bool__(self) -> NoReturn:
        raise TypeError("a kernel may not branch on the value of a lane: use select(mask, a, b)")

    def _compared(self, name: str, other: Any) -> Recorded:
        return self._made("mask", name, self.digest, self._known(other))

    def __eq__(self, other: Any) -> Recorded:  # type: ignore[override]
        return self._compared("==", other)

    def __ne__(self, other: Any) -> Recorded:  # type: ignore[override]
        return self._compared("!=", other)

    def __neg__(self) -> Recorded:
        return self._made(self.kind, "negate", self.digest)

    def __invert__(self) -> Recorded:
        return self._made(self.kind, "invert", self.digest)

    def fma(self, a: Any, b: Any, c: Any) -> Recorded:
        return self._made("float", "fma", *(self._known(v, "float") for v in (a, b, c)))

    def select(self, mask: Recorded, a: Any, b: Any) -> Recorded:
        return self._made(self.kind, "select", mask.digest, self._known(a), self._known(b))

    def copysign(self, magnitude: Any, sign: Any) -> Recorded:
        return self._made("float", "copysign", self._known(magnitude), self._known(sign))

    def fabs(self) -> Recorded:
        return self._made("float", "fabs", self.digest)

    def sqrt(self) -> Recorded:
        return self._made("float", "sqrt", self.digest)

    def bits(self) -> Recorded:
        return self._made("int", "bits", self.digest)

    def from_bits(self) -> Recorded:
        return self._made("float", "from_bits", self.digest)

    def to_float(self) -> Recorded:
        return self._made("float", "to_float", self.digest)

    def add_product(self, total: Sequence[Recorded], factor: Recorded) -> list[Recorded]:
        return self._two("add_product", self, factor, *total)

    def in_words(self, high: Recorded) -> list[Recorded]:
        return self._two("in_words", self, high)

    def add_words(self, lower: Recorded, other: Sequence[Recorded]) -> list[Recorded]:
        return self._two("add_words", self, lower, *other)

    def in_parts(self, lower: Recorded, count: int) -> list[Recorded]:
        return self._several(count, "in_parts", self, lower)

    def in_double(self, kernel: Callable[..., Any], operands: Sequence[Any], grown: bool) -> list[list[Recorded]]:
        wide = [Recorded("float", 64, b"in_double", bytes([grown]), *(part.digest for part in one)) for one in operands]
        return [[Recorded("float", 32, b"half", bytes([k]), one.digest) for k in range(2)] for one in kernel(*wide)]

    def _two(self, name: str, *operands: Recorded) -> list[Recorded]:
        return self._several(2, name, *operands)

    def _several(self, count: int, name: str, *operands: Recorded) -> list[Recorded]:
        return [self._made("float", f"{name}{k}", *(operand.digest for operand in operands)) for k in range(count)]

    def lookup(self, table: Sequence[float]) -> Recorded:
        return self._made("float", "lookup", self.digest, struct.pack(f"<{len(table)}d", *table))


def _operator(name: str, swap: bool) -> Callable[[Recorded, Any], Recorded]:
    def method(self: Recorded, other: Any) -> Recorded:
        operands = self.digest, self._known(other)
        return self._made(self.kind, name, *(operands[::-1] if swap else operands))

    return method


def _comparison(name: str) -> Callable[[Recorded, Any], Recorded]:
    return lambda self, other: self._compared(name, other)


for _name in ("add", "sub", "mul", "truediv", "and", "or", "xor", "lshift", "rshift"):
    setattr(Recorded, f"__{_name}__", _operator(_name, swap=False))
    setattr(Recorded, f"__r{_name}__", _operator(_name, swap=True))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Recorded, f"__{_name}__", _comparison(_name))


def _joined(parts: Iterable[bytes]) -> str:
    return hashlib.blake2b(b"".join(parts), digest_size=SIZE).hexdigest()


def _inputs(kind: str, width: int, names: Iterable[str]) -> tuple[Recorded, ...]:
    return tuple(Recorded(kind, width, b"input", name.encode()) for name in names)


ROUNDED: Mapping[str, Callable[[Any], Any]] = {"float16": emit._to_float16, "bfloat16": emit._to_bfloat16}


def _stored(value: Recorded, dtype: str) -> bytes:
    """What is written to memory: rounded, for a dtype narrower than that of computation."""
    stored: Recorded = ROUNDED[dtype](value) if dtype in ROUNDED else value
    return stored.digest


def kernel_digest(kernel: Callable[..., Any], arity: int, dtype: str) -> str:
    """The fingerprint of an elementwise kernel of `arity` operands, in hexadecimal."""
    operands = _inputs("float", 64 if dtype == "float64" else 32, (str(k) for k in range(arity)))
    results = kernel(*operands)
    results = results if isinstance(results, tuple) else (results,)
    return _joined([dtype.encode(), *(_stored(result, dtype) for result in results)])


def elementwise_digest(record: Activation, kind: str, dtype: str, given: bool = False) -> str:
    """The fingerprint of one form of an activation: with its parameters `given`, or with the defaults built in."""
    form = next(form for form in all_forms(record) if form.kind == kind)
    fixed = None if given else default_kernel(record, form)
    if fixed is None or not record.parameters:
        return kernel_digest(form.kernel, len(form.arrays) + len(record.parameters), dtype)
    return kernel_digest(fixed, len(form.arrays), dtype)


def _named(width: int, prefix: str, count: int) -> tuple[Recorded, ...]:
    return _inputs("float", width, (f"{prefix}{k}" for k in range(count)))


def row_digest(function: RowFunction | Projection, dtype: str) -> str:
    """The fingerprint of a row function on a CPU: every pass, how two states merge, and what is written."""
    width = 64 if dtype == "float64" else 32
    if isinstance(function, Projection):
        return _projection_digest(function, dtype, width)
    function = function.on_cpu(width)
    named = partial(_named, width)

    lanes, (position,) = named("row", len(function.rows)), _inputs("int", width, ["position"])
    values = tuple(
        _inputs("int" if kind == "index" else "float", width, [f"value{k}"])[0]
        for k, kind in enumerate(function.values)
    )
    parts = [dtype.encode(), function.signature.encode(), struct.pack(f"<{len(function.rows)}d", *function.rows)]
    if function.pick:
        values += _inputs("float", width, ["picked"])
    if function.length:
        values += _inputs("int", width, ["length"])
    known: list[tuple[Recorded, ...]] = []
    term: tuple[Recorded, ...] = ()
    for number, reduction in enumerate(function.passes):
        size = len(reduction.initial)
        state, other = named(f"state{number}.", size), named(f"other{number}.", size)
        if function.term is not None and reduction is function.last:
            term = function.term(lanes, values, position, tuple(known))
        parts.append(struct.pack(f"<{size}d", *reduction.initial))
        parts += [part.digest for part in reduction.step(state, (*lanes, *term), values, position, tuple(known))]
        if reduction.begin is not None:
            parts += [part.digest for part in reduction.begin((*lanes, *term), values, position, tuple(known))]
        if reduction.end is not None:
            parts += [part.digest for part in reduction.end(state)]
        parts += [part.digest for part in reduction.merge(state, other)]
        total = reduction.settle(state)
        parts += [part.digest for part in (reduction.join or reduction.merge)(total, total)]
        if function.by_parts and number == 1 and reduction.rebase is not None:
            of_part, of_row = (named(f"{whose}.", len(known[0])) for whose in ("part", "whole"))
            parts += [part.digest for part in reduction.rebase(total, of_part, of_row, values)]
        result = reduction.result(total, values, tuple(known))
        if reduction.when is not None:
            wanted = reduction.when(values, tuple(known))
            result = tuple(new.select(wanted, new, old) for new, old in zip(result, known[-1], strict=True))
        known.append(result)
        if function.at_once is not None and number == 0:
            parts.append(function.at_once.usual(values, tuple(known)).digest)
            at_once = function.at_once.write(lanes, values, position, tuple(known))
            parts += [_stored(at_once[0], dtype), at_once[1].digest]
    finished = function.finish(values, tuple(known))
    parts += [part.digest for part in finished]
    if function.write is not None:
        wide = named("finished", len(finished))
        parts += [_stored(part, dtype) for part in function.write((*lanes, *term[:1]), values, position, wide)]
    return _joined(parts)


def _projection_digest(function: Projection, dtype: str, width: int) -> str:
    """The fingerprint of a projection: both of its searches, and what is written."""
    sums, exact, other = (
        _named(width, name, size)
        for name, size in (("sum", function.zeros), ("exact", function.exact_zeros), ("other", function.exact_zeros))
    )
    above, gap, relative, one, w, w_low, below, below_low = _named(width, "operand", 8)
    made = (
        *function.sums(sums, above, one),
        *function.advance(sums, gap, relative),
        *function.exact(exact, w, w_low, one),
        *function.merge_exact(exact, other),
        *function.settle(exact),
    )
    written = _stored(function.write(w, w_low, below, below_low), dtype)
    return _joined([dtype.encode(), struct.pack("<d", function.reach), *(part.digest for part in made), written])
