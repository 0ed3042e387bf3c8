"""The language kernels are written in.

A kernel is a plain Python function made of float and integer arithmetic on *lanes*: one value, or several side by side
in a SIMD register. Every operation is one IEEE 754 operation or a pure bit operation, so one source gives the same bits
whatever the number of lanes, the instruction set or the device.

A kernel is *traced*: it is called once with lanes that record each operation as LLVM code (`fastact.cpu.lanes`), inside
a function that Numba compiles. So Python's own control flow (a loop over coefficients, a helper, a tuple) is free and
leaves no trace, while a branch on the value of a lane is an error: write ``select(mask, a, b)``. Python numbers take
the dtype of the lanes they meet, so no float64 can slip into a float32 kernel.

What traces a kernel is a backend: `fastact.cpu.lanes` makes LLVM code, `fastact.graph.trace` a graph, and
`fastact.accuracy.digest` a fingerprint. `Backend` lists what its lanes must have, and `Shortcuts` what they may have.

Nothing in `fastact.kernels` imports Numba, so reading the catalogue costs nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Protocol, TypeVar

__all__ = [
    "KERNELS",
    "MANTISSA",
    "Backend",
    "Shortcuts",
    "Sums",
    "add_product",
    "add_sums",
    "bits",
    "by_dtype",
    "copysign",
    "fabs",
    "fma",
    "from_bits",
    "grown",
    "in_double",
    "in_one",
    "in_three",
    "in_two",
    "kernel",
    "least_magnitude",
    "lookup",
    "lookup_made",
    "lookup_plus",
    "lookup_power",
    "lookups",
    "public",
    "rarely",
    "select",
    "sqrt",
    "sum_where",
    "to_float",
    "with_places",
]

# What a lane is belongs to the backend that traces the kernel; to a type checker kernels are dynamic.
Lanes = Any


class Backend(Protocol):
    """What the lanes of every backend have, beside Python's operators.

    These are ``+ - * /`` and ``-x`` of floats, ``+ - * & | ^ << >> ~`` of integers, ``& | ^ ~`` of masks, and
    comparisons, which make masks. Where a number meets a lane, either side may be the number. ``bool()`` raises
    `TypeError`. The functions of the same names, further down, say what each operation is.
    """

    width: int  # of a float or an integer in bits, 32 or 64; of a mask, that of what was compared

    def const(self, value: float) -> Lanes:
        """`value` in the dtype of these lanes."""

    def fma(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes: ...
    def select(self, mask: Lanes, a: Lanes, b: Lanes) -> Lanes: ...
    def fabs(self) -> Lanes: ...
    def copysign(self, magnitude: Lanes, sign: Lanes) -> Lanes: ...
    def sqrt(self) -> Lanes: ...
    def bits(self) -> Lanes: ...
    def from_bits(self) -> Lanes: ...
    def to_float(self) -> Lanes: ...
    def lookup(self, table: Sequence[float]) -> Lanes: ...


class Shortcuts(Protocol):
    """What lanes may have in addition: the function of the same name uses it, and else makes it of what all have.

    The bits are the same, NaN's aside. Where a result may be None, None says that there is no shortcut for these lanes.
    """

    def sum_where(self, mask: Lanes, b: Lanes) -> Lanes: ...
    def least_magnitude(self, y: Lanes) -> Lanes | None: ...
    def lookups(self, tables: Sequence[Sequence[float]]) -> Iterator[Lanes]: ...
    def lookup_plus(self, table: Sequence[float], plus: Lanes) -> Lanes: ...
    def lookup_scaled(self, table: Sequence[float], n: Lanes) -> Lanes | None:
        """``lookup(table) * 2**floor(n)``: for `lookup_power`."""

    def lookup_made(
        self, kernel: Callable[..., Any], tables: Sequence[Sequence[float]], numbers: Sequence[Lanes]
    ) -> Sequence[Lanes]: ...
    def rarely(
        self, kernel: Callable[..., Any], operands: Sequence[Lanes], otherwise: Sequence[Lanes]
    ) -> Sequence[Lanes]:
        """Of a mask."""


class Sums(Protocol):
    """What the lanes of a CPU have in addition: the sums of `add_product`, `grown`, `add_sums`, `in_one`,
    `in_two`, `in_three` and `in_double`.

    `self` is a factor in the first, the first operand in the last, and in the others the first lane of a sum. Only row
    functions made for a CPU (`RowFunction.on_cpu`) use them.
    """

    def add_product(self, total: Sum, factor: Lanes) -> Sequence[Lanes]: ...
    def in_words(self, high: Lanes) -> Sequence[Lanes]: ...
    def add_words(self, lower: Lanes, other: Sum) -> Sequence[Lanes]: ...
    def in_parts(self, lower: Lanes, count: int) -> Sequence[Lanes]: ...
    def in_double(self, kernel: Callable[..., Any], operands: Sequence[Any], grown: bool) -> Sequence[Any]: ...


F = TypeVar("F", bound=Callable[..., Any])

KERNELS: list[Callable[..., Any]] = []
"""Every kernel, in order of definition: `fastact.cpu.target` makes each callable from anyone's ``@njit``."""


def kernel(function: F) -> F:
    """Mark `function` as a kernel."""
    KERNELS.append(function)
    return function


def by_dtype(single: Callable[..., Any], double: Callable[..., Any]) -> Callable[..., Any]:
    """Make the kernel that is `single` on float32 lanes and `double` on float64 lanes."""

    def chosen(*args: Lanes) -> Lanes:
        return (double if _backend(*args).width == 64 else single)(*args)

    chosen.__name__ = chosen.__qualname__ = single.__name__.strip("_").removesuffix("32")
    chosen.__module__ = single.__module__
    chosen.__doc__ = single.__doc__
    return kernel(chosen)


def public(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """`function` as ``fastact.kernels.NAME``, where it refuses to be called without lanes before it does anything."""

    def called(*args: Lanes) -> Lanes:
        _backend(*args)
        return function(*args)

    called.__name__ = called.__qualname__ = name
    called.__module__, called.__doc__ = "fastact.kernels", function.__doc__
    return called


def _backend(*operands: Lanes) -> Any:
    """The first operand that is a lane; numbers follow it."""
    for operand in operands:
        if hasattr(operand, "width"):
            return operand
    raise TypeError(
        "a kernel of fastact works on lanes: call it from code compiled by numba (njit, vectorize, cuda.jit), "
        f"or call the ufunc of the same name; got {', '.join(type(o).__name__ for o in operands) or 'nothing'}"
    )


def fma(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    """a * b + c, rounded once."""
    return _backend(a, b, c).fma(a, b, c)


def select(mask: Lanes, a: Lanes, b: Lanes) -> Lanes:
    """`a` where `mask` is true, `b` elsewhere; both are evaluated."""
    return _backend(a, b).select(mask, a, b)


def sum_where(mask: Lanes, a: Lanes, b: Lanes) -> Lanes:
    """``a + b`` of integers where `mask` is true, 0 elsewhere; a backend may know one instruction for that."""
    return a.sum_where(mask, b) if hasattr(a, "sum_where") else select(mask, a + b, 0)


def fabs(x: Lanes) -> Lanes:
    """The absolute value: the sign bit cleared."""
    return x.fabs()


def least_magnitude(x: Lanes, y: Lanes) -> Lanes:
    """The lesser of |x| and |y| with the sign of `x`; neither may be NaN, unless both are."""
    if hasattr(x, "least_magnitude") and (found := x.least_magnitude(y)) is not None:
        return found
    a, b = fabs(x), fabs(y)
    return copysign(select(b < a, b, a), x)


def copysign(magnitude: Lanes, sign: Lanes) -> Lanes:
    """`magnitude` with the sign bit of `sign`."""
    return _backend(magnitude, sign).copysign(magnitude, sign)


def sqrt(x: Lanes) -> Lanes:
    """The square root, correctly rounded."""
    return x.sqrt()


def bits(x: Lanes) -> Lanes:
    """The bit pattern of a float, as a signed integer of the same width."""
    return x.bits()


def from_bits(i: Lanes) -> Lanes:
    """The float with the bit pattern `i`."""
    return i.from_bits()


def to_float(i: Lanes) -> Lanes:
    """A signed integer as a float of the same width, rounded to nearest."""
    return i.to_float()


def lookup(table: Sequence[float], i: Lanes) -> Lanes:
    """``table[i % len(table)]`` for a tuple of 4, 8, 16 or 32 floats: the higher bits of `i` do not count."""
    return i.lookup(table)


def lookups(tables: Sequence[Sequence[float]], i: Lanes) -> Iterator[Lanes]:
    """``lookup(table, i)`` for several tables of one length, in turn.

    A backend makes each when it is asked for, or all at once: so they are best in the order in which they are used.
    """
    return iter(i.lookups(tables) if hasattr(i, "lookups") else (lookup(table, i) for table in tables))


def lookup_plus(table: Sequence[float], i: Lanes, plus: Lanes) -> Lanes:
    """``table[i] + plus``; a backend may add to the table where `plus` is one number for many elements."""
    return i.lookup_plus(table, plus) if hasattr(i, "lookup_plus") else i.lookup(table) + plus


def lookup_power(table: Sequence[float], i: Lanes, n: Lanes | None) -> Lanes:
    """``table[j] * 2**m`` for a table of 16 floats, n = m + j / 16 and 16 m + j in the low bits of `i`.

    The result must be a normal number: m is added to the bits of the exponent where no instruction does it, and
    everywhere if `n` is None: then any m will do.
    """
    if n is not None and hasattr(i, "lookup_scaled") and (scaled := i.lookup_scaled(table, n)) is not None:
        return scaled
    return from_bits(bits(lookup(with_places(tuple(table), i.width, -1), i)) + (i << (MANTISSA[i.width] - 4)))


MANTISSA = {32: 23, 64: 52}  # bits of a float's fraction, by its width
_CODES = {32: ("<f", "<i"), 64: ("<d", "<q")}


@cache
def with_places(table: tuple[float, ...], width: int, times: int = 1) -> tuple[float, ...]:
    """A table of 16 floats with `times` j in units of a sixteenth of a power of two added to the bits of entry j.

    With -1 it is a table of 2^(j/16) to whose bits 16 m + j is added as it is, and with 1 the other way round.
    """
    number, integer = _CODES[width]
    patterns = (struct.unpack(integer, struct.pack(number, entry))[0] for entry in table)
    moved = (pattern + (times * j << (MANTISSA[width] - 4)) for j, pattern in enumerate(patterns))
    return tuple(struct.unpack(number, struct.pack(integer, pattern))[0] for pattern in moved)


def lookup_made(
    kernel: Callable[..., tuple[Lanes, ...]], tables: Sequence[Sequence[float]], i: Lanes, numbers: Sequence[Lanes]
) -> tuple[Lanes, ...]:
    """``kernel(*(table[j] for table in tables), j, *numbers)`` with j = i % the length of the tables.

    A backend may apply the kernel to whole tables where each of `numbers` is one number for many elements.
    """
    if hasattr(i, "lookup_made"):
        return tuple(i.lookup_made(kernel, tables, tuple(numbers)))
    return kernel(*lookups(tables, i), i & (len(tables[0]) - 1), *numbers)


# Sums of products of float32 that are kept in float64: for lanes of a CPU, where a conversion costs as much as an
# addition, of which float32 needs many to be as exact. What the two lanes of such a sum hold concerns these seven only;
# of nothing, they are 0.

Sum = tuple[Lanes, Lanes]


def add_product(total: Sum, a: Lanes, b: Lanes) -> Sum:
    """A sum that grows and one more product."""
    low, high = a.add_product(total, b)
    return low, high


def grown(total: Sum) -> Sum:
    """A sum that grows no more."""
    upper, lower = total[0].in_words(total[1])
    return upper, lower


def add_sums(a: Sum, b: Sum) -> Sum:
    """The sum of two that grow no more."""
    upper, lower = a[0].add_words(a[1], b)
    return upper, lower


def in_one(total: Sum) -> Lanes:
    """One that grows no more, rounded."""
    (rounded,) = total[0].in_parts(total[1], 1)
    return rounded


def in_two(total: Sum) -> tuple[Lanes, Lanes]:
    """The same as a normal pair."""
    hi, lo = total[0].in_parts(total[1], 2)
    return hi, lo


def in_three(total: Sum) -> tuple[Lanes, Lanes, Lanes]:
    """The same as three, which are all of it unless it is next to subnormal."""
    hi, mid, lo = total[0].in_parts(total[1], 3)
    return hi, mid, lo


def in_double(
    kernel: Callable[..., tuple[Lanes, ...]], operands: Sequence[tuple[Lanes, ...]], grown: bool
) -> list[Sum]:
    """``kernel(*operands)`` in float64: what is one lane is a float, two are a sum, and so are the results.

    All sums grow, or all have `grown`.
    """
    return [(low, high) for low, high in operands[0][0].in_double(kernel, operands, grown)]


def rarely(
    mask: Lanes, kernel: Callable[..., tuple[Lanes, ...]], operands: Sequence[Lanes], otherwise: Sequence[Lanes]
) -> tuple[Lanes, ...]:
    """``kernel(*operands)`` where `mask` is true, `otherwise` elsewhere.

    For what takes long and is seldom needed: a backend may make a function of the kernel, which must be one of a
    module, and call it only where the mask is true in some lane.
    """
    if hasattr(mask, "rarely"):
        return tuple(mask.rarely(kernel, tuple(operands), tuple(otherwise)))
    results = kernel(*operands)
    return tuple(select(mask, a, b) for a, b in zip(results, otherwise, strict=True))
