"""Docstrings of the row functions."""

from __future__ import annotations

_X = """x : array_like
    Logits, in nats: float16, bfloat16, float32 or float64, any shape; integers and bool promote as in `numpy.exp`."""
_Y = """y : array_like
    The saved output of `{name}`, float16, bfloat16, float32 or float64."""
_G = """g : array_like
    The gradient of the loss by the output, of the same shape."""
_REST = """axis : int, default -1
    The axis of the rows.
out, casting, order, dtype, subok, axes
    As for any `numpy.ufunc` with a signature."""
_RAISES = """Raises
------
TypeError
    For complex, object or string operands, as any ufunc."""
_EMPTY = """
ValueError
    If the axis has no element."""


def _document(
    summary: str, formula: str, operands: str, returns: str, notes: str, example: str, empty: str = ""
) -> str:
    return f"""{summary}

    {formula}

Parameters
----------
{operands}
{_REST}

Returns
-------
ndarray or scalar
    {returns}

{_RAISES}{empty}

Notes
-----
{notes}

Examples
--------
>>> import fastact as fa, numpy as np
{example}
"""


_EDGES = (
    "A row with NaN or +inf, or of nothing but -inf, gives NaN; an entry of -inf among others is a mask and gives "
    "exactly {masked}."
)
_CONTRACT = (
    "Each element is within 2 ULP, with the same bits for a row wherever it lies and whatever the number of threads."
)

ROW_DOCS = {
    "softmax": _document(
        "The normalised exponential along an axis.",
        "exp(x_i - m) / sum_j exp(x_j - m), m = max_j x_j",
        _X,
        "Probabilities, of the shape of `x`.",
        f"{_EDGES.format(masked='0')} {_CONTRACT}",
        ">>> fa.softmax(np.float32([1000, 1000, -np.inf]))\narray([0.5, 0.5, 0. ], dtype=float32)",
        _EMPTY,
    ),
    "log_softmax": _document(
        "The logarithm of softmax along an axis.",
        "x_i - m - log(sum_j exp(x_j - m)), m = max_j x_j",
        _X,
        "Log-probabilities, of the shape of `x`.",
        f"{_EDGES.format(masked='-inf')} {_CONTRACT} Right next to 0, too.",
        ">>> fa.log_softmax(np.float32([0, -17]))[0]\nnp.float32(-4.1399378e-08)",
        _EMPTY,
    ),
    "logsumexp": _document(
        "The logarithm of the sum of exponentials along an axis.",
        "m + log(sum_j exp(x_j - m)), m = max_j x_j",
        _X,
        "Of the shape of `x` without the axis (`keepdims=True` keeps it with length 1).",
        f"-inf for a row of nothing but -inf and for an empty row, +inf for a row with +inf but no NaN. {_CONTRACT}",
        ">>> fa.logsumexp(np.float64([0, -1000]))\nnp.float64(0.0)",
    ),
    "softmax_vjp": _document(
        "The vector-Jacobian product of softmax, from its saved output.",
        "y_i (g_i - sum_j g_j y_j)",
        f"{_G}\n{_Y.format(name='softmax')}",
        "The gradient of the loss by the logits, of the shape of `y`.",
        _CONTRACT,
        ">>> fa.softmax_vjp(np.float32([1, 0]), np.float32([0.5, 0.5]))\narray([ 0.25, -0.25], dtype=float32)",
    ),
    "log_softmax_vjp": _document(
        "The vector-Jacobian product of log_softmax, from its saved output.",
        "g_i - exp(y_i) sum_j g_j",
        f"{_G}\n{_Y.format(name='log_softmax')}",
        "The gradient of the loss by the logits, of the shape of `y`.",
        "Computed from the rounded output `y`. Within 2 ULP of the exact value for that `y`, and where g_i and the\n"
        "second term cancel, within 2 ULP of the larger of the two.",
        ">>> fa.log_softmax_vjp(np.float32([1, 0]), np.float32([0, -np.inf]))\narray([0., 0.], dtype=float32)",
    ),
    "logsumexp_vjp": _document(
        "The vector-Jacobian product of logsumexp.",
        "g exp(x_i - m) / sum_j exp(x_j - m)",
        f"{_X}\ng : array_like\n    The gradient of the loss by each row's result.",
        "The gradient of the loss by `x`, of the shape of `x`.",
        _CONTRACT,
        ">>> fa.logsumexp_vjp(np.float32([1000, 1000]), np.float32(1))\narray([0.5, 0.5], dtype=float32)",
    ),
}
