"""Docstrings of the row functions."""

from __future__ import annotations

from .activation import Unfinished
from .documentation import wrapped

_X = """x : array_like
    Logits, in nats: float16, bfloat16, float32 or float64, any shape; integers and bool promote
    as in `numpy.exp`."""
_Y = """y : array_like
    The saved output of `{name}`, float16, bfloat16, float32 or float64."""
_G = """g : array_like
    The gradient of the loss by the output, of the same shape."""
_REST = """axis : int, default -1
    The axis of the rows.
out, casting, order, dtype, subok, axes
    As for any `numpy.ufunc` with a signature."""
_OPTIONS = """temperature : float or array_like, default 1.0
    What `x` is divided by, not 0. An array has a value for each row: it broadcasts with the
    shape of `x` without `axis`. So (2,) goes with an `x` of shape (2, 3), and (2, 1) gives a
    result of shape (2, 2, 3). A negative one turns the order of the results round. A number may
    also come second by position; an array there is `out`, as for every ufunc.
where : bool or array_like of bool, default True
    Which entries count. It broadcasts with `x` itself, `axis` included; if it has more
    dimensions, so has the result. The others get exactly {masked}.
causal : bool, default False
    Count only the first i + 1 entries of row i, where i is its index along the last axis other
    than `axis`."""
_TYPE = "    For complex, object or string operands, as any ufunc"
_EMPTY = "If the axis has no element"


def _document(
    summary: str,
    formula: str,
    operands: str,
    returns: str,
    notes: str,
    see_also: str,
    example: str,
    empty: bool = False,
    papers: tuple[str, ...] = (),
) -> str:
    options = "temperature" in operands
    raises = f"TypeError\n{_TYPE}{', or a `where` that is not of bool' if options else ''}."
    if empty:
        more = ", if `temperature` is 0, and for `causal=True` if `x` has one dimension" if options else ""
        raises += f"\nValueError\n{wrapped(_EMPTY + more + '.', ' ' * 4)}"
    references = "".join(f"\n\n{wrapped(paper)}" for paper in papers)
    references = f"References\n----------{references[1:]}\n\n" if papers else ""
    return f"""{summary}

    {formula}

Parameters
----------
{operands}
{_REST}

Returns
-------
ndarray or scalar
{wrapped(returns, " " * 4)}

Raises
------
{raises}

See Also
--------
{see_also}

Notes
-----
{wrapped(notes)}

{references}Examples
--------
>>> import fastact as fa, numpy as np
{example}
"""


_BRIDLE = (
    "Bridle (1990), Probabilistic interpretation of feedforward classification network outputs, with relationships "
    "to statistical pattern recognition."
)
_HIGHAM = "Blanchard, Higham & Higham (2021), Accurately computing the log-sum-exp and softmax functions."
_EDGES = (
    "A row with NaN or +inf, or of nothing but -inf, gives NaN; an entry of -inf among others is a mask and gives "
    "exactly {masked}."
)
_CONTRACT = (
    "Each element is within 2 ULP, with the same bits for a row wherever it lies and whatever the number of threads."
)
_PROJECTION = (
    f"{_CONTRACT} Equal entries have equal results, and an entry right at tau gives 0. No sort is done. Where there "
    "are more than 48 bits between the entries of a row (float64: 106), an element below 1e-9 (1e-27) is right to "
    "1e-16 (1e-43) only."
)
_CANCELLATION = (
    "Within 2 ULP of the exact value for the `y` given; where g_i and the mean cancel almost completely, within 2^-44 "
    "of the mean (float64: 2^-102)."
)

ROW_DOCS = {
    "softmax": _document(
        "The normalised exponential along an axis.",
        "exp(x_i - m) / sum_j exp(x_j - m), m = max_j x_j",
        f"{_X}\n{_OPTIONS.format(masked='0')}",
        "Probabilities, of the shape that `x` and the options broadcast to.",
        f"{_EDGES.format(masked='0')} {_CONTRACT}",
        "softmax_vjp, log_softmax, softmin, sparsemax, entmax15, hardmax, logsumexp",
        ">>> fa.softmax(np.float32([1000, 1000, -np.inf]))\narray([0.5, 0.5, 0. ], dtype=float32)\n"
        ">>> fa.softmax(np.zeros((2, 2)), causal=True)\narray([[1. , 0. ],\n       [0.5, 0.5]])",
        True,
        (_BRIDLE, _HIGHAM),
    ),
    "log_softmax": _document(
        "The logarithm of softmax along an axis.",
        "x_i - m - log(sum_j exp(x_j - m)), m = max_j x_j",
        f"{_X}\n{_OPTIONS.format(masked='-inf')}",
        "Log-probabilities, of the shape that `x` and the options broadcast to.",
        f"{_EDGES.format(masked='-inf')} {_CONTRACT} Right next to 0, too.",
        "log_softmax_vjp, softmax, logsumexp, cross_entropy_with_logits",
        ">>> fa.log_softmax(np.float32([0, -17]))[0]\nnp.float32(-4.1399378e-08)",
        True,
        (_HIGHAM,),
    ),
    "logsumexp": _document(
        "The logarithm of the sum of exponentials along an axis.",
        "m + log(sum_j exp(x_j - m)), m = max_j x_j",
        _X,
        "Of the shape of `x` without the axis (`keepdims=True` keeps it with length 1).",
        f"-inf for a row of nothing but -inf and for an empty row, +inf for a row with +inf but no NaN. {_CONTRACT} "
        "Also where m and the logarithm cancel, as for log-probabilities; such rows take several times as long.",
        "logsumexp_vjp, logmeanexp, log_softmax",
        ">>> fa.logsumexp(np.float64([0, -1000]))\nnp.float64(0.0)",
        papers=(_HIGHAM,),
    ),
    "softmin": _document(
        "The normalised exponential of -x along an axis.",
        "exp(m - x_i) / sum_j exp(m - x_j), m = min_j x_j",
        f"{_X}\n{_OPTIONS.format(masked='0')}",
        "Probabilities, of the shape that `x` and the options broadcast to.",
        "A row with NaN or -inf, or of nothing but +inf, gives NaN; an entry of +inf among others gives exactly 0. "
        f"{_CONTRACT}",
        "softmax, hardmax",
        ">>> fa.softmin(np.float32([1000, 1000, np.inf]))\narray([0.5, 0.5, 0. ], dtype=float32)",
        True,
        (_BRIDLE, _HIGHAM),
    ),
    "logmeanexp": _document(
        "The logarithm of the mean of exponentials along an axis.",
        "m + log(sum_j exp(x_j - m) / n), m = max_j x_j",
        _X,
        "Of the shape of `x` without the axis (`keepdims=True` keeps it with length 1).",
        f"-inf for a row of nothing but -inf, +inf for a row with +inf but no NaN, NaN for an empty row. {_CONTRACT} "
        "Also next to 0, where the two terms cancel; such rows take several times as long.",
        "logsumexp, log_softmax",
        ">>> fa.logmeanexp(np.float64([1000, 1000]))\nnp.float64(1000.0)",
        papers=(_HIGHAM,),
    ),
    "sparsemax": _document(
        "The projection of each row on the simplex: probabilities most of which are exactly 0.",
        "max(x_i - tau, 0), with tau such that they add up to 1",
        _X,
        "Probabilities, of the shape of `x`.",
        f"{_EDGES.format(masked='0')} {_PROJECTION} Entries that are 1 or more below the largest get 0.",
        "sparsemax_vjp, entmax15, softmax, hardmax",
        ">>> fa.sparsemax(np.float32([1000, 999.5, -np.inf]))\narray([0.75, 0.25, 0.  ], dtype=float32)",
        True,
        ("Martins and Astudillo (2016), From softmax to sparsemax, arXiv:1602.02068.",),
    ),
    "entmax15": _document(
        "The 1.5-entmax of each row: between softmax and sparsemax, with exact zeros among the results.",
        "max(x_i / 2 - tau, 0)^2, with tau such that they add up to 1",
        _X,
        "Probabilities, of the shape of `x`.",
        f"{_EDGES.format(masked='0')} {_PROJECTION} Entries that are 2 or more below the largest get 0.",
        "entmax15_vjp, sparsemax, softmax",
        ">>> fa.entmax15(np.float32([1000, 1000, 998]))\narray([0.5, 0.5, 0. ], dtype=float32)",
        True,
        ("Peters, Niculae and Martins (2019), Sparse sequence-to-sequence models, arXiv:1905.05702.",),
    ),
    "hardmax": _document(
        "1 for the largest entry along an axis, 0 for all others.",
        "1 if i is the first with x_i = max_j x_j else 0",
        _X,
        "Ones and zeros, of the shape of `x`.",
        "A row with NaN or +inf, or of nothing but -inf, gives NaN, as for `softmax`. Of equal entries the first one "
        "counts. The values are exact: the error is 0 ULP. The gradient is 0 everywhere.",
        "softmax, sparsemax",
        ">>> fa.hardmax(np.float32([1, 3, 3]))\narray([0., 1., 0.], dtype=float32)",
        True,
        ("ONNX operators, Hardmax: 1 for the first maximum along the axis, 0 otherwise.",),
    ),
    "softmax_vjp": _document(
        "The vector-Jacobian product of softmax, from its saved output.",
        "y_i (g_i - sum_j g_j y_j)",
        f"{_G}\n{_Y.format(name='softmax')}",
        "The gradient of the loss by the logits, of the shape of `y`.",
        _CONTRACT,
        "softmax, log_softmax_vjp",
        ">>> fa.softmax_vjp(np.float32([1, 0]), np.float32([0.5, 0.5]))\narray([ 0.25, -0.25], dtype=float32)",
        papers=(_BRIDLE,),
    ),
    "log_softmax_vjp": _document(
        "The vector-Jacobian product of log_softmax, from its saved output.",
        "g_i - exp(y_i) sum_j g_j",
        f"{_G}\n{_Y.format(name='log_softmax')}",
        "The gradient of the loss by the logits, of the shape of `y`.",
        "Computed from the rounded output `y`, and within 2 ULP of the exact value for that `y`, also where g_i and "
        "the second term cancel; and where 2^-36 (float64: 2^-80) of g_i (1 - exp(y_i)) is left by the other terms of "
        "the sum. The few elements that cancel almost completely take longer; masked ones do not.",
        "log_softmax, softmax_vjp, cross_entropy_with_logits_with_gradient",
        ">>> fa.log_softmax_vjp(np.float32([1, 0]), np.float32([0, -np.inf]))\narray([0., 0.], dtype=float32)",
    ),
    "logsumexp_vjp": _document(
        "The vector-Jacobian product of logsumexp.",
        "g exp(x_i - m) / sum_j exp(x_j - m)",
        f"{_X}\ng : array_like\n    The gradient of the loss by each row's result.",
        "The gradient of the loss by `x`, of the shape of `x`.",
        f"{_CONTRACT} An entry whose share of the sum is less than half of the least float of the dtype of computation "
        "has the gradient 0, however large `g` is.",
        "logsumexp, softmax",
        ">>> fa.logsumexp_vjp(np.float32([1000, 1000]), np.float32(1))\narray([0.5, 0.5], dtype=float32)",
    ),
    "sparsemax_vjp": _document(
        "The vector-Jacobian product of sparsemax, from its saved output.",
        "g_i - mean of g_j over y_j > 0, if y_i > 0, else 0",
        f"{_G}\n{_Y.format(name='sparsemax')}",
        "The gradient of the loss by the logits, of the shape of `y`.",
        f"Where y is 0, the gradient is 0 whatever `g` is there. {_CANCELLATION}",
        "sparsemax, entmax15_vjp, softmax_vjp",
        ">>> fa.sparsemax_vjp(np.float32([1, 0, 7]), np.float32([0.75, 0.25, 0]))\n"
        "array([ 0.5, -0.5,  0. ], dtype=float32)",
    ),
    "entmax15_vjp": _document(
        "The vector-Jacobian product of entmax15, from its saved output.",
        "sqrt(y_i) (g_i - sum_j g_j sqrt(y_j) / sum_j sqrt(y_j))",
        f"{_G}\n{_Y.format(name='entmax15')}",
        "The gradient of the loss by the logits, of the shape of `y`.",
        f"Where y is 0, the gradient is 0 whatever `g` is there. {_CANCELLATION}",
        "entmax15, sparsemax_vjp, softmax_vjp",
        ">>> fa.entmax15_vjp(np.float32([1, 0, 7]), np.float32([0.25, 0.25, 0]))\n"
        "array([ 0.25, -0.25,  0.  ], dtype=float32)",
    ),
}


def row_doc(name: str) -> str:
    """The docstring of one function."""
    if name not in ROW_DOCS:
        raise Unfinished(name, "a docstring", "ROW_DOCS", "fastact/documentation_rows.py")
    return ROW_DOCS[name]
