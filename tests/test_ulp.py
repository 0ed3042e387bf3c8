"""The measure itself: ULP errors, the bit patterns looked at, the oracles and the fast reference held against each
other.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

import fastact as fa
from fastact.accuracy.arithmetic import evaluate, require
from fastact.accuracy.formulas import REFERENCES
from fastact.accuracy.judges import Measurement, compared, measure
from fastact.accuracy.oracles import ORACLES, Truth, formula_of, truth
from fastact.accuracy.reference import reference64
from fastact.accuracy.samples import PARAMETERS, curated, exponents, neighbours, samples, specials, walk
from fastact.accuracy.sweep import BLOCK, blocks, count, sweep
from fastact.accuracy.ulp import FORMATS, compare, ulp_error

MAX32 = float(np.finfo(np.float32).max)
EDGE32 = 2.0**128 - 2.0**103  # half-way between the largest float32 and 2^128
TINY32 = 2.0**-149
DEFAULTS = {
    name: tuple(float(p.default) for p in record.parameters)
    for name, record in fa.CATALOGUE.items()
    if record.parameters and all(p.default is not None for p in record.parameters)
}
FORMS = [(name, form) for name, table in ORACLES.items() for form in table]


def parameter_sets(name: str, dtype: type[np.floating]) -> list[tuple[float, ...]]:
    sets = [*([DEFAULTS[name]] if name in DEFAULTS else []), *PARAMETERS.get(name, [()])]
    return [tuple(float(dtype(p)) for p in values) for values in sets]


@pytest.mark.parametrize(
    ("result", "hi", "lo", "error", "wrong"),
    [
        (1.0, 1 + 2.0**-24, 0.0, 0.5, ""),
        (1.0, 1 - 2.0**-25, 0.0, 0.5, ""),
        (1.0, 1.0, -(2.0**-48), 2.0**-24, ""),
        (1.0, 1.0, 2.0**-47, 2.0**-24, ""),
        (0.0, 0.7 * TINY32, 0.0, 0.7, ""),
        (0.0, 1.5 * TINY32, 0.0, 1.5, "zero"),
        (TINY32, 0.25 * TINY32, 0.0, 0.75, ""),
        (0.0, 1.0, 0.0, 2.0**23, "zero"),
        (-0.0, 1e-60, 0.0, None, "sign"),
        (0.0, 0.0, 0.0, 0.0, ""),
        (-0.0, 0.0, 0.0, 0.0, "sign"),
        (TINY32, 0.0, 0.0, 1.0, "zero"),
        (-1.0, 1.0, 0.0, 2.0**24, "sign"),
        (math.inf, EDGE32, 0.0, 0.0, ""),
        (MAX32, EDGE32, 0.0, math.inf, "inf"),
        (MAX32, EDGE32 - 2.0**80, 0.0, None, ""),
        (math.inf, EDGE32 - 2.0**80, 0.0, None, ""),
        (math.inf, MAX32, 0.0, math.inf, "inf"),
        (-math.inf, math.inf, 0.0, math.inf, "inf sign"),
        (1e30, math.inf, 0.0, math.inf, "inf"),
        (math.nan, math.nan, 0.0, 0.0, ""),
        (math.nan, 1.0, 0.0, math.inf, "nan"),
        (1.0, math.nan, 0.0, math.inf, "nan"),
    ],
)
def test_ulp_error_float32(result: float, hi: float, lo: float, error: float | None, wrong: str) -> None:
    found = compare(np.array([result], np.float32), [hi], [lo])
    kinds = [kind for kind in ("nan", "inf", "zero", "sign") if getattr(found, f"wrong_{kind}")[0]]
    assert kinds == wrong.split()
    if error is not None:
        assert found.error[0] == error
    else:
        assert found.error[0] < 1


@pytest.mark.parametrize(
    ("result", "hi", "lo", "exponent", "error"),
    [
        (5e-324, 0.5, 0.3, -1073, 0.6),
        (1.0, 0.5, 2.0**-54, 1, 0.5),
        (1.0, 0.5, -(2.0**-56), 1, 0.25),
        (math.inf, 0.75, 0.0, 1025, 0.0),
        (math.inf, 1.0, -(2.0**-54), 1024, 0.0),
        (float(np.finfo(np.float64).max), 1.0, -(2.0**-53), 1024, 0.0),
        (0.0, 0.75, 0.0, -5000, 0.0),
        (1e300, 0.75, 0.0, -1000, math.inf),
    ],
)
def test_ulp_error_float64_needs_more_than_a_float64(
    result: float, hi: float, lo: float, exponent: int, error: float
) -> None:
    assert ulp_error(np.array([result]), [hi], [lo], exponent=[exponent])[0] == pytest.approx(error, rel=1e-15)


@pytest.mark.parametrize("dtype", FORMATS)
def test_rounding_is_within_half_an_ulp(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    form = FORMATS[dtype]
    x = samples("relu", dtype, 3000)
    with np.errstate(invalid="ignore"):  # signalling NaN
        x = x[np.isfinite(x)]
    assert ulp_error(x, x.astype(np.float64)).max() == 0
    # The next number up is off by exactly one spacing.
    up = (x.view(form.unsigned) + 1).astype(form.unsigned).view(x.dtype)
    finite = np.isfinite(up.astype(np.float64))
    assert set(ulp_error(up[finite], x[finite].astype(np.float64))) == {1.0}


@pytest.mark.parametrize("dtype", FORMATS)
def test_samples_visit_every_exponent_of_both_signs(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    form = FORMATS[dtype]
    shift = form.precision - 1
    every = set(range(1 << (form.bits - shift)))
    seen = set((walk(dtype, 100_000).view(form.unsigned) >> shift).tolist())
    assert seen == every
    assert every - set((exponents(dtype).view(form.unsigned) >> shift).tolist()) == {
        form.infinity >> shift,
        (form.infinity >> shift) + (len(every) // 2),
    }
    patterns = set(samples("gelu", dtype, 500).view(form.unsigned).tolist())
    assert patterns >= set(specials(dtype).view(form.unsigned).tolist())
    assert patterns >= set(curated("gelu", dtype).view(form.unsigned).tolist())


def test_neighbours_cross_zero_and_stop_at_infinity() -> None:
    near = neighbours([0.0], "float32", 2).tolist()
    assert sorted(near) == [-2 * TINY32, -TINY32, 0.0, TINY32, 2 * TINY32]
    assert max(neighbours([MAX32], "float32", 2).tolist()) == math.inf


def test_blocks_hold_every_pattern_once() -> None:
    for stride in (1, 7, 1021):
        ranges = blocks("float32", stride)
        assert ranges[0][0] == 0
        assert ranges[-1][1] == 2**32
        assert all(a[1] == b[0] for a, b in pairwise(ranges))
    assert len(blocks("float32")) == 2**32 // BLOCK
    assert blocks("float16") == [(0, 65536)]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_two_libraries_agree(name: str, form: str) -> None:
    """MPFR and mpmath compute the oracles independently of each other."""
    pytest.importorskip("gmpy2")
    x = walk("float64", 24, offset=12345)
    x = np.concatenate([x[np.isfinite(x) & (np.abs(x) < 2.0**15)], np.linspace(-12, 12, 20)])
    for values in parameter_sets(name, np.float64):
        one = truth(name, form, x, *values, library="gmpy2")
        two = truth(name, form, x, *values, library="mpmath")
        # 1 - 2^-500 comes as 1 * 2^0 from one and as 0.5 * 2^1 from the other.
        shift = (two.exponent - one.exponent).astype(int)
        difference = (one.hi - np.ldexp(two.hi, shift)) + (one.lo - np.ldexp(two.lo, shift))
        assert np.abs(difference).max() <= 2.0**-100
        assert np.array_equal(np.signbit(one.hi), np.signbit(two.hi))


@pytest.mark.parametrize(("name", "form"), [f for f in FORMS if f[1] != "forward"])
def test_derivatives_are_those_of_the_forward_formula(name: str, form: str) -> None:
    """Central differences with 60 digits, away from kinks, know nothing of the derivative's formula."""
    mp = require("mpmath").mp
    step = 1e-12
    for values in parameter_sets(name, np.float64):
        for at in (-20.1, -4.7, -2.26, -1.2785, -0.752, -0.3, -1e-3, 1e-3, 0.07, 0.4, 1.1, 2.3, 5.7, 30.2):
            position = 0
            if form != "derivative":
                parameter = form.removeprefix("derivative_")
                position = 1 + [p.name for p in fa.CATALOGUE[name].parameters].index(parameter)
            point = [at, *values]
            if position and point[position] == 0:
                continue

            def along(m: object, h: float, position: int = position, point: list[float] = point) -> object:
                moved = [m.number(v) for v in point]  # type: ignore[attr-defined]
                moved[position] += m.number(h)  # type: ignore[attr-defined]
                return formula_of(name, "forward")(m, *moved)

            with mp.workprec(400):
                above, below = (mp.mpf(evaluate(along, h, library="mpmath")) for h in (step, -step))
                slope = (above - below) / (2 * mp.mpf(step))
                stated = mp.mpf(evaluate(formula_of(name, form), *point, library="mpmath"))
                assert abs(slope - stated) <= 1e-18 * (1 + abs(stated)) * (1 + max(abs(v) for v in point) ** 3 * 1e3)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_fast_reference_is_within_a_thousandth_of_an_ulp(name: str, form: str) -> None:
    sets = parameter_sets(name, np.float32)
    for values in sets:
        x = samples(name, "float32", 300, values)[:: 2 * len(sets)]
        true = truth(name, form, x, *values)
        fast = reference64(name, form, x, *values)
        found = compare(fast, true.hi, true.lo, true.exponent, dtype="float32")
        # An infinity of float32 may be a finite number of float64, and the true value may be beyond both.
        with np.errstate(over="ignore"):
            same = fast.astype(np.float32) == true.rounded().astype(np.float32)
        error = np.where(np.isinf(found.error) & same, 0.0, found.error)
        assert error.max() < 1e-3, (values, x[np.argmax(error)])
        assert not (found.wrong_nan | found.wrong_sign | found.wrong_zero).any()


def test_every_oracle_has_a_fast_reference() -> None:
    assert {name: list(table) for name, table in ORACLES.items()} == {
        name: list(table) for name, table in REFERENCES.items()
    }


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["gelu", "relu", "softsign", "elu"])
def test_the_fast_judge_finds_what_the_thorough_one_finds(name: str, dtype: str) -> None:
    """On results that are right, nearly right, and wrong in every way there is."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(8)
    values = DEFAULTS.get(name, ())
    x = samples(name, dtype, 3000, values)
    form = FORMATS[dtype]
    with np.errstate(all="ignore"):
        right = reference64(name, "forward", x, *values).astype(x.dtype)
    off = rng.integers(-1, 2, x.size) * (rng.random(x.size) < 0.3)
    result = (right.view(form.unsigned) + off.astype(form.unsigned)).astype(form.unsigned).view(x.dtype)
    for value in (0.0, -0.0, math.nan, math.inf, -math.inf, 1.0, -1e-30):
        result[rng.random(x.size) < 0.01] = value
    result = np.where(rng.random(x.size) < 0.01, -result, result)
    about = Measurement(name, "forward", dtype, values)
    found = measure(lambda _: result, name, "forward", x, values)
    true = reference64(name, "forward", x, *values)
    thorough = compared(about, result, x, Truth(true, np.zeros(x.size), np.zeros(x.size, np.int64)))
    assert set(found.wrong) >= {"nan", "inf", "zero", "sign"}
    assert (found.inputs, found.max_ulp, found.correctly_rounded, found.wrong) == (
        *(thorough.inputs, thorough.max_ulp, thorough.correctly_rounded, thorough.wrong),
    )


def test_measurements_join() -> None:
    """A sweep in blocks finds what one look at everything finds."""

    def rough(x: np.ndarray) -> np.ndarray:  # tanh that is 0 in places
        return np.where(np.abs(x) < 1e-3, 0, np.tanh(x.astype(np.float64))).astype(x.dtype)

    once = sweep(rough, "tanh", "forward", "float16")
    x = walk("float16", 1 << 16)
    parts = sum(
        (measure(rough, "tanh", "forward", part) for part in np.array_split(x, 7)),
        Measurement("tanh", "forward", "float16"),
    )
    assert once.inputs == parts.inputs == 65536
    assert once.max_ulp == parts.max_ulp > 1000
    assert once.wrong == parts.wrong
    assert set(once.wrong) == {"zero", "sign"}
    assert once.correctly_rounded == parts.correctly_rounded


@pytest.mark.parametrize("x", [-0.0, math.inf, -math.inf, math.nan, 2.0**-149, -(2.0**-126), 2.0**128 - 2.0**104])
def test_a_sweep_with_a_stride_visits_what_is_special(x: float) -> None:
    def leaky(v: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # signalling NaN
            y = np.where(v > 0, v, v * np.float32(0.5))
        special = v.view(np.uint32) == np.float32(x).view(np.uint32)
        return np.where(special, 3.0 if math.isnan(x) else -y, y).astype(np.float32)

    found = sweep(leaky, "leaky_relu", "forward", "float32", (0.5,), stride=1 << 21 | 1)
    assert found.wrong
    assert found.inputs == found.correctly_rounded + 1 == count("float32", 1 << 21 | 1)


def test_an_interrupted_sweep_goes_on(tmp_path) -> None:  # type: ignore[no-untyped-def]
    state = tmp_path / "sweep.json"
    seen: list[int] = []

    class Stop(Exception):
        pass

    def tanh(x: np.ndarray) -> np.ndarray:
        seen.append(x.size)
        if sum(seen) > 3 * BLOCK // 2:
            raise Stop
        with np.errstate(invalid="ignore"):  # signalling NaN
            return np.tanh(x.astype(np.float64)).astype(np.float32)

    with pytest.raises(Stop):
        sweep(tanh, "tanh", "forward", "float32", stride=256, threads=1, state=state)
    assert state.exists()
    seen.clear()
    told: list[float] = []
    seen.append(-(1 << 62))
    found = sweep(tanh, "tanh", "forward", "float32", stride=256, threads=1, state=state, progress=told.append)
    assert found.inputs == count("float32", 256)
    assert 0.49 < found.max_ulp < 0.51
    assert told[-1] == 1.0
    assert len(told) == 3
    assert not state.exists()
