"""The same measurement for the libraries that are installed, through the calls that ``fastact bench`` times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastact.accuracy.cases import Case
from fastact.accuracy.samples import samples, walk
from fastact.accuracy.sweep import Measurement, measure
from fastact.bench.libraries import BUILDERS, REQUIRED, installed, measuring

__all__ = ["measure_peers"]

INPUTS = {"float16": 1 << 16, "float32": 1 << 22, "float64": 5000}
"""How many bit patterns are walked to; no peer has loops for bfloat16 that all of NumPy's users could call."""


def measure_peers(case: Case, dtype: str) -> Iterator[tuple[str, Measurement]]:
    """Each installed library that has the function, in this form and dtype, with what was found.

    The peers are called with default parameters, so cases with others have no peers.
    """
    if dtype not in INPUTS or (case.given and case.values != REQUIRED.get(case.name)):
        return
    parameters = case.parameters(dtype)
    x = walk(dtype, INPUTS[dtype])
    if dtype != "float16":
        curated = samples(case.name, dtype, 2000, parameters, case.record.kinks)
        x = np.concatenate([x, curated])
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
            yield library, measure(lambda _, found=outputs: _results(found), case.name, case.form, x, parameters)


def _results(outputs: tuple[npt.NDArray[Any], ...]) -> Any:
    return outputs if len(outputs) > 1 else outputs[0]
