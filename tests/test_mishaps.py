"""What happens to a process at a bad moment: a signal, a fork, no memory, no home; and errors raised in threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.compiler_lock import global_compiler_lock

import fastact as fa
from fastact.cpu import cache, driver, locks, machine
from fastact.cpu.target import FastactGUFunc

SIGNALS = """
import signal, numpy as np, fastact as fa
from fastact.api import elementwise_forms
class TimeUp(Exception): pass
def handler(*args): raise TimeUp
signal.signal(signal.SIGALRM, handler)
"""


def python(code: str, **environment: str) -> str:
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no SIGALRM")
def test_a_signal_during_the_first_call_of_a_function() -> None:
    """Its handler runs when the function that finds the compiled code begins, where an error is easily lost."""
    code = """
x, caught = np.ones(4, np.float32), 0
names = [name for name in elementwise_forms() if name.startswith("relu")]
for name in names:
    f = getattr(fa, name)
    try:
        signal.setitimer(signal.ITIMER_REAL, DELAY); f(*[x] * f.nin)
        for _ in range(100000): pass
    except TimeUp: caught += 1
print(caught == len(names))
"""
    python(SIGNALS + code.replace("DELAY", "0"))  # which compiles them: Numba is not to be interrupted
    for delay in ("1e-6", "1e-5", "3e-5", "1e-4"):
        assert python(SIGNALS + "fa.tanh(np.ones(1))\n" + code.replace("DELAY", delay)) == "True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no SIGALRM")
@pytest.mark.parametrize(
    "call", ["fa.relu(x, out=y)", "fa.relu(x, out=y, where=True)", "fa.relu(x[:, ::2])", "fa.softmax(x, axis=0)"]
)
def test_a_signal_while_threads_are_started(call: str) -> None:
    """Which Python code does, in the middle of the first call that is large enough for them."""
    code = """
x = np.ones((3, 1_000_000), np.float32)
y, caught = np.empty_like(x), False
with fa.threads(1): CALL
fa.set_num_threads(8)
try:
    signal.setitimer(signal.ITIMER_REAL, DELAY); CALL
    for _ in range(1000000): pass
except (TimeUp, KeyError, RuntimeError): caught = True  # threading.Thread.start() may make one of these of it
CALL
print(caught)
"""
    for delay in ("3e-5", "1e-4", "3e-4", "5e-4"):
        assert python(SIGNALS + code.replace("CALL", call).replace("DELAY", delay)) == "True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no SIGALRM")
def test_a_signal_while_a_thread_says_how_many_threads_it_wants() -> None:
    """Wherever its handler raises an error, the number is as it was; and the handler may ask for a number itself."""
    code = """
from fastact.cpu.threads import pool
before, signals = fa.get_num_threads(), 0
def asks(*args):
    with fa.threads(3): assert fa.get_num_threads() == 3
    raise TimeUp
fa.threads
for each in handler, asks:
    signal.signal(signal.SIGALRM, each)
    for turn in range(20_000):
        try:
            signal.setitimer(signal.ITIMER_REAL, 2e-5 + turn % 97 * 5e-7)
            for _ in range(100_000):  # not for ever: Python itself may lose the error, in an object that is taken down
                with fa.threads(7): pass
        except TimeUp: signals += 1
        assert pool.overrides == 0 and fa.get_num_threads() == before
assert signals > 0
"""
    python(SIGNALS + "import faulthandler; faulthandler.dump_traceback_later(60, exit=True)\n" + code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no SIGALRM")
def test_a_signal_while_numpy_converts_what_the_first_call_gets() -> None:
    found = python(
        SIGNALS
        + """
fa.logsumexp(np.ones((2, 2), np.float32))
x = np.ones((40, 2_000_000), np.int32)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try: print(fa.softmax(x))
except TimeUp: print("raised")
"""
    )
    assert found == "raised"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_while_another_thread_compiles(with_driver: Path) -> None:
    code = """
import os, threading, time, numpy as np, fastact as fa
x = np.ones(7, np.float32)
fa.relu(x)
threading.Thread(target=lambda: [getattr(fa, name)(x) for name in ("gelu", "mish", "tanh")], daemon=True).start()
time.sleep(0.5)
child = os.fork()
if child == 0:
    fa.silu(x)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert python(code, FASTACT_CACHE_DIR=str(with_driver)) == "7"


def test_a_function_is_named_while_numba_compiles_and_another_thread_does(tmp_path: Path) -> None:
    """Numba asks for it while it holds its own lock: nobody may wait for that one with this package's lock in hand."""
    code = """
import faulthandler, threading
faulthandler.dump_traceback_later(180, exit=True)  # a deadlock
import numba, numpy as np, fastact as fa
from fastact.cpu import cache
compiling, reading = threading.Event(), threading.Event()

def half(x): return x / 2

@numba.extending.overload(half)
def typed(x):
    compiling.set()
    reading.wait()
    value = fa.mish(np.ones(1))[0] / 2
    return lambda x: value * x

def read(file, usual=cache._read):
    if threading.current_thread() is first:
        compiling.wait()
        reading.set()
    return usual(file)

cache._read = read
first = threading.Thread(target=lambda: fa.relu(np.ones(3)))
first.start()
found = numba.njit(lambda x: half(x))(1.0)
first.join()
print(found == fa.mish(1.0) / 2)
"""
    assert python(code, FASTACT_CACHE_DIR=str(tmp_path)) == "True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_while_another_thread_compiles_with_numba(with_driver: Path) -> None:
    """Numba's lock is free in the child, whoever had it."""
    code = """
import os, signal, threading
import numba, numpy as np, fastact as fa
x, inside = np.ones(7, np.float32), threading.Event()
fa.relu(x)

def one(x): return x

@numba.extending.overload(one)
def typed(x):
    inside.set()
    return lambda x: x

def compiles():
    for k in range(20): numba.njit(lambda x: one(x) + k)(1.0)

other = threading.Thread(target=compiles)
other.start()
inside.wait()
child = os.fork()
if child == 0:
    signal.alarm(120)  # which ends it
    fa.silu(x)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
other.join()
"""
    assert python(code, FASTACT_CACHE_DIR=str(with_driver)) == "7"


def test_a_gufunc_is_made_while_another_thread_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who compiles a loop holds this package's lock and wants Numba's: nobody may wait the other way round."""
    holding, building, free = threading.Event(), threading.Event(), []

    def compiles() -> None:
        with locks.compiling:
            holding.set()
            building.wait()
            if global_compiler_lock._lock.acquire(timeout=5):
                global_compiler_lock._lock.release()
                free.append(True)

    def build(self: Any, cres: Any) -> Any:
        building.set()
        return usual(self, cres)

    usual = FastactGUFunc.build
    monkeypatch.setattr(FastactGUFunc, "build", build)
    other = threading.Thread(target=compiles)
    other.start()
    holding.wait()
    numba.guvectorize(["void(float64[:], float64[:])"], "(n)->(n)", target="fastact")(copy)
    other.join()
    assert free


def copy(x: Any, y: Any) -> None:
    y[:] = x


def test_every_error_for_an_empty_row_is_a_new_one() -> None:
    """One object for all would keep every frame that it was ever raised in."""
    errors = []
    for _ in range(2):
        with pytest.raises(ValueError, match="empty row") as raised:
            fa.softmax(np.empty((3, 0), np.float32))
        errors.append(raised.value)
    assert errors[0] is not errors[1]


@pytest.mark.parametrize("place", [0, 1_500_000, 1_999_999])
def test_a_formula_that_raises_in_any_thread(place: int) -> None:
    @numba.vectorize(["float64(float64)"], target="fastact")
    def positive(x: float) -> float:
        if x < 0:
            raise ValueError("negative")
        return x * 2

    x = np.ones(2_000_000)
    x[place] = -1
    with fa.threads(2):
        for _ in range(20):
            with pytest.raises(ValueError, match="negative"):
                positive(x)
    x[place] = 1
    assert (positive(x) == 2).all()


def test_rows_that_raise_in_any_thread() -> None:
    @numba.guvectorize(["void(float64[:], float64[:])"], "(n)->(n)", target="fastact")
    def positive(x: np.ndarray, y: np.ndarray) -> None:
        if x[0] < 0:
            raise ValueError("negative")
        y[:] = x

    x = np.ones((4000, 300))
    x[[0, 2000, 3999], 0] = -1
    with fa.threads(2):
        for _ in range(20):
            with pytest.raises(ValueError, match="negative"):
                positive(x)


def test_workers_do_not_wait_for_a_lock_that_their_caller_holds() -> None:
    """NumPy keeps Python's lock where it finds no work: here because no row of the result has an element."""
    code = """
import faulthandler, numba, numpy as np, fastact as fa
faulthandler.dump_traceback_later(60, exit=True)
fa.set_num_threads(2)
@numba.guvectorize(["void(float64[:,:], float64[:,:], float64[:,:])"], "(m,n),(n,p)->(m,p)", target="fastact")
def product(a, b, out):
    out[:] = 0
assert product(np.ones((30000, 9, 1)), np.ones((30000, 1, 0))).shape == (30000, 9, 0)
print("fine")
"""
    assert python(code) == "fine"


def test_a_formula_with_random_numbers_draws_them_for_each_element() -> None:
    @numba.vectorize(["float32(float32)"], target="fastact")
    def noisy(x: np.float32) -> np.float32:
        return x + np.random.normal()

    assert len(np.unique(noisy(np.zeros(100, np.float32)))) > 90


def test_numbers_beside_bfloat16_are_rounded_to_it() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = np.array([-2, 3], bfloat16)
    for found in (fa.leaky_relu(x, 0.2), fa.leaky_relu(x, negative_slope=0.2), fa.prelu(x, 0.2), fa.prelu_vjp(x, x, 2)):
        assert found.dtype == bfloat16
    assert np.array_equal(fa.prelu(x, 0.2), fa.prelu(x, bfloat16(0.2)))


def test_no_memory_is_an_error_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SPARE", 1 << 60)
    with pytest.raises(MemoryError):
        machine.load("nothing", b"")


@pytest.mark.skipif(sys.platform == "win32", reason="it has no HOME")
def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FASTACT_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cache.root() == Path(os.devnull) / "fastact"


def test_numba_may_be_told_not_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert hasattr(driver.jit(lambda x: x), "py_func")
    assert numba.config.DISABLE_JIT == 1


def test_numba_may_be_told_not_to_optimise(tmp_path: Path) -> None:
    """What is compiled is as good, and apart from what other processes read."""
    code = "import numpy as np, fastact as fa; print(fa.relu(np.float32([1, -2])))"
    assert python(code, NUMBA_OPT="0", FASTACT_CACHE_DIR=str(tmp_path)).strip() == "[1. 0.]"


@pytest.mark.parametrize("features", ["bogus", "+avx2, +fma"])
def test_features_that_llvm_would_end_the_process_for(features: str) -> None:
    code = """
import fastact as fa
try: fa.relu(1.0)
except ValueError as error: print(error)
"""
    said = python(code, NUMBA_CPU_FEATURES=features)
    assert said.startswith("NUMBA_CPU_FEATURES: each feature begins with + or -")
    assert said.strip().endswith(features.rpartition(",")[2].strip())


LATE = """
import sys, numpy as np, fastact as fa
class Late:
    def __init__(self, call): self.call = call
    def __del__(self): self.call()
"""


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "softmax"])
def test_a_function_outlives_its_modules(name: str) -> None:
    """NumPy and compiled code hold no references: what they point at is not to go with the modules."""
    held = f"f, x = fa.{name}, np.ones(10, np.float32); first = f(x)"
    python(f"{LATE}{held}\nsys.keep = Late(lambda f=f, x=x: f(x))")  # which goes after all modules
    code = """
import gc
for module in [m for m in sys.modules if m.split(".")[0] == "fastact"]: del sys.modules[module]
del fa
gc.collect()
junk = [bytearray(500) for _ in range(20000)]
print(np.array_equal(f(x), first), np.allclose(f(x.astype(np.float64)), first))
"""
    assert python(f"{LATE}{held}\n{code}") == "True True"


def test_a_large_call_while_the_interpreter_ends() -> None:
    """No thread can be started any more, and to wait for one would be for ever."""
    python(LATE + "fa.set_num_threads(2)\nlate = Late(lambda f=fa.relu, x=np.ones(3_000_000, np.float32): f(x))")


def test_workers_have_a_stack_of_their_own_size() -> None:
    code = """
import threading
threading.stack_size(65536)
fa.set_num_threads(4)
x = np.ones((1000, 1000), np.float32)
for f in (fa.silu, fa.softmax, fa.sparsemax): f(x), f(x.T)
print(threading.stack_size(), threading.active_count())
"""
    assert python(LATE + code) == "65536 4"


def test_unknown_names_wait_for_no_lock() -> None:
    """Numba asks for some while it holds a lock of its own, which whoever compiles is to get."""
    done = threading.Event()

    def ask() -> None:
        assert not hasattr(fa, "no_such_function")
        done.set()

    with locks.compiling:
        threading.Thread(target=ask, daemon=True).start()
        assert done.wait(60)


def test_targets_that_change_during_a_call() -> None:
    """They have been looked at by then: whatever they are, no memory but that of the logits is read."""
    code = """
import os, threading
x, t = np.zeros((200_000, 10), np.float32), np.zeros(200_000, np.int64)
def change():
    while True: t[:] = 1 << 40; t[:] = 0
threading.Thread(target=change, daemon=True).start()
for _ in range(500):
    try: fa.cross_entropy_with_logits(x, t)
    except IndexError: pass
os._exit(0)
"""
    python(LATE + code)
