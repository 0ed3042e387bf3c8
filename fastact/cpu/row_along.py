"""Loops over rows whose elements lie side by side: lanes run along the row.

Up to a vector's worth of rows, or of blocks of one long row, are taken together. Each leaves one vector of states;
these are then merged across, so that what comes of a row is one lane, and numbers of rows are computed for all of them
at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

from llvmlite import ir

from ..kernels.language import select
from ..kernels.rows import BLOCK, LONG_ROW, PART, Reduction, State
from .emit import INTP, POINTER
from .lanes import splat
from .layout import LINE, NUMBERS, ROW_FIELDS, SLOT, STREAM
from .row_arena import STACK, TERMS, keeps_terms, parts
from .row_frame import Frame, Operand
from .row_items import FEW_ITEMS, Items
from .row_numbers import Numbers, Places
from .row_reducing import reduce_items
from .row_totals import leave_totals
from .row_writing import write_items

# The numbers of rows are computed for a vector of rows at once, or for a few: what is read again is still in the first
# cache then, or in the second if rows are short. Those are, in bytes: of one array; of several, or with as much again
# for terms; and where they are slow to come.
SHORT_ROWS, SHORT_OF_MORE, SHORTEST_ROWS = 2 << 10, 1 << 10, 512
LAST_CACHE = 32 << 20  # bytes that a few cores of AMD's Zen share, and fill with what they have written
ENDS_MATTER = 16 << 10  # bytes of a row below which its first and last line do, if they are not its own
YES, NO = ir.IntType(1)(1), ir.IntType(1)(0)


class Along:
    """Emits the loop; `staged` says that rows are strided, and go through a buffer in `stack` block by block.

    `piece` is the address of `fastact.cpu.layout.ROW_FIELDS`, or 0: it may say that only a part of one long row is to
    be done, so that threads can share a row. Without it, rows are of one block at most, and not strided.
    """

    def __init__(
        self,
        frame: Frame,
        inputs: Sequence[Operand],
        values: Sequence[Operand],
        results: Sequence[Operand],
        output: Operand | None,
        staged: Any,
        stack: Any,
        piece: Any = None,
    ) -> None:
        self.frame, self.inputs, self.values, self.results, self.output = frame, inputs, values, results, output
        self.staged, self.plain = staged if piece is not None else NO, piece is None
        lanes, function = frame.lanes, frame.function
        self.stages, self.out_stage, used = [], None, 0
        for operand in [*inputs, *([] if output is None else [output])]:
            self.stages.append(frame.offset(stack, INTP(used)))
            used += BLOCK * operand.size
        if used > STACK:
            raise ValueError(f"{function.name} needs more than {STACK} bytes for strided rows")
        if output is not None:
            self.out_stage = self.stages.pop()
        counts = [NUMBERS, *[lanes] * parts(function)]
        self.keeps = keeps_terms(function)
        self.aside = output is not None and output.size * 8 != frame.width  # where terms are kept: in the output or not
        self.beside = INTP(0)
        if self.plain:  # rows that are not strided leave the stages free
            own, *self.states, place = frame.laid_out(stack, [*counts, TERMS // LINE])
            if sum(counts) * LINE + TERMS <= STACK:
                self.beside = frame.builder.ptrtoint(place, INTP)
        else:
            own, *self.states = frame.laid_out(frame.room(frame.vector, sum(counts)), counts)
        self.by_parts = function.by_parts and not self.plain
        self.slot = frame.room(frame.float, SLOT * 8 // frame.width)
        self.piece = (
            SimpleNamespace(**{name: INTP(usual) for name, usual in ROW_FIELDS}) if self.plain else self._read(piece)
        )
        if not self.plain:
            self.beside = self.piece.arena
        self.everything = YES if self.plain else frame.builder.icmp_signed("<", self.piece.phase, INTP(0))
        self.numbers = Numbers(frame, own, self._shared(own))

    def _shared(self, own: Any) -> Any:
        builder = self.frame.builder
        return builder.select(self.everything, own, builder.inttoptr(self.piece.numbers, own.type))

    def _read(self, piece: Any) -> Any:
        """The fields at that address, or the usual ones."""
        frame, builder = self.frame, self.frame.builder
        every = frame.room(INTP, len(ROW_FIELDS))
        for k, (_, usual) in enumerate(ROW_FIELDS):
            builder.store(INTP(usual), frame.at(every, k))
        given = builder.icmp_signed("!=", builder.ptrtoint(piece, INTP), INTP(0))
        place = builder.select(given, builder.bitcast(piece, every.type), every)
        return SimpleNamespace(**{name: builder.load(frame.at(place, k)) for k, (name, _) in enumerate(ROW_FIELDS)})

    def emit(self, count: Any, length: Any) -> None:
        frame, builder, piece = self.frame, self.frame.builder, self.piece
        self.length = length
        self.long, self.supers, self.streaming, self.parted = NO, INTP(1), NO, NO
        self.cached = YES  # whether a row stays in the second cache
        if not self.plain:
            self.long = builder.icmp_signed(">", length, INTP(BLOCK))
            supers = builder.select(self.long, frame.parts(length, PART[frame.width]), INTP(1))
            self.supers = builder.select(self.everything, supers, builder.sub(piece.last, piece.first))
            few = builder.icmp_signed("<=", length, INTP(LONG_ROW[frame.width]))
            self.parted = builder.not_(few) if self.by_parts else NO
            self.cached = builder.and_(few, builder.not_(self.staged))
        self._ways(builder.mul(builder.add(count, piece.others), length))
        together = builder.select(self.long, INTP(1), self._together())
        groups = builder.sdiv(builder.add(count, builder.sub(together, INTP(1))), together)
        self._groups(groups, together, count)
        with builder.if_then(self.streaming, likely=False):
            builder.fence("seq_cst")

    def _together(self) -> Any:
        """How many rows of a block at most are taken together."""
        builder, frame, one = self.frame.builder, self.frame, len(self.inputs) == 1

        def up_to(size: int, so_many: int, else_so_many: Any) -> Any:
            fits = builder.icmp_signed("<=", self.length, INTP(size * 8 // frame.width))
            return builder.select(fits, INTP(so_many), else_so_many)

        short = SHORT_ROWS if one and not (self.keeps and self.aside) else SHORT_OF_MORE
        usual = up_to(short, frame.lanes, INTP(FEW_ITEMS if one else FEW_ITEMS // 2))
        if not self.keeps:
            return usual
        slow_to_come = up_to(SHORTEST_ROWS, frame.lanes, up_to(SHORT_ROWS, FEW_ITEMS, INTP(FEW_ITEMS // 2)))
        return builder.select(self.soon, usual, slow_to_come)

    def _ways(self, elements: Any) -> None:
        """How an output of so many elements is written, and where terms are kept between the last pass and that.

        They are in the output, unless that is narrower: then they are beside it, if there is room.
        """
        builder, output, zen = self.frame.builder, self.output, self.frame.target.has("clzero")
        size = self.frame.times(elements, output.size if output is not None else 0)
        # Only where the vectors that are stored are lines, and not if the output has been written to already.
        self.streams = output is not None and output.size * self.frame.lanes == LINE
        past = INTP(LAST_CACHE // (len(self.inputs) + 1) if zen else STREAM // 2)
        large = builder.and_(builder.icmp_signed(">=", size, past), builder.not_(self.staged))
        self.soon = builder.icmp_signed("<", size, INTP(STREAM // 2 if zen else STREAM // 8))
        if output is not None:
            large = builder.and_(large, self._in_lines(output))
        if not self.keeps:
            self.streaming = large
            return
        self.kept = self.cached
        if self.aside:
            self.kept = builder.and_(self.kept, builder.icmp_signed("!=", self.beside, INTP(0)))
        elif zen:
            self.streaming = builder.and_(large, builder.not_(self.kept))
        elif not self.plain:
            # then terms are not kept: computing them again takes no longer than writing does
            self.streaming, self.kept = large, builder.and_(self.kept, builder.not_(large))

    def terms(self, items: Items, item: Any) -> Any:
        """Where the terms of an item are kept."""
        frame, builder = self.frame, self.frame.builder
        assert self.output is not None
        if not self.aside:
            return items.address(item, self.output)
        before = builder.select(self.long, items.first(item), builder.mul(item, self.length))
        return builder.inttoptr(builder.add(self.beside, frame.times(before, frame.width // 8)), POINTER)

    def _in_lines(self, output: Operand) -> Any:
        """Whether rows are whole cache lines, or so long that the ends matter little.

        A line that is written partly past the caches and partly not takes hundreds of cycles.
        """
        frame, builder = self.frame, self.frame.builder
        begins = builder.icmp_signed("==", frame.to_line(output.base, output), INTP(0))
        apart = builder.icmp_signed("==", builder.and_(output.outer, INTP(LINE - 1)), INTP(0))
        ends = builder.and_(frame.times(self.length, output.size), INTP(LINE - 1))
        whole = builder.and_(apart, builder.icmp_signed("==", ends, INTP(0)))
        long = builder.icmp_signed(">=", frame.times(self.length, output.size), INTP(ENDS_MATTER))
        return builder.or_(builder.and_(begins, whole), long)

    def _groups(self, groups: Any, together: Any, count: Any) -> None:
        """All groups of rows, one after another.

        Where terms are kept, the first pass over a group comes before the output of the group before: while each of the
        few numbers of rows waits for another, there are long loops to go on with. Elsewhere the output is made of the
        input, which then were no longer in the first cache. Nor is it done where that pass needs numbers of rows, or
        where the rows, which have been asked for, are slow to come.
        """
        frame, builder = self.frame, self.frame.builder
        soon = self.soon if self.keeps and not frame.function.values else NO
        numbers, passes = self.numbers, frame.function.passes
        self.wide = numbers.places(frame.kinds, numbers.own)
        own = builder.select(self.parted, numbers.own, numbers.shared)
        self.begun = numbers.places(["float"] * len(passes[0].initial), own) if passes else []

        def take(group: Any) -> None:
            self.first = builder.mul(group, together)
            self.present = frame.min(together, builder.sub(count, self.first))

        if soon is NO:
            with frame.loop(groups) as group:
                take(group)
                self._begin()
                with builder.if_then(self._not_at_once(), likely=False) if frame.function.at_once else nullcontext():
                    self._reductions()
                    self._write()
            return
        with frame.loop(frame.plus(groups, 1)) as following:
            group, begun = frame.plus(following, -1), frame.is_positive(following)
            with builder.if_then(begun):
                take(group)
                self._reductions()
            # The one before the other or after it, and yet emitted once.
            with frame.loop(2) as turn:
                first = builder.icmp_signed("==", turn, INTP(0))
                with builder.if_else(builder.icmp_signed("==", first, soon)) as (then, otherwise):
                    with then, builder.if_then(builder.icmp_signed("<", following, groups)):
                        take(following)
                        self._begin()
                    with otherwise, builder.if_then(begun):
                        take(group)
                        self._write()

    @property
    def given(self) -> State:
        """What is given of each row of the group."""
        return self.numbers.all(self.wide)

    def _begin(self) -> None:
        """What is given of each row of the group, and the totals of the first pass."""
        frame, numbers = self.frame, self.numbers
        numbers.keep(self.wide, frame.values(self.values, self.inputs[0], self.first, self.present))
        if self.begun:
            with frame.builder.if_then(frame.builder.not_(self.parted)):
                self._totals_of(0, [], self.begun)

    def _totals_of(self, k: int, remembered: Sequence[Places], running: Places) -> None:
        """Pass k over a group, but for what it leaves behind."""
        builder, reduction = self.frame.builder, self.frame.function.passes[k]
        with self.frame.loop(self.supers) as turn:
            index = builder.add(turn, self.piece.first)
            with builder.if_then(self._now(2 * k)):
                self._pass(reduction, index, remembered, running)
            with builder.if_then(builder.and_(self.long, self._now(2 * k + 1))):
                self._join(reduction, running, index, index)

    def _reductions(self) -> None:
        """What the first pass leaves behind, all other passes, and what is computed once they are done."""
        frame, builder, function, numbers = self.frame, self.frame.builder, self.frame.function, self.numbers
        values = self.given
        remembered = self.remembered = self._two_passes() if self.by_parts else []
        known = [numbers.all(places) for places in remembered]
        for k, reduction in enumerate(function.passes[len(known) :], len(known)):

            def leave(k: int, reduction: Reduction, again: Places | None = None) -> Places:
                running = self.begun
                if k > 0:
                    running = numbers.places(["float"] * len(reduction.initial))
                    self._totals_of(k, remembered, running)
                with builder.if_then(self._now(2 * k + 1)):
                    result = reduction.result(numbers.all(running), values, tuple(known))
                    places = again or numbers.places([number.kind for number in result])
                    if reduction.when is not None:
                        wanted = reduction.when(values, tuple(known))
                        result = tuple(select(wanted, x, y) for x, y in zip(result, known[-1], strict=True))
                    numbers.keep(places, result)
                return places

            if reduction.when is None:
                places = leave(k, reduction)
            else:
                places = numbers.places([place.kind for place in remembered[-1]])
                with builder.if_then(self._now(2 * k + 1)):
                    numbers.keep(places, known[-1])
                with builder.if_then(reduction.when(values, tuple(known)).any(), likely=False):
                    leave(k, reduction, places)
            remembered.append(places)
            known.append(numbers.all(places))
        with builder.if_then(self._now(2 * len(function.passes) - 1)):
            finished = function.finish(values, tuple(known))
            for operand, value in zip(self.results, finished[: function.results], strict=True):
                frame.save_numbers(operand, value, self.first, self.present)
            self.done = numbers.places([number.kind for number in finished])
            numbers.keep(self.done, finished)

    def _not_at_once(self) -> Any:
        """Write the rows of the group at once, if that may be done; whether something is left to be done."""
        frame, builder, function, numbers = self.frame, self.frame.builder, self.frame.function, self.numbers
        assert function.at_once is not None
        assert self.output is not None
        left, may = frame.room(YES.type), builder.and_(self.everything, self.cached)
        for operand in self.inputs:  # not in place, for they may have to be read again; other overlaps NumPy copies
            may = builder.and_(may, builder.icmp_unsigned("!=", operand.base, self.output.base))
        builder.store(YES, left)
        with builder.if_then(may):
            found = function.passes[0].result(numbers.all(self.begun), self.given, ())
            places = numbers.places([number.kind for number in found])
            numbers.keep(places, found)
            usual = function.at_once.usual(self.given, (found,))
            there = usual.like(frame.first(self.present), "mask")
            with builder.if_then(builder.not_((there & ~usual).any())):
                wrong = frame.room(frame.vector)
                frame.put(wrong, frame.constant(0.0))
                with frame.loop(self.supers) as part:
                    write_items(self, self._items(part, True), [places], [], False, wrong)
                builder.store((frame.get(wrong) != 0.0).any(), left)
        return builder.load(left)

    def _write(self) -> None:
        if self.output is None:
            return
        frame, builder = self.frame, self.frame.builder
        with builder.if_then(self._now(2 * len(frame.function.passes))), frame.loop(self.supers) as turn:
            part = self._items(builder.add(turn, self.piece.first), True)
            for kept in self._with_terms(self.keeps):
                write_items(self, part, self.remembered, self.done, kept)

    def _two_passes(self) -> list[Places]:
        """The first two, of a long row that is in no cache part by part: each part is read from memory once for both.

        Threads that share such a row do the first with the second. What is known of a part is no one else's.
        """
        frame, builder, numbers = self.frame, self.frame.builder, self.numbers
        largest, sums = self.frame.function.passes[:2]
        size = len(largest.initial)
        rounds = builder.select(self.parted, self.supers, INTP(1))
        turns = builder.select(self.parted, INTP(1), self.supers)
        joins = builder.select(self.parted, INTP(2), INTP(1))
        own = builder.select(self.parted, numbers.own, numbers.shared)
        so_far = numbers.places(["float"] * size)
        totals = numbers.places(["float"] * len(sums.initial))
        with frame.loop(rounds) as part:
            before = builder.add(self.piece.first, part)
            with builder.if_then(builder.and_(self.parted, self._now(2))):
                self._pass(largest, before, [], self.begun)
                self._join(largest, self.begun, before, INTP(0))
            with builder.if_then(self._now(joins)):
                found = largest.result(numbers.all(self.begun), self.given, ())
                kinds, place = [number.kind for number in found], numbers.used
                of_part = numbers.places(kinds, own)
                numbers.keep(of_part, found)
            with frame.loop(turns) as turn:
                index = builder.add(before, turn)
                with builder.if_then(self._now(2)):
                    self._pass(sums, index, [of_part], totals, size)
                now = builder.and_(self.long, self._now(3))
                with builder.if_then(now), builder.if_else(self.parted) as (then, otherwise):
                    with then:
                        self._join(None, [*so_far, *totals], index, index)
                    with otherwise:
                        self._join(sums, totals, index, index, size)
        of_row = numbers.in_room(numbers.shared, kinds, place)
        with builder.if_then(self._now(3)):
            with builder.if_then(self.parted):
                numbers.keep(of_row, largest.result(numbers.all(so_far), self.given, ()))
            result = sums.result(numbers.all(totals), self.given, (numbers.all(of_row),))
            places = numbers.places([number.kind for number in result])
            numbers.keep(places, result)
        return [of_row, places]

    def _now(self, step: Any) -> Any:
        """Whether this step is to be done: 2 k and 2 k + 1 are pass k and the joining of its totals, then all else."""
        step = INTP(step) if isinstance(step, int) else step
        return self.frame.builder.or_(self.everything, self.frame.builder.icmp_signed("==", self.piece.phase, step))

    def _items(self, index: Any, at_once: bool) -> Items:
        """The rows of the group, or the blocks of a part of a long one: `at_once` if their order does not matter."""
        frame, builder, whole = self.frame, self.frame.builder, PART[self.frame.width]
        start = frame.times(index, whole)
        count = frame.min(INTP(frame.lanes), frame.parts(builder.sub(self.length, start), BLOCK))
        count = builder.select(self.long, count, self.present)
        items = Items(frame, self.length, count, self.first, start, INTP(BLOCK), self.long)
        if at_once:  # unless they are staged
            one = builder.and_(self.long, builder.not_(self.staged))
            items.count = builder.select(one, INTP(1), items.count)
            items.size = builder.select(one, INTP(whole), items.size)
        return items

    def _pass(
        self, reduction: Reduction, index: Any, remembered: Sequence[Places], running: Places, place: int = 0
    ) -> None:
        """A pass over rows, or over a part of a long one, whose total is left in its slot from `place` on."""
        items, last = self._items(index, reduction.repeats), reduction is self.frame.function.last
        for keep in self._with_terms(last and self.keeps):
            reduce_items(self, reduction, items, remembered, last, keep)
        self._total(reduction, running, items, index, place)

    def _with_terms(self, asked: bool) -> Iterator[bool]:
        """Whether terms are kept: for two branches of the code if only a call knows."""
        if not asked or self.kept is YES:
            yield asked
            return
        with self.frame.builder.if_else(self.kept) as (then, otherwise):
            with then:
                yield True
            with otherwise:
                yield False

    def _total(self, reduction: Reduction, running: Places, items: Items, index: Any, first: int) -> None:
        """From the states of the items to totals of rows, a lane each, or to that of a part of one long row."""
        frame, builder = self.frame, self.frame.builder
        to = builder.bitcast(running[0].address, POINTER)
        if not self.plain:
            slot = self._slots(index, 1, first)[0]
            to = builder.select(self.long, builder.bitcast(slot, POINTER), to)
        leave_totals(frame, reduction, self.states[0], items.few(), self.long, to)

    def _slots(self, index: Any, count: int, first: int = 0) -> list[Any]:
        """Where the total of a part of a long row is left: `count` numbers."""
        builder = self.frame.builder
        shared = builder.add(self.piece.totals, self.frame.times(index, SLOT))
        place = builder.select(self.everything, builder.ptrtoint(self.slot, INTP), shared)
        begin = builder.inttoptr(place, self.frame.float.as_pointer())
        return [builder.gep(begin, [INTP(first + k)]) for k in range(count)]

    def _totals(self, index: Any, count: int, first: int = 0) -> State:
        """What is there, in every lane."""
        frame = self.frame
        loaded = [frame.floats(frame.builder.load(slot), 1) for slot in self._slots(index, count, first)]
        return tuple(splat(part, frame.lanes) for part in loaded)

    def _join(self, reduction: Reduction | None, running: Places, index: Any, before: Any, first: int = 0) -> None:
        """One more total of a part of a long row to those before, if there are any: of a pass, or of the first two."""
        frame, builder, numbers = self.frame, self.frame.builder, self.numbers
        part = self._totals(index, len(running), first)
        with builder.if_else(frame.is_positive(before)) as (then, otherwise):
            with then:
                a = numbers.all(running)
                joined = frame.join_parts(a, part, self.given) if reduction is None else frame.join(reduction, a, part)
                numbers.keep(running, joined)
            with otherwise:
                numbers.keep(running, part)

    # --- the items: for each, where its operands are

    def ahead(self, items: Items, item: Any) -> list[tuple[Any, Operand, bool]]:
        """Where the same item of the rows or blocks that are taken next lies, in every array that is wanted by then.

        An output that nothing is kept in is written when this pass is over: of that, it is the item itself.
        """
        frame, builder = self.frame, self.frame.builder
        found: list[tuple[Any, Operand, bool]] = []
        for operand in [*self.inputs, *([] if self.output is None else [self.output])]:
            rows = builder.mul(builder.select(items.long, INTP(1), items.count), operand.outer)
            parts = frame.times(operand.core, PART[frame.width])
            # A row that stays in the second cache has come there with the first pass.
            step = builder.select(items.long, parts, rows)
            if operand is not self.output:
                step = builder.select(self.cached, rows, step)
            elif not self.keeps or operand.size * 8 != frame.width:
                step = INTP(0)
            place = frame.offset(items.address(item, operand), step)
            if operand is self.output:  # what is written past the caches, or much later, must not be brought there
                place = builder.select(builder.or_(self.streaming, self.parted), found[0][0], place)
            found.append((place, operand, operand is self.output))
        return found

    def sources(self, items: Items, item: Any, size: Any) -> list[Any]:
        """Pointers to contiguous elements of the inputs."""
        frame, builder = self.frame, self.frame.builder
        places = []
        for operand, stage in zip(self.inputs, self.stages, strict=True):
            pointer = items.address(item, operand)
            place = frame.room(POINTER)
            builder.store(pointer, place)
            with builder.if_then(self.staged, likely=False):
                frame.copy(stage, INTP(operand.size), pointer, operand.core, size, operand.dtype)
                builder.store(stage, place)
            places.append(place)
        return [builder.load(place) for place in places]

    def load(self, sources: Sequence[Any], start: Any, mask: Any) -> State:
        frame = self.frame
        return tuple(
            frame.load(frame.offset(source, frame.times(start, o.size)), o.dtype, mask, o.padding)
            for source, o in zip(sources, self.inputs, strict=True)
        )
