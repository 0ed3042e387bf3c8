"""The measurement: all libraries side by side, interleaved in one process, so that they share the
machine's mood.

For one function and size every library is prepared on the same input; then in each round each
library runs one batch, in an order that rotates. The best batch tells what the code can do, the
median what it did. Ratios within one such cell are comparable; times of different runs or machines
are not.
"""

from __future__ import annotations

import gc
import itertools
import random
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter, process_time, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.activation import Unfinished
from fastact.bench.cases import Missing, Setting, inputs, measuring, prepare_on
from fastact.bench.libraries import Case, public_name
from fastact.bench.limits import Bound, NoBound, bound_of, clock, copies, in_cache
from fastact.bench.peers import PEERS
from fastact.bench.sample import Error, measure_error, truth

Array = NDArray[Any]
Call = Callable[[], Any]

__all__ = [
    "CONTIGUOUS",
    "COPY",
    "FEWEST_ROUNDS",
    "FROM_X",
    "IN_CACHE",
    "RELU",
    "Cell",
    "Plan",
    "Report",
    "Time",
    "measure",
]

FEWEST_ROUNDS = 2
DISTURBED = 1.5
"""By what factor half of a library's rounds took longer than the best, where something else was going on."""
SETTLE_SECONDS, SETTLE_TURNS = 0.01, 5
TURNS = 1000
"""Elements from which the loop turns often enough for its throughput to matter."""

COPY, RELU, CONTIGUOUS, IN_CACHE, FROM_X = "copy", "relu", "contiguous", "in cache", " from x"
"""What is timed beside the libraries: a copy of as many bytes, fastact's relu on the same input, fastact on a
contiguous input, and ``torch from x``: a peer that was given what its forward pass saved, made to compute that too."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure and how long to take over it."""

    functions: tuple[str, ...]
    settings: tuple[Setting, ...]
    libraries: tuple[str, ...]
    dtypes: tuple[str, ...]
    forms: tuple[str, ...]
    threads: int
    rounds: int
    batch_seconds: float
    """A batch repeats a call until it takes about this long; a longer call is a batch by itself."""
    case_seconds: float
    """After this long a library has had its turn, if it ran `FEWEST_ROUNDS`."""
    limits: bool = False
    """measure the copy of as many bytes and ask for the bound of the arithmetic"""
    accuracy: bool = True
    command: str = ""
    """what to type to repeat it"""

    def steps(self) -> int:
        return len(self.dtypes) * len(self.forms) * len(self.functions) * (len(self.settings) + self.accuracy)


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds a call."""

    best: float
    median: float
    rounds: int

    @classmethod
    def of(cls, taken: list[float]) -> Time:
        """What is kept of the rounds."""
        return cls(min(taken), statistics.median(taken), len(taken))

    @property
    def disturbed(self) -> bool:
        """Whether the best is not to be trusted: it may have been disturbed as well, only less."""
        return self.median > DISTURBED * self.best


@dataclass(frozen=True, slots=True)
class Cell:
    """One function in one form, dtype and setting."""

    function: str
    form: str
    dtype: str
    setting: Setting
    shape: tuple[int, ...]
    """what was measured: given a number of elements, a function along an axis gets the whole rows that fit"""
    times: dict[str, Time]
    beside: dict[str, Time] = field(default_factory=dict)
    bound: Bound | None = None
    hertz: float | None = None

    @property
    def elements(self) -> int:
        """How many elements the input has."""
        return int(np.prod(self.shape))

    @property
    def fastest_peer(self) -> str | None:
        peers = [library for library in self.times if library != "fastact"]
        return min(peers, key=lambda library: self.times[library].best, default=None)

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the fastest peer fastact is."""
        peer = self.fastest_peer
        if peer is None or "fastact" not in self.times:
            return None
        return self.times[peer].best / self.times["fastact"].best

    @property
    def ratio_from_x(self) -> float | None:
        """The same, had no peer been given what its forward pass saved; None where none was."""
        saved = {name.removesuffix(FROM_X) for name in self.beside if name.endswith(FROM_X)}
        if not saved or "fastact" not in self.times:
            return None
        best = [time.best for library, time in self.times.items() if library not in (*saved, "fastact")]
        best += [time.best for name, time in self.beside.items() if name.endswith(FROM_X)]
        return min(best) / self.times["fastact"].best

    def against(self, what: str) -> float | None:
        """The time of fastact as a multiple of what was measured beside it."""
        if what not in self.beside or "fastact" not in self.times:
            return None
        return self.times["fastact"].best / self.beside[what].best

    def ns(self, library: str) -> float | None:
        """Nanoseconds an element, at best, of a library or of what was measured beside it."""
        time = self.times.get(library) or self.beside.get(library)
        return None if time is None else 1e9 * time.best / self.elements

    def ns_bound(self, threads: int) -> float | None:
        """Nanoseconds an element that the arithmetic takes at least, shared by `threads` cores."""
        if self.bound is None or not self.hertz:
            return None
        return 1e9 * self.bound.throughput / self.hertz / threads


@dataclass(slots=True)
class Report:
    """Everything that was measured so far: a run that is interrupted still has it."""

    plan: Plan
    cells: list[Cell] = field(default_factory=list)
    errors: dict[tuple[str, str, str], dict[str, Error]] = field(default_factory=dict)
    """(function, form, dtype) -> library -> error"""
    notes: list[str] = field(default_factory=list)
    """what could not be measured, and why"""
    failed: list[str] = field(default_factory=list)
    """functions in which fastact itself raised an exception: the run goes on and ends with status 1"""
    finished: bool = False

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


Progress = Callable[[str], None]
"""Called with what comes next, once a step."""


def measure(report: Report, progress: Progress) -> None:
    """Fill `report` by its plan."""
    plan = report.plan
    several = len(plan.dtypes) * len(plan.forms) > 1
    with measuring(list(plan.libraries)):
        for dtype, form, name in itertools.product(plan.dtypes, plan.forms, plan.functions):
            what = f"{name} {form} {dtype}" if several else name
            if plan.accuracy:
                progress(f"{what}: accuracy")
                _measure_errors(report, name, form, dtype)
            for setting in plan.settings:
                progress(f"{what}: {setting.title}")
                _measure_cell(report, name, form, dtype, setting)
    report.finished = True


def _prepared(report: Report, name: str, form: str, x: Array, g: Array, axis: int = -1) -> dict[str, Case]:
    """The libraries that have the function; one that fails is noted and left out."""
    cases: dict[str, Case] = {}
    for library in report.plan.libraries:
        try:
            case = prepare_on(name, form, library, x, g, axis)
            case.run()
        except Missing:
            if library == "fastact":  # nothing to compare: say, softmax has no elementwise derivative
                return {}
        except Unfinished:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            report.note(f"{library} {name} ({form}, {x.dtype}): {reason[0][:120]}")
            if library == "fastact":
                report.failed.append(name)
                return {}
        else:
            cases[library] = case
    return cases


def _measure_errors(report: Report, name: str, form: str, dtype: str) -> None:
    try:
        true = truth(name, form, dtype)
    except ImportError as error:
        report.note(f"no max ULP: {error}")
        return
    if true is not None:
        cases = _prepared(report, name, form, true.x, true.g)
        report.errors[name, form, dtype] = {library: measure_error(case, true) for library, case in cases.items()}


def _beside(report: Report, name: str, form: str, dtype: str, setting: Setting, x: Array, g: Array) -> dict[str, Call]:
    """What the plan wants to be timed beside the libraries; several ways to copy have names that start alike."""
    plan, row = report.plan, PEERS[name]
    found: dict[str, Call] = {}
    if plan.limits:
        operands = 3 if form in ("vjp", "backward", "with_derivative") else 2
        moved = x.size * (operands - row.reduces) + (x.size // max(1, x.shape[setting.axis]) if row.reduces else 0)
        found |= {f"{COPY} {way}": call for way, call in copies(moved * x.itemsize, plan.libraries).items()}
        if form == "forward" and not row.rows:
            found[RELU] = prepare_on("relu", form, "fastact", x, g).run
        if not row.rows and setting.layout == "contiguous" and x.size >= TURNS:
            with suppress(NoBound):
                found[IN_CACHE] = in_cache(public_name(name, form), dtype, x)
    if setting.layout != "contiguous":
        plain = (np.ascontiguousarray(x), np.ascontiguousarray(g))
        found[CONTIGUOUS] = prepare_on(name, form, "fastact", *plain, setting.axis).run
    return found


def _measure_cell(report: Report, name: str, form: str, dtype: str, setting: Setting) -> None:
    plan = report.plan
    x, g = inputs(name, dtype, setting)
    cases = _prepared(report, name, form, x, g, setting.axis)
    if not cases:
        return
    calls: dict[str, Call] = {library: case.run for library, case in cases.items()}
    calls |= {library + FROM_X: case.from_x for library, case in cases.items() if case.from_x is not None}
    calls |= _beside(report, name, form, dtype, setting, x, g)
    bound = _bound(report, name, form, dtype) if plan.limits and x.size >= TURNS else None
    hertz = 0.0
    with _no_garbage_collection():
        for call in calls.values():
            call()
        numbers = {key: _calls_a_batch(call, plan.batch_seconds) for key, call in calls.items()}
        taken: dict[str, list[float]] = {key: [] for key in calls}
        order, shuffle = list(calls), random.Random(x.size).shuffle
        for turn in range(2 * plan.rounds):
            if turn == plan.rounds and not any(Time.of(taken[library]).disturbed for library in cases):
                break  # else all get as many rounds again
            shuffle(order)
            for key in order:
                spent = sum(taken[key]) * numbers[key]
                if turn % plan.rounds < FEWEST_ROUNDS or spent < plan.case_seconds:
                    if plan.threads > 1:
                        _settle(calls[key])
                    else:
                        calls[key]()  # brings back to the caches what the library before it drove out
                    taken[key].append(_batch(calls[key], numbers[key]))
            if bound is not None:
                hertz = max(hertz, clock())
    times = {key: Time.of(t) for key, t in taken.items()}
    beside = {key: time for key, time in times.items() if key not in cases}
    ways = [key for key in beside if key.startswith(f"{COPY} ")]
    if ways:
        beside[COPY] = min((beside.pop(way) for way in ways), key=lambda time: time.best)
    times = {library: times[library] for library in cases}
    report.cells.append(Cell(name, form, dtype, setting, x.shape, times, beside, bound, hertz or None))


def _bound(report: Report, name: str, form: str, dtype: str) -> Bound | None:
    """llvm-mca's bound of a function that is one loop over its elements; why there is none is noted once."""
    if PEERS[name].rows:
        return None
    try:
        return bound_of(public_name(name, form), dtype)
    except NoBound as reason:
        report.note(f"no bound of the arithmetic: {reason}")
        return None


def _settle(run: Call) -> None:
    """Let the threads of the library before go to sleep: some spin for a while, on our cores.

    Then wake this library's own, and let the system move them to cores of their own: a guest of KVM may wake all of
    them on the caller's, and takes a while to see that the others are idle.
    """
    for _ in range(SETTLE_TURNS):
        before = process_time()
        sleep(SETTLE_SECONDS)
        if process_time() - before < 0.6 * SETTLE_SECONDS:  # a clock that some systems wind every 4 ms
            break
    end = perf_counter() + SETTLE_SECONDS
    while perf_counter() < end:
        run()


def _batch(run: Call, number: int) -> float:
    """Seconds a call, over `number` calls."""
    turns = itertools.repeat(None, number)
    start = perf_counter()
    for _ in turns:
        run()
    return (perf_counter() - start) / number


def _calls_a_batch(run: Call, seconds: float) -> int:
    """How many calls take about `seconds`; `run` was called once before."""
    number = 1
    while True:
        spent = _batch(run, number)
        if spent * number > seconds / 4 or number >= 1 << 20:
            return max(1, min(1 << 20, round(seconds / spent)))
        number *= 4


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
