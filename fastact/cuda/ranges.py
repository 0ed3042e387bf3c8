"""Which divisions and square roots of a kernel have operands that can only be in range: a proof by intervals.

A division costs half as much when it needs no code for operands that are subnormal, zero, infinite or so large that the
quotient is subnormal. Kernels divide by numbers like 1 + e^-|x|, for which that is so whatever x is; here it is proved,
for each kernel and dtype, when it is compiled. The float32 inputs are cut into runs of consecutive bit patterns, an
interval of every intermediate result follows for each run, and runs for which that does not suffice are cut further.
Where no proof is found the division stays the general one, which is always right.

The interval of a rounded operation has the rounded results at its ends, because rounding is monotone. Bit operations
work on intervals of integers, and those that wrap around are unknown. `nan` notes whether a value may be NaN; where it
can be nothing else, both ends are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..graph.evaluate import Array, from_pattern
from ..graph.trace import Graph, Node

_RUNS = 1 << 15  # at first
_PARTS = 32  # a run is cut into, each time
_AT_MOST = 1 << 19  # runs in hand
_LARGEST = 0x7F800000  # the bits of infinity
_INT = (-(2**31), 2**31 - 1)

# The reciprocal of a smaller or larger divisor may be subnormal, and a subnormal divisor counts as 0.
_DIVISOR = (2.0**-126, 2.0**125)
_FORMS = ("in_range", "scaled")
_RADICAND = (2.0**-100, 2.0**126)


@dataclass(frozen=True)
class Interval:
    """Bounds of a value, for every run: floats as float32 with `nan`, integers as int64, masks as 0 and 1."""

    low: Array
    high: Array
    nan: Array


def _hull(parts: Sequence[Array], nan: Array) -> Interval:
    low, high = parts[0], parts[0]
    for part in parts[1:]:
        low, high = np.fmin(low, part), np.fmax(high, part)
    return Interval(low, high, nan)


def _products(a: Interval, b: Interval) -> tuple[list[Array], Array]:
    """The products of the ends, in float64 where they are exact, and whether 0 times infinity is among them."""
    ends = [x.astype(np.float64) * y for x in (a.low, a.high) for y in (b.low, b.high)]
    zero = [(v.low <= 0) & (v.high >= 0) for v in (a, b)]
    infinite = [np.isinf(v.low) | np.isinf(v.high) for v in (a, b)]
    ends = [np.where(np.isnan(e) & ~np.isnan(a.low) & ~np.isnan(b.low), 0.0, e) for e in ends]
    return ends, (zero[0] & infinite[1]) | (zero[1] & infinite[0])


def _sum(a: Interval, b: Interval) -> Interval:
    """a + b, float64 or float32; opposite infinities make NaN."""
    low, high = a.low + b.low, a.high + b.high
    either = ((a.high == np.inf) & (b.low == -np.inf)) | ((a.low == -np.inf) & (b.high == np.inf))
    only = np.isnan(a.low) | np.isnan(b.low)
    low = np.where(np.isnan(low) & ~only, -np.inf, low).astype(low.dtype)
    high = np.where(np.isnan(high) & ~only, np.inf, high).astype(high.dtype)
    return Interval(low, high, a.nan | b.nan | either)


def _to_float32(v: Interval) -> Interval:
    """Bounds in float64, one unit further out in float32: rounding twice may have moved them that far."""
    low, high = v.low.astype(np.float32), v.high.astype(np.float32)
    exact = (low == v.low) & (high == v.high)  # 0 in particular
    low = np.where(exact, low, np.nextafter(low, np.float32(-np.inf)))
    high = np.where(exact, high, np.nextafter(high, np.float32(np.inf)))
    return Interval(low, high, v.nan)


def _fma(a: Interval, b: Interval, c: Interval) -> Interval:
    ends, invalid = _products(a, b)
    product = _hull(ends, a.nan | b.nan | invalid)
    return _to_float32(_sum(product, Interval(c.low.astype(np.float64), c.high.astype(np.float64), c.nan)))


def _divide(a: Interval, b: Interval) -> Interval:
    clear = (b.low > 0) | (b.high < 0)
    ends = [x / y for x in (a.low, a.high) for y in (b.low, b.high)]
    found = _hull(ends, a.nan | b.nan | ~clear | np.isinf(b.low) | np.isinf(b.high))
    only = np.isnan(a.low) | np.isnan(b.low)
    return Interval(
        np.where(clear | only, found.low, -np.inf).astype(np.float32),
        np.where(clear | only, found.high, np.inf).astype(np.float32),
        found.nan,
    )


def _negated(v: Interval) -> Interval:
    return Interval(-v.high, -v.low, v.nan)


def _bits(v: Interval) -> Interval:
    low, high = (np.ascontiguousarray(e).view(np.int32).astype(np.int64) for e in (v.low, v.high))
    mixed = (np.signbit(v.low) != np.signbit(v.high)) | ((v.low <= 0) & (v.high >= 0))
    unknown = v.nan | mixed | np.isnan(v.low)
    low, high = np.minimum(low, high), np.maximum(low, high)
    return Interval(np.where(unknown, _INT[0], low), np.where(unknown, _INT[1], high), np.zeros_like(unknown))


def _from_bits(v: Interval) -> Interval:
    parts: list[Array] = []
    nan = np.zeros(v.low.shape, bool)
    for lowest, largest in ((0, _LARGEST), (_INT[0], _INT[0] + _LARGEST)):
        top = lowest + 2**31 - 1
        inside = (v.high >= lowest) & (v.low <= top)
        nan |= inside & (v.high > largest)
        inside &= v.low <= largest
        for end in (np.clip(v.low, lowest, largest), np.clip(v.high, lowest, largest)):
            parts.append(np.where(inside, end.astype(np.int32).view(np.float32), np.float32(np.nan)))
    return _hull(parts, nan)


def _wrapped(low: Array, high: Array) -> Interval:
    """Integers taken modulo 2^32: known if the whole interval moves by the same multiple."""
    turn = (low + 2**31) >> 32
    same = turn == (high + 2**31) >> 32
    shift = turn << 32
    none = np.zeros(low.shape, bool)
    return Interval(np.where(same, low - shift, _INT[0]), np.where(same, high - shift, _INT[1]), none)


def _integer(node: Node, a: Interval, b: Interval) -> Interval:
    none = np.zeros(a.low.shape, bool)
    if node.op == "add":
        return _wrapped(a.low + b.low, a.high + b.high)
    if node.op == "sub":
        return _wrapped(a.low - b.high, a.high - b.low)
    constant = b.low[0] if (b.low == b.high).all() and (b.low == b.low[0]).all() else None
    if constant is not None and 0 <= constant < 32:
        if node.op == "shl":
            return _wrapped(a.low << constant, a.high << constant)
        if node.op == "shr":
            return Interval(a.low >> constant, a.high >> constant, none)
    if node.op == "and" and constant is not None and constant >= 0:
        step = int(constant) + 1
        if step & constant == 0:  # the lowest bits: a remainder
            same = a.low // step == a.high // step
            return Interval(np.where(same, a.low % step, 0), np.where(same, a.high % step, constant), none)
        return Interval(np.zeros_like(a.low), np.full_like(a.low, constant), none)
    if node.op == "or" and constant is not None and constant >= 0:
        # at least the constant, at most the sum, if nothing is negative
        fits = (a.low >= 0) & (a.high + constant <= _INT[1])
        low = np.where(fits, np.maximum(a.low, constant), _INT[0])
        return Interval(low, np.where(fits, a.high + constant, _INT[1]), none)
    return Interval(np.full_like(a.low, _INT[0]), np.full_like(a.low, _INT[1]), none)


def _compare(op: str, a: Interval, b: Interval) -> Interval:
    if op in ("gt", "ge"):
        return _compare({"gt": "lt", "ge": "le"}[op], b, a)
    ordered = ~(a.nan | b.nan)
    if op in ("lt", "le"):
        surely = (a.high < b.low) if op == "lt" else (a.high <= b.low)
        never = (a.low >= b.high) if op == "lt" else (a.low > b.high)
    else:
        surely = (a.low == a.high) & (b.low == b.high) & (a.low == b.low)
        never = (a.high < b.low) | (b.high < a.low)
    never |= np.isnan(a.low.astype(np.float64)) | np.isnan(b.low.astype(np.float64))
    low, high = (surely & ordered).astype(np.int64), (~never).astype(np.int64)
    if op == "ne":
        low, high = 1 - high, 1 - low
    return Interval(low, high, np.zeros(low.shape, bool))


def _apply(node: Node, operands: Sequence[Interval]) -> Interval:
    a = operands[0]
    none = np.zeros(a.low.shape, bool)
    op = node.op
    if op in ("lt", "le", "gt", "ge", "eq", "ne"):
        return _compare(op, a, operands[1])
    if op == "select":
        mask, a, b = operands
        yes, no = mask.low == 1, mask.high == 0
        either = _hull([a.low, a.high, b.low, b.high], a.nan | b.nan)
        return Interval(
            np.where(yes, a.low, np.where(no, b.low, either.low)),
            np.where(yes, a.high, np.where(no, b.high, either.high)),
            np.where(yes, a.nan, np.where(no, b.nan, either.nan)),
        )
    if node.kind == "mask":
        if op == "not":
            return Interval(1 - a.high, 1 - a.low, none)
        b = operands[1]
        if op == "and":
            return Interval(a.low & b.low, a.high & b.high, none)
        if op == "or":
            return Interval(a.low | b.low, a.high | b.high, none)
        return Interval(np.zeros_like(a.low), np.ones_like(a.low), none)
    if op == "bits":
        return _bits(a)
    if op == "from_bits":
        return _from_bits(a)
    if op == "to_float":
        return Interval(a.low.astype(np.float32), a.high.astype(np.float32), none)
    if op == "lookup":
        table = np.array(node.value, np.int32).view(np.float32)
        where = np.clip(a.low, 0, len(table) - 1), np.clip(a.high, 0, len(table) - 1)
        one = (a.low == a.high) & (a.low >= 0) & (a.low < len(table))
        low = np.where(one, table[where[0]], table.min())
        return Interval(low, np.where(one, table[where[1]], table.max()), none)
    if node.kind == "int":
        if op == "neg":
            return _wrapped(-a.high, -a.low)
        if op == "not":
            return Interval(~a.high, ~a.low, none)
        return _integer(node, a, operands[1])
    if op == "neg":
        return _negated(a)
    if op in ("add", "sub"):
        return _sum(a, _negated(operands[1]) if op == "sub" else operands[1])
    if op == "mul":
        ends, invalid = _products(a, operands[1])
        return _hull([e.astype(np.float32) for e in ends], a.nan | operands[1].nan | invalid)
    if op == "fma":
        return _fma(*operands)
    if op == "div":
        return _divide(a, operands[1])
    if op == "rcp":  # a unit in the last place off at most
        one = np.ones_like(a.low)
        found = _divide(Interval(one, one, none), a)
        return Interval(
            np.nextafter(found.low, -np.float32(np.inf)), np.nextafter(found.high, np.float32(np.inf)), found.nan
        )
    if op == "sqrt":
        low = np.sqrt(np.fmax(a.low, np.float32(0)))
        return Interval(low, np.sqrt(np.fmax(a.high, np.float32(0))), a.nan | (a.low < 0))
    magnitude = np.fmax(np.abs(a.low), np.abs(a.high))
    least = np.where((a.low <= 0) & (a.high >= 0), np.float32(0), np.fmin(np.abs(a.low), np.abs(a.high)))
    if op == "fabs":
        return Interval(least, magnitude, a.nan)
    if op == "copysign":
        return Interval(-magnitude, magnitude, a.nan)
    raise ValueError(f"unknown operation {op!r}")


def _within(v: Interval, bounds: tuple[float, float]) -> Array:
    """Whether the magnitude is between bounds, or the value NaN and nothing else."""
    low, high = np.float32(bounds[0]), np.float32(bounds[1])
    return ((v.low >= low) & (v.high <= high)) | ((v.high <= -low) & (v.low >= -high)) | np.isnan(v.low)


def _fits(graph: Graph, node: Node, operands: Sequence[Interval], form: str) -> Array:
    """The runs in which an operation may have its cheap form: "in_range", or for a division "scaled"."""
    if node.op == "sqrt":
        return _within(operands[0], _RADICAND) & ~(operands[0].high < 0)
    numerator, divisor = operands
    known = graph.nodes[node.operands[0]]
    if known.op == "const" and from_pattern(known.value, "float", 32) == 1:
        return _within(divisor, _DIVISOR)
    smallest, largest = _magnitudes(numerator)
    low, high = _magnitudes(divisor)
    fits = (low >= _DIVISOR[0]) & (high <= _DIVISOR[1]) & (largest <= 2.0**126) & (largest / low <= 2.0**126)
    if form == "in_range":
        # the remainders n - d q are multiples of 2^-149
        fits &= smallest >= 2.0**-100
    else:
        # so they are once n is scaled; a zero keeps its sign for d > 0, and n / 1 is exact
        smallest = np.where((divisor.low == 1) & (divisor.high == 1), 1.0, np.fmax(smallest, 2.0**-149))
        fits &= divisor.low > 0
    return (fits & (smallest / high >= 2.0**-126)) | np.isnan(divisor.low) | np.isnan(numerator.low)


def _magnitudes(v: Interval) -> tuple[Array, Array]:
    """The bounds of the absolute value, in float64."""
    low, high = np.abs(v.low.astype(np.float64)), np.abs(v.high.astype(np.float64))
    smallest = np.where((v.low <= 0) & (v.high >= 0), 0.0, np.fmin(low, high))
    return smallest, np.fmax(low, high)


def _evaluate(graph: Graph, inputs: Sequence[Interval], wanted: Sequence[tuple[int, str]]) -> list[Array]:
    """For every wanted form of an operation, the runs in which it may be used.

    That is also so where nobody looks at the result: kernels select another for large arguments, say.
    """
    values: dict[int, Interval] = {}
    shape = inputs[0].low.shape
    used = graph.used()
    for number in used:
        node = graph.nodes[number]
        if node.op == "input":
            values[number] = inputs[node.value]
        elif node.op == "const":
            dtype = {"float": np.float32, "int": np.int64, "mask": np.int64}[node.kind]
            constant = np.full(shape, from_pattern(node.value, node.kind, 32), dtype)
            values[number] = Interval(constant, constant, np.zeros(shape, bool))
        else:
            values[number] = _apply(node, [values[k] for k in node.operands])
    ends = graph.ends()
    looked_at = {number: np.full(shape, number in ends) for number in used}
    for number in reversed(used):
        node, here = graph.nodes[number], looked_at[number]
        for place, operand in enumerate(node.operands):
            needed = here
            if node.op == "select" and place > 0:
                mask = values[node.operands[0]]
                needed = here & ((mask.high == 1) if place == 1 else (mask.low == 0))
            looked_at[operand] = looked_at[operand] | needed
    return [
        ~looked_at[number] | _fits(graph, graph.nodes[number], [values[k] for k in graph.nodes[number].operands], form)
        for number, form in wanted
    ]


def _run(first: Array, last: Array) -> Interval:
    """The floats from one position in the order of all floats to another, as an interval; NaN beyond infinity."""

    def value(position: Array) -> Array:
        bits = np.where(position < 0, -(2**31) - 1 - position, position).astype(np.int32)
        return bits.view(np.float32)

    nan = (last > _LARGEST) | (first < -_LARGEST - 1)
    low, high = value(np.maximum(first, -_LARGEST - 1)), value(np.minimum(last, _LARGEST))
    only = (first > _LARGEST) | (last < -_LARGEST - 1)
    return Interval(np.where(only, np.float32(np.nan), low), np.where(only, np.float32(np.nan), high), nan)


def _whole(shape: tuple[int, ...]) -> Interval:
    """Any float."""
    infinity = np.full(shape, np.inf, np.float32)
    return Interval(-infinity, infinity, np.ones(shape, bool))


def cheap_forms(graph: Graph, kinds: Sequence[str], cut: int) -> dict[int, str]:
    """The divisions and square roots of which a cheap form is right for every input, by number, with the form.

    "in_range" is the cheapest; "scaled", for divisions, allows any numerator whose quotient is normal. Input `cut` is
    the one that is cut into runs: the array the function is applied to. The others may be anything.
    """
    wanted = [(k, form) for k in graph.used() if graph.nodes[k].op in ("div", "sqrt") for form in _FORMS]
    if not wanted or graph.nodes[wanted[0][0]].width != 32:
        return {}
    first = np.arange(-(2**31), 2**31, 2**32 // _RUNS, dtype=np.int64)
    # NaN comes first and last: two runs of their own
    first = np.unique(np.concatenate([first, [-_LARGEST - 1, _LARGEST + 1]]))
    last = np.append(first[1:], 2**31) - 1
    with np.errstate(all="ignore"):
        # what fails for single numbers needs no further look
        wanted = _surviving(wanted, _evaluate(graph, _inputs(kinds, cut, first, first), wanted))
        while first.size and wanted:
            found = _evaluate(graph, _inputs(kinds, cut, first, last), wanted)
            points = first == last
            hopeless = [(~f & points).any() or np.count_nonzero(~f) * _PARTS > _AT_MOST for f in found]
            found = [f for f, gone in zip(found, hopeless, strict=True) if not gone]
            wanted = [w for w, gone in zip(wanted, hopeless, strict=True) if not gone]
            unsettled = np.zeros(first.shape, bool)
            for f in found:
                unsettled |= ~f
            first, last = _cut(first[unsettled], last[unsettled])
    return dict(reversed(wanted))  # of two forms the first


def divisions(graph: Graph) -> int:
    """How many divisions and square roots a graph has."""
    return sum(graph.nodes[k].op in ("div", "sqrt") for k in graph.used())


def cheap_forms_for(graph: Graph, x: Array) -> dict[int, str]:
    """The same for a graph of one input that has the values `x` and no others."""
    wanted = [(k, form) for k in graph.used() if graph.nodes[k].op in ("div", "sqrt") for form in _FORMS]
    points = Interval(x, x, np.isnan(x))
    with np.errstate(all="ignore"):
        return dict(reversed(_surviving(wanted, _evaluate(graph, [points], wanted))))


def _surviving(wanted: list[tuple[int, str]], found: Sequence[Array]) -> list[tuple[int, str]]:
    return [w for w, f in zip(wanted, found, strict=True) if f.all()]


def _inputs(kinds: Sequence[str], cut: int, first: Array, last: Array) -> list[Interval]:
    whole = {"float": _whole(first.shape), "int": Interval(*(np.full(first.shape, e) for e in (*_INT, False)))}
    return [_run(first, last) if k == cut else whole[kind] for k, kind in enumerate(kinds)]


def _cut(first: Array, last: Array) -> tuple[Array, Array]:
    """Every run cut into parts."""
    ends = first[:, None] + ((last - first + 1)[:, None] * np.arange(_PARTS + 1)) // _PARTS
    starts, stops = ends[:, :-1].ravel(), ends[:, 1:].ravel() - 1
    kept = stops >= starts
    return starts[kept], stops[kept]
