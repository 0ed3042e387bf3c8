"""What there is to judge: every form of every function, at its default parameters and at a grid of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import fastact
from fastact.accuracy.digest import elementwise_digest
from fastact.accuracy.samples import numpy_dtype, other_parameters
from fastact.activation import Activation, forms

__all__ = ["Case", "cases"]


@dataclass(frozen=True)
class Case:
    """One form of one function at one set of parameters."""

    record: Activation
    form: str
    public: str
    values: tuple[float, ...]
    given: bool
    """whether the parameters are passed; if not, the function uses the defaults that are built in"""

    @property
    def name(self) -> str:
        """The function's name, of whatever form."""
        return self.record.name

    @property
    def title(self) -> str:
        """A name for tests and tables: ``swish_derivative(beta=0.5)``."""
        pairs = zip(self.record.parameters, self.values, strict=True)
        return self.public + (f"({','.join(f'{p.name}={v:g}' for p, v in pairs)})" if self.given else "")

    def bound(self, dtype: str) -> float:
        """The largest error the record promises."""
        return float(getattr(self.record.contract, dtype))

    def parameters(self, dtype: str) -> tuple[float, ...]:
        """The parameters as the kernel sees them: a default is rounded to the dtype it computes in."""
        narrow = dtype in ("float16", "bfloat16")
        kind = numpy_dtype("float32" if narrow and not self.given else dtype)
        return tuple(float(value) for value in _rounded(self.values, kind))

    def digest(self, dtype: str) -> str:
        """The fingerprint of the kernel behind `function`."""
        return elementwise_digest(self.record, self.form, dtype, self.given)

    def parts(self) -> tuple[Case, ...]:
        """For ``with_derivative``, the two functions it joins."""
        if self.form != "with_derivative":
            return ()
        names = dict(forms(self.record))
        return tuple(replace(self, form=form, public=names[form]) for form in ("forward", "derivative"))

    def function(self, dtype: str) -> Callable[..., Any]:
        """The public function, of arrays only."""
        function = getattr(fastact, self.public)
        if not self.given:
            return function  # type: ignore[no-any-return]
        typed = _rounded(self.values, numpy_dtype(dtype))
        return lambda *arrays: function(*arrays, *typed)


def _rounded(values: tuple[float, ...], kind: np.dtype[Any]) -> list[Any]:
    with np.errstate(all="ignore"):
        return list(np.array(values, np.float64).astype(kind))


def cases(records: Iterable[Activation], wanted: Iterable[str] | None = None, grid: bool = False) -> Iterator[Case]:
    """Every form (or those `wanted`) of every record, at default parameters and, for `grid`, at others.

    A function that has a parameter without a default is judged at the grid alone.
    """
    chosen = None if wanted is None else set(wanted)
    for record in records:
        defaults = [p.default for p in record.parameters]
        known = tuple(float(d) for d in defaults if d is not None)
        complete = len(known) == len(defaults)
        others = other_parameters(record) if grid or not complete else ()
        for form, public in forms(record):
            if form == "vjp_from_output" or (chosen is not None and form not in chosen):
                continue  # that one is no function of x
            if complete:
                yield Case(record, form, public, known, given=False)
            for index, values in enumerate(others):
                if grid or (index == 0 and not complete):
                    yield Case(record, form, public, values, given=True)
