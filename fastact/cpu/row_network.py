"""How short rows are taken apart into columns, and put together again, without leaving registers.

As many rows of n elements as a vector has lanes fill n vectors, and so do their columns. A vector on the way from the
ones to the others is a list of places (row, column), a lane each. All of it comes from two vectors of the stage before,
or of the one after on the way back, which takes one instruction.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from .lanes import Builder, Lanes

Vector = list[tuple[int, int]]
Stage = list[Vector]


def stages(n: int, lanes: int) -> list[Stage]:
    """From `lanes` rows of `n` elements as they follow on each other to their columns, in order.

    With n = m unit, m odd and unit a power of two, every m vectors are whole rows of m units. First units are brought
    together by their place in the row, then they are taken apart.
    """
    unit = min(n & -n, lanes)
    m, units = n // unit, lanes // unit
    found = [[[divmod(lanes * v + lane, n) for lane in range(lanes)] for v in range(n)]]
    # Of m vectors that follow on each other, unit j of a row is found once in each lane l: in vector (j - l) / units
    # mod m. So the vectors are turned, in every lane as far as l wants, and one binary digit of that at once.
    if units > 1:
        inverse = pow(units, -1, m) if m > 1 else 0
        distances = [lane // unit * inverse % m for lane in range(lanes)]
        for digit in range(max(distances).bit_length()):
            steps = [distance & 1 << digit for distance in distances]
            found.append(
                [
                    [found[-1][first + (v - step) % m][lane] for lane, step in enumerate(steps)]
                    for first in range(0, n, m)
                    for v in range(m)
                ]
            )
    groups = [sorted(found[-1][first : first + m], key=lambda vector: vector[0][1]) for first in range(0, n, m)]
    alike = [list(vectors) for vectors in zip(*groups, strict=True)]  # lists of vectors with the same columns
    bit = unit // 2
    while bit:
        alike = [
            [
                sorted(place for place in (*a, *b) if place[1] % unit & bit == side)
                for a, b in zip(vectors[::2], vectors[1::2], strict=True)
            ]
            for vectors in alike
            for side in (0, bit)
        ]
        found.append([vector for vectors in alike for vector in vectors])
        bit //= 2
    columns = [[(row, column) for row in range(lanes)] for column in range(n)]
    if found[-1] != columns:
        found.append(columns)
    return found


def routed(builder: Builder, vectors: Sequence[Lanes], have: Stage, want: Stage) -> list[Lanes]:
    """The vectors of the stage `want`, from those of the stage `have` next to it."""
    where = {place: (k, lane) for k, vector in enumerate(have) for lane, place in enumerate(vector)}
    found = []
    for vector in want:
        sources = sorted({where[place][0] for place in vector})
        first, second = sources[0], sources[-1]
        positions = [lane + (len(vector) if k != first else 0) for k, lane in map(where.__getitem__, vector)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(vector)), positions)
        one = vectors[first]
        found.append(one.like(builder.shuffle_vector(one.value, vectors[second].value, mask)))
    return found
