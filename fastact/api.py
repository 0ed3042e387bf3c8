"""The public functions, made when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from .activation import Activation, Form, Parameter, all_forms
from .documentation import docstring
from .documentation_rows import ROW_DOCS
from .kernels.catalogue import CATALOGUE
from .parametrised import parametrised


@cache
def elementwise_forms() -> Mapping[str, tuple[Activation, Form]]:
    """Every elementwise public name, aliases excluded, with its record and form."""
    return {form.name: (record, form) for record in CATALOGUE.values() for form in all_forms(record)}


@cache
def aliases() -> Mapping[str, str]:
    """Second names, each with the name it stands for, in every form."""
    found = {}
    for record in CATALOGUE.values():
        for alias in record.aliases:
            for form in all_forms(record):
                found[alias + form.name.removeprefix(record.name)] = form.name
    return found


def with_defaults(kernel: Callable[..., Any], parameters: tuple[Parameter, ...]) -> Callable[..., Any]:
    """`kernel` with its trailing parameters fixed at their defaults."""
    defaults = [p.default for p in parameters]

    def fixed(*arrays: Any) -> Any:
        return kernel(*arrays, *(arrays[0].const(value) for value in defaults))

    return fixed


@cache
def elementwise(name: str) -> Any:
    """The ufunc, or the callable around it, of an elementwise function by its public name."""
    from .cpu.ufunc import elementwise as make

    record, form = elementwise_forms()[name]
    arrays, outputs, parameters = len(form.arrays), len(form.outputs), record.parameters
    text = docstring(record, form)
    vectors = record.vectors if outputs == 1 else 2  # two results need twice the registers
    ufunc = make(name, form.kernel, (arrays + len(parameters), outputs), text, len(parameters), vectors)
    if not parameters:
        return ufunc
    plain = None
    if all(p.default is not None for p in parameters):
        kernel = with_defaults(form.kernel, parameters)
        if form.kind == "forward" and record.at_defaults is not None:
            kernel = record.at_defaults
        plain = make(name, kernel, (arrays, outputs), text, 0, vectors, label=f"{name}-default")
    return parametrised(name, text, ufunc, plain, form.arrays, parameters)


ROWS = ("softmax", "log_softmax", "logsumexp", "softmax_vjp", "log_softmax_vjp", "logsumexp_vjp")
LOSSES = ("cross_entropy_with_logits", "cross_entropy_with_logits_with_gradient")
_THREADS = ("get_num_threads", "set_num_threads", "threads")


def names() -> list[str]:
    """Every public name, sorted: what ``fastact.__all__`` lists."""
    return sorted([*elementwise_forms(), *aliases(), *ROWS, *LOSSES, *_THREADS, "CATALOGUE"])


def find(name: str) -> Any:
    """The public object called `name`; AttributeError if there is none."""
    if name in elementwise_forms():
        return elementwise(name)
    if name in aliases():
        return elementwise(aliases()[name])
    if name == "CATALOGUE":
        return CATALOGUE
    if name in ROWS:
        from .cpu.ufunc import rows
        from .kernels import rows as functions

        return rows(getattr(functions, name.upper()), ROW_DOCS[name])
    if name in LOSSES:
        from . import losses

        return getattr(losses, name)
    if name in _THREADS:
        from .cpu import threads

        return getattr(threads, name)
    raise AttributeError(f"module 'fastact' has no attribute {name!r}")
