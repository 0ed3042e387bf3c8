"""Matrices copied from rows to columns and back, in registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .emit import INTP, counted, load_at, store_at
from .lanes import Builder, concatenate, shuffle

PIECE, PIECES = 16, 4  # bytes that shuffles need not leave, and how many such pieces a vector has

Side = tuple[Any, Any]  # a pointer, and how many bytes further the next row or column is


def emit_transpose(
    builder: Builder, kind: ir.Type, m: Any, n: Any, by_row: Side, by_column: Side, to_columns: bool
) -> Any:
    """Append code that copies an m x n matrix of elements of type `kind` between contiguous rows and columns.

    Returns, as a bit, whether it was done: a matrix with too few rows or columns is left to the caller.
    """
    size = kind.width // 8 if isinstance(kind, ir.IntType) else 8 if isinstance(kind, ir.DoubleType) else 4
    side = PIECE // size  # elements of a piece, and how many columns go at once
    tall = PIECES * side  # how many rows

    def at(place: Side, index: Any, offset: Any) -> Any:
        pointer, step = place
        inner = builder.mul(offset, INTP(size))
        return builder.gep(builder.gep(pointer, [builder.mul(index, step)]), [inner])

    def block(row: Any, column: Any) -> None:
        # vector k holds a piece of the rows k, k + side, k + 2 side, ...
        rows = [[builder.add(row, INTP(k + side * piece)) for piece in range(PIECES)] for k in range(side)]
        columns = [at(by_column, builder.add(column, INTP(k)), row) for k in range(side)]
        if to_columns:
            short = ir.VectorType(kind, side)
            pieces = [[load_at(builder, at(by_row, r, column), short) for r in group] for group in rows]
            vectors = [concatenate(builder, group) for group in pieces]
            for pointer, vector in zip(columns, _exchange(builder, vectors, side), strict=True):
                store_at(builder, pointer, vector)
        else:
            vectors = _exchange(builder, [load_at(builder, p, ir.VectorType(kind, tall)) for p in columns], side)
            for group, vector in zip(rows, vectors, strict=True):
                for k, r in enumerate(group):
                    store_at(builder, at(by_row, r, column), shuffle(builder, vector, range(side * k, side * (k + 1))))

    def last(start: Any, count: Any, step: int) -> Any:
        """`start`, or where the last block starts: it may overlap the one before."""
        end = builder.sub(count, INTP(step))
        return builder.select(builder.icmp_signed("<", start, end), start, end)

    large = builder.and_(builder.icmp_signed(">=", m, INTP(tall)), builder.icmp_signed(">=", n, INTP(side)))
    with builder.if_then(large):

        def some_rows(start: Any) -> None:
            row = last(start, m, tall)
            counted(builder, INTP(0), n, side, lambda column: block(row, last(column, n, side)))

        counted(builder, INTP(0), m, tall, some_rows)
    return large


def _exchange(builder: Builder, vectors: list[Any], side: int) -> list[Any]:
    """Element j of each piece of vector i becomes element i of vector j, by interleaving log2(side) times."""
    count, half = PIECES * side, side // 2
    low = [k for p in range(0, count, side) for j in range(half) for k in (p + j, count + p + j)]
    masks = [ir.Constant(ir.VectorType(ir.IntType(32), count), [k + shift for k in low]) for shift in (0, half)]
    for _ in range(half.bit_length()):
        pairs = zip(vectors[:half], vectors[half:], strict=True)
        vectors = [builder.shuffle_vector(a, b, mask) for a, b in pairs for mask in masks]
    return vectors
