"""How much memory the loops over rows need besides registers and a little of the stack.

A caller's thread may have a small stack. So what is large lies in an arena that the driver hands over where rows lie
side by side, or where there are many short ones. A few rows do with `STACK` bytes of the stack.
"""

from __future__ import annotations

from ..kernels.rows import BLOCK, LONG_ROW, VECTOR, VECTORS, RowFunction
from ..kernels.sparse import Projection

STACK = 24 << 10
TERMS = 16 << 10  # of these for terms of rows that are taken together
SOME, SMALL = 512, 30  # rows, and elements of a row: fewer rows than that, of no more elements, have room there
SHORT = 22  # rows of so few elements are transposed: a vector along them would be mostly empty
FEW_ROWS = 4  # so few rows that lie side by side are gathered one by one
ACROSS = 2  # vectors of rows at once: the steps from a tile of short rows to its results hang on each other
TILES = 16  # of so many rows that go through every pass together
OF_A_TILE = 36  # vectors for numbers of rows, a tile
WIDE, MOST = 4, 1024  # vectors of rows in a panel of `row_columns`, and elements of a row at most
LONGEST_IN_A_LANE = 64  # entries of a row up to which one lies in a lane in `selection`; longer ones
STRIDED = 1 << 16  # that are not contiguous are copied into so many bytes, as many at once as share cache lines


def width(dtype: str) -> int:
    """Bits of the dtype of computation."""
    return 64 if dtype == "float64" else 32


def residues(dtype: str) -> int:
    """Elements of a row that have states of their own."""
    return VECTOR // width(dtype) * VECTORS


def parts(function: RowFunction) -> int:
    """Numbers of a state."""
    return max(len(reduction.initial) for reduction in function.passes)


def tile(function: RowFunction, dtype: str) -> int:
    """Vectors of numbers of rows, and of states that wait to be merged: those of residues above those of blocks."""
    blocks = VECTOR // width(dtype)
    return OF_A_TILE + parts(function) * (residues(dtype).bit_length() + blocks.bit_length() - 1)


def keeps_terms(function: RowFunction) -> bool:
    """Whether the output is made of something that a pass has computed already."""
    return function.term is not None and function.write is not None


def scratches(function: RowFunction) -> int:
    """Scratch arrays: of what is read, and of terms."""
    return len(function.rows) + keeps_terms(function)


def panel(dtype: str) -> int:
    """Vectors of a panel for each of rows: a turn more than there can be, so groups begin in different lines."""
    return residues(dtype) * (MOST // residues(dtype) + 1)


def arena(function: RowFunction | Projection, dtype: str) -> int:
    """Bytes of the arena."""
    if isinstance(function, Projection):
        return STRIDED
    across = ACROSS * (TILES * tile(function, dtype) + BLOCK * scratches(function))
    columns = WIDE * panel(dtype) + parts(function) * residues(dtype)
    terms = LONG_ROW[width(dtype)] * width(dtype) // VECTOR if keeps_terms(function) else 0
    return max(across, columns, terms) * VECTOR // 8
