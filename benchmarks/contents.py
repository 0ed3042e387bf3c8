"""What rows cost by what is in them: most take one way, and a few need a sum or a logarithm once more.

``python -m benchmarks.contents`` measures all, in turns with rows of the standard normal distribution.
"""

import argparse
from collections.abc import Callable
from functools import partial
from timeit import Timer
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastact as fa
from fastact.bench.cases import prepare_on

Rows = NDArray[Any]

SHAPE = (256, 1024)
ROUNDS, CALLS = 15, 5


def _one_above(rows: Rows, by: float) -> Rows:
    found = rows.copy()
    found[:, 0] = by
    return found


def _log_probabilities(rows: Rows) -> Rows:
    shifted = rows - rows.max(axis=1, keepdims=True)
    found: Rows = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


CONTENTS: dict[str, Callable[[Rows], Rows]] = {
    "normal": lambda rows: rows,
    "ten times wider": lambda rows: 10 * rows,
    "equal": np.zeros_like,
    "one 12 above": partial(_one_above, by=12.0),
    "one 25 above": partial(_one_above, by=25.0),
    "half of them -inf": lambda rows: np.where(rows > 0, rows, rows.dtype.type(-np.inf)),
    "integers": lambda rows: np.rint(3 * rows),
    "log-probabilities": _log_probabilities,
}
"""How the entries are made of those of the standard normal distribution."""

FUNCTIONS = {
    "softmax": ("softmax", "forward"),
    "log_softmax": ("log_softmax", "forward"),
    "logsumexp": ("logsumexp", "forward"),
    "cross entropy": ("cross_entropy_with_logits", "forward"),
    "cross entropy with gradient": ("cross_entropy_with_logits", "with_derivative"),
    "softmax_vjp": ("softmax", "vjp"),
    "log_softmax_vjp": ("log_softmax", "vjp"),
    "sparsemax": ("sparsemax", "forward"),
    "entmax15": ("entmax15", "forward"),
}
"""What is measured: a function of `fastact.bench.cases`, and its form."""


def prepare(function: str, contents: str, dtype: str = "float32") -> Callable[[], object]:
    """A call without arguments."""
    rng = np.random.default_rng(0)
    rows, g = (rng.standard_normal(SHAPE).astype(dtype) for _ in range(2))
    run: Callable[[], object] = prepare_on(*FUNCTIONS[function], "fastact", CONTENTS[contents](rows), g).run
    return run


class RowContents:
    """Rows whose results are far apart, equal, masked, or cancel."""

    params = (tuple(FUNCTIONS), tuple(CONTENTS))
    param_names = ("function", "contents")

    def setup(self, function: str, contents: str) -> None:
        self.call = prepare(function, contents)
        self.call()

    def time_rows(self, function: str, contents: str) -> None:
        self.call()

    time_rows.pretty_name = "Functions along an axis, by what is in the rows"


def measure(function: str, dtype: str) -> dict[str, float]:
    """The time for each kind of contents, in nanoseconds an element: the shortest of all rounds."""
    timers = [Timer(prepare(function, contents, dtype)) for contents in CONTENTS]
    rounds = [[timer.timeit(CALLS) for timer in timers] for _ in range(ROUNDS)]
    shortest = (min(times) for times in zip(*rounds, strict=True))
    return dict(zip(CONTENTS, (1e9 * time / CALLS / np.prod(SHAPE) for time in shortest), strict=True))


def main() -> None:
    """Print a table: nanoseconds for rows of the normal distribution, and how often as long others take."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    dtype = parser.parse_args().dtype
    usual, *others = CONTENTS
    table = Table(title=f"{SHAPE[0]} rows of {SHAPE[1]} {dtype}, one thread")
    for heading in ("", f"{usual}, ns", *others):
        table.add_column(heading, justify="left" if not heading else "right")
    for function in FUNCTIONS:
        with fa.threads(1):
            found = measure(function, dtype)
        ratios = (f"{found[contents] / found[usual]:.2f}x" for contents in others)
        table.add_row(function, f"{found[usual]:.3f}", *ratios)
    Console().print(table)


if __name__ == "__main__":
    main()
