"""``python -m fastact.cuda.check``: its parts on a GPU that is the CPU, and what it says without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from fastact.api import LOSSES, ROWS, WITH_OPTIONS
from fastact.cuda import check, check_corners, check_libraries, check_rows, driver, functions, hardware, rows

from .cuda_host import Array, HostDriver, needs_compiler


class Memory(Array):
    def part(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...] | None = None) -> Memory:
        steps = None if strides is None else [s * self.array.itemsize for s in strides]
        return Memory(as_strided(self.array.reshape(-1)[offset:], shape, steps))


class Gpu:
    """What `fastact.cuda.hardware.Gpu` has, on the CPU."""

    name, capability, stream, waiting_stream = "CPU", (9, 0), 5, 6

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Memory:
        return Memory(np.zeros(shape, dtype))

    def upload(self, array: np.ndarray[Any, Any]) -> Memory:
        return Memory(array.copy())

    def download(self, memory: Memory) -> np.ndarray[Any, Any]:
        return memory.array.copy()

    def copy(self, to: Memory, source: Memory, stream: int = 0) -> None:
        to.array[...] = source.array

    def wait(self) -> None:
        pass

    def seconds(self, work: Callable[[int], Any]) -> float:
        work(self.stream)
        return 1.0

    def captured(self, work: Callable[[int], Any]) -> Callable[[], Any]:
        return lambda: work(self.stream)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cuda_check")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, directory: Path) -> Iterator[Gpu]:
    HostDriver(directory).install(monkeypatch)
    monkeypatch.setattr(check, "LARGE", 1 << 12)
    yield Gpu()
    for module in (functions, rows):
        module._kernel.cache_clear()


@needs_compiler
def test_bits(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, dtype in (("tanh", "bfloat16"), ("relu_vjp", "float32"), ("prelu", "float32"), ("sigmoid", "float64")):
        result = check.bits(gpu, name, dtype, 5000)
        assert result.passed
        assert result.value == 0
        assert result.size == 5000
    monkeypatch.setattr(check.fastact, "tanh", check.fastact.relu)
    assert not check.bits(gpu, "tanh", "bfloat16", 5000).passed


@needs_compiler
def test_rows_and_speed(gpu: Gpu) -> None:
    assert check.row_accuracy(gpu, "softmax", "float32", 77).passed
    assert check.row_accuracy(gpu, "logsumexp_vjp", "float32", 77).passed
    fast = check.bandwidth(gpu, "relu", "float32", 4096, None)
    assert fast.passed
    assert fast.value == 100
    assert check.bandwidth(gpu, "relu_vjp", "float32", 4096, None).value == 150
    assert "relu" in str(fast)


@needs_compiler
def test_options_of_rows(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name for name, _ in check.option_cases(())} == set(WITH_OPTIONS)
    assert {name for name, _ in check.option_cases(("softmin",))} == {"softmin"}
    cases = [("softmax", "all"), ("log_softmax", "where"), ("softmin", "temperatures"), ("softmin", "temperature")]
    for name, case in cases:
        result = check.option_accuracy(gpu, name, case, "bfloat16" if case == "temperature" else "float32", 77)
        assert result.passed, str(result)
    monkeypatch.setattr(check_rows.fastact, "softmax", lambda x, **_: x)
    assert not check.option_accuracy(gpu, "softmax", "causal", "float32", 77).passed


@needs_compiler
def test_losses(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "cross_entropy_with_logits_with_gradient"
    assert {name for name, _ in check.loss_cases(())} == set(LOSSES)
    for case in ("classes", "ignored", "axis", "all"):
        found = list(check.loss_accuracy(gpu, name, case, "float32", 77))
        assert len(found) == 2
        assert all(r.passed for r in found), str(found)
    (alone,) = check.loss_accuracy(gpu, LOSSES[0], "weight", "bfloat16", 77)
    assert alone.passed
    right = check_rows.fastact.cross_entropy_with_logits_with_gradient
    monkeypatch.setattr(check_rows.fastact, name, lambda *a, **k: tuple(w * 1.001 for w in right(*a, **k)))
    assert not any(r.passed for r in check.loss_accuracy(gpu, name, "classes", "float32", 77))


@needs_compiler
def test_corners(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_libraries, "dtypes", lambda: {"float32": np.dtype(np.float32)})  # all take a minute
    found: dict[str, list[check.Result]] = {}
    for label, corner in check.corners(gpu, True, check.LARGE):
        results = corner()
        found.setdefault(label, []).extend([results] if isinstance(results, check.Result) else results)
    assert {*check_corners.LAYOUTS, "parameters", "two_results", "rows_in_layouts", "another thread"} < {*found}
    assert [r.function for r in found["streams and graphs"]] == ["misaligned", "stream order", "graph"]
    assert len(found["streams"]) == 5
    assert all(r.passed and r.value == 0 for results in found.values() for r in results), str(found)
    assert all(r.size > 0 for label in found if label != "empty" for r in found[label])


@needs_compiler
def test_corners_that_are_wrong_are_found(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_libraries, "dtypes", lambda: {"float32": np.dtype(np.float32)})
    library = check_libraries.Own(gpu)
    monkeypatch.setattr(check_corners.fastact, "gelu", lambda x: np.nextafter(x, x.dtype.type(9)))
    assert not check_corners.a_layout(library, "transposed").passed
    monkeypatch.setattr(check_corners.fastact, "softmax", lambda x, axis: x)
    assert not check_corners.rows_in_layouts(library).passed
    monkeypatch.setattr(check_corners.fastact, "leaky_relu", lambda x, slope: x)
    assert not check_corners.parameters(library).passed


def test_layouts_of_torch_are_those_of_the_host() -> None:
    pytest.importorskip("torch")
    library = check_libraries.Torch("cpu")
    assert set(library.dtypes) == set(check.dtypes())
    for name in library.dtypes:
        flat = check_corners.numbers(check.dtypes()[name])
        for layout, where in check_corners.LAYOUTS.items():
            if all(step > 0 for step in where[2]):
                got = library.download(library.view(library.upload(flat), *where))
                want = check_corners._on_host(flat, layout)
                assert got.dtype == want.dtype
                assert got.shape == want.shape
                assert check.differences(got, want) == 0


def test_libraries_that_are_not_there_are_left_out() -> None:
    assert {library.name for library in check_libraries.libraries(Gpu())} <= {"torch", "dlpack", "cupy", "numba"}
    shown = check_libraries.DLPack.Wrapped(np.ones(3))
    assert not hasattr(shown, "__cuda_array_interface__")
    assert shown.__dlpack_device__() == (1, 0)


@needs_compiler
def test_what_a_call_costs_the_host(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "launch", lambda *args: None)
    result = check.call_time(gpu)
    assert result.unit == "us"
    assert result.value < 100
    slow = check_libraries.Own(gpu)
    monkeypatch.setattr(check, "CALL", 0.0)
    assert not check.call_time(gpu, slow).passed
    slow.name = "dlpack"
    assert check.call_time(gpu, slow).passed


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_patterns_are_different_and_of_every_size(dtype: Any) -> None:
    x = check.patterns(np.dtype(dtype), 1 << 16)
    integer = {2: np.uint16, 4: np.uint32}[x.dtype.itemsize]
    assert np.unique(x.view(integer)).size == 1 << 16
    with np.errstate(invalid="ignore"):  # signalling NaN
        wide = x.astype(np.float64)
    assert (wide != wide).any()
    assert (wide < 0).any()
    with pytest.raises(ValueError, match="there are not"):
        check.patterns(np.dtype(np.float16), 1 << 17)


def test_what_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row function, the gradients among them, every option and every loss, in every dtype."""
    for name in ("bits", "row_accuracy", "option_accuracy", "bandwidth", "row_bandwidth", "call_time"):
        monkeypatch.setattr(
            check, name, lambda *args, _name=name: check.Result(_name, args[1] if args[1:] else "", "", 0, 0, "", True)
        )
    monkeypatch.setattr(check, "loss_accuracy", lambda *args: [check.Result("losses", args[1], "", 0, 0, "", True)])
    monkeypatch.setattr(check, "corners", lambda *args: [])
    found = list(check.run(Gpu(), (), quick=True))
    assert {r.what for r in check.run(Gpu(), ("gelu",), True, ("bits", "call"))} == {"bits", "call_time"}
    assert {r.function for r in found if r.what == "row_accuracy"} == set(ROWS)
    assert {"sparsemax", "entmax15", "sparsemax_vjp", "entmax15_vjp", "softmax_vjp", "logsumexp_vjp"} <= set(ROWS)
    assert {r.function for r in found if r.what == "option_accuracy"} == set(WITH_OPTIONS)
    assert {r.function for r in found if r.what == "losses"} == set(LOSSES)


def test_a_case_that_fails_is_a_miss_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*args: Any) -> None:
        raise RuntimeError("an illegal address")

    monkeypatch.setattr(check, "bits", fails)
    monkeypatch.setattr(check, "call_time", lambda gpu: check.Result("call", "relu", "", 1, 1.0, "us", True))
    monkeypatch.setattr(hardware, "Gpu", Gpu)
    monkeypatch.setattr(driver, "version", lambda: "13.0")
    file = tmp_path / "check.json"
    assert check.main(["relu", "--only", "bits", "call", "--jobs", "1", "--json", str(file)]) == 1
    out = capsys.readouterr().out
    assert "RuntimeError: an illegal address" in out
    assert "driver 13.0" in out
    results = json.loads(file.read_text("utf-8"))["results"]
    assert [r["passed"] for r in results] == [False] * len(check.dtypes()) + [True]
    assert check.main(["relu", "--only", "call", "--jobs", "1", "--seconds", "1e-9"]) == 1
    assert "others left out" in capsys.readouterr().out


def test_how_far_apart_results_are() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        a = np.array([1.5, -2.0, 0.0, np.nan, np.inf], dtype)
        least = np.nextafter(dtype(0), dtype(1))[None]
        assert check_rows.apart(a, a) == 0
        assert check_rows.apart(a, np.nextafter(a, dtype(-9))) == 1
        assert check_rows.apart(-least, least) == 2


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> None:
        raise RuntimeError("fastact.cuda found no NVIDIA driver on this machine")

    monkeypatch.setattr(driver, "_core", missing)
    assert check.main([]) == 2
    assert "nothing to check here: fastact.cuda found no NVIDIA driver" in capsys.readouterr().out


def test_a_name_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing would be looked at, and all would be well."""
    with pytest.raises(SystemExit) as stopped:
        check.main(["gelu", "gelo"])
    assert stopped.value.code == 2
    assert "there is no function 'gelo'" in capsys.readouterr().err
