"""The part of `fastact.cuda.check` that looks at row functions, their options and losses.

On the CPU and on a GPU sums have another order, so results are not the same bits: they are within two units in the last
place of the true value on both, and a GPU gives the same bits whenever it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import fastact

from .. import cuda
from ..api import LOSSES, WITH_OPTIONS
from .check_results import INTEGERS, Result, dtypes
from .rows import row_functions

APART = 4  # units in the last place, at most
_ROWS = 16
Array = np.ndarray[Any, Any]


def row_accuracy(gpu: Any, name: str, dtype_name: str, columns: int) -> Result:
    """The largest difference of a row function from the CPU in units in the last place, and whether it repeats."""
    dtype, operands = dtypes()[dtype_name], row_operands(name, (64, columns), dtypes()[dtype_name])
    want = np.asarray(getattr(fastact, name)(*operands))
    given = [gpu.upload(a) for a in operands]
    (got,), repeats = _twice(gpu, lambda out: getattr(cuda, name)(*given, out=out), [want.shape], dtype)
    return _result("rows", name, dtype_name, columns, apart(got, want), repeats)


def row_operands(name: str, shape: tuple[int, ...], dtype: Any) -> list[np.ndarray[Any, Any]]:
    """Operands of a row function, from a normal distribution."""
    function, rng = row_functions()[name], np.random.default_rng(0)
    arrays = [(rng.normal(size=shape) * 3).astype(dtype) for _ in function.rows]
    if name.endswith("_vjp") and len(function.rows) == 2:
        arrays[1] = np.asarray(getattr(fastact, name.removesuffix("_vjp"))(arrays[1]))
    return arrays + [rng.normal(size=shape[:-1]).astype(dtype) for _ in function.values]


def _twice(gpu: Any, function: Callable[..., Any], shapes: Sequence[tuple[int, ...]], dtype: Any) -> tuple[Any, bool]:
    """The results of `function(out=...)`, and whether they were the same bits twice."""
    found = []
    for _ in range(2):
        out = tuple(gpu.empty(shape, dtype) for shape in shapes)
        function(out=out if len(out) > 1 else out[0])
        found.append([gpu.download(array) for array in out])
    integer = INTEGERS[dtype.itemsize]
    return found[0], all((a.view(integer) == b.view(integer)).all() for a, b in zip(*found, strict=True))


def apart(got: Array, want: Array) -> float:
    """The largest difference in units in the last place."""
    signed = np.dtype(f"i{want.dtype.itemsize}")
    a, b = (_places(np.ascontiguousarray(v).view(signed)) for v in (got, want))
    equal = (got == want) | (got != got) & (want != want)
    # in unsigned integers, which hold the difference of any two
    apart = np.where(a > b, a, b).view(np.uint64) - np.where(a > b, b, a).view(np.uint64)
    return float(np.max(np.where(equal, np.uint64(0), apart), initial=0))


def _places(bits: Array) -> Array:
    """Bit patterns of floats as integers that go up as they do."""
    wide = bits.astype(np.int64)
    return np.where(wide < 0, np.int64(np.iinfo(bits.dtype).min) - wide, wide)


def _result(what: str, name: str, dtype: str, columns: int, apart: float, repeats: bool) -> Result:
    return Result(what, name, dtype, columns, apart, "ulp" if repeats else "VARIES", apart <= APART and repeats)


def _uploaded(gpu: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: gpu.upload(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}


def option_cases(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The functions with options, and what is tried of each; `names` are those to look at, or all."""
    for name in WITH_OPTIONS:
        for case in ("temperature", "temperatures", "where", "causal", "all"):
            if not names or name in names:
                yield name, case


def _options(case: str, shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    temperatures = rng.uniform(0.5, 2, shape[:-1]).astype(dtype)
    where = rng.random(shape) < 0.6
    return {
        "temperature": {"temperature": dtype.type(0.75)},
        "temperatures": {"temperature": temperatures},
        "where": {"where": where},
        "causal": {"causal": True},
        "all": {"where": where, "causal": True, "temperature": temperatures},
    }[case]


def option_accuracy(gpu: Any, name: str, case: str, dtype_name: str, columns: int) -> Result:
    """The largest difference from the CPU of a row function with options, and whether it repeats."""
    dtype, shape = dtypes()[dtype_name], (2, _ROWS, columns)
    x = (np.random.default_rng(0).normal(size=shape) * 3).astype(dtype)
    options = _options(case, shape, dtype)
    with np.errstate(all="ignore"):
        want = np.asarray(getattr(fastact, name)(x, **options))
    given, uploaded = gpu.upload(x), _uploaded(gpu, options)
    (got,), repeats = _twice(gpu, lambda out: getattr(cuda, name)(given, **uploaded, out=out), [shape], dtype)
    return _result("options", f"{name} {case}", dtype_name, columns, apart(got, want), repeats)


def loss_cases(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The losses, and what is tried of each."""
    for name in LOSSES:
        for case in ("classes", "int32", "weight", "ignored", "smoothing", "shares", "axis", "all"):
            if not names or name in names:
                yield name, case


def _loss_arguments(case: str, columns: int, dtype: Any) -> tuple[Array, Array, dict[str, Any], Array]:
    """Logits, targets, options, and the distributions that the targets come to, in float64."""
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(_ROWS, columns)) * 3).astype(dtype)
    classes = rng.integers(0, columns, _ROWS)
    weight = rng.uniform(0.5, 2, columns).astype(dtype)
    q, options = np.zeros((_ROWS, columns)), dict[str, Any]()
    q[np.arange(_ROWS), classes] = 1
    targets: Array = classes.astype(np.int32) if case == "int32" else classes
    if case in ("shares", "all"):
        targets = (rng.random((_ROWS, columns)) / columns).astype(dtype)
        q = targets.astype(np.float64)
    if case in ("smoothing", "all"):
        options["label_smoothing"] = 0.125
        q = q * 0.875 + 0.125 / columns
    if case in ("weight", "all"):
        options["weight"] = weight
        q = q * weight.astype(np.float64)
    if case == "ignored":
        options["ignore_index"] = int(classes[0])
        q[classes == classes[0]] = 0
    if case == "axis":
        options["axis"] = 0
        x, q = np.ascontiguousarray(x.T), q.T
    return x, targets, options, q


def loss_accuracy(gpu: Any, name: str, case: str, dtype_name: str, columns: int) -> Iterator[Result]:
    """The same for a loss. The gradient p - q is measured in units of the larger of its two terms."""
    dtype = dtypes()[dtype_name]
    x, targets, options, q = _loss_arguments(case, columns, dtype)
    want = getattr(fastact, name)(x, targets, **options)
    want = [np.asarray(w) for w in (want if isinstance(want, tuple) else (want,))]
    given, aims, uploaded = gpu.upload(x), gpu.upload(targets), _uploaded(gpu, options)
    found, repeats = _twice(
        gpu, lambda out: getattr(cuda, name)(given, aims, **uploaded, out=out), [w.shape for w in want], dtype
    )
    yield _result("losses", f"{name} {case}", dtype_name, columns, apart(found[0], want[0]), repeats)
    if len(want) > 1:
        a, b = found[1].astype(np.float64), want[1].astype(np.float64)
        larger = np.maximum(np.maximum(np.abs(b + q), np.abs(q)), float(_smallest(dtype)))
        units = float(np.max(np.abs(a - b) / (larger * _epsilon(dtype)), initial=0))
        yield _result("losses", f"{name} {case}, gradient", dtype_name, columns, units, repeats)


def _epsilon(dtype: Any) -> float:
    """The distance of 1 from the next number of a dtype."""
    return float({2: 2.0**-7 if dtype.name == "bfloat16" else 2.0**-10, 4: 2.0**-23, 8: 2.0**-52}[dtype.itemsize])


def _smallest(dtype: Any) -> float:
    """The smallest normal number of a dtype."""
    return float({2: 2.0**-14, 4: 2.0**-126, 8: 2.0**-1022}[dtype.itemsize] if dtype.name != "bfloat16" else 2.0**-126)
