"""float16 and bfloat16 are converted by instructions where there are some: the same bits with and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .functions import X86, as_cpu

# every number of 16 bits, signalling NaNs included, through kernels that pass values on and kernels that compute
DIGESTS = """
import hashlib, json, sys, warnings
import numpy as np
sys.path.insert(0, {root!r})
import fastact as fa
warnings.simplefilter("ignore")
dtypes = [np.dtype(np.float16)]
try:
    import ml_dtypes
    dtypes.append(np.dtype(ml_dtypes.bfloat16))
except ImportError:
    pass
found = {{}}
for dtype in dtypes:
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    for name in ("relu", "binary_step", "leaky_relu", "tanh", "gelu", "sigmoid_derivative"):
        for view in (x, x[:-3], x[::2]):
            digest = hashlib.sha256(getattr(fa, name)(view).tobytes()).hexdigest()
            found[f"{{name}} {{dtype}} {{view.size}}"] = digest
found["softmax"] = hashlib.sha256(fa.softmax(x[:25600].reshape(256, 100).view(np.float16)).tobytes()).hexdigest()
print(json.dumps(found))
"""


def digests(**environment: str) -> dict[str, str]:
    code = DIGESTS.format(root=str(Path(__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("level", X86)
def test_with_and_without_the_instructions(level: str) -> None:
    assert digests(**as_cpu(level)) == digests()
