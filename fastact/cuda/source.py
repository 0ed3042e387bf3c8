"""A graph as CUDA C.

Every floating-point operation is written as the intrinsic for one IEEE 754 operation rounded to nearest (`__fmaf_rn`
and so on). The compiler never merges or reorders those, so a kernel gives the bits it gives on the CPU.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from ..graph.trace import Graph, Node

FLOAT_NAMES = {32: "float", 64: "double"}
INT_NAMES = {32: "int", 64: "long long"}
_UNSIGNED = {32: "unsigned", 64: "unsigned long long"}

ROUNDED = {
    ("add", 32): "__fadd_rn",
    ("sub", 32): "__fsub_rn",
    ("mul", 32): "__fmul_rn",
    ("div", 32): "__fdiv_rn",
    ("sqrt", 32): "__fsqrt_rn",
    ("fma", 32): "__fmaf_rn",
    ("fabs", 32): "fabsf",
    ("copysign", 32): "copysignf",
    ("bits", 32): "__float_as_int",
    ("from_bits", 32): "__int_as_float",
    ("to_float", 32): "__int2float_rn",
    ("add", 64): "__dadd_rn",
    ("sub", 64): "__dsub_rn",
    ("mul", 64): "__dmul_rn",
    ("div", 64): "__ddiv_rn",
    ("sqrt", 64): "__dsqrt_rn",
    ("fma", 64): "__fma_rn",
    ("fabs", 64): "fabs",
    ("copysign", 64): "copysign",
    ("bits", 64): "__double_as_longlong",
    ("from_bits", 64): "__longlong_as_double",
    ("to_float", 64): "__ll2double_rn",
}
_IN_C = {
    "and": "&",
    "or": "|",
    "xor": "^",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
}


class Tables:
    """The tables that the functions of one kernel look up, end to end in shared memory.

    A table of 32 floats has an entry in every bank, so the threads of a warp can all read at once whatever they want.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.offsets: dict[tuple[int, ...], int] = {}
        self.entries: list[int] = []

    def offset(self, table: tuple[int, ...]) -> int:
        if table not in self.offsets:
            self.offsets[table] = len(self.entries)
            self.entries += table
        return self.offsets[table]

    def group_offset(self, group: tuple[tuple[int, ...], ...]) -> int:
        """Where two or four tables begin whose entries alternate, in groups of them."""
        self.entries += [0] * (-len(self.entries) % len(group))
        return self.offset(tuple(entry for all in zip(*group, strict=True) for entry in all)) // len(group)

    def definition(self) -> str:
        """The C definition of the entries, which a kernel copies to its shared memory, 16 bytes at a time if many."""
        real = FLOAT_NAMES[self.width]
        self.entries += [0] * (-len(self.entries) % (128 // self.width))
        entries = ", ".join(literal("float", self.width, e) for e in self.entries or (0,))
        return (
            f"#define TABLE_ENTRIES {len(self.entries)}\n"
            f"__device__ const {real} __align__(16) table_entries[] = {{{entries}}};\n"
        )


def literal(kind: str, width: int, pattern: int) -> str:
    """A constant as C."""
    if kind == "mask":
        return "true" if pattern else "false"
    if kind == "int":
        if pattern == -(1 << (width - 1)):  # C has no literal for it
            return f"(-{-(pattern + 1)}{'LL' if width == 64 else ''} - 1)"
        return f"{pattern}{'LL' if width == 64 else ''}"
    form = ("<i", "<f") if width == 32 else ("<q", "<d")
    value: float = struct.unpack(form[1], struct.pack(form[0], pattern))[0]
    if value != value or value in (float("inf"), -float("inf")):
        cast = ROUNDED["from_bits", width]
        return f"{cast}({literal('int', width, pattern)})"
    return value.hex() + ("f" if width == 32 else "")


def _expression(node: Node, a: Sequence[str], tables: Tables, form: str | None) -> str:
    width, op = node.width, node.op
    if op == "lookup":
        return f"table[{tables.offset(node.value)} + ({a[0]} & {len(node.value) - 1})]"
    if op == "entry":
        return f"table[{tables.offset(node.value)} + {a[0]}]"
    if op == "select":
        return f"fmaxf({a[1]}, {a[2]})" if form == "larger" else f"{a[0]} ? {a[1]} : {a[2]}"
    if op == "rcp":
        return f"reciprocal_seed({a[0]})"
    if op == "not":
        return f"{'!' if node.kind == 'mask' else '~'}{a[0]}"
    if op == "neg" and node.kind == "float":
        return f"-{a[0]}"
    if op in _IN_C:
        return f"{a[0]} {_IN_C[op]} {a[1]}"
    if node.kind == "int" and op in ("add", "sub", "mul", "neg", "shl", "shr"):
        whole, wrap = INT_NAMES[width], _UNSIGNED[width]
        if op == "neg":
            return f"({whole})(0 - ({wrap}){a[0]})"
        if op == "shr":
            return f"{a[0]} >> {a[1]}"
        sign = {"add": "+", "sub": "-", "mul": "*", "shl": "<<"}[op]
        return f"({whole})(({wrap}){a[0]} {sign} ({wrap}){a[1]})"
    if form is not None:
        if op == "sqrt":
            return f"sqrt_in_range({a[0]})"
        if a[0] == literal("float", 32, 127 << 23):
            return f"reciprocal_in_range({a[1]})"
        return f"divide_{form}({a[0]}, {a[1]})"
    return f"{ROUNDED[op, width]}({', '.join(a)})"


def _grouped(graph: Graph, numbers: Sequence[int]) -> dict[int, list[int]]:
    """Lookups to be read in one, two or four of them, by the number of the first.

    They have the same index. Pairs of 16 entries lie in every bank of shared memory once; of 32 entries, two threads
    meet at a bank only if their indices are 16 apart, and among four tables 8 apart, a quarter of a warp at a time.
    """
    same: dict[tuple[str, tuple[int, ...], int], list[int]] = {}
    for k in numbers:
        node = graph.nodes[k]
        if node.width == 32 and (node.op == "entry" or (node.op == "lookup" and 2 <= len(node.value) <= 32)):
            same.setdefault((node.op, node.operands, len(node.value)), []).append(k)
    found: dict[int, list[int]] = {}
    for lookups in same.values():
        start = 0
        while len(lookups) - start > 1:
            group = lookups[start : start + (4 if len(lookups) - start > 3 else 2)]
            found[group[0]] = group
            start += len(group)
    return found


def _shared(graph: Graph, groups: Mapping[int, Sequence[int]]) -> dict[int, tuple[tuple[int, ...], int]]:
    """Lookups, or the first ones of groups, whose index others have that are read in other numbers; and that index."""
    sizes: dict[tuple[tuple[int, ...], int], dict[int, int]] = {}
    others = {k for group in groups.values() for k in group[1:]}
    for k in graph.used():
        node = graph.nodes[k]
        if node.op == "lookup" and node.width == 32 and k not in others:
            sizes.setdefault((node.operands, len(node.value)), {})[k] = len(groups.get(k, (k,)))
    return {k: key for key, of in sizes.items() if len({*of.values()}) > 1 for k in of}


def device_function(name: str, graph: Graph, tables: Tables, cheap: Mapping[int, str] | None = None) -> str:
    """A C function of a graph: the inputs by value, the outputs through references, first the shared tables.

    It returns the mask of a graph without what is rare. `cheap` has the divisions and square roots that may have a
    cheap form (`fastact.cuda.ranges`), and the selects of the "larger" one of two float32.
    """
    cheap = cheap or {}
    real = FLOAT_NAMES[tables.width]
    names: dict[int, str] = {}
    lines: list[str] = []
    parameters = {}
    rare: dict[Graph, list[str]] = {}
    before = ""
    groups = _grouped(graph, graph.used())
    shared = _shared(graph, groups)
    bytes_of_four: dict[tuple[tuple[int, ...], int], str] = {}

    def at_bytes(number: int, index: str, size: int, place: int) -> str:
        """The address of an entry of `size` floats, of those from `place` on."""
        own = bytes_of_four.get(shared[number])
        if own is None:
            own = bytes_of_four[shared[number]] = f"at{number}"
            lines.append(f"  const unsigned {own} = bytes_of_four({index}, {shared[number][1] - 1});")
        return f"((const char *)table + {4 * size * place} + ({own} >> {2 - size // 2}))"

    for number in graph.used():
        node = graph.nodes[number]
        if number in names:  # not the first of a group
            continue
        if node.op == "const":
            names[number] = literal(node.kind, node.width, node.value)
            continue
        if node.op == "input":
            names[number] = f"x{node.value}"
            parameters[node.value] = f"{_c_type(node)} x{node.value}"
            continue
        operands = [names[k] for k in node.operands]
        if node.op == "rarely":
            inside, k = node.value
            if inside not in rare:
                helper = f"{name}_rare{len(rare)}"
                before += _called(helper, inside, tables)
                results = rare[inside] = [f"{helper}_{j}" for j in range(len(inside.outputs))]
                mask, given, otherwise = operands[0], operands[1 : -len(results)], operands[-len(results) :]
                starts = ", ".join(f"{a} = {b}" for a, b in zip(results, otherwise, strict=True))
                taken = " ".join(f"{a} = found.y{j};" for j, a in enumerate(results))
                call = f"const {helper}_results found = {helper}({', '.join(['table', *given])});"
                lines += [f"  {real} {starts};", f"  if ({mask}) {{ {call} {taken} }}"]
            names[number] = rare[inside][k]
            continue
        names[number] = f"v{number}"
        if number in groups:
            group = groups[number]
            place = tables.group_offset(tuple(graph.nodes[k].value for k in group))
            kind = f"const float{len(group)}"
            if number in shared:
                entry = f"*({kind} *){at_bytes(number, operands[0], len(group), place)}"
            else:
                own = operands[0] if node.op == "entry" else f"({operands[0]} & {len(node.value) - 1})"
                entry = f"(({kind} *)table)[{place} + {own}]"
            lines.append(f"  {kind} v{number}_all = {entry};")
            names.update((k, f"v{number}_all.{part}") for k, part in zip(group, "xyzw", strict=False))
            continue
        if number in shared:
            expression = f"*(const float *){at_bytes(number, operands[0], 1, tables.offset(node.value))}"
        else:
            expression = _expression(node, operands, tables, cheap.get(number))
        lines.append(f"  const {_c_type(node)} v{number} = {expression};")
    inputs = [n for n in graph.nodes if n.op == "input"]
    for node in inputs:
        parameters.setdefault(node.value, f"{_c_type(node)} x{node.value}")
    outputs = [f"{real} &y{k}" for k in range(len(graph.outputs))]
    declared = ", ".join([f"const {real} *table", *(parameters[k] for k in sorted(parameters)), *outputs])
    # an output may be the variable of an input, so all are written at the end
    lines += [f"  y{k} = {names[number]};" for k, number in enumerate(graph.outputs)]
    kind = "void"
    if graph.rare is not None:
        kind = "bool"
        lines.append(f"  return {names[graph.rare.number]};")
    return f"{before}static __device__ __forceinline__ {kind} {name}({declared}) {{\n" + "\n".join(lines) + "\n}\n"


def _called(name: str, graph: Graph, tables: Tables) -> str:
    """A C function of a graph that is not inlined; it returns its results, which references would send to the stack."""
    real, outputs = FLOAT_NAMES[tables.width], range(len(graph.outputs))
    inputs = {n.value: _c_type(n) for n in graph.nodes if n.op == "input"}
    taken = [f"const {real} *table", *(f"{inputs[k]} x{k}" for k in sorted(inputs))]
    given = ["table", *(f"x{k}" for k in sorted(inputs)), *(f"found.y{k}" for k in outputs)]
    return (
        device_function(f"{name}_inside", graph, tables)
        + f"struct {name}_results {{ {real} {', '.join(f'y{k}' for k in outputs)}; }};\n"
        + f"static __device__ __noinline__ {name}_results {name}({', '.join(taken)}) {{\n"
        + f"  {name}_results found;\n  {name}_inside({', '.join(given)});\n  return found;\n}}\n"
    )


def _c_type(node: Node) -> str:
    return {"float": FLOAT_NAMES[node.width], "int": INT_NAMES[node.width], "mask": "bool"}[node.kind]
