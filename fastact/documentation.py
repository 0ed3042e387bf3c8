"""Docstrings of the public functions, from their records."""

from __future__ import annotations

import numpy as np

from .activation import Activation, Form, all_forms

ROW_DTYPES = "float16, bfloat16, float32 or float64."

_WHAT = {
    "forward": "{summary}",
    "derivative": "The derivative of `{name}` by x.",
    "vjp": "The vector-Jacobian product of `{name}`: g times its derivative at x, in one pass.",
    "vjp_from_output": "The vector-Jacobian product of `{name}` from its saved result y, which costs less than from x.",
    "with_derivative": "`{name}` and its derivative by x, in one pass.",
}


def docstring(record: Activation, form: Form) -> str:
    """The numpydoc docstring of one public function."""
    parameter = form.kind.removeprefix("derivative_")
    summary = _WHAT.get(form.kind, "The derivative of `{name}` by its parameter `{parameter}`.").format(
        name=record.name, summary=record.summary, parameter=parameter
    )
    derivative = form.kind not in ("forward", "with_derivative")
    formula = record.formula if form.kind in ("forward", "with_derivative") else record.derivative_formula
    if form.kind == "vjp":
        formula = f"g * ({formula})"
    if form.kind == "vjp_from_output":
        formula = f"g * ({record.output_formula})"
    if form.kind.startswith("derivative_"):
        formula = record.parameter_formulas[parameter]
    lines = [summary, "", f"    {formula}", "", "Parameters", "----------"]
    if "g" in form.arrays:
        lines += [
            "g : array_like",
            f"    The gradient of the loss by the result, of a shape that broadcasts with `{form.arrays[-1]}`.",
        ]
    what = f"What `{record.name}` returned: " if form.arrays[-1] == "y" else ""
    lines += [
        f"{form.arrays[-1]} : array_like",
        f"    {what}float16, bfloat16, float32 or float64, any shape; integers and bool promote as in `numpy.exp`.",
    ]
    for p in record.parameters:
        default = "" if p.default is None else f", default {p.default:.17g}" if p.default != 1 / 6 else ", default 1/6"
        lines += [f"{p.name} : array_like{default}", f"    {p.doc} Broadcasts with `x`."]
    lines += [
        "out, where, casting, order, dtype, subok",
        "    As for any `numpy.ufunc`.",
        "",
        "Returns",
        "-------",
    ]
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
    others = [name for name in _relatives(record) if name != form.name]
    lines += [", ".join(others), "", "Notes", "-----"]
    if "x" in form.arrays:
        lines.append(_behaviour(record, derivative))
    lines.append(_accuracy(record, form))
    if record.paper:
        lines += ["", "References", "----------", record.paper]
    lines += ["", "Examples", "--------", ">>> import fastact as fa, numpy as np", *_example(record, form)]
    return "\n".join(lines) + "\n"


def _relatives(record: Activation) -> list[str]:
    own = [form.name for form in all_forms(record) if not form.kind.startswith("derivative_")]
    return [*own, *record.see_also]


def _behaviour(record: Activation, derivative: bool) -> str:
    low, high = record.derivative_limits if derivative else record.limits
    text = f"At -inf and +inf it is {low:g} and {high:g}; NaN gives NaN; no floating-point warning is ever raised."
    if record.at_kinks and derivative:
        text += f" {record.at_kinks}"
    if not derivative:
        text += f" Values lie in [{record.range[0]:g}, {record.range[1]:g}]; {record.smoothness}."
    return text


def _accuracy(record: Activation, form: Form) -> str:
    c = record.contract
    if form.kind == "vjp_from_output":
        return (
            f"The derivative is within {c.float32:g} ULP in float32 for the y that is given, the product with g is "
            "rounded once more. What y lost when it was rounded is lost: where it is close to a limit the derivative "
            f"at x is small and has fewer correct digits than `{record.name}_vjp` gives it. NaN gives NaN."
        )
    if form.kind == "vjp":
        return f"The derivative is within {c.float32:g} ULP in float32; the product with g is rounded once more."
    return (
        f"The error stays below {c.float32:g} ULP in float32, {c.float64:g} in float64 and {c.float16:g} in the 16-bit "
        "types, with the same bits for the same input everywhere."
    )


def _example(record: Activation, form: Form) -> list[str]:
    """A doctest with one extreme input, +inf: its value is the limit the record states."""
    arguments = ["np.float32(2)"] if "g" in form.arrays else []
    limit = repr(float(record.limits[1])) if "y" in form.arrays else "'inf'"
    arguments.append(f"np.float32({limit})")
    arguments += ["0.25" for p in record.parameters if p.default is None]
    call = f">>> fa.{form.name}({', '.join(arguments)})"
    value, slope = record.limits[1], record.derivative_limits[1]
    shown = {
        "forward": (value,),
        "derivative": (slope,),
        "vjp": (2 * slope,),
        "vjp_from_output": (2 * slope,),
        "with_derivative": (value, slope),
    }.get(form.kind)
    if shown is None:
        return [call.replace("np.float32('inf')", "np.float32('nan')"), "np.float32(nan)"]
    texts = [repr(np.float32(v)) for v in shown]
    return [call, texts[0] if len(texts) == 1 else f"({', '.join(texts)})"]
