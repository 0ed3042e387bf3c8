"""What a loop along rows takes together: some rows, or some pieces of one long row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .emit import INTP
from .row_frame import Frame, Operand

FEW_ITEMS = 4  # so few items that it pays not to merge as many states as there are lanes


@dataclass
class Items:
    """Rows, or pieces of one row, and where each has its elements."""

    frame: Frame
    length: Any  # of a row
    count: Any
    rows: Any  # the first row
    start: Any  # the first element
    size: Any  # elements of an item at most
    long: Any  # whether they are pieces

    def few(self) -> Any:
        return self.frame.builder.icmp_signed("<=", self.count, INTP(FEW_ITEMS))

    def first(self, item: Any) -> Any:
        """The index of an item's first element in its row."""
        builder = self.frame.builder
        return builder.select(self.long, builder.add(self.start, builder.mul(item, self.size)), INTP(0))

    def extent(self, item: Any) -> tuple[Any, Any]:
        """The index of an item's first element in its row, and how many there are."""
        start = self.first(item)
        return start, self.frame.min(self.size, self.frame.builder.sub(self.length, start))

    def address(self, item: Any, operand: Operand) -> Any:
        """Where an item of one array begins."""
        frame, builder = self.frame, self.frame.builder
        row = builder.add(self.rows, builder.select(self.long, INTP(0), item))
        start = builder.mul(self.first(item), operand.core)
        return frame.offset(operand.base, builder.add(builder.mul(row, operand.outer), start))
