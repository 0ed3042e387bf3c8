"""The same measurement for the libraries that are installed, through the calls that ``fastact bench`` times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastact.accuracy.cases import Case
from fastact.accuracy.judges import Measurement, measure
from fastact.accuracy.samples import samples, walk
from fastact.bench.libraries import BUILDERS, REQUIRED, installed, measuring

__all__ = ["measure_peers", "peer_results"]

Floats = npt.NDArray[Any]

INPUTS = {"float16": 1 << 16, "float32": 1 << 22, "float64": 5000}
"""How many bit patterns are walked to; no peer has loops for bfloat16 that all of NumPy's users could call."""


def peer_results(case: Case, x: Floats) -> Iterator[tuple[str, Any]]:
    """Each installed library that has the function, in this form and the dtype of `x`, with its results.

    The peers are called with default parameters, so cases with others have no peers.
    """
    if x.dtype.name not in INPUTS or (case.given and case.values != REQUIRED.get(case.name)):
        return
    libraries = [name for name in BUILDERS if name != "fastact" and installed(name)]
    with measuring(libraries):
        for library in libraries:
            try:
                prepared = BUILDERS[library](case.name, case.form, x, np.ones_like(x))
                if prepared is None:
                    continue
                outputs = prepared.outputs()
            except Exception:  # each library refuses a dtype or an operator with an exception of its own
                continue
            yield library, outputs if len(outputs) > 1 else outputs[0]


def measure_peers(case: Case, dtype: str) -> Iterator[tuple[str, Measurement]]:
    """Each installed library that has the function, with what was found."""
    if dtype not in INPUTS:
        return
    parameters = case.parameters(dtype)
    x = walk(dtype, INPUTS[dtype])
    if dtype != "float16":
        curated = samples(case.name, dtype, 2000, parameters, case.record.kinks)
        x = np.concatenate([x, curated])
    for library, results in peer_results(case, x):
        yield library, measure(lambda _, found=results: found, case.name, case.form, x, parameters)
