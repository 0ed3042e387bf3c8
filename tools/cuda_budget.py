"""Compile kernels for a GPU, look at their machine code, and write what an element costs.

``python tools/cuda_budget.py`` compiles every function for compute capability 9.0 and writes
``benchmarks/results/cuda_sass.json``, with ``--missing`` only new functions; ``--arch 75 80 90 100 --all-dtypes
--dry-run`` checks all there is and writes nothing. It takes minutes, needs no GPU, and exits 1 if a rule is broken.
``--rows 256 1024`` looks at row functions of these lengths instead, and writes nothing.
What a kernel does rarely (`fastact.kernels.language.rarely`) is a branch, and counted apart.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastact.api import elementwise_forms
from fastact.command_options import add_dtype
from fastact.cuda.compiler import compile_cubin
from fastact.cuda.functions import source, variant
from fastact.cuda.row_templates import row_kernel, share
from fastact.cuda.rows import row_functions
from fastact.cuda.sass import Code, disassemble, kinds

TARGET = Path(__file__).parents[1] / "benchmarks" / "results" / "cuda_sass.json"
DTYPES = ("float16", "bfloat16", "float32", "float64")


def budget(dtype: str, streams: int) -> float:
    """The instructions an element may cost at the speed of memory, on an H200, by the arrays read and written."""
    return streams * {"float16": 12.5, "bfloat16": 12.5, "float32": 25.0, "float64": 50.0}[dtype]


def defaults(name: str) -> str:
    """Where the parameters come from in the usual call."""
    record, _ = elementwise_forms()[name]
    return "s" * len(record.parameters) if any(p.default is None for p in record.parameters) else ""


@lru_cache(8)
def _source(name: str, dtype: str) -> str:
    return source(name, dtype, defaults(name), "contiguous")


def machine_code(name: str, dtype: str, capability: tuple[int, int], usual: bool = False) -> Code:
    """The code of a contiguous kernel; the `usual` one has an instruction in place of what is rare."""
    text = _source(name, dtype)
    return disassemble(compile_cubin("#define USUAL_PATH\n" + text if usual else text, capability, name))


def faults(name: str, code: Code, dtype: str, inputs: int, outputs: int) -> list[str]:
    """The rules that a contiguous kernel breaks."""
    found = []
    if len(code.having(r"LDG\.E\.128")) < inputs or len(code.having(r"STG\.E\.128")) < outputs:
        found.append("no 128-bit accesses")
    if code.having(r"LD\.", r"ST\.", r"LD$", r"ST$"):
        found.append("generic accesses")
    if code.having("LDL", "STL"):
        found.append("spills")
    if dtype != "float64" and code.having("CALL"):
        found.append("calls")
    if dtype != "float64" and code.having(r"D(ADD|MUL|FMA|SETP|MNMX)", r"F2F\.\w*\.?F64", r"MUFU\.\w+64"):
        found.append("float64 instructions")
    return found


def limit(name: str, dtype: str) -> float:
    """The budget of a function."""
    kernel = variant(name, dtype, defaults(name))
    return budget(dtype, kernel.arrays + kernel.outputs)


@dataclass(frozen=True)
class Cost:
    """What an element takes: instructions, also where something is rare (or the same), those by kind, and registers."""

    usual: float
    most: float
    kinds: dict[str, float]
    registers: int
    broken: list[str]


def measure(name: str, dtype: str, capability: tuple[int, int]) -> Cost:
    """The cost of a function, and the rules that its kernel breaks."""
    kernel = variant(name, dtype, defaults(name))
    code, each = machine_code(name, dtype, capability), kernel.per_thread
    most = code.longest_path()
    path = machine_code(name, dtype, capability, True).longest_path() if "USUAL_PATH" in _source(name, dtype) else most
    by_kind = {kind: round(count / each, 1) for kind, count in kinds(path).items()}
    broken = faults(name, code, dtype, kernel.arrays, kernel.outputs)
    return Cost(round(len(path) / each, 1), round(len(most) / each, 1), by_kind, code.registers, broken)


def measure_row(name: str, dtype: str, length: int, capability: tuple[int, int] = (9, 0)) -> tuple[float, int]:
    """The instructions an entry of a usual row takes, if rows lie at one distance, and the registers.

    Rows that stay in registers are counted whole; of others, and of projections, each loop is taken once.
    """
    function = row_functions()[name]
    how = share(function, length, dtype)
    text = row_kernel(function, dtype, how)
    usual = re.sub(r"if \((dims == 1|all_usual)\)", "if (true)", re.sub(r"if \(w\d+ != 0\)", "if (false)", text))
    path = disassemble(compile_cubin(usual, capability, name)).longest_path()
    registers = disassemble(compile_cubin(text, capability, name)).registers
    return round(len(path) / (how.kept or 1), 1), registers


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="functions; by default all")
    parser.add_argument("--missing", action="store_true", help="only the functions that are not on record yet")
    parser.add_argument("--arch", nargs="*", type=int, default=[90])
    parser.add_argument("--all-dtypes", action="store_true", help="the same as naming all four")
    add_dtype(parser, DTYPES, ("float16", "bfloat16", "float32"))
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    parser.add_argument("--rows", nargs="+", type=int, metavar="COLUMNS", help="row functions of these lengths")
    options = parser.parse_args(arguments)
    there = row_functions() if options.rows else elementwise_forms()
    unknown = [name for name in options.names if name not in there]
    if unknown:
        parser.error(f"unknown function {unknown[0]!r}: choose from {', '.join(there)}")
    for name in (options.names or there) if options.rows else ():
        for length in options.rows:
            instructions, registers = measure_row(name, "float32", length)
            print(f"{name:36} {length:9} sm_90   {instructions:6} {registers:5}", flush=True)
    if options.rows:
        return 0
    recorded: dict[str, dict[str, Any]] = json.loads(TARGET.read_text("utf-8")) if TARGET.exists() else {}
    names = options.names or [n for n in elementwise_forms() if not (options.missing and n in recorded)]
    table = {name: recorded.get(name, {}) for name in elementwise_forms()}
    failed = 0
    for name in names:
        row: dict[str, Any] = {}
        for dtype in DTYPES if options.all_dtypes else options.dtype:
            for arch in options.arch:
                cost = measure(name, dtype, (arch // 10, arch % 10))
                over = cost.usual > limit(name, dtype)
                shown = f"{name:36} {dtype:9} sm_{arch:<4} {cost.usual:6}{'*' * over:1} {cost.registers:4}"
                print(shown, *cost.broken, flush=True)
                failed += bool(cost.broken)
                if arch == 90:
                    row[dtype] = {"instructions": cost.usual, "registers": cost.registers}
                    if cost.most > cost.usual:
                        row[dtype]["instructions_where_rare"] = cost.most
                    if over:
                        row[dtype]["kinds"] = cost.kinds
        table[name] |= row
    if not options.dry_run:
        TARGET.write_text(json.dumps({name: row for name, row in table.items() if row}, indent=1) + "\n", "utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
