"""Numbers of rows in memory: a lane each, so that each row can spread its own over all lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..kernels.rows import State
from .lanes import Lanes, splat
from .layout import NUMBERS
from .row_frame import Frame


def of_kind(number: Lanes, kind: str) -> Lanes:
    """What was kept as `number`: all lie in memory as floats."""
    return number.bits() if kind == "int" else number


@dataclass(frozen=True, slots=True)
class Number:
    """A vector of them: which one in a room, and of what kind."""

    frame: Frame
    room: Any
    place: int
    kind: str

    @property
    def address(self) -> Any:
        return self.frame.at(self.room, self.place)


Places = list[Number]


class Numbers:
    """A list of vectors in the room `own`; `shared` is one like it, or the same, of all who share a row."""

    def __init__(self, frame: Frame, own: Any, shared: Any) -> None:
        self.frame, self.used = frame, 0
        self.own, self.shared = own, shared

    def places(self, kinds: Sequence[str], room: Any = None) -> Places:
        """One more for each, in `room` if it is not to be common."""
        first, self.used = self.used, self.used + len(kinds)
        if self.used > NUMBERS:
            raise ValueError(f"{self.frame.function.name} needs more than {NUMBERS} numbers of a row")
        return self.in_room(room or self.shared, kinds, first)

    def in_room(self, room: Any, kinds: Sequence[str], first: int) -> Places:
        return [Number(self.frame, room, first + k, kind) for k, kind in enumerate(kinds)]

    def keep(self, places: Places, numbers: Sequence[Lanes]) -> None:
        for place, number in zip(places, numbers, strict=True):
            self.frame.put(place.address, number)

    def all(self, places: Places) -> State:
        return tuple(of_kind(self.frame.get(place.address), place.kind) for place in places)

    def spread(self, places: Places, item: Any) -> State:
        """Those of one row, in every lane."""
        frame, builder = self.frame, self.frame.builder
        found = []
        for place in places:
            numbers = builder.bitcast(place.address, frame.float.as_pointer())
            wide = splat(frame.floats(builder.load(builder.gep(numbers, [item])), 1), frame.lanes)
            found.append(of_kind(wide, place.kind))
        return tuple(found)


class OfTiles:
    """Numbers of the rows of several tiles, a vector a tile: `address(place, tile)` is where one lies.

    Where a lane is a row, tiles go through a pass together, and what comes of each must be kept until the next one.
    """

    def __init__(self, frame: Frame, address: Callable[[int, Any], Any]) -> None:
        self.frame, self.address = frame, address
        self.kinds: list[str] = []

    def add(self, kinds: Sequence[str]) -> list[int]:
        """Places for so many more."""
        self.kinds += kinds
        return list(range(len(self.kinds) - len(kinds), len(self.kinds)))

    def remember(self, numbers: Sequence[Lanes], tile: Any) -> list[int]:
        places = self.add([number.kind for number in numbers])
        self.replace(places, numbers, tile)
        return places

    def replace(self, places: Sequence[int], numbers: Sequence[Lanes], tile: Any) -> None:
        for place, number in zip(places, numbers, strict=True):
            self.frame.put(self.address(place, tile), number)

    def recall(self, places: Sequence[int], tile: Any) -> State:
        return tuple(of_kind(self.frame.get(self.address(place, tile)), self.kinds[place]) for place in places)

    def all(self, known: Sequence[Sequence[int]], tile: Any) -> tuple[State, ...]:
        return tuple(self.recall(places, tile) for places in known)
