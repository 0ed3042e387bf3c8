"""Docstrings of the public functions, from their records."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np

from .activation import Activation, Form, all_forms
from .documentation_examples import EXAMPLES

ROW_DTYPES = "float16, bfloat16, float32 or float64."
WIDTH = 96  # of a docstring: help() indents it by four
SAMPLE = 0.25  # stands for a parameter without a default in limits and examples

_WHAT = {
    "forward": "{summary}",
    "derivative": "The derivative of `{name}` by x.",
    "vjp": "The vector-Jacobian product of `{name}`: g times its derivative at x, in one pass.",
    "vjp_from_output": "The vector-Jacobian product of `{name}` from its saved result y, cheaper than from x.",
    "with_derivative": "`{name}` and its derivative by x, in one pass.",
}


def wrapped(text: str, indent: str = "", rest: str | None = None) -> str:
    """A paragraph of a docstring, its first line indented by `indent`, the others by `rest`."""
    rest = indent if rest is None else rest
    return fill(text, WIDTH, initial_indent=indent, subsequent_indent=rest, break_on_hyphens=False)


def docstring(record: Activation, form: Form) -> str:
    """The numpydoc docstring of one public function."""
    summary = _WHAT.get(form.kind, "The derivative of `{name}` by its parameter `{parameter}`.").format(
        name=record.name, summary=record.summary, parameter=_parameter(form)
    )
    lines = [summary, "", *formula_lines(record, form)]
    lines += ["", "Parameters", "----------"]
    if "g" in form.arrays:
        lines.append("g : array_like")
        text = f"The gradient of the loss by the result, of a shape that broadcasts with `{form.arrays[-1]}`."
        lines.append(wrapped(text, " " * 4))
    lines.append(f"{form.arrays[-1]} : array_like")
    what = f"What `{record.name}` returned: " if form.arrays[-1] == "y" else ""
    text = f"{what}float16, bfloat16, float32 or float64, any shape; integers and bool promote as in `numpy.exp`."
    lines.append(wrapped(text, " " * 4))
    for p in record.parameters:
        default = "" if p.default is None else f", default {p.default:.17g}" if p.default != 1 / 6 else ", default 1/6"
        lines += [f"{p.name} : array_like{default}", wrapped(f"{p.doc} Broadcasts with `x`.", " " * 4)]
    lines += ["out, where, casting, order, dtype, subok", "    As for any `numpy.ufunc`.", "", "Returns", "-------"]
    names = {"y": f"The value of `{record.name}`", "dy": "The derivative", "gx": "The gradient of the loss by `x`"}
    for output in form.outputs:
        lines += [
            f"{output} : ndarray or scalar",
            f"    {names[output]}, of the broadcast shape, in the dtype of the operands.",
        ]
    lines += ["", "Raises", "------", "TypeError", "    For complex, object or string operands, as any ufunc."]
    if any(p.nonzero for p in record.parameters):
        named = ", ".join(f"`{p.name}`" for p in record.parameters if p.nonzero)
        lines += ["ValueError", f"    If {named} is 0."]
    lines += ["", "See Also", "--------"]
    others = wrapped(", ".join(name for name in _relatives(record) if name != form.name))
    lines += [others.replace(",\n", "\n"), "", "Notes", "-----"]
    if "x" in form.arrays:
        lines.append(wrapped(_behaviour(record, form)))
    lines.append(wrapped(_accuracy(record, form)))
    if record.paper:
        lines += ["", "References", "----------", wrapped(record.paper)]
    lines += ["", "Examples", "--------", ">>> import fastact as fa, numpy as np"]
    lines += [*_usual_example(record, form), *_extreme_example(record, form)]
    return "\n".join(lines) + "\n"


def _parameter(form: Form) -> str:
    """The parameter that a form is the derivative by, or some other text."""
    return form.kind.removeprefix("derivative_")


def _times_g(formula: str) -> str:
    """g times a formula, which may say at its end what its symbols stand for."""
    formula, *meaning = formula.split(" with ", 1)
    return " with ".join([f"g * ({formula})", *meaning])


def _formulas(record: Activation, form: Form) -> Sequence[str]:
    return {
        "forward": (record.formula,),
        "derivative": (record.derivative_formula,),
        "vjp": (_times_g(record.derivative_formula),),
        "vjp_from_output": (_times_g(record.output_formula),),
        "with_derivative": (f"y = {record.formula}", f"dy = {record.derivative_formula}"),
    }.get(form.kind) or (record.parameter_formulas[_parameter(form)],)


def formula_lines(record: Activation, form: Form) -> list[str]:
    """The formula of each result of a form, as a quotation."""
    kept = [formula.replace(" = ", "\0=\0") for formula in _formulas(record, form)]  # no line ends next to it
    return [wrapped(formula, " " * 4, " " * 8).replace("\0", " ") for formula in kept]


def _relatives(record: Activation) -> list[str]:
    own = [form.name for form in all_forms(record) if not form.kind.startswith("derivative_")]
    return [*own, *record.see_also]


def limits(record: Activation, form: Form) -> Sequence[tuple[float, float]]:
    """What each result of a form tends to at -inf and +inf, as its record has it; of a vjp, for g = 1."""
    return {
        "forward": (record.limits,),
        "with_derivative": (record.limits, record.derivative_limits),
        **dict.fromkeys(("derivative", "vjp", "vjp_from_output"), (record.derivative_limits,)),
    }.get(form.kind) or (record.parameter_limits[_parameter(form)],)


def _behaviour(record: Activation, form: Form) -> str:
    ends = limits(record, form)
    if form.kind == "vjp":
        what = "it is g times {:g} and g times {:g}".format(*ends[0])
    elif form.kind == "with_derivative":
        what = "y is {:g} and {:g}, and dy is {:g} and {:g}".format(*ends[0], *ends[1])
    else:
        what = "it is {:g} and {:g}".format(*ends[0])
    condition = _condition(record)
    ends_at = f"At -inf and +inf, {condition}," if condition else "At -inf and +inf"
    text = f"{ends_at} {what}; NaN gives NaN; no floating-point warning is ever raised."
    if record.at_kinks and form.kind in ("derivative", "vjp", "with_derivative"):
        text += f" {record.at_kinks}"
    if form.kind == "forward":
        low, high = record.range
        text += f" Values lie in [{low:g}, {high:g}]{condition and f' {condition}'}; {record.smoothness}."
    return text


def _condition(record: Activation) -> str:
    """The parameters that limits and ranges are given for."""
    if not record.parameters:
        return ""
    named = [f"{p.name} = {SAMPLE:g}" for p in record.parameters if p.default is None]
    return f"for {', '.join(named)}" if named else "at default parameters"


def _accuracy(record: Activation, form: Form) -> str:
    c = record.contract
    if form.kind == "vjp_from_output":
        return (
            f"The derivative is within {c.float32:g} ULP in float32 and {c.float64:g} in float64 for the y that is "
            f"given, the product with g is rounded once more. {_NARROW} What y lost when it was rounded is lost: where "
            "it is close to a limit the derivative at x is small and has fewer correct digits than "
            f"`{record.name}_vjp` gives it. NaN gives NaN."
        )
    if form.kind == "vjp":
        return (
            f"The derivative is within {c.float32:g} ULP in float32 and {c.float64:g} in float64; the product with g "
            f"is rounded once more. {_NARROW}"
        )
    each = "The error of either result" if form.kind == "with_derivative" else "The error"
    return (
        f"{each} stays below {c.float32:g} ULP in float32, {c.float64:g} in float64 and {c.float16:g} in the 16-bit "
        "types, with the same bits for the same input everywhere."
    )


_NARROW = "The 16-bit types are computed in float32, and only the product is rounded to the type."


def _call(record: Activation, form: Form, *arrays: str) -> str:
    given = [f"{SAMPLE:g}" for p in record.parameters if p.default is None]
    return f"fa.{form.name}({', '.join([*arrays, *given])})"


USUAL = {"g": "np.float32([1, 2, 3])", "x": "np.float32([-1, 0, 2])"}


def usual_call(record: Activation, form: Form) -> str:
    """A call with the arrays `USUAL`."""
    last = f"fa.{record.name}(x)" if "y" in form.arrays else "x"
    return f"np.round({_call(record, form, *form.arrays[:-1], last)}, 4)"


def _usual_example(record: Activation, form: Form) -> list[str]:
    """A doctest with numbers anybody may have, rounded so that its text is short."""
    shown = EXAMPLES.get(form.name)  # None while tools/examples.py has not been run for a new function
    if shown is None:
        return []
    given = [f">>> {name} = {USUAL[name]}" for name in (*form.arrays[:-1], "x")]
    return [*given, f">>> {usual_call(record, form)}", *f"array({shown}, dtype=float32)".split("\n")]


def _extreme_example(record: Activation, form: Form) -> list[str]:
    """A doctest at +inf: its value is the limit the record states."""
    arrays = ["np.float32(2)"] if "g" in form.arrays else []
    end = repr(float(record.limits[1])) if "y" in form.arrays else "'inf'"
    values = [high for _, high in limits(record, form)]
    if "g" in form.arrays:
        values = [2 * high for high in values]
    texts = [repr(np.float32(value)) for value in values]
    call = _call(record, form, *arrays, f"np.float32({end})")
    return [f">>> {call}", texts[0] if len(texts) == 1 else f"({', '.join(texts)})"]
