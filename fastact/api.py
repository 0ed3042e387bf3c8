"""The public functions, made when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from .activation import Activation, Form, Parameter, all_forms, both, times_g
from .documentation import docstring
from .documentation_rows import row_doc
from .kernels import log_softmax_vjp, log_sums, row_options, rows, softmax_vjp, sparse
from .kernels.catalogue import CATALOGUE
from .kernels.language import public
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


@cache
def public_kernels() -> Mapping[str, Callable[..., Any]]:
    """What ``fastact.kernels`` has, aliases excluded."""
    return {name: public(form.kernel, name) for name, (_, form) in elementwise_forms().items()}


def with_defaults(kernel: Callable[..., Any], parameters: tuple[Parameter, ...]) -> Callable[..., Any]:
    """`kernel` with its trailing parameters fixed at their defaults."""
    defaults = [p.default for p in parameters]

    def fixed(*arrays: Any) -> Any:
        return kernel(*arrays, *(arrays[0].const(value) for value in defaults))

    return fixed


def default_kernel(record: Activation, form: Form) -> Callable[..., Any] | None:
    """The kernel of a form with every parameter at its default; None if one has no default."""
    if any(p.default is None for p in record.parameters):
        return None
    forward = record.at_defaults or with_defaults(record.forward, record.parameters)
    derivative = record.derivative_at_defaults or with_defaults(record.derivative, record.parameters)
    standard = {
        "forward": forward,
        "derivative": derivative,
        "vjp": times_g(derivative),
        "with_derivative": both(forward, derivative),
        **{f"derivative_{name}": kernel for name, kernel in record.parameter_derivatives_at_defaults.items()},
    }
    return standard.get(form.kind) or with_defaults(form.kernel, record.parameters)


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
    plain, kernel = None, default_kernel(record, form)
    if kernel is not None:
        plain = make(name, kernel, (arrays, outputs), text, 0, vectors, label=f"{name}-default")
        vars(plain)["__module__"] = "fastact.plain_ufuncs"
    vars(ufunc)["__module__"] = "fastact.ufuncs"
    return parametrised(name, text, ufunc, plain, form.arrays, parameters)


_ROW_FUNCTIONS = (
    rows.SOFTMAX,
    rows.LOG_SOFTMAX,
    log_sums.LOGSUMEXP,
    softmax_vjp.SOFTMAX_VJP,
    log_softmax_vjp.LOG_SOFTMAX_VJP,
    rows.LOGSUMEXP_VJP,
    row_options.SOFTMIN,
    log_sums.LOGMEANEXP,
    sparse.SPARSEMAX,
    sparse.ENTMAX15,
    sparse.HARDMAX,
    sparse.SPARSEMAX_VJP,
    sparse.ENTMAX15_VJP,
)
ROWS: Mapping[str, rows.RowFunction | sparse.Projection] = {function.name: function for function in _ROW_FUNCTIONS}
WITH_OPTIONS = ("softmax", "log_softmax", "softmin")  # these take a temperature and masks, too
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
        from .cpu import ufunc

        function = ROWS[name]
        if isinstance(function, sparse.Projection):
            return ufunc.projection(function, row_doc(name))
        made = ufunc.rows(function, row_doc(name))
        if name in WITH_OPTIONS:
            from . import row_options as options

            ufunc.with_options(made, options.function(name, made))
        return made
    if name in LOSSES:
        from . import losses

        return getattr(losses, name)
    if name in _THREADS:
        from .cpu import threads

        return getattr(threads, name)
    raise AttributeError(f"module 'fastact' has no attribute {name!r}")
