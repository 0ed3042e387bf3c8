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
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import Any

from numpy.typing import NDArray

from fastact.bench.cases import Missing, inputs, measuring, prepare_on
from fastact.bench.libraries import Case
from fastact.bench.sample import Error, measure_error, truth

Array = NDArray[Any]

__all__ = ["FEWEST_ROUNDS", "Cell", "Plan", "Report", "Time", "measure"]

FEWEST_ROUNDS = 2
SETTLE_SECONDS = 0.003


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure and how long to take over it."""

    functions: tuple[str, ...]
    sizes: tuple[int, ...]
    libraries: tuple[str, ...]
    dtype: str
    form: str
    threads: int
    rounds: int
    batch_seconds: float
    """A batch repeats a call until it takes about this long; a longer call is a batch by itself."""
    case_seconds: float
    """After this long a library has had its turn, if it ran `FEWEST_ROUNDS`."""

    def steps(self) -> int:
        return len(self.functions) * (len(self.sizes) + 1)


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds a call."""

    best: float
    median: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Cell:
    """One function at one size."""

    function: str
    requested: int
    elements: int
    """what was measured: along an axis, the whole rows that fit in the number requested"""
    shape: tuple[int, ...]
    times: dict[str, Time]

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

    def ns(self, library: str) -> float | None:
        """Nanoseconds an element, at best."""
        time = self.times.get(library)
        return None if time is None else 1e9 * time.best / self.elements


@dataclass(slots=True)
class Report:
    """Everything that was measured so far: a run that is interrupted still has it."""

    plan: Plan
    cells: list[Cell] = field(default_factory=list)
    errors: dict[str, dict[str, Error]] = field(default_factory=dict)
    """function -> library -> error"""
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
    with measuring(list(plan.libraries)):
        for name in plan.functions:
            progress(f"{name}: accuracy")
            _measure_errors(report, name)
            for n in plan.sizes:
                progress(f"{name}: {n:,} element{'s' if n > 1 else ''}")
                _measure_cell(report, name, n)
    report.finished = True


def _prepared(report: Report, name: str, x: Array, g: Array) -> dict[str, Case]:
    """The libraries that have the function; one that fails is noted and left out."""
    plan = report.plan
    cases: dict[str, Case] = {}
    for library in plan.libraries:
        try:
            case = prepare_on(name, plan.form, library, x, g)
            case.run()
        except Missing:
            if library == "fastact":  # nothing to compare: say, softmax has no elementwise derivative
                return {}
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            report.note(f"{library} {name} ({plan.form}, {plan.dtype}): {reason[0][:120]}")
            if library == "fastact":
                report.failed.append(name)
                return {}
        else:
            cases[library] = case
    return cases


def _measure_errors(report: Report, name: str) -> None:
    plan = report.plan
    try:
        true = truth(name, plan.form, plan.dtype)
    except ImportError as error:
        report.note(f"no max ULP: {error}")
        return
    if true is not None:
        report.errors[name] = {
            library: measure_error(case, true) for library, case in _prepared(report, name, true.x, true.g).items()
        }


def _measure_cell(report: Report, name: str, n: int) -> None:
    plan = report.plan
    x, g = inputs(name, plan.dtype, n)
    cases = _prepared(report, name, x, g)
    if not cases:
        return
    with _no_garbage_collection():
        numbers = {library: _calls_a_batch(case, plan.batch_seconds) for library, case in cases.items()}
        times: dict[str, list[float]] = {library: [] for library in cases}
        order, shuffle = list(cases), random.Random(n).shuffle
        for turn in range(plan.rounds):
            shuffle(order)
            for library in order:
                spent = sum(times[library]) * numbers[library]
                if turn < FEWEST_ROUNDS or spent < plan.case_seconds:
                    if plan.threads > 1:
                        _settle(cases[library], numbers[library])
                    times[library].append(_batch(cases[library], numbers[library]))
    report.cells.append(
        Cell(
            name,
            n,
            x.size,
            x.shape,
            {library: Time(min(t), statistics.median(t), len(t)) for library, t in times.items()},
        )
    )


def _settle(case: Case, number: int) -> None:
    """Let the threads of the library before go to sleep: they spin for a while, on our cores.

    Then wake this library's own, where that would show in the time of a short batch.
    """
    sleep(SETTLE_SECONDS)
    if number > 1:
        case.run()


def _batch(case: Case, number: int) -> float:
    """Seconds a call, over `number` calls."""
    run = case.run
    turns = itertools.repeat(None, number)
    start = perf_counter()
    for _ in turns:
        run()
    return (perf_counter() - start) / number


def _calls_a_batch(case: Case, seconds: float) -> int:
    """How many calls take about `seconds`; the case has run once before."""
    number = 1
    while True:
        spent = _batch(case, number)
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
