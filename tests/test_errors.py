"""Bad input gets a clear error at the call."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastact as fa

from .functions import SHAPES, arrays, call

X = np.zeros(3, np.float32)
DTYPES = ["complex64", "complex128", "object", "U3", "S3", "datetime64[s]"]
if np.finfo(np.longdouble).nmant > 52:  # elsewhere it is a double
    DTYPES.append("longdouble")


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_that_are_not_floats(name: str, dtype: str) -> None:
    with pytest.raises(TypeError, match=name):
        call(name, *[np.zeros(3, dtype)] * arrays(name))


@pytest.mark.parametrize("name", SHAPES)
def test_the_wrong_number_of_arguments(name: str) -> None:
    function = getattr(fa, name)
    with pytest.raises(TypeError, match=name):
        function()
    with pytest.raises(TypeError, match=name):
        function(*[X] * 9)


@pytest.mark.parametrize("name", SHAPES)
def test_outputs_that_do_not_fit(name: str) -> None:
    operands = [X] * arrays(name)

    def outputs(first: Any) -> Any:
        return (first, np.zeros(3, np.float32)) if name.endswith("with_derivative") else first

    with pytest.raises(ValueError, match="broadcast"):
        call(name, *operands, out=outputs(np.zeros(4, np.float32)))
    fixed = np.zeros(3, np.float32)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        call(name, *operands, out=outputs(fixed))
    with pytest.raises(TypeError, match="Cannot cast"):
        call(name, *operands, out=outputs(np.zeros(3, np.int32)))


def test_parameters() -> None:
    with pytest.raises(TypeError, match="negative_slop'"):
        fa.leaky_relu(X, negative_slop=0.1)
    with pytest.raises(TypeError, match="multiple values for argument 'negative_slope'"):
        fa.leaky_relu(X, 0.1, negative_slope=0.1)
    with pytest.raises(TypeError, match="needs the argument 'a'"):
        fa.prelu(X)
    with pytest.raises(ValueError, match="broadcast"):
        fa.prelu(X, np.zeros(4, np.float32))
    with pytest.raises(TypeError, match="leaky_relu"):
        fa.leaky_relu(X, "steep")


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match=r"'fastact' has no attribute 'gelo'"):
        fa.gelo  # noqa: B018
    with pytest.raises(KeyError):
        fa.CATALOGUE["gelo"]


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "from 1 to 4096, not 0"),
        (2**64, ValueError, "from 1 to 4096, not 18446744073709551616"),
        (-2, ValueError, "not -2"),
        (1.5, TypeError, "float"),
        ("2", TypeError, "str"),
    ],
)
def test_thread_counts(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fa.set_num_threads(value)
    with pytest.raises(error, match=message), fa.threads(value):
        pass


def test_thread_count_from_the_environment() -> None:
    code = "import fastact; print(fastact.get_num_threads())"
    for text, expected in (
        ("3", "3"),
        ("many", "FASTACT_NUM_THREADS must be from 1 to 4096, not 'many'"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "FASTACT_NUM_THREADS": text},
            capture_output=True,
            text=True,
            check=False,
        )
        assert expected in done.stdout + done.stderr


LOGITS = np.zeros((4, 3), np.float32)
BAD_TARGETS: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ([0, 1, 2, 3], {}, IndexError, "target 3 at position (3,) is out of range for 3 classes"),
    ([0, -1, 2, 0], {}, IndexError, "target -1 at position (1,)"),
    ([0, -1, 7, 0], {"ignore_index": -1}, IndexError, "target 7 at position (2,)"),
    ([0, 1], {}, ValueError, "targets must have the shape of logits without the class axis, (4,), not (2,)"),
    (np.zeros((4, 2)), {}, ValueError, "the shape of logits, (4, 3), not (4, 2)"),
    (np.zeros(4, "U1"), {}, TypeError, "<U1"),
    ([0, 1, 2, 0], {"label_smoothing": 1.5}, ValueError, "label_smoothing must be between 0 and 1, not 1.5"),
    ([0, 1, 2, 0], {"weight": [1.0, 2.0]}, ValueError, "weight must have shape (3,)"),
    ([0, 1, 2, 0], {"axis": 2}, ValueError, "axis 2 is out of bounds"),
    ([0, 1, 2, 0], {"axis": None}, TypeError, "axis must be an integer, not None"),
    ([0, 1, 2, 0], {"label_smoothing": "0.1"}, TypeError, "label_smoothing must be a number, not builtins.str"),
    ([0, 1, 2, 0], {"label_smoothing": None}, TypeError, "label_smoothing must be a number, not builtins.NoneType"),
    ([0, 1, 2, 0], {"ignore_index": "1"}, TypeError, "ignore_index must be an integer, not '1'"),
    (np.ma.array([0, 1, 2, 0], mask=True), {}, TypeError, "targets must not be a masked array"),
    (np.zeros((4, 3)), {"ignore_index": 0}, ValueError, "ignore_index goes with class indices"),
]


@pytest.mark.parametrize(("targets", "options", "error", "message"), BAD_TARGETS)
def test_cross_entropy(targets: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    for function in (fa.cross_entropy_with_logits, fa.cross_entropy_with_logits_with_gradient):
        with pytest.raises(error, match=re.escape(message)):
            function(LOGITS, targets, **options)


@pytest.mark.parametrize(
    ("weight", "error"),
    [
        (np.ma.array([1.0, 2, 3], mask=[1, 0, 0]), TypeError),
        (["1", "2", "3"], TypeError),
        (np.array(["2020"] * 3, "M8[s]"), TypeError),
        (np.array([1j, 1, 1]), TypeError),
        ([[1, 2], [3]], ValueError),
    ],
)
def test_weights_of_classes(weight: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="weight"):
        fa.cross_entropy_with_logits(np.zeros((2, 3), np.float32), [0, 1], weight=weight)


@pytest.mark.parametrize("wrong", [3, -1, 2**62, -(2**63)])
@pytest.mark.parametrize(("count", "place"), [(1, 0), (42, 0), (42, 41)])
def test_one_of_many_targets(wrong: int, count: int, place: int) -> None:
    targets = np.arange(count) % 3
    targets[place] = wrong
    for options in ({}, {"axis": 1}, {"label_smoothing": 0.1}):
        with pytest.raises(IndexError, match=re.escape(f"target {wrong} at position ({place},)")):
            fa.cross_entropy_with_logits(np.zeros((count, 3), np.float32), targets, **options)


def test_plain_arrays_that_do_not_fit() -> None:
    targets = np.zeros(4, np.int64)
    for function in (fa.cross_entropy_with_logits, fa.cross_entropy_with_logits_with_gradient):
        for shape, axis, error in (
            ((3, 5), -1, ValueError),
            ((4, 0), -1, ValueError),
            ((4, 3), 0, ValueError),
            ((4, 3), 2, ValueError),
            ((4, 3), -3, ValueError),
            ((), -1, ValueError),
        ):
            with pytest.raises(error):
                function(np.zeros(shape, np.float32), targets, axis)
        with pytest.raises(TypeError, match="axis"):
            function(np.zeros((4, 3), np.float32), targets, None)
        with pytest.raises(TypeError, match="label_smoothing"):
            function(np.zeros((4, 3), np.float32), targets, label_smoothing="0")
        with pytest.raises(TypeError, match="logits"):
            function(np.zeros((4, 3), np.complex64), targets)
        with pytest.raises(TypeError, match="masked"):
            function(np.ma.zeros((4, 3)), targets)


def test_logits_where_a_long_double_is_a_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where the two dtypes are equal."""
    monkeypatch.setattr(np, "longdouble", np.float64)
    assert fa.cross_entropy_with_logits(LOGITS.astype(np.float64), [0, 1, 2, 0]).dtype == np.float64


def test_rows() -> None:
    for function in (fa.softmax, fa.log_softmax):
        with pytest.raises(ValueError, match="empty row"):
            function(np.zeros((3, 0), np.float32))
        with pytest.raises(TypeError, match=function.__name__):
            function(np.zeros(3, complex))
        with pytest.raises(ValueError, match="dimensions"):
            function(np.float32(1))
        with pytest.raises(ValueError, match="axis 2 is out of bounds"):
            function(LOGITS, axis=2)


def test_code_that_cannot_be_compiled_is_an_error_and_no_crash(with_driver: Path) -> None:
    code = """
        import numpy as np, fastact as fa
        from fastact.cpu import compiler
        fa.relu(np.zeros(3))
        def broken(*arguments):
            raise RuntimeError("no compiler today")
        compiler.compile_block = broken
        for n in (3, 100_000):
            try:
                fa.relu6(np.zeros(n, np.float32))
            except Exception as error:
                print(repr(error.__cause__ or error))
        print(fa.relu(np.ones(2)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "FASTACT_CACHE_DIR": str(with_driver)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("RuntimeError('no compiler today')") == 2
    assert "[1. 1.]" in done.stdout
