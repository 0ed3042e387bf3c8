"""Write ``tests/bits.json``: the digest of every function's results over fixed inputs, for any machine to check itself.

``python tools/bits.py mish swish`` computes anew what belongs to these functions, when their results were meant to
change or when they are new; without a name it is everything, which takes minutes. ``--check`` writes nothing and exits
1 where this machine's results differ from the file; with ``--dtype`` only those of some dtypes are looked at, with
``--except`` not those of some functions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fastact.accuracy.bits import belongs_to, bit_digest, subjects
from fastact.activation import Unfinished
from fastact.command_options import add_dtype

FILE = Path(__file__).parents[1] / "tests" / "bits.json"
DTYPES = ("float32", "float64", "float16", "bfloat16")


def title(name: str, parameters: tuple[float, ...]) -> str:
    """``swish_vjp(0.5)``, or ``silu`` where there is no parameter, or where the defaults are used."""
    return name + (f"({', '.join(f'{p:g}' for p in parameters)})" if parameters else "")


def digests(dtypes: Sequence[str], names: list[str], left_out: set[str]) -> dict[str, dict[str, str]]:
    """dtype -> function -> digest, on this machine."""
    chosen = [
        (name, parameters)
        for name, parameters in subjects()
        if name not in left_out and (not names or any(belongs_to(name, n) for n in names))
    ]
    if not chosen:
        raise SystemExit(f"no function has a name like {', '.join(names)}")
    return {dtype: {title(n, p): bit_digest(n, p, dtype) for n, p in chosen} for dtype in dtypes}


def main() -> int:
    """Write the file or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="functions, with their derivatives (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a result differs")
    add_dtype(parser, DTYPES, DTYPES)
    parser.add_argument("--except", dest="left_out", metavar="A,B", help="with --check: functions not looked at")
    args = parser.parse_args()
    if args.left_out and not args.check:
        parser.error("--except goes with --check")
    stored = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    found = digests(args.dtype, args.names, set((args.left_out or "").split(",")))
    if args.check:
        different = [
            f"{function} {dtype}"
            for dtype, table in found.items()
            for function, digest in table.items()
            if stored.get(dtype, {}).get(function) != digest
        ]
        print("\n".join(different), file=sys.stderr)
        return 1 if different else 0
    order = {title(name, parameters): place for place, (name, parameters) in enumerate(subjects())}
    for dtype, table in found.items():
        every = {**stored.get(dtype, {}), **table} if args.names else table
        stored[dtype] = dict(sorted(every.items(), key=lambda pair: order.get(pair[0], len(order))))
    FILE.write_text(json.dumps(stored, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Unfinished as error:
        sys.exit(f"tools/bits.py: {error}")
