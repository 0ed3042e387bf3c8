"""Kernels compiled for GPUs that are not there: NVIDIA's compiler accepts them, and their machine code is what it
should be. Needs the extra `cuda`; all of it, for all functions, is ``python tools/cuda_budget.py --all-dtypes --arch 75
80 90 100 --dry-run``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from fastact import kernels
from fastact.api import elementwise_forms
from fastact.cuda import compiler
from fastact.cuda.functions import source
from fastact.cuda.row_templates import row_kernel, share
from fastact.cuda.rows import kernels as kernels_of_rows
from fastact.cuda.rows import row_functions

pytest.importorskip("cuda.core", reason="the extra cuda is not installed")
sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
cuda_budget: Any = pytest.importorskip("cuda_budget")
sass: Any = pytest.importorskip("fastact.cuda.sass")

ARCHITECTURES = (75, 80, 90, 100)
# Every way to compute: nothing but selects, tables, a reciprocal, a quotient of any numerator, two results; the last is
# what is nearest to its limit in float32.
COMPILED = (
    "relu",
    "gelu",
    "sigmoid",
    "softplus",
    "elu_vjp",
    "mish_with_derivative",
    "leaky_relu",
    "gelu_tanh_with_derivative",
)
RECORDED = json.loads(cuda_budget.TARGET.read_text("utf-8"))


def have_nvdisasm() -> bool:
    from cuda.pathfinder import find_nvidia_binary_utility

    return find_nvidia_binary_utility("nvdisasm") is not None


needs_nvdisasm = pytest.mark.skipif(not have_nvdisasm(), reason="nvidia-cuda-nvdisasm is not installed")


@needs_nvdisasm
@pytest.mark.parametrize("name", COMPILED)
def test_machine_code(name: str) -> None:
    """128-bit accesses; no generic ones, no spills, calls or float64; and no more instructions than on record."""
    for dtype in ("bfloat16", "float32"):
        cost = cuda_budget.measure(name, dtype, (9, 0))
        assert not cost.broken
        recorded = RECORDED[name][dtype]
        where_rare = recorded.get("instructions_where_rare", recorded["instructions"])
        for found, before in ((cost.usual, recorded["instructions"]), (cost.most, where_rare)):
            assert found <= 1.15 * before + 1, (
                f"{name} costs {found} instructions an element in {dtype}: run python tools/cuda_budget.py"
            )


@needs_nvdisasm
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures(architecture: int) -> None:
    capability = (architecture // 10, architecture % 10)
    for name, dtype in (("gelu", "float16"), ("softplus", "bfloat16"), ("silu", "float32"), ("tanh", "float64")):
        assert not cuda_budget.measure(name, dtype, capability).broken


def test_every_function_is_on_record() -> None:
    missing = sorted(set(elementwise_forms()) - set(RECORDED))
    assert not missing, f"python tools/cuda_budget.py --missing must put {', '.join(missing)} on record"


def test_every_function_has_time_for_its_instructions() -> None:
    """While memory moves its arrays: docs/cuda.rst says so of every function on record."""
    above = [
        f"{name} {dtype}: {cost['instructions']} an element, time for {cuda_budget.limit(name, dtype)}"
        for name, dtypes in RECORDED.items()
        for dtype, cost in dtypes.items()
        if cost["instructions"] > cuda_budget.limit(name, dtype)
    ]
    assert not above, "\n".join(above)


@pytest.mark.parametrize("places", ["s", "a"])
def test_parameters_and_strides_compile(places: str) -> None:
    for layout in ("contiguous", "strided"):
        assert compiler.compile_cubin(source("leaky_relu", "bfloat16", places, layout), (7, 5), "leaky_relu")


@needs_nvdisasm
@pytest.mark.parametrize("name", sorted(row_functions()))
def test_row_kernels(name: str) -> None:
    cases = [("float32", 512, True)]
    if name == "softmax":
        cases += [("bfloat16", 5000, True), ("float32", 300, False), ("float32", 16384, True)]
    for dtype, length, vector in cases:
        function = row_functions()[name]
        how = share(function, length, dtype, vector)
        code = sass.disassemble(compiler.compile_cubin(row_kernel(function, dtype, how), (9, 0), name))
        assert not code.having("LDL", "STL", r"LD\.", r"ST\."), "spills or generic accesses"
        assert not code.having(r"D(ADD|MUL|FMA|SETP)"), "float64 in float32"
        assert code.registers <= 128
        if vector:
            assert code.having(r"LDG\.E\.128")
            assert code.having(r"STG\.E\.128") or row_functions()[name].write is None


@needs_nvdisasm
@pytest.mark.parametrize(
    ("name", "length", "instructions", "registers"),
    [
        ("softmax", 256, 30, 72),
        ("softmax", 1024, 31, 64),
        ("log_softmax", 256, 36, 72),
        ("log_softmax", 4096, 38, 72),
        ("log_softmax", 16384, 39, 72),
        ("logsumexp", 256, 33, 56),
    ],
)
def test_what_a_row_takes(name: str, length: int, instructions: float, registers: int) -> None:
    """Second attempts keep no registers, joins have no selects, and where rows lie takes no division.

    So few threads share a row that each has 32 elements to bear what a row takes, a maximum is one instruction, and
    rows without entries that are far from the largest one, or huge, are not asked about them.
    """
    found = cuda_budget.measure_row(name, "float32", length)
    assert found[0] <= instructions
    assert found[1] <= registers


@needs_nvdisasm
@pytest.mark.parametrize(
    ("name", "ways"), [("softmax_masked", "amsc"), ("cross_entropy_with_gradient", "aiw"), ("soft_cross_entropy", "aq")]
)
def test_row_kernels_with_options(name: str, ways: str) -> None:
    function = kernels_of_rows()[name]
    how = share(function, 512, "float32")
    code = sass.disassemble(compiler.compile_cubin(row_kernel(function, "float32", how, ways), (9, 0), name))
    assert not code.having("LDL", "STL", r"LD\.", r"ST\.", r"D(ADD|MUL|FMA|SETP)")
    assert code.having(r"LDG\.E\.128")


@pytest.mark.parametrize("length", [1, 4096, 100_000])
def test_row_kernels_of_every_length(length: int) -> None:
    for dtype in ("float16", "float64"):
        function = row_functions()["softmax"]
        how = share(function, length, dtype)
        assert compiler.compile_cubin(row_kernel(function, dtype, how), (8, 0), "softmax")


def test_the_cubin_is_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTACT_CACHE_DIR", str(tmp_path))
    made = []

    def relu() -> str:
        made.append(1)
        return source("relu", "float32", "", "contiguous")

    first = compiler.cubin("relu", relu, (9, 0))
    assert compiler.cubin("relu", relu, (9, 0)) == first
    assert len(made) == 1
    (file,) = tmp_path.glob("cuda-*/relu-sm_90.bin")
    assert compiler.cubin("relu", relu, (8, 0)) != first
    file.write_bytes(file.read_bytes()[:-7])  # a damaged file is made anew
    assert compiler.cubin("relu", relu, (9, 0)) == first
    assert len(made) == 3


# --- Numba


def calling(kernel: Any, arity: int) -> Any:
    return {1: lambda a: kernel(a), 2: lambda a, b: kernel(a, b), 3: lambda a, b, c: kernel(a, b, c)}[arity]


@pytest.mark.parametrize("name", ["sigmoid", "gelu", "silu_vjp", "hard_tanh", "tanh_with_derivative", "leaky_relu"])
def test_kernels_in_cuda_jit(name: str) -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    import numba
    from numba import cuda

    record, form = elementwise_forms()[name]
    arity = len(form.arrays) + len(record.parameters)
    for kind, letter in ((numba.float32, "f32"), (numba.float64, "f64")):
        function = calling(getattr(kernels, name), arity)
        ptx, _ = cuda.compile_ptx(function, (kind,) * arity, device=True, cc=(7, 5))
        assert f".{letter}" in ptx
        assert (".f64" in ptx) == (letter == "f64")
        if form.kind == "forward":
            assert "mul.f" not in ptx, "a product that may be contracted"
            assert "call.uni" not in ptx


def test_vectorize_and_guvectorize(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba's target "cuda" compiles formulas over the kernels; what needs a GPU is left out."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    import numba
    from numba.cuda import codegen, dispatcher

    device = SimpleNamespace(compute_capability=(9, 0), id=0)
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)
    monkeypatch.setattr(codegen, "devices", MagicMock(**{"get_context.return_value.device": device}))

    @numba.vectorize(["float32(float32)", "float64(float64)"], target="cuda")
    def scaled_gelu(x: Any) -> Any:
        return kernels.gelu(x) * x

    assert len(scaled_gelu.functions) == 2

    @numba.guvectorize(["void(float32[:], float32[:])"], "(n)->(n)", target="cuda")
    def gelus(x: Any, out: Any) -> None:
        for i in range(x.shape[0]):
            out[i] = kernels.gelu(x[i])

    assert callable(gelus)
