"""What the scripts beside this one derived when they last ran in full, which `agrees` holds against the kernels.

A full run takes minutes, so what it gave is kept in ``kept.json``, as digests of the kernels' constants. After a change
``python tools/polynomials/kept.py NAME.py ...`` runs these scripts in full (all, if none is named), compares every
number that they print with those of the kernels, and keeps the digests; it exits 1 if a number is in no kernel.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FILE = HERE / "kept.json"
sys.path.insert(0, str(ROOT))

import fastact.api  # noqa: E402, F401 - the families are imported through it

# script: the modules of fastact.kernels that hold what it derives
MODULES = {
    **{f"{name}.py": (name,) for name in ("erf64", "exp64", "gelu32", "gelu_tanh32", "log64", "mish_slope64")},
    **{f"{name}.py": (name,) for name in ("parameter_slopes32", "row_sums", "scaled", "silu_slope32", "softplus32")},
    **{f"{name}.py": (name,) for name in ("tanh32", "triples", "weighted")},
    "exp32.py": ("exp32", "log_softmax_vjp"),
    "expm1_32.py": ("exponential", "celu_series", "selu32"),
}
NUMBER = re.compile(r"-?\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b")


def numbers(value: Any) -> list[float]:
    """The floats in a tuple or dictionary, however deep."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, float) else []


def constants(script: str) -> dict[str, list[float]]:
    """The constants of the modules that hold what a script derives, by module and name."""
    found = {}
    for module in MODULES[script]:
        source = (ROOT / "fastact" / "kernels" / f"{module}.py").read_text("utf-8")
        for name, value in vars(importlib.import_module(f"fastact.kernels.{module}")).items():
            if numbers(value) and re.search(rf"(?m)^(\w+, )*{name}\b.* = ", source):
                found[f"{module}.{name}"] = numbers(value)
    return found


def digest(values: list[float]) -> str:
    return hashlib.sha256(struct.pack(f"<{len(values)}d", *values)).hexdigest()[:16]


def agrees(file: str) -> bool:
    """Whether a script's kernels have what it derived when it last ran in full, and no table that it did not."""
    script = Path(file).name
    kept, found = json.loads(FILE.read_text("utf-8"))[script], constants(script)
    wrong = [name for name, value in kept.items() if name not in found or digest(found[name]) != value]
    wrong += [name for name, values in found.items() if len(values) > 2 and name not in kept]
    if wrong:
        print(f"not what {script} derived: {', '.join(wrong)}; run python tools/polynomials/kept.py {script}")
    return not wrong


def keep(script: str, printed: str) -> list[float]:
    """Keep the digests of the constants that a full run printed, and of all tables; or the numbers in no kernel."""
    # lines of comments and triples.py's bits are figures, not constants
    text = re.sub(r"#.*|error 2\^.*|^\{.*\}$", "", printed, flags=re.MULTILINE)
    derived = {abs(float(number)) for number in NUMBER.findall(text) if not number.lstrip("-").isdigit()}
    every = {abs(v) for name in MODULES for values in constants(name).values() for v in values}
    if missing := sorted(derived - every):
        return missing
    kept = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    found = constants(script).items()
    kept[script] = {n: digest(v) for n, v in found if len(v) > 2 or all(abs(value) in derived for value in v)}
    FILE.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n", "utf-8")
    return missing


def main() -> int:
    """Run scripts in full."""
    bad = 0
    for script in sys.argv[1:] or MODULES:
        done = subprocess.run([sys.executable, str(HERE / script)], capture_output=True, text=True, check=False)
        missing = keep(script, done.stdout) if done.returncode == 0 else []
        bad += done.returncode != 0 or bool(missing)
        print(script, done.stderr or (f"numbers in no kernel: {missing}" if missing else "agrees"), flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
