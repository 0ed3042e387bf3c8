"""What is measured: one definition for asv, the pytest benchmarks and ``fastact bench``.

It lives in the package, because ``fastact bench`` has to work where only the package is installed.
"""

from fastact.bench.arrays import BARS_OF_ROWS, LAYOUTS, Setting, parse_shape
from fastact.bench.cases import DTYPES, FORMS, LIBRARIES, functions, prepare, prepare_on

__all__ = [
    "BARS_OF_ROWS",
    "DTYPES",
    "FORMS",
    "IN_CACHE",
    "LAYOUTS",
    "LIBRARIES",
    "REPRESENTATIVES",
    "Setting",
    "functions",
    "parse_shape",
    "prepare",
    "prepare_on",
]

IN_CACHE = 65_536
"""Elements that fit in the second-level cache with their result."""

REPRESENTATIVES = ("relu", "sigmoid", "gelu", "mish")
"""Bound by memory, by a division, by a long polynomial, by nearly everything."""
