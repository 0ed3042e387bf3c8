"""Matrices copied from rows to columns and back, in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .emit import INTP, counted, load_at, store_at
from .lanes import Builder, Target, concatenate, shuffle

SHUFFLED = 16  # bytes that shuffles need not leave: those of the shortest register

Side = tuple[Any, Any]  # a pointer, and how many bytes further the next row or column is


def turned_in_registers(size: int, target: Target) -> tuple[int, int]:
    """How many columns, and how many rows at least, a matrix of elements of `size` bytes has that fills vectors.

    A row of it is half a vector: loads bring two to one, and what remains for shuffles is a level less.
    """
    whole = max(SHUFFLED, target.vector_bytes)
    return max(SHUFFLED, whole // 2) // size, whole // size


def emit_transpose(
    builder: Builder, kind: ir.Type, m: Any, n: Any, by_row: Side, by_column: Side, to_columns: bool
) -> Any:
    """Append code that copies an m x n matrix of elements of type `kind` between contiguous rows and columns.

    Returns, as a bit, whether it was done: a matrix with too few rows or columns is left to the caller.
    """
    size = _bytes(kind)
    side = SHUFFLED // size  # elements of a piece, and how many columns go at once
    tall = 4 * side  # how many rows
    (rows_at, row_step), (columns_at, column_step) = by_row, by_column

    def block(lines: list[Any], along: Any, first: Any) -> None:
        """A block of some lines from a column on, which begins at `first`."""
        # vector k holds a piece of the rows k, k + side, k + 2 side, ...
        places = [builder.gep(line, [builder.mul(along, INTP(size))]) for line in lines]
        columns = [builder.gep(first, [builder.mul(column_step, INTP(k))]) for k in range(side)]
        if to_columns:
            loaded = [load_at(builder, piece, ir.VectorType(kind, side)) for piece in places]
            vectors = [concatenate(builder, loaded[k::side]) for k in range(side)]
            for pointer, vector in zip(columns, exchange(builder, vectors, side), strict=True):
                store_at(builder, pointer, vector)
        else:
            vectors = exchange(builder, [load_at(builder, p, ir.VectorType(kind, tall)) for p in columns], side)
            for k, vector in enumerate(vectors):
                for j, piece in enumerate(places[k::side]):
                    store_at(builder, piece, shuffle(builder, vector, range(side * j, side * (j + 1))))

    def some_rows(start: Any) -> None:
        # the last rows, and the last columns, may be some of those before once more
        end = builder.sub(m, INTP(tall))
        row = builder.select(builder.icmp_signed("<", start, end), start, end)
        lines = [builder.gep(rows_at, [builder.mul(builder.add(row, INTP(k)), row_step)]) for k in range(tall)]
        first = builder.gep(columns_at, [builder.mul(row, INTP(size))])
        whole, further = builder.and_(n, INTP(-side)), builder.mul(column_step, INTP(side))
        _along(builder, whole, side, first, further, lambda i, pointer: block(lines, i, pointer))
        with builder.if_then(builder.icmp_signed("!=", whole, n)):
            rest = builder.sub(n, INTP(side))
            block(lines, rest, builder.gep(first, [builder.mul(rest, column_step)]))

    large = builder.and_(builder.icmp_signed(">=", m, INTP(tall)), builder.icmp_signed(">=", n, INTP(side)))
    with builder.if_then(large):
        counted(builder, INTP(0), m, tall, some_rows)
    return large


def _along(
    builder: Builder, stop: Any, step: int, pointer: Any, further: Any, body: Callable[[Any, Any], None]
) -> None:
    """Append ``for (i = 0; i < stop; i += step, pointer += further) body(i, pointer)``; there is a first time."""
    before, inside, after = builder.block, builder.append_basic_block("along"), builder.append_basic_block("done")
    builder.branch(inside)
    builder.position_at_end(inside)
    i, at = builder.phi(INTP), builder.phi(pointer.type)
    i.add_incoming(INTP(0), before)
    at.add_incoming(pointer, before)
    body(i, at)
    following = builder.add(i, INTP(step))
    i.add_incoming(following, builder.block)
    at.add_incoming(builder.gep(at, [further]), builder.block)
    builder.cbranch(builder.icmp_signed("<", following, stop), inside, after)
    builder.position_at_end(after)


def emit_matrices(
    builder: Builder, kind: ir.Type, shape: tuple[int, int], n: Any, rows: Any, columns: Side, results: Side
) -> None:
    """Append code that makes `rows` contiguous rows of `n` elements from as many contiguous columns.

    It goes by matrices of a `shape` that `turned_in_registers` knows, and does no less than one.
    """
    (side, tall), size = shape, INTP(_bytes(kind))

    def matrix(source: Any, to: Any) -> None:
        lines = [
            load_at(builder, line, ir.VectorType(kind, side)) for line in _apart(builder, source, columns[1], tall)
        ]
        for place, value in zip(_apart(builder, to, results[1], side), _turn(builder, lines), strict=True):
            store_at(builder, place, value)

    def band(start: Any) -> None:
        column = _at_most(builder, start, builder.sub(n, INTP(tall)))
        corners = [builder.gep(p, [builder.mul(column, step)]) for p, step in (columns, (results[0], size))]
        last = builder.sub(rows, INTP(side))
        before, inside, after = builder.block, builder.append_basic_block("matrix"), builder.append_basic_block("done")
        builder.branch(inside)
        builder.position_at_end(inside)
        # pointers from matrix to matrix, so that LLVM does not keep one to every line
        row, source, to = phis = [builder.phi(kind) for kind in (INTP, corners[0].type, corners[1].type)]
        for phi, value in zip(phis, [INTP(0), *corners], strict=True):
            phi.add_incoming(value, before)
        matrix(source, to)
        following = _at_most(builder, builder.add(row, INTP(side)), last)
        further = builder.sub(following, row)
        moved = [builder.gep(p, [builder.mul(further, step)]) for p, step in ((source, size), (to, results[1]))]
        for phi, value in zip(phis, [following, *moved], strict=True):
            phi.add_incoming(value, builder.block)
        builder.cbranch(builder.icmp_signed("<", row, last), inside, after)
        builder.position_at_end(after)

    counted(builder, INTP(0), n, tall, band)


def _at_most(builder: Builder, value: Any, most: Any) -> Any:
    """The last matrix may be some of the one before once more."""
    return builder.select(builder.icmp_signed("<", value, most), value, most)


def _apart(builder: Builder, pointer: Any, step: Any, count: int) -> list[Any]:
    """Pointers `step` bytes apart, as sums of which instructions can make most themselves."""
    found = [pointer]
    for k in range(1, count):
        near = k % 4
        found.append(builder.gep(found[k - (near or 4)], [builder.mul(step, INTP(near or 4))]))
    return found


def _bytes(kind: ir.Type) -> int:
    return int(kind.width // 8) if isinstance(kind, ir.IntType) else 8 if isinstance(kind, ir.DoubleType) else 4


def _turn(builder: Builder, lines: list[Any]) -> list[Any]:
    """The columns of a matrix whose rows are `lines`, of a shape that `turned_in_registers` knows."""
    side, tall = lines[0].type.count, len(lines)
    within = SHUFFLED // _bytes(lines[0].type.element)
    together = tall // (side // within)  # lines that have their pieces in the same vectors
    groups = []
    for first in range(0, tall, together):
        some = lines[first : first + together]
        groups.append(exchange(builder, [concatenate(builder, some[k::within]) for k in range(within)], within))
    if len(groups) == 1:
        return groups[0]
    # the first halves of the lines are in even pieces, the second ones in odd ones
    pieces = [range(p, p + within) for p in range(0, 2 * tall, within)]
    masks = [ir.Constant(ir.VectorType(ir.IntType(32), tall), [k for p in pieces[odd::2] for k in p]) for odd in (0, 1)]
    return [builder.shuffle_vector(a, b, mask) for mask in masks for a, b in zip(*groups, strict=True)]


def exchange(builder: Builder, vectors: list[Any], side: int) -> list[Any]:
    """Element j of each piece of vector i becomes element i of vector j, by interleaving log2(side) times."""
    count, half = vectors[0].type.count, side // 2
    low = [k for p in range(0, count, side) for j in range(half) for k in (p + j, count + p + j)]
    masks = [ir.Constant(ir.VectorType(ir.IntType(32), count), [k + shift for k in low]) for shift in (0, half)]
    for _ in range(half.bit_length()):
        pairs = zip(vectors[:half], vectors[half:], strict=True)
        vectors = [builder.shuffle_vector(a, b, mask) for a, b in pairs for mask in masks]
    return vectors
