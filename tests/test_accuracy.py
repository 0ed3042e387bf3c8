"""Every function within the error its record promises: float32 and float64 against multi-precision, float16 everywhere.

The inputs walk the bit patterns and crowd around kinks, branches and range edges (`fastact.accuracy.samples`). A bound
comes from the record's contract and from nowhere else. The derivatives are held to the same.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.__main__ import main
from fastact.accuracy.cases import Case, cases
from fastact.accuracy.judges import measure
from fastact.accuracy.oracles import Truth
from fastact.accuracy.plot import intervals
from fastact.accuracy.row_cases import ROW_ULP, adversarial_rows, difference
from fastact.accuracy.rows import cross_entropy_truth, row_truth
from fastact.accuracy.samples import samples, walk
from fastact.accuracy.sweep import count, sweep
from fastact.accuracy.ulp import ulp_error

from .functions import same_bits

DERIVATIVES = ["derivative", *sorted({f"derivative_{p.name}" for r in fa.CATALOGUE.values() for p in r.parameters})]
DEFAULTS = list(cases(fa.CATALOGUE.values(), ["forward", *DERIVATIVES]))
GRID = list(cases(fa.CATALOGUE.values(), ["forward", *DERIVATIVES], grid=True))
WIDE = ["float32", "float64"]
DENSE = 1_000_000


def holds(case: Case, dtype: str, x: np.ndarray, precise: bool | None = None) -> None:
    """Fail with what was found unless the case keeps its bound on `x`."""
    found = measure(case.function(dtype), case.name, case.form, x, case.parameters(dtype), precise=precise)
    bound = case.bound(dtype)
    message = f"{case.title} {dtype}: {found.max_ulp:.4g} ULP at {found.at!r} (bound {bound}); {found.wrong}"
    assert found.holds(bound), f"{message} {found.examples or ''}"


def stratified(case: Case, dtype: str, count: int) -> np.ndarray:
    return samples(case.name, dtype, count, case.parameters(dtype), case.record.kinks)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("case", DEFAULTS, ids=lambda case: case.title)
def test_against_multi_precision(case: Case, dtype: str) -> None:
    # test_a_million_float32 looks at more, with the reference that test_ulp.py holds against multi-precision
    holds(case, dtype, stratified(case, dtype, 1000)[:: 3 if dtype == "float32" else 1], precise=True)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("case", [c for c in GRID if c.given], ids=lambda case: case.title)
def test_at_other_parameters(case: Case, dtype: str) -> None:
    holds(case, dtype, stratified(case, dtype, 300)[:: 4 if dtype == "float64" else 1])


@pytest.mark.parametrize("case", DEFAULTS, ids=lambda case: case.title)
def test_a_million_float32(case: Case) -> None:
    holds(case, "float32", walk("float32", DENSE))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("case", DEFAULTS, ids=lambda case: case.title)
def test_all_65536(case: Case, dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    found = sweep(case.function(dtype), case.name, case.form, dtype, case.parameters(dtype), threads=1)
    assert found.inputs == 65536
    assert found.holds(case.bound(dtype)), found


ROWS = [(dtype, name) for dtype in (np.float32, np.float64) for name in adversarial_rows(dtype)]
ROW_IDS = [f"{dtype.__name__}-{name.replace(' ', '-')}" for dtype, name in ROWS]


def check_difference(result: np.ndarray, true: Truth, terms: np.ndarray) -> None:
    """Judge a difference of two terms; `terms` holds the larger of the two in magnitude."""
    error, _ = difference(result, true, terms)
    worst = int(np.argmax(error))
    assert error[worst] < ROW_ULP, f"{error[worst]:.4g} ULP at {worst} of {len(error)}"


def check_row(result: Any, name: str, *rows: np.ndarray) -> None:
    true = row_truth(name, *rows)
    result = np.atleast_1d(result)
    assert result.dtype == rows[0].dtype
    error = ulp_error(result, true.hi, true.lo, exponent=true.exponent)
    worst = int(np.argmax(error))
    assert error[worst] < ROW_ULP, f"{name}: {error[worst]:.4g} ULP at {worst} of {len(error)}"


@pytest.mark.parametrize(("dtype", "name"), ROWS, ids=ROW_IDS)
@pytest.mark.parametrize("function", ["softmax", "log_softmax", "logsumexp"])
def test_rows(function: str, dtype: type[np.floating], name: str) -> None:
    x = adversarial_rows(dtype)[name]
    check_row(getattr(fa, function)(x), function, x)


@pytest.mark.parametrize(("dtype", "name"), ROWS, ids=ROW_IDS)
def test_row_gradients(dtype: type[np.floating], name: str) -> None:
    x = adversarial_rows(dtype)[name]
    rng = np.random.default_rng(3)
    for g in (np.ones_like(x), rng.normal(size=x.shape).astype(dtype), (np.arange(x.size) == 0).astype(dtype)):
        y = fa.softmax(x)
        check_row(fa.softmax_vjp(g, y), "softmax_vjp", g, y)
        y = fa.log_softmax(x)
        check_row(fa.log_softmax_vjp(g, y), "log_softmax_vjp", g, y)
    check_row(fa.logsumexp_vjp(x, dtype(-0.7)), "logsumexp_vjp", x, np.array([dtype(-0.7)]))


@pytest.mark.parametrize(("dtype", "name"), ROWS, ids=ROW_IDS)
def test_cross_entropy_of_an_index(dtype: type[np.floating], name: str) -> None:
    x = adversarial_rows(dtype)[name]
    kept = np.flatnonzero(x > -np.inf)
    for target in {int(kept[0]), int(kept[-1]), int(np.argmax(x))}:
        value, gradient = fa.cross_entropy_with_logits_with_gradient(x, target)
        true, slope = cross_entropy_truth(x, np.arange(x.size) == target)
        assert value == fa.cross_entropy_with_logits(x, target)
        assert ulp_error(np.atleast_1d(value), true.hi, true.lo, exponent=true.exponent).max() < ROW_ULP
        assert ulp_error(gradient, slope.hi, slope.lo, exponent=slope.exponent).max() < ROW_ULP


def check_cross_entropy(x: np.ndarray, q: np.ndarray, value: Any, gradient: np.ndarray) -> None:
    true, slope = cross_entropy_truth(x, q)
    assert value.dtype == gradient.dtype == x.dtype
    error = ulp_error(np.atleast_1d(value), true.hi, true.lo, exponent=true.exponent)
    assert error.max() < ROW_ULP, f"value: {error.max():.4g} ULP"
    check_difference(gradient, slope, np.maximum(q, math.fsum(q.tolist()) * fa.softmax(x.astype(np.float64))))


@pytest.mark.parametrize(("dtype", "name"), ROWS, ids=ROW_IDS)
def test_cross_entropy_of_probabilities(dtype: type[np.floating], name: str) -> None:
    x = adversarial_rows(dtype)[name]
    rng = np.random.default_rng(5)
    q = np.where(x > -np.inf, rng.dirichlet(np.ones(x.size)), 0.0).astype(dtype)
    check_cross_entropy(x, q, *fa.cross_entropy_with_logits_with_gradient(x, q))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_with_weights_and_smoothing(dtype: type[np.floating]) -> None:
    """What a class counts for is rounded to the dtype of the logits; from there on the bound holds."""
    rng = np.random.default_rng(9)
    x = (rng.normal(size=(6, 37)) * 4).astype(dtype)
    targets = rng.integers(0, 37, 6)
    weight = rng.uniform(0.1, 3, 37).astype(dtype)
    chosen = np.arange(37) == targets[:, None]
    smooth = np.where(chosen, dtype(1 - 0.1 + 0.1 / 37), dtype(0.1 / 37))
    for arguments, q in (
        ({"weight": weight}, chosen * weight),
        ({"label_smoothing": 0.1}, smooth),
        ({"label_smoothing": 0.1, "weight": weight}, smooth * weight),
    ):
        values, gradients = fa.cross_entropy_with_logits_with_gradient(x, targets, **arguments)
        for k in range(len(x)):
            check_cross_entropy(x[k], q[k].astype(dtype), values[k], gradients[k])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponent", [-126, -100, -30, -3, 3, 10, 27])
def test_a_weight_multiplies_what_is_not_rounded_yet(dtype: type[np.floating], exponent: int) -> None:
    """Losses and gradients that are subnormal, or nothing at all, or infinite without the weight."""
    largest = np.finfo(dtype).max
    zero = -104.0 if dtype is np.float32 else -745.5
    weight = dtype(1.3) * dtype(2) ** min(exponent, 27 if dtype is np.float32 else 8)
    for depth in (0.4, 0.8, 0.83, 0.9, 0.99, 1.005, 1.15):
        far = zero * depth
        for row in ([0, far], [0, far, far, far - 1], [far, 0, far, 0], [0, *[far] * 40], [largest, -largest]):
            x = np.array(row, dtype)
            for target in {0, 1, x.size - 1}:
                value, gradient = fa.cross_entropy_with_logits_with_gradient(x, target, weight=np.full(x.size, weight))
                true, slope = cross_entropy_truth(x, (np.arange(x.size) == target) * weight)
                error = ulp_error(np.atleast_1d(value), true.hi, true.lo, exponent=true.exponent)
                assert error.max() < ROW_ULP, f"{row[:4]}, {target}: {error.max():.4g} ULP"
                error = ulp_error(gradient, slope.hi, slope.lo, exponent=slope.exponent)
                assert error.max() < ROW_ULP, f"gradient of {row[:4]}, {target}: {error.max():.4g} ULP"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [2, 7, 50, 3000])
def test_shares_of_any_sum(dtype: type[np.floating], n: int) -> None:
    rng = np.random.default_rng(n)
    info = np.finfo(dtype)
    for size in (info.tiny * 2.0**20, 2.0**-70, 2.0**-50, 1e-8, 1e8):
        for row in (rng.normal(size=n) * 4, np.where(np.arange(n) == 1, 0.0, info.minexp * 0.65)):
            x = row.astype(dtype)
            for q in (rng.dirichlet(np.ones(n)) * size * n, (np.arange(n) == 1) * size):
                shares = q.astype(dtype)
                check_cross_entropy(x, shares, *fa.cross_entropy_with_logits_with_gradient(x, shares))


def test_small_shares_of_large_losses() -> None:
    """Only the gradient may be formed of larger ones: the loss would be infinite."""
    x = np.float32([3e38, -3e38, 0])
    for q in (np.float32([0, 1e-25, 0]), np.float32([1e-30, 1e-25, 1e-24])):
        check_cross_entropy(x, q, *fa.cross_entropy_with_logits_with_gradient(x, q))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7, 1), (300, 2), (50, 10), (5, 33), (40, 100), (3, 1000), (2, 70000)])
def test_smoothed_labels_are_probabilities(dtype: type[np.floating], shape: tuple[int, int]) -> None:
    """Classes with smoothing and weights give the bits of the distribution they stand for."""
    rng = np.random.default_rng(shape[1])
    x, targets, n = (rng.normal(size=shape) * 3).astype(dtype), rng.integers(0, shape[1], shape[0]), shape[1]
    x[0, 0] = 0 if n == 1 else -np.inf
    q = np.full(shape, 0.1 / n, dtype)
    np.put_along_axis(q, targets[:, None], dtype(0.9 + 0.1 / n), -1)
    ignored = targets == targets[1]
    weight = rng.random(n).astype(dtype)
    skip = {"weight": weight, "ignore_index": targets[1]}
    for options, factor in (({}, 1), ({"weight": weight}, weight), (skip, weight)):
        given = q * factor * ("ignore_index" not in options or ~ignored[:, None])
        expected = fa.cross_entropy_with_logits_with_gradient(x, given.astype(dtype))
        assert same_bits(fa.cross_entropy_with_logits(x, targets, label_smoothing=0.1, **options), expected[0])
        found = fa.cross_entropy_with_logits_with_gradient(x.T, targets, axis=0, label_smoothing=0.1, **options)
        assert same_bits((found[0], found[1].T), expected)


def test_a_million_float32_entries() -> None:
    x = (np.random.default_rng(2).normal(size=1_000_000) * 3).astype(np.float32)
    wide = x.astype(np.float64) - float(x.max())
    rest = math.log(math.fsum(np.exp(wide).tolist()))
    assert ulp_error(fa.softmax(x), np.exp(wide - rest)).max() < ROW_ULP
    assert ulp_error(fa.log_softmax(x), wide - rest).max() < ROW_ULP
    assert ulp_error(np.atleast_1d(fa.logsumexp(x)), [float(x.max()) + rest]).max() < ROW_ULP


def test_a_million_float64_entries() -> None:
    """Against MPFR; of the elements those at the ends are looked at, the largest and the smallest."""
    gmpy2 = pytest.importorskip("gmpy2")
    x = np.random.default_rng(2).normal(size=1_000_000) * 3
    looked_at = np.concatenate([np.arange(50), [int(x.argmax()), int(x.argmin())], np.arange(x.size - 50, x.size)])
    with gmpy2.context(precision=100):
        top = gmpy2.mpfr(float(x.max()))
        total = gmpy2.fsum([gmpy2.exp(gmpy2.mpfr(v) - top) for v in x.tolist()])
        rest = gmpy2.log(total)
        logarithms = [gmpy2.mpfr(float(x[k])) - top - rest for k in looked_at]
        expected = {"logsumexp": [top + rest], "log_softmax": logarithms, "softmax": list(map(gmpy2.exp, logarithms))}
        for name, true in expected.items():
            found = np.atleast_1d(getattr(fa, name)(x))
            found = found[looked_at] if found.size > 1 else found
            hi = np.array([float(t) for t in true])
            lo = np.array([float(t - h) for t, h in zip(true, hi.tolist(), strict=True)])
            assert ulp_error(found, hi, lo).max() < ROW_ULP, name


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """``fastact accuracy``: a table and a verdict, or JSON; status 1 for a broken bound, 2 for a wrong question."""
    arguments = ["accuracy", "tanh", "--form", "forward", "--stride", "100003", "--quiet"]
    target = tmp_path / "found.json"
    assert main([*arguments, "--json", str(target)]) == 0
    text = capsys.readouterr().out
    assert "all within their bounds" in text
    (row,) = json.loads(target.read_text("utf-8"))
    assert row["inputs"] == count("float32", 100003)
    assert row["max_ulp"] < row["bound"] == 1.0
    assert row["holds"]
    assert 0.9 < row["share_correctly_rounded"] <= 1.0
    assert main([*arguments, "--json", "-", "--dtype", "float16"]) == 0
    assert [found["inputs"] for found in json.loads(capsys.readouterr().out)] == [65536]
    for wrong in (["accuracy", "tanhh"], ["accuracy"], ["accuracy", "tanh", "--form", "derivative_beta"]):
        assert main(wrong) == 2
        assert "fastact accuracy:" in capsys.readouterr().err
    assert main([*arguments, "--stride", "0"]) == 2


def test_the_command_keeps_what_it_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """``--save``: a row a line; the same kernel is not measured twice, unless more inputs are asked for."""
    kept = tmp_path / "kept.json"
    arguments = ["accuracy", "silu", "softmax", "--quiet", "--save", str(kept), "--stride"]
    assert main([*arguments, "1000003"]) == 0
    assert "(kept)" not in capsys.readouterr().out
    rows = {(row["function"], row["form"]): row for row in json.loads(kept.read_text("utf-8"))["rows"]}
    assert list(rows) == [("silu", "forward"), ("silu", "derivative"), ("silu", "with_derivative"), ("softmax", "rows")]
    both = rows["silu", "with_derivative"]
    assert both["same_bits_as"] == ["forward", "derivative"]
    assert both["max_ulp"] == max(rows["silu", form]["max_ulp"] for form in both["same_bits_as"])
    assert both["inputs"] == rows["silu", "forward"]["inputs"] == count("float32", 1000003)
    assert not any(row["exhaustive"] or row["wrong"] for row in rows.values())
    assert main([*arguments, "1000003"]) == 0
    assert capsys.readouterr().out.count("(kept)") == len(rows)
    assert main([*arguments, "500009"]) == 0
    assert capsys.readouterr().out.count("(kept)") == 1  # softmax has no inputs to be strided through
    # a changed kernel is measured again
    content = json.loads(kept.read_text("utf-8"))
    content["rows"][0]["digest"] = "another"
    kept.write_text(json.dumps(content), "utf-8")
    assert main([*arguments, "500009"]) == 0
    assert capsys.readouterr().out.count("(kept)") == len(rows) - 1
    assert json.loads(kept.read_text("utf-8"))["rows"][0]["digest"] == rows["silu", "forward"]["digest"]


def test_what_joins_two_functions_is_compared_bit_for_bit() -> None:
    def joined(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return fa.relu(x), np.where(x == 1, np.float32(2), fa.relu_derivative(x))

    parts = (fa.relu, fa.relu_derivative)
    for function, wrong in ((fa.relu_with_derivative, {}), (joined, {"bits": 1})):
        found = sweep(function, "relu", "with_derivative", "float16", threads=1, parts=parts)
        assert found.wrong == wrong
        assert found.inputs == 65536


def test_the_command_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "error.png"
    arguments = ["accuracy", "softsign", "--form", "forward", "--stride", "1000003", "--quiet", "--plot"]
    assert main([*arguments, str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main([*arguments, str(tmp_path / "error.txt")]) == 2
    assert "--plot" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_the_intervals_of_the_picture(dtype: str) -> None:
    x, centres = intervals(dtype)
    assert np.all(np.diff(centres) > 0)
    assert np.all(x[len(x) // 2 :] > 0)
    assert np.array_equal(np.sort(-x.ravel()), np.sort(x.ravel()))
    for line in (x[0], x[len(x) // 2], x[-1]):
        assert len(set(line.tolist())) == len(line)
        assert np.ptp(np.log2(np.abs(line.astype(np.float64)))) < 1 / 8


def test_the_command_says_what_is_broken(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fa, "tanh", lambda x: np.where(x > 20, np.float32(0), fa.softsign(x)), raising=False)
    assert main(["accuracy", "tanh", "--form", "forward", "--stride", "1000003", "--quiet"]) == 1
    text = capsys.readouterr().out
    assert "WRONG" in text
    assert "zero" in text
    assert "1 above their bound" in text
