"""The file that keeps what was measured: one row for each form of each function, dtype and set of parameters.

A row holds what a sweep found and the fingerprint of the kernel it judged (`fastact.accuracy.digest`), so that one can
see whether the kernel is still the same. `Results.put` replaces a row and writes the file, so that nothing is lost when
a run is interrupted; each row is one line, so that a difference of two versions can be read.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import fastact
from fastact.accuracy.judges import Measurement
from fastact.accuracy.row_cases import FUNCTIONS
from fastact.accuracy.samples import other_parameters

__all__ = ["Key", "Results", "Row", "environment"]

FORMAT = "fastact-accuracy-1"
DTYPES = ("float32", "float64", "float16", "bfloat16")


class Key(NamedTuple):
    """What a row is about; `given` says whether the parameters were passed or are the defaults built in."""

    function: str
    form: str
    dtype: str
    given: bool
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """One measurement that is kept."""

    found: Measurement
    given: bool
    exhaustive: bool
    """whether all inputs of the dtype were judged"""
    digest: str
    date: str
    environment: int
    """where in the file's list of environments the one is that it was measured in"""
    same_bits_as: tuple[str, ...] = ()
    """The forms whose results these are, bit for bit, for every input: the error is theirs and was not judged again."""

    @property
    def key(self) -> Key:
        found = self.found
        return Key(found.name, found.form, found.dtype, self.given, found.parameters)

    @property
    def plain(self) -> bool:
        """Whether this is the function as it is called most: with its defaults, or, lacking some, the usual values."""
        record = fastact.CATALOGUE.get(self.found.name)
        if not self.given or record is None:
            return not self.given
        lacking = any(p.default is None for p in record.parameters)
        return lacking and self.found.parameters == other_parameters(record)[0]

    def as_dict(self) -> dict[str, Any]:
        found = self.found
        content: dict[str, Any] = {"function": found.name, "form": found.form, "dtype": found.dtype}
        if found.parameters:
            content |= {"parameters": list(found.parameters), "given": self.given}
        content |= {"max_ulp": found.max_ulp, "at": float(found.at).hex(), "wrong": found.wrong}
        if found.row:
            content["row"] = found.row
        content |= {"inputs": found.inputs, "exhaustive": self.exhaustive}
        content |= {"correctly_rounded": found.correctly_rounded, "share": round(found.share, 9)}
        if self.same_bits_as:
            content["same_bits_as"] = list(self.same_bits_as)
        return {**content, "digest": self.digest, "date": self.date, "environment": self.environment}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Row:
        found = Measurement(
            content["function"],
            content["form"],
            content["dtype"],
            tuple(content.get("parameters", ())),
            content["inputs"],
            content["max_ulp"],
            float.fromhex(content["at"]),
            content["correctly_rounded"],
            dict(content["wrong"]),
            row=content.get("row", ""),
        )
        return cls(
            found,
            content.get("given", False),
            content["exhaustive"],
            content["digest"],
            content["date"],
            content["environment"],
            tuple(content.get("same_bits_as", ())),
        )


def environment() -> dict[str, str]:
    """Everything but the kernel that could change a result, and must not."""
    import llvmlite.binding as llvm

    versions = {name: version(name) for name in ("numba", "llvmlite", "numpy")}
    about = {"cpu": llvm.get_host_cpu_name(), "architecture": platform.machine(), "system": platform.system()}
    return {"fastact": fastact.__version__, "python": platform.python_version(), **versions, **about}


class Results:
    """The rows of one file, by key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[Key, Row] = {}
        self.environments: list[dict[str, str]] = []
        self.load()

    def load(self) -> None:
        """Read the file, if there is one."""
        if not self.path.exists():
            return
        content = json.loads(self.path.read_text("utf-8"))
        if content.get("format") != FORMAT:
            raise ValueError(f"{self.path} is not a file of {FORMAT}")
        self.environments = content["environments"]
        rows = [Row.from_dict(row) for row in content["rows"]]
        self.rows = {row.key: row for row in rows}

    def current(self, key: Key, digest: str) -> Row | None:
        """The row of `key`, if the kernel it judged is this one."""
        row = self.rows.get(key)
        return row if row is not None and row.digest == digest else None

    def put(self, found: Measurement, given: bool, exhaustive: bool, digest: str, same: Sequence[str] = ()) -> Row:
        """Keep a measurement made just now, in place of an older one, and write the file."""
        self.load()  # another process may have added to it
        here = environment()
        if here not in self.environments:
            self.environments.append(here)
        date = datetime.now(UTC).strftime("%Y-%m-%d")
        # the examples of what is wrong are for whoever sees the run
        found = replace(found, examples={})
        row = Row(found, given, exhaustive, digest, date, self.environments.index(here), tuple(same))
        self.rows[row.key] = row
        self.save()
        return row

    def save(self) -> None:
        """Write the file, rows in the order of the catalogue; one that nothing refers to any more goes."""
        used = sorted({row.environment for row in self.rows.values()})
        number = {old: new for new, old in enumerate(used)}
        self.environments = [self.environments[k] for k in used]
        self.rows = {k: replace(row, environment=number[row.environment]) for k, row in self.rows.items()}
        ordered = sorted(self.rows.values(), key=lambda row: _position(row.key))
        lines = [
            "{",
            f' "format": {json.dumps(FORMAT)},',
            ' "environments": [',
            ",\n".join("  " + json.dumps(about) for about in self.environments),
            " ],",
            ' "rows": [',
            ",\n".join("  " + json.dumps(row.as_dict()) for row in ordered),
            " ]",
            "}",
        ]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        temporary.write_text("\n".join(lines) + "\n", "utf-8")
        temporary.replace(self.path)


FORMS = ("forward", "derivative", "with_derivative")


def _position(key: Key) -> tuple[Any, ...]:
    names = [*fastact.CATALOGUE, *FUNCTIONS]
    function = names.index(key.function) if key.function in names else len(names)
    form = FORMS.index(key.form) if key.form in FORMS else len(FORMS)
    return (
        key.form == "rows",
        DTYPES.index(key.dtype),
        key.given,
        function,
        key.function,
        form,
        key.form,
        key.parameters,
    )
