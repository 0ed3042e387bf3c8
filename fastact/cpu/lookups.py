"""Several tables looked up with one index, where no instruction looks up in a whole table.

The tables are stored row by row: a row has an entry of each. The rows that a register of indices asks for are loaded
whole and turned in registers, which takes about two shuffles a table, however long the tables are.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from llvmlite import ir

from .lanes import FLOAT, Builder, Lanes, concatenate
from .layout import LINE
from .transpose import SHUFFLED, exchange

_OFFSET, _BYTE = ir.IntType(64), ir.IntType(8)
_LONGEST = 32  # bytes of a vector that is loaded in pieces; for longer ones there are instructions that look up


def in_rows(i: Lanes, tables: Sequence[Sequence[float]]) -> list[Lanes]:
    """``i.lookup(table)`` for each of the tables, which are equally long; the lanes are one, or whole pieces."""
    builder, size = i.builder, i.width // 8
    element = FLOAT[i.width]
    side = SHUFFLED // size
    columns = max(1 << (len(tables) - 1).bit_length(), side)  # a power of two, so that a shift makes an offset
    rows = _stored(builder, element, tables, columns)
    offsets = _apart((i & (len(tables[0]) - 1)) << (columns * size).bit_length() - 1)
    if i.count == 1:
        places = (_place(builder, rows, offsets[0], k * size, element) for k in range(len(tables)))
        return [i.like(builder.load(place), "float") for place in places]
    native = min(i.count, min(i.target.vector_bytes, _LONGEST) // size)
    parts = []
    for start in range(0, i.count, native):
        part: list[Any] = []
        for first in range(0, len(tables), side):
            pieces = [
                builder.load(_place(builder, rows, offset, first * size, ir.VectorType(element, side)), align=SHUFFLED)
                for offset in offsets[start : start + native]
            ]
            part += exchange(builder, [concatenate(builder, pieces[k::side]) for k in range(side)], side)
        parts.append(part[: len(tables)])
    return [i.like(concatenate(builder, found), "float") for found in zip(*parts, strict=True)]


def _apart(i: Lanes) -> list[Any]:
    """Each lane as a number of 64 bits; none is negative."""
    builder = i.builder
    if i.count == 1:
        return [builder.zext(i.value, _OFFSET)]
    many = i.count * i.width // _OFFSET.width
    together = builder.bitcast(i.value, ir.VectorType(_OFFSET, many))
    numbers = [builder.extract_element(together, ir.IntType(32)(k)) for k in range(many)]
    if i.width == _OFFSET.width:
        return numbers
    # two at a time, for taking one out of a vector costs as much as a shuffle
    low, high = _OFFSET(0xFFFFFFFF), _OFFSET(32)
    return [lane for pair in numbers for lane in (builder.and_(pair, low), builder.lshr(pair, high))]


def _place(builder: Builder, rows: Any, offset: Any, further: int, kind: ir.Type) -> Any:
    """A pointer to what is `further` bytes into the row at `offset`."""
    return builder.bitcast(builder.gep(builder.gep(rows, [offset]), [_OFFSET(further)]), kind.as_pointer())


def _stored(builder: Builder, element: ir.Type, tables: Sequence[Sequence[float]], columns: int) -> Any:
    """A pointer to the first of the rows, constants of `columns` entries each."""
    rest = [0.0] * (columns - len(tables))
    entries = [entry for row in zip(*tables, strict=True) for entry in (*row, *rest)]
    name = f"fastact.rows.{element}.{columns}.{blake2b(struct.pack(f'{len(entries)}d', *entries)).hexdigest()}"
    stored = builder.module.globals.get(name)
    if stored is None:
        array = ir.ArrayType(element, len(entries))
        stored = ir.GlobalVariable(builder.module, array, name)
        stored.initializer = ir.Constant(array, entries)
        stored.global_constant, stored.linkage, stored.align = True, "internal", LINE
    return builder.bitcast(stored, _BYTE.as_pointer())
