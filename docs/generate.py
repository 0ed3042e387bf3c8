"""Write the pages that come from the catalogue: one a family, the rows, the losses, the gallery and the tables.

Sphinx calls `write` through conf.py; ``contents`` says what is on which page, and needs neither Sphinx nor matplotlib.
"""

from __future__ import annotations

import contextlib
import csv
import inspect
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import fastact as fa
from fastact.__main__ import main
from fastact.activation import Activation, Contract, Form, all_forms
from fastact.api import LOSSES, ROWS, WITH_OPTIONS
from fastact.documentation import docstring
from fastact.documentation_rows import ROW_DOCS

THREADS = ("get_num_threads", "set_num_threads", "threads")
COMMANDS = ("bench", "accuracy", "demo", "warmup")
SAMPLE_PARAMETER = 0.25  # for a parameter without a default
RECORDED = Path(__file__).parents[1] / "benchmarks" / "results" / "cuda_sass.json"


def families() -> dict[str, list[Activation]]:
    """The records of each family, in the order of the catalogue."""
    found: dict[str, list[Activation]] = {}
    for record in fa.CATALOGUE.values():
        found.setdefault(record.family, []).append(record)
    return found


def public_names(record: Activation, form: Form) -> list[str]:
    """The name of a form, then its aliases."""
    return [form.name, *(alias + form.name.removeprefix(record.name) for alias in record.aliases)]


def contents() -> dict[str, list[str]]:
    """Every page that is generated, with the public names it documents."""
    pages = {
        family: [name for record in records for form in all_forms(record) for name in public_names(record, form)]
        for family, records in families().items()
    }
    return {**pages, "rows": [*ROWS], "losses": [*LOSSES], "threads": [*THREADS], "api": ["CATALOGUE"]}


def write(directory: Path) -> None:
    """Write every page, table and plot into `directory`; files that would not change are left as they are."""
    (directory / "plots").mkdir(parents=True, exist_ok=True)
    pages = {"api": gallery_page(), "rows": rows_page(), "losses": losses_page(), "threads": threads_page()}
    for family, records in families().items():
        pages[family] = family_page(family, records)
    files = {f"{name}.rst": text for name, text in pages.items()}
    files |= {"contract.csv": contract_table(), "limits.csv": limits_table("forward")}
    files["derivative_limits.csv"] = limits_table("derivative")
    files |= {f"accuracy-{kind}.csv": accuracy_table(kind) for kind in KEPT}
    files |= {"cuda.csv": cuda_table()}
    files |= {f"help-{command}.txt": help_text(command) for command in COMMANDS}
    from plots import draw  # the one thing that needs matplotlib

    files |= {f"plots/{record.name}.svg": draw(record, parameters(record)) for record in fa.CATALOGUE.values()}
    for name, text in files.items():
        if not (directory / name).exists() or (directory / name).read_text(encoding="utf-8") != text:
            (directory / name).write_text(text, encoding="utf-8")
    for old in [*directory.glob("*.*"), *directory.glob("plots/*")]:
        if old.relative_to(directory).as_posix() not in files:
            old.unlink()


def parameters(record: Activation) -> tuple[float, ...]:
    """A value for each parameter that has no default."""
    return tuple(SAMPLE_PARAMETER for p in record.parameters if p.default is None)


# --- pages


def heading(title: str, line: str = "=") -> list[str]:
    return [title, line * len(title), ""]


def anchor(name: str) -> str:
    """The id that docutils gives a section with this title."""
    return name.replace("_", "-")


def gallery_page() -> str:
    pages = {page: names for page, names in contents().items() if page != "api"}
    lines = [*heading("Functions by family"), ".. py:module:: fastact", "   :no-index-entry:", ""]
    lines += [
        "Solid is the function, dashed its derivative, at default parameters. A dot is the value at a jump. The",
        "pictures were drawn by the library itself when these pages were built. Click one for the function's page.",
        "",
        ".. toctree::",
        "   :hidden:",
        "",
        *(f"   {page}" for page in pages),
        "",
    ]
    for family, records in families().items():
        lines += [f":doc:`{family}`", "", ".. rst-class:: gallery", ""]
        lines += [" ".join(f"|{record.name}|" for record in records), ""]
    for page in [page for page in pages if page not in families()]:
        lines += [f":doc:`{page}`", "   " + ", ".join(f"`{name}`" for name in pages[page]), ""]
    lines += [
        ".. py:data:: CATALOGUE",
        "   :no-contents-entry:",
        "",
        "   A mapping from each elementwise function's name to its record.",
        "   Functions along an axis and losses have no record.",
        "",
    ]
    for record in fa.CATALOGUE.values():
        lines += [f".. |{record.name}| image:: plots/{record.name}.svg", f"   :alt: {record.name} and its derivative"]
        lines += [f"   :target: {record.family}.html#{anchor(record.name)}", ""]
    return "\n".join(lines)


def family_page(family: str, records: Iterable[Activation]) -> str:
    lines = [*heading(f"{family.capitalize()} functions"), ".. py:currentmodule:: fastact", ""]
    lines += [".. contents::", "   :local:", "   :depth: 1", "   :backlinks: none", ""]
    for record in records:
        lines += [*heading(record.name, "-"), record.summary, ""]
        lines += [f".. image:: plots/{record.name}.svg", f"   :alt: {record.name} and its derivative", ""]
        for label, text in facts(record):
            lines += [f":{label}: {text}"]
        lines += [""]
        for form in all_forms(record):
            signatures = [signature(name, record, form) for name in public_names(record, form)]
            lines += function(signatures, docstring(record, form))
    return "\n".join(lines)


def code(value: Any) -> str:
    """As literal text: 0.25, -0.0, inf, or a formula."""
    return f"``{value}``"


def number(value: float) -> str:
    return "1/6" if value == 1 / 6 else f"{value:g}"


def facts(record: Activation) -> Iterable[tuple[str, str]]:
    """The record, as the lines of a field list."""
    yield "Formula", code(record.formula)
    yield "Derivative", code(record.derivative_formula)
    for name, formula in record.parameter_formulas.items():
        yield f"Derivative by {name}", code(formula)
    for p in record.parameters:
        default = "It has no default." if p.default is None else f"The default is {code(number(p.default))}."
        yield f"Parameter {p.name}", f"{p.doc} {default}{' It must not be 0.' if p.nonzero else ''}"
    (low, high), (left, right) = record.limits, record.derivative_limits
    yield "At -inf and +inf", f"{code(low)} and {code(high)}; the derivative {code(left)} and {code(right)}"
    yield "Range", f"from {code(record.range[0])} to {code(record.range[1])}"
    order = "it never decreases" if record.monotone else "it is not monotone"
    parity = f", it is {record.parity}" if record.parity else ""
    yield "Shape", f"{record.smoothness}; {order}{parity}"
    if record.kinks:
        yield "Kinks", f"{', '.join(map(code, record.kinks))}. {record.at_kinks}".strip()
    yield "Contract", f"error below {bounds(record.contract)}"
    if record.aliases:
        yield "Second names", ", ".join(map(code, record.aliases))
    if record.paper:
        yield "Paper", record.paper


def bounds(contract: Contract) -> str:
    return ", ".join(f"{getattr(contract, name):g} ULP in {name}" for name in contract.__dataclass_fields__)


def rows_page() -> str:
    lines = [*heading("Functions along an axis"), ".. py:currentmodule:: fastact", ""]
    lines += ["These are NumPy gufuncs: ``axis=`` is any single axis, the last one by default.", ""]
    lines += [", ".join(f"`{name}`" for name in ROWS), ""]
    for name in ROWS:
        operands = re.findall(r"^(\w+) : array_like", ROW_DOCS[name], re.MULTILINE)
        given = ["temperature=1.0", "where=True", "causal=False"] if name in WITH_OPTIONS else []
        listed = ", ".join([*operands, "/", "out=None", "*", *given, "axis=-1", "**kwargs"])
        lines += function([f"{name}({listed})"], ROW_DOCS[name])
    return "\n".join(lines)


def losses_page() -> str:
    lines = [*heading("Losses"), ".. py:currentmodule:: fastact", ""]
    lines += ["No reduction is done: a value per row comes back, and NumPy sums.", ""]
    return "\n".join(lines + python_functions(LOSSES))


def threads_page() -> str:
    lines = [*heading("Threads"), ".. py:currentmodule:: fastact", ""]
    return "\n".join(lines + python_functions(THREADS))


def python_functions(names: Iterable[str]) -> list[str]:
    lines = []
    for name in names:
        found: Callable[..., Any] = getattr(fa, name)
        bare = [p.replace(annotation=p.empty) for p in inspect.signature(found).parameters.values()]
        lines += function([f"{name}{inspect.Signature(bare)}"], inspect.getdoc(found) or "")
    return lines


def signature(name: str, record: Activation, form: Form) -> str:
    given = [p.name if p.default is None else f"{p.name}={number(p.default)}" for p in record.parameters]
    out = [] if record.parameters else ["out=None"]
    return f"{name}({', '.join([*form.arrays, '/', *given, *out, '**kwargs'])})"


def function(signatures: list[str], text: str) -> list[str]:
    """A documented function; the docstring is rendered by numpydoc."""
    lines = [f".. py:function:: {signatures[0]}", *(f"                 {other}" for other in signatures[1:]), ""]
    return [*lines, *(f"   {line}".rstrip() for line in rendered(text)), ""]


def rendered(text: str) -> list[str]:
    from numpydoc.docscrape_sphinx import SphinxDocString

    # An indented formula is a quotation to reST, in which |x| and x_i are markup: make it literal.
    text = re.sub(r"\A([^\n]*)\n\n(?= {4})", r"\1\n\n.. code-block:: none\n\n", text)
    return str(SphinxDocString(text, config={"use_plots": False, "show_class_members": False})).split("\n")


# --- tables


def table(rows: Iterable[Iterable[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def contract_table() -> str:
    """For each dtype the usual bound, and the functions that have another."""
    usual = Contract()
    rows = []
    for name in usual.__dataclass_fields__:
        others = {r.name: getattr(r.contract, name) for r in fa.CATALOGUE.values() if r.contract != usual}
        named = [f"{f} {b:g}" for f, b in others.items() if b != getattr(usual, name)]
        rows.append((name, f"{getattr(usual, name):g}", ", ".join(named) or "none"))
    return table(rows)


def cuda_table() -> str:
    """The instructions an element takes on a GPU, for the functions and their derivatives."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    dtypes = ("float32", "bfloat16", "float16")
    rows = [["function", *dtypes, *(f"derivative, {dtype}" for dtype in dtypes)]]
    for name in fa.CATALOGUE:
        found = [recorded.get(form, {}) for form in (name, f"{name}_derivative")]
        rows.append([code(name), *(str(f[d]["instructions"]) if d in f else "" for f in found for d in dtypes)])
    return table(rows)


def limits_table(kind: str) -> str:
    """What the library returns at both infinities and both zeros, in float64, to six digits."""
    x = np.float64([-np.inf, -0.0, 0.0, np.inf])
    rows = []
    for record in fa.CATALOGUE.values():
        form = next(form for form in all_forms(record) if form.kind == kind)
        values = getattr(fa, form.name)(x, *parameters(record))
        rows.append((code(form.name), *(code(float(f"{value:.6g}")) for value in values)))
    return table(rows)


KEPT = {
    "float32": ("float32",),
    "float64": ("float64",),
    "narrow": ("float16", "bfloat16"),
    "rows": ("float32", "float64"),
    "parameters": ("float32", "float64"),
}
SAID = ("parameters", "dtype", "inputs", "at")


def accuracy_table(kind: str) -> str:
    """What is kept of the sweeps of one dtype or two, of functions along an axis, or of other parameters.

    What is the same of all rows, and said above the table, has no column.
    """
    from fastact.accuracy.results import Results

    kept = Results(Path(__file__).parents[1] / "benchmarks" / "results" / "accuracy.json").rows.values()
    rows = []
    for row in kept:
        found, name = row.found, row.found.name
        about = "rows" if found.form == "rows" else "parameters" if not row.plain else "elementwise"
        if found.dtype not in KEPT[kind] or about != (kind if kind in ("rows", "parameters") else "elementwise"):
            continue
        public = {f.kind: f.name for f in all_forms(fa.CATALOGUE[name])} if name in fa.CATALOGUE else {"rows": name}
        values = ", ".join(f"{value:.6g}" for value in found.parameters) or ("varied" if row.given else "")
        at = f"{found.at:.9g}" if found.max_ulp and about != "rows" else ""
        cells = [code(public[found.form]), found.dtype, f"{math.ceil(1000 * found.max_ulp) / 1000:.3f}"]
        cells += [f"{int(10**5 * found.share) / 1000:.3f} %", sum(found.wrong.values()), at, f"{found.inputs:,}"]
        rows.append([*cells[:1], values, *cells[1:]] if kind == "parameters" else [*cells, values])
    # what was found comes first: on a phone the rest is beyond the edge
    header = ["function", "dtype", "largest error in ULP", "correctly rounded", "wrong", "at"]
    header += ["elements" if kind == "rows" else "inputs"]
    header = ["function", "parameters", *header[1:]] if kind == "parameters" else [*header, "parameters"]
    said = {k for k, name in enumerate(header) if name in SAID and len({row[k] for row in rows}) == 1}
    return table([cell for k, cell in enumerate(row) if k not in said] for row in [header, *rows])


def help_text(command: str) -> str:
    """What ``fastact COMMAND --help`` prints, 80 columns wide and without colours."""
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR")}
    os.environ.update(COLUMNS="80", NO_COLOR="1")
    try:
        with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
            main([command, "--help"])
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    return text.getvalue()
