"""What a call costs where there is nothing to compute: one element, beside ``np.exp`` called in the same way."""

import json
from collections.abc import Callable
from functools import partial
from timeit import Timer
from typing import Any

import numpy as np

import fastact as fa

X, OUT = np.ones(1, "f4"), np.ones(1, "f4")
ROUNDS, CALLS = 200, 200

Call = Callable[[], object]

WAYS: dict[str, tuple[Call, Call]] = {
    "gelu(x)": (lambda: fa.gelu(X), lambda: np.exp(X)),
    "gelu(x, out)": (lambda: fa.gelu(X, OUT), lambda: np.exp(X, OUT)),
    "gelu(x, out=out)": (lambda: fa.gelu(X, out=OUT), lambda: np.exp(X, out=OUT)),
    "leaky_relu(x)": (lambda: fa.leaky_relu(X), lambda: np.exp(X)),
    "leaky_relu(x, out=out)": (lambda: fa.leaky_relu(X, out=OUT), lambda: np.exp(X, out=OUT)),
    "hard_tanh(x)": (lambda: fa.hard_tanh(X), lambda: np.exp(X)),
}
"""What is called -> fastact's call, NumPy's."""


class Calls:
    """Through Python, as users call: without results, with one by position, by keyword, with default parameters."""

    params = (tuple(WAYS),)
    param_names = ("call",)

    def setup(self, way: str) -> None:
        self.call, self.beside = WAYS[way]
        self.call()

    def time_call(self, way: str) -> None:
        self.call()

    time_call.pretty_name = "A call on one element"

    def time_numpy_exp(self, way: str) -> None:
        self.beside()

    time_numpy_exp.pretty_name = "np.exp called in the same way"


def measure() -> list[dict[str, Any]]:
    """Each call beside np.exp's, in turns; the shortest of each counts."""
    results = []
    for what, pair in WAYS.items():
        timers = [partial(Timer(call).timeit, CALLS) for call in pair]
        taken = [[timer() for timer in timers] for _ in range(ROUNDS)]
        own, numpy = (min(times) / CALLS for times in zip(*taken, strict=True))
        results.append({"what": what, "ns": 1e9 * own, "numpy_exp_ns": 1e9 * numpy, "over_numpy_exp": own / numpy})
    return results


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
