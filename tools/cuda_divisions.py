"""Find the divisions of float32 kernels that need fewer corrections on a GPU.

``python tools/cuda_divisions.py`` computes the quotients of a kernel of one array for all 2^32 inputs and for every
reciprocal that NVIDIA's approximation may give, and puts those that are always right with fewer corrections on record,
where `fastact.cuda.quotients` finds them. ``--check`` compares those on record again and exits 1 if one differs. It
needs g++ and a CPU with AVX-512, and a minute or two for each division.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fastact.cuda import quotients
from fastact.cuda.functions import variant
from fastact.graph.trace import Graph, Node, trace

NAMES = ("gelu_tanh", "silu_derivative", "softplus_derivative", "softplus", "softplus_derivative_beta", "log_sigmoid")
ALL = 1 << 32
SAMPLE = 1 << 23  # tried first
_OPTIONS = ("-O2", "-march=native", "-ffp-contract=off", "-fno-trapping-math", "-shared", "-fPIC", "-w")

_C = {
    **dict.fromkeys(("add", "sub", "mul", "div"), ""),
    "fma": "F _mm512_fmadd_ps({0}, {1}, {2})",
    "select": "{0} ? {1} : {2}",
    "fabs": "as_float(as_int({0}) & 0x7fffffff)",
    "copysign": "as_float((as_int({0}) & 0x7fffffff) | (as_int({1}) & ~0x7fffffff))",
    "bits": "as_int({0})",
    "from_bits": "as_float({0})",
    "not": "~{0}",
}
_BETWEEN = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "=="}
_BETWEEN |= {"ne": "!=", "and": "&", "or": "|", "xor": "^", "shr": ">>", "shl": "<<"}

_CODE = """
#include <immintrin.h>
typedef float floats __attribute__((vector_size(64)));
typedef int ints __attribute__((vector_size(64)));
typedef unsigned words __attribute__((vector_size(64)));
#define F (floats)
static inline ints as_int(floats x) { return (ints)x; }
static inline floats as_float(ints i) { return (floats)i; }
static inline ints whole(int i) { return i - (ints){}; }
static inline floats number(int i) { return (floats)whole(i); }
static inline floats at(const int *table, ints k) { return (floats)_mm512_i32gather_epi32((__m512i)k, table, 4); }
static inline floats fma(floats a, floats b, floats c) { return F _mm512_fmadd_ps(a, b, c); }

// rcp.approx.ftz: a unit in the last place off at most; anything for divisors whose reciprocal is no normal number
static inline ints wrong(floats n, floats d, floats exact, int error) {
  const ints a = as_int(d) & 0x7fffffff, near = as_int(1.0f / d) + error;
  const floats r = as_float((a >= 1 << 23) & (a <= 253 << 23) ? near : whole(0x7fc00000));
  floats q = n * r;
  q = fma(fma(d, q, -n), -r, q);
  q = fma(fma(d, q, -n), -r, q);
  return (as_int(q) != as_int(exact)) & ~((q != q) & (exact != exact));
}
"""
_LOOP = """
extern "C" long long compare(long long count, unsigned step) {
  long long differing = 0;
  words place;
  for (int k = 0; k < 16; k++) place[k] = k * step;
  for (long long done = 0; done < count; done += 16, place += 16 * step) {
    const ints found = one((floats)place);
    differing += __builtin_popcount(_mm512_test_epi32_mask((__m512i)found, (__m512i)found));
  }
  return differing;
}
"""


def _constant(node: Node) -> str:
    if node.kind == "mask":
        return f"whole({-node.value})"
    pattern = node.value if node.value != -(2**31) else "-2147483647 - 1"
    return f"{'number' if node.kind == 'float' else 'whole'}({pattern})"


def _expression(node: Node, a: Sequence[str], tables: dict[tuple[int, ...], int]) -> str:
    """The C of one operation on sixteen lanes."""
    if node.op == "lookup":
        return f"at(table{tables.setdefault(node.value, len(tables))}, {a[0]} & {len(node.value) - 1})"
    if node.op == "neg":
        return f"-{a[0]}" if node.kind == "float" else f"(ints)(-(words){a[0]})"
    if node.kind == "int" and node.op in ("add", "sub", "mul", "shl"):
        return f"(ints)((words){a[0]} {_BETWEEN[node.op]} (words){a[1]})"
    return f"{a[0]} {_BETWEEN[node.op]} {a[1]}" if node.op in _BETWEEN else _C[node.op].format(*a)


def different(graph: Graph, number: int, count: int) -> int:
    """For how many inputs, of `count` spread over all, a quotient needs more corrections."""
    kinds, tables, names = {"float": "floats", "int": "ints", "mask": "ints"}, dict[tuple[int, ...], int](), {}
    body = ""
    for k in graph.used((number,)):
        node = graph.nodes[k]
        names[k] = "x" if node.op == "input" else _constant(node) if node.op == "const" else f"v{k}"
        if names[k] == f"v{k}":
            body += (
                f"  const {kinds[node.kind]} v{k} = {_expression(node, [names[o] for o in node.operands], tables)};\n"
            )
    n, d = (names[k] for k in graph.nodes[number].operands)
    ends = " | ".join(f"wrong({n}, {d}, v{number}, {error})" for error in (0, 1, -1))
    entries = "".join(f"static const int table{k}[] = {{{', '.join(map(str, t))}}};\n" for t, k in tables.items())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "compare.cpp"
        file.write_text(
            f"{_CODE}{entries}static inline ints one(floats x) {{\n{body}  return {ends};\n}}\n{_LOOP}", "utf-8"
        )
        subprocess.run(["g++", *_OPTIONS, str(file), "-o", f"{folder}/compare.so"], check=True)
        compare = ctypes.CDLL(f"{folder}/compare.so").compare
    compare.restype = ctypes.c_longlong
    return int(compare(ctypes.c_longlong(count), ctypes.c_uint(ALL // count)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=NAMES, help="functions of one array; by default those that gain by it"
    )
    parser.add_argument("--check", action="store_true", help="compare again what is on record, and find nothing new")
    options = parser.parse_args(arguments)
    recorded = dict(quotients.recorded())
    lost = 0
    for name in options.names:
        graph = trace(variant(name, "float32", "").function, ["float"], 32)
        for number in [k for k in graph.used() if graph.nodes[k].op == "div" and quotients.one_input(graph, k)]:
            key = quotients.digest(graph, number)
            if (key in recorded) != options.check:
                continue
            found = different(graph, number, SAMPLE) or different(graph, number, ALL)
            print(f"{name}: {found or 'no'} quotients differ", flush=True)
            if options.check:
                lost += found > 0
            elif not found:
                recorded[key] = name
                quotients.FILE.write_text(json.dumps(recorded, indent=1) + "\n", "utf-8")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
