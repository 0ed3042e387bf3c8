"""The parts of ``fastact bench`` that say what could be reached, and the arrays it works on."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.bench import cases, limits
from fastact.bench.arrays import BARS_OF_ROWS, DTYPES, LAYOUTS, Setting, aligned, parse_shape
from fastact.bench.libraries import BUILDERS, public_name
from fastact.bench.peers import PEERS
from fastact.bench.sample import measure_error, truth

LOOP = """
f:
\ttestq\t%rsi, %rsi
\tjle\t.LBB0_3
.LBB0_1:
\tincq\t%rdx
\tcmpq\t$3, %rdx
\tjl\t.LBB0_1
\t.p2align\t4, 0x90
.LBB0_2:                                # the loop
\tvmovups\t(%rax,%rsi,4), %zmm1
\tvmaxps\t%zmm0, %zmm1, %zmm1
\tvmovups\t%zmm1, (%rdx,%rsi,4)
\taddq\t${step}, %rsi
\tcmpq\t%rcx, %rsi
\tjl\t.LBB0_2
.LBB0_3:
\tretq
"""
REPORT = """Iterations:        200
Instructions:      12800
Total Cycles:      5400
Total uOps:        15000

Dispatch Width:    6
uOps Per Cycle:    2.79
IPC:               2.40
Block RThroughput: 24.0
"""


# --- the bound of the arithmetic ---------------------------------------------------------------


@pytest.mark.parametrize("unrolled", [1, 4])
def test_the_loop_is_found_and_its_elements_are_counted(unrolled: int) -> None:
    body, elements = limits.turns_of(LOOP.replace("{step}", str(16 * unrolled)), 16)
    assert elements == 16 * unrolled
    assert body.splitlines()[0] == ".LBB0_2:"
    assert body.count("vmovups") == 2
    assert "incq" not in body
    assert ".p2align" not in body


def test_what_is_rare_is_not_the_loop() -> None:
    """It lies behind the loop and jumps back into it: from its label to that jump is a longer way than the loop."""
    rare = "\n".join([".LBB0_5:", *["\tvmovups\t%zmm1, 64(%rsp)"] * 20, "\tjmp\t.LBB0_4", ""])
    loop = LOOP.replace("\tvmovups\t%zmm1, (%rdx", "\tjne\t.LBB0_5\n.LBB0_4:\n\tvmovups\t%zmm1, (%rdx")
    # a jump back from the rare to a label before it, whose stretch has no counter
    body, elements = limits.turns_of(loop.replace("{step}", "16") + ".LBB0_6:\n" + rare * 2 + "\tjne\t.LBB0_6\n", 16)
    assert elements == 16
    assert body.splitlines()[0] == ".LBB0_2:"
    assert "64(%rsp)" not in body


@pytest.mark.parametrize(("written", "elements"), [("subq\t$-128", 128), ("add\tx8, x8, #32", 32), ("subq\t$16", 16)])
def test_the_counter_goes_up_in_more_ways_than_one(written: str, elements: int) -> None:
    assert limits.turns_of(LOOP.replace("addq\t${step}", written), 16)[1] == elements


def test_code_without_a_loop() -> None:
    with pytest.raises(limits.NoBound, match="no loop"):
        limits.turns_of("f:\n\tretq\n", 16)


def test_the_report_of_llvm_mca_is_read() -> None:
    assert limits.parse_report(REPORT, 32) == limits.Bound(24 / 32, 27 / 32, 2.0)
    with pytest.raises(limits.NoBound, match="Block RThroughput"):
        limits.parse_report(REPORT.partition("Block")[0], 32)


PRESSURE = """Resources:
[0]   - SKXDivider
[1]   - SKXFPDivider
[2]   - SKXPort0
[3]   - SKXPort1
[4]   - SKXPort5


Resource pressure per iteration:
[0]    [1]    [2]    [3]    [4]
 -     80.00  110.00 43.98  106.00
"""


def test_the_two_ports_for_wide_vectors() -> None:
    assert limits.wide_ports(PRESSURE) == 108.0
    assert limits.wide_ports(PRESSURE.replace("106.00", "-")) == 55.0
    assert limits.wide_ports(PRESSURE.replace("SKXPort0", "SPRPort00").replace("SKXPort5", "SPRPort05")) == 108.0
    assert limits.wide_ports(PRESSURE.replace("SKXPort", "Zn4FP")) == 0.0
    assert limits.wide_ports(REPORT) == 0.0


def test_what_two_pipes_of_a_zen_4_do() -> None:
    there = ["vfmadd231ps\t%zmm1, %zmm2, %zmm3", "vdivps\t%zmm1, %zmm2, %zmm3", "vpermt2ps\t(%rax), %zmm2, %zmm3"]
    elsewhere = ["vaddps\t%zmm1, %zmm2, %zmm3", "vpermps\t%zmm1, %zmm2, %zmm3", "vmulps\t%ymm1, %ymm2, %ymm3"]
    assert limits.zen4_products("".join(f"\t{line}\n" for line in there + elsewhere)) == 4.0


@pytest.mark.skipif(limits.analyser() is None, reason="llvm-mca is not installed")
@pytest.mark.parametrize("dtype", DTYPES)
def test_more_arithmetic_has_a_higher_bound(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    limits.bound_of.cache_clear()
    few, more = (limits.bound_of(name, dtype) for name in ("relu", "mish"))
    assert 0 < few.throughput < more.throughput
    assert few.throughput <= few.simulated
    assert limits.bound_of("elu", dtype).instructions > few.instructions  # a function with parameters


def _stand_in(directory: Path, text: str, status: int) -> str:
    program = directory / "llvm-mca"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nprint({text!r}, file=sys.stderr)\nsys.exit({status})\n", "utf-8"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


@pytest.mark.skipif(sys.platform == "win32", reason="a script is not a program there")
@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("'newest' is not a recognized processor for this target (ignoring processor)", 0, "does not know the CPU"),
        ("error: unknown instruction", 1, "cannot read the loop: error: unknown instruction"),
        ("", 0, "prints no 'Iterations'"),
    ],
)
def test_an_analyser_that_cannot_help(
    text: str, status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = _stand_in(tmp_path, text, status)
    monkeypatch.setattr(limits, "analyser", lambda: program)
    limits.bound_of.cache_clear()
    with pytest.raises(limits.NoBound, match=message):
        limits.bound_of("relu", "float32")
    limits.bound_of.cache_clear()


@pytest.mark.skipif(sys.platform == "win32", reason="a script is not a program there")
def test_an_analyser_with_a_version_in_its_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("9", "14", "nightly"):
        Path(_stand_in(tmp_path, "", 0)).rename(tmp_path / f"llvm-mca-{version}")
    monkeypatch.setenv("PATH", str(tmp_path))
    limits.analyser.cache_clear()
    assert limits.analyser() == str(tmp_path / "llvm-mca-14")
    monkeypatch.setenv("PATH", "")
    limits.analyser.cache_clear()
    assert limits.analyser() is None
    limits.analyser.cache_clear()


def test_functions_along_an_axis_have_no_such_bound() -> None:
    if limits.analyser() is None:
        pytest.skip("llvm-mca is not installed")
    limits.bound_of.cache_clear()
    with pytest.raises(limits.NoBound, match="softmax is not one loop"):
        limits.bound_of("softmax", "float32")


@pytest.mark.parametrize("name", ["relu", "elu", "gelu_vjp", "gelu_with_derivative"])
def test_the_loop_in_cache_does_as_many_elements(name: str) -> None:
    """Each turn writes what the function gives for the first elements, and nothing behind them."""
    room = limits._ROOM // 4
    x = np.linspace(-4, 4, 3 * room + 5, dtype=np.float32)
    run = limits.in_cache(name, "float32", x)
    for out in run.keywords["out"]:
        out.fill(7)
    with fa.threads(1):
        run()
    expected = getattr(fa, name)(*run.args)
    lead = -run.keywords["out"][0].ctypes.data % 64 // 4  # done first, so that whole lines of this output follow
    for found, right in zip(run.keywords["out"], expected if isinstance(expected, tuple) else [expected], strict=True):
        np.testing.assert_array_equal(found[: room + lead], right[: room + lead])
        assert (found[room + lead :] == 7).all()


@pytest.mark.parametrize("name", ["prelu", "softmax"])
def test_without_a_loop_that_needs_no_parameters_there_is_none_in_cache(name: str) -> None:
    with pytest.raises(limits.NoBound):
        limits.in_cache(name, "float32", np.ones(4, np.float32))


def test_the_clock_is_that_of_a_computer() -> None:
    assert 1e8 < limits.clock() < 2e10


@pytest.mark.parametrize("moved", [1, 8, 24, 4096, 1 << 20])
def test_copies_move_as_many_bytes(moved: int) -> None:
    ways = limits.copies(moved, ("fastact",))
    assert set(ways) == {"memcpy", "loop"}
    for call in ways.values():
        read, written = sorted(call.args, key=lambda array: -float(array[0]))  # filled with 1 and with 0
        assert read.nbytes == written.nbytes == max(4, moved // 2)
        written.fill(0)
        call()
        np.testing.assert_array_equal(written, read)


# --- arrays ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shape", "axis", "name"),
    [
        ("100000x10", (100000, 10), -1, "100000x10"),
        ("1024X1Ki@0", (1024, 1024), 0, "1024x1024@0"),
        ("64x512x64@1", (64, 512, 64), 1, "64x512x64@1"),
        ("3x4@1", (3, 4), -1, "3x4"),
        ("7", (7,), -1, "7"),
    ],
)
def test_shapes(text: str, shape: tuple[int, ...], axis: int, name: str) -> None:
    setting = parse_shape(text)
    assert (setting.shape, setting.axis, setting.name) == (shape, axis, name)
    assert setting.elements == np.prod(shape)
    assert parse_shape(setting.name) == setting


def test_the_shapes_of_the_bars_are_shapes() -> None:
    names = [parse_shape(text).name for text in BARS_OF_ROWS.split(",")]
    assert ",".join(names) == BARS_OF_ROWS


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["gelu", "softmax"])
def test_layouts_hold_the_same_numbers(layout: str, name: str) -> None:
    setting = Setting(4096, layout)
    x, g = cases.inputs(name, "float32", setting)
    assert x.size == g.size == 4096
    assert x.flags.c_contiguous == (layout == "contiguous")
    assert setting.name == ("4Ki" if layout == "contiguous" else f"4Ki {layout}")
    own = cases.prepare_on(name, "forward", "fastact", x, g).outputs()[0]
    np.testing.assert_array_equal(own, getattr(fa, name)(x.copy()))


def test_a_square_is_found_for_layouts_of_two_axes() -> None:
    assert Setting(65536, "transposed").shape_for(False) == (256, 256)
    assert Setting(10**6, "gap").shape_for(False) == (1000, 1000)
    assert Setting(7, "broadcast").shape_for(False) == (1, 7)


def test_aligned_arrays_start_at_a_cache_line() -> None:
    for dtype in ("float16", "float32", "float64"):
        assert aligned((3, 5), dtype).ctypes.data % 64 == 0


# --- peers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["30x10", "7x33@0", "6x8x5@1", "6x8x5@0"])
@pytest.mark.parametrize("library", cases.LIBRARIES[1:])
@pytest.mark.parametrize("form", ["forward", "vjp", "with_derivative"])
def test_peers_work_along_the_same_axis(shape: str, library: str, form: str) -> None:
    if not cases.installed(library):
        pytest.skip(f"{library} is not installed")
    setting = parse_shape(shape)
    for name in cases.functions(rows=True):
        if form != "forward" and not hasattr(fa, public_name(name, form)):
            continue
        x, g = cases.inputs(name, "float32", setting)
        try:
            found = cases.prepare_on(name, form, library, x, g, setting.axis).outputs()
        except cases.Missing:
            continue
        wanted = cases.prepare_on(name, form, "fastact", x, g, setting.axis).outputs()
        for theirs, own in zip(found, wanted, strict=True):
            assert theirs.shape == own.shape, name
            np.testing.assert_allclose(theirs, own, rtol=2e-4, atol=1e-5, err_msg=name)


def test_a_loss_with_its_gradient_is_measured() -> None:
    x, g = cases.inputs("cross_entropy_with_logits", "float32", parse_shape("7x33@0"))
    loss, gradient = cases.prepare_on("cross_entropy_with_logits", "with_derivative", "fastact", x, g, 0).outputs()
    assert (loss.shape, gradient.shape) == ((33,), (7, 33))
    with pytest.raises(cases.Missing, match="logsumexp is not measured in this form: with_derivative"):
        cases.prepare_on("logsumexp", "with_derivative", "fastact", x, g, 0)


@pytest.mark.parametrize("library", cases.LIBRARIES[1:])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_peers_take_16_bits_and_give_them_back(library: str, dtype: str) -> None:
    if not cases.installed(library):
        pytest.skip(f"{library} is not installed")
    pytest.importorskip("ml_dtypes")
    for name in ("relu", "gelu", "softmax"):
        x, g = cases.inputs(name, dtype, 1000)
        try:
            (theirs,) = cases.prepare_on(name, "forward", library, x, g).outputs()
        except cases.Missing:
            continue
        (own,) = cases.prepare_on(name, "forward", "fastact", x, g).outputs()
        assert theirs.dtype == own.dtype == x.dtype
        exact = own.astype(np.float64)
        np.testing.assert_allclose(theirs.reshape(own.shape).astype(np.float64), exact, rtol=0.02, atol=0.02)


def test_the_sample_judges_bfloat16() -> None:
    pytest.importorskip("ml_dtypes")
    pytest.importorskip("mpmath")
    for name in ("sigmoid", "softmax"):
        true = truth(name, "forward", "bfloat16")
        assert true is not None
        found = measure_error(cases.prepare_on(name, "forward", "fastact", true.x, true.g), true)
        assert found.max_ulp < 0.6
        assert not found.wrong_at


@pytest.mark.skipif(not cases.installed("torch"), reason="torch is not installed")
def test_a_backward_kernel_that_uses_y_is_marked() -> None:
    """Such a kernel has less to do than one that starts from x, and the report has to say so."""
    torch = pytest.importorskip("torch")
    for name, row in PEERS.items():
        if row.rows or row.torch is None or row.torch[1] is None:
            continue
        x, g = (torch.from_numpy(array) for array in cases.inputs(name, "float32", 64))
        with cases.measuring(["torch"]):
            y = row.torch[0](torch, x, torch.empty_like(x))().clone()
            results = [row.torch[1](torch, g, x, saved, torch.empty_like(x))() for saved in (y, y + 1)]
        if not torch.equal(*results):
            assert row.torch_saves, f"set torch_saves=True in the row of {name} in fastact/bench/peers.py"


@pytest.mark.skipif(not cases.installed("torch"), reason="torch is not installed")
def test_a_saved_output_can_be_made_again() -> None:
    x, g = cases.inputs("sigmoid", "float32", 64)
    with cases.measuring(["torch"]):
        case = BUILDERS["torch"]("sigmoid", "vjp", x, g)
        assert case is not None
        assert case.from_x is not None
        forward, backward = case.from_x()
    np.testing.assert_allclose(forward, fa.sigmoid(x), rtol=1e-5)
    np.testing.assert_allclose(backward, fa.sigmoid_vjp(g, x), rtol=1e-4, atol=1e-6)
    unsaved: Any = BUILDERS["torch"]("silu", "vjp", x, g)
    assert unsaved.from_x is None
