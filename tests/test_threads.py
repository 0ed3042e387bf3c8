"""Threads: only where they pay, the same bits, and no way to crash the process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastact as fa
from fastact.cpu.threads import pool

from .functions import SHAPES, arrays, call, same_bits, sample

LARGE = 1_000_003


def run(code: str, **environment: str) -> str:
    """Run code in a fresh process; any crash or error fails the test."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("stride", [1, -3])
def test_the_same_bits_for_any_number_of_threads(name: str, stride: int) -> None:
    x = sample(LARGE * abs(stride))[::stride]
    with fa.threads(1):
        alone = call(name, *[x] * arrays(name))
    for n in (2, 3, 7):
        with fa.threads(n):
            assert same_bits(call(name, *[x] * arrays(name)), alone)


@pytest.mark.parametrize("function", ["softmax", "log_softmax", "logsumexp"])
def test_rows_have_the_same_bits_for_any_number_of_threads(function: str) -> None:
    x = sample(LARGE)[:1_000_000].reshape(1000, 1000)
    with fa.threads(1):
        alone = getattr(fa, function)(x)
    with fa.threads(3):
        assert same_bits(getattr(fa, function)(x), alone)


def test_every_element_is_done_once_whatever_becomes_of_the_chunks() -> None:
    """More threads than ranges of chunks, fewer chunks than threads; forwards and backwards; and once is enough."""
    code = """
        import numpy as np, fastact as fa
        from fastact.cpu.threads import pool
        from fastact.cpu.layout import RANGES
        for threads, n in (RANGES + 16, 2_000_000), (RANGES + 16, 300_000), (5, 1_000_003), (2, 500_000):
            fa.set_num_threads(threads)
            directions = set()
            for _ in range(4):
                x = -np.arange(1, n + 1, dtype=np.float32)
                fa.leaky_relu(x, 2.0, out=x)  # an element done twice is four times what it was
                assert (x == -2.0 * np.arange(1, n + 1)).all(), (threads, n)
                directions.add(pool.backwards)
            assert directions == {0, 1}, directions
            assert pool.ranges == min(threads, RANGES, -(-n // 8192)), (threads, n, pool.ranges)
    """
    run(code)


def test_setting_and_asking() -> None:
    before = fa.get_num_threads()
    try:
        fa.set_num_threads(3)
        assert fa.get_num_threads() == 3
        with fa.threads(1):
            assert fa.get_num_threads() == 1
            with fa.threads(5):
                assert fa.get_num_threads() == 5
            assert fa.get_num_threads() == 1
            with ThreadPoolExecutor(1) as other:
                assert other.submit(fa.get_num_threads).result() == 3
        assert fa.get_num_threads() == 3
    finally:
        fa.set_num_threads(before)
    with pytest.raises(ZeroDivisionError), fa.threads(2):
        raise ZeroDivisionError
    assert fa.get_num_threads() == before
    assert pool.overrides == 0


def test_more_threads_than_there_are_slots() -> None:
    inside, leave = threading.Barrier(65), threading.Event()

    def hold() -> None:
        with fa.threads(1):
            inside.wait()
            leave.wait()

    holders = [threading.Thread(target=hold) for _ in range(64)]
    for holder in holders:
        holder.start()
    inside.wait()
    try:
        with pytest.raises(RuntimeError, match="more than 64 threads"), fa.threads(1):
            pass
    finally:
        leave.set()
        for holder in holders:
            holder.join()
    with fa.threads(1):
        assert fa.get_num_threads() == 1


def test_no_thread_starts_before_it_is_needed() -> None:
    code = """
        import threading, numpy as np, fastact as fa
        fa.set_num_threads(4)
        fa.relu(np.zeros(10_000, np.float32))
        print(threading.active_count())
        fa.relu(np.zeros(4_000_000, np.float32))
        print(threading.active_count())
        with fa.threads(1):
            fa.relu(np.zeros(4_000_000, np.float32))
    """
    assert run(code).split() == ["1", "4"]


LAYERS = pytest.mark.parametrize("layer", ["omp", "workqueue"])

# Two threads, an expected result, and Numba's own pool, which has started.
SETUP = """
import os, numpy as np, numba, fastact as fa
fa.set_num_threads(2)
x = np.random.default_rng(0).normal(size=4_000_000).astype(np.float32)
expected = fa.hard_swish(x)

@numba.njit(parallel=True)
def total(x):
    s = 0.0
    for i in numba.prange(x.size):
        s += x[i]
    return s
total(x)
"""


@LAYERS
def test_eight_threads_at_once(layer: str) -> None:
    code = SETUP + textwrap.dedent("""
        from concurrent.futures import ThreadPoolExecutor

        # Numba's own pool is at work at the same time, from one thread, as its workqueue layer demands.
        def work(k):
            if k == 0:
                for _ in range(20):
                    total(x)
                return True
            return all(np.array_equal(fa.hard_swish(x), expected) for _ in range(5))

        with ThreadPoolExecutor(9) as pool:
            print(all(pool.map(work, range(9))))
    """)
    assert run(code, NUMBA_THREADING_LAYER=layer).split() == ["True"]


CHECK_CHILD = (
    SETUP
    + """
def check():
    assert fa.get_num_threads() == 1
    assert np.array_equal(fa.hard_swish(x), expected)  # compiled in the parent
    assert np.array_equal(fa.relu6(x), np.clip(x, 0, 6))  # not yet
    fa.set_num_threads(2)  # asked for, the child gets threads of its own
    assert np.array_equal(fa.hard_swish(x), expected)
"""
)


@LAYERS
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
def test_a_child_of_fork(layer: str) -> None:
    code = CHECK_CHILD + textwrap.dedent("""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        for _ in range(5):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    check()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
            assert np.array_equal(fa.hard_swish(x), expected)
            assert fa.get_num_threads() == 2
        print("fine")
    """)
    assert run(code, NUMBA_THREADING_LAYER=layer).split() == ["fine"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
def test_forking_while_other_threads_are_inside() -> None:
    code = SETUP + textwrap.dedent("""
        import threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                fa.hard_swish(x)
        others = [threading.Thread(target=busy) for _ in range(3)]
        for t in others:
            t.start()
        for _ in range(10):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    assert np.array_equal(fa.hard_swish(x), expected)
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for t in others:
            t.join()
        print("fine")
    """)
    assert run(code).split() == ["fine"]


FORK = pytest.param("fork", marks=pytest.mark.skipif(sys.platform != "linux", reason="fork is safe on Linux only"))


@pytest.mark.parametrize("method", [FORK, "spawn"])
def test_multiprocessing(method: str) -> None:
    code = f"""
        import multiprocessing, warnings, numpy as np, fastact as fa
        if __name__ == "__main__":
            warnings.simplefilter("ignore", DeprecationWarning)
            x = np.ones(1_000_000, np.float32)
            fa.relu(x)
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                print(sum(float(r.sum()) for r in pool.map(fa.relu, [x] * 4)))
    """
    assert run(code).split() == ["4000000.0"]


def test_a_warm_pool_survives_the_end_of_the_process() -> None:
    code = """
        import atexit, numpy as np, fastact as fa
        fa.set_num_threads(4)
        x = np.ones(2_000_000, np.float32)
        fa.relu(x)
        atexit.register(lambda: print(float(fa.relu(x).sum())))
    """
    assert run(code).split() == ["2000000.0"]


def test_a_function_is_one_object_whoever_asks_first() -> None:
    code = """
        import sys, threading, fastact as fa
        sys.setswitchinterval(1e-6)
        names, ready, found = sorted(set(fa.__all__) - {"CATALOGUE"}), threading.Barrier(6), [[] for _ in range(6)]
        def ask(mine):
            for name in names:
                ready.wait()
                mine.append(getattr(fa, name))
        threads = [threading.Thread(target=ask, args=(mine,)) for mine in found]
        for t in threads: t.start()
        for t in threads: t.join()
        print(all(mine[k] is found[0][k] for mine in found for k in range(len(names))), fa.expit is fa.sigmoid)
    """
    assert run(code).split() == ["True", "True"]


def test_the_floating_point_state_is_the_callers() -> None:
    """Flags raised on the way are not reported, and flags the caller had are not lost."""
    x: Any = np.float32([1e-40, 3e38, -3e38, np.inf, np.nan])
    with np.errstate(all="raise"):
        for n in (5, 500_000):
            fa.hard_swish(np.resize(x, n))
            fa.hard_swish_derivative(np.resize(x, n))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
        ({"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "4"}, 4),
        ({"NUMBA_NUM_THREADS": "4", "FASTACT_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "dynamic"}, None),
        ({}, None),
    ],
)
def test_the_number_of_threads_at_the_start(environment: dict[str, str], expected: int | None) -> None:
    names = ("FASTACT_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
    code = (
        "import fastact as fa; from fastact.cpu import threads; print(fa.get_num_threads(), threads.available_cpus())"
    )
    chosen, available = map(int, run(code, **{**dict.fromkeys(names, ""), **environment}).split())
    assert chosen == (expected or available)


def test_processes_of_joblib_share_the_cpus() -> None:
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_backend("loky", inner_max_num_threads=1):
        used = joblib.Parallel(n_jobs=2)(joblib.delayed(_threads_used)() for _ in range(4))
    assert used == [1] * 4


def _threads_used() -> int:
    return fa.get_num_threads()


def test_calls_that_follow_each_other_wake_workers() -> None:
    """One alone of that size would not; and whoever is awake takes part, call after call."""
    code = """
        import numpy as np, fastact as fa
        from fastact.cpu.threads import pool
        fa.set_num_threads(4)
        x = np.linspace(-20.0, 20.0, 1 << 16, dtype=np.float32)
        expected = fa.gelu(x[: 1 << 14]), fa.gelu(x[1 << 14 :][: 1 << 14])
        print(pool.started, pool.alone)
        for k in range(3000):
            y = fa.gelu(x)
            assert (y[: 1 << 14] == expected[0]).all() and (y[1 << 14 : 1 << 15] == expected[1]).all()
        rows = x.reshape(64, 1024)
        with fa.threads(1):
            alone = fa.softmax(rows), fa.softmax(rows, axis=0)
        for k in range(1000):
            assert (fa.softmax(rows) == alone[0]).all() and (fa.softmax(rows, axis=0) == alone[1]).all()
        print(pool.started, pool.callers)
    """
    assert run(code).split() == ["0", "0", "3", "0"]


def test_callers_at_once_do_not_share_their_work() -> None:
    """With as many callers as CPUs the workers sleep: what they would do, the callers do already."""
    code = """
        import os, threading, time, numpy as np, fastact as fa
        from fastact.cpu.threads import pool
        fa.set_num_threads(2)
        x = np.ones(4_000_000, np.float32)
        fa.gelu(x)
        worker = next(t for t in threading.enumerate() if t.name.startswith("fastact"))
        def seconds():
            return sum(map(int, open(f"/proc/self/task/{worker.native_id}/stat").read().rsplit(")")[1].split()[11:13]))
        ready = threading.Barrier(3)
        def calls():
            out = np.empty_like(x)
            ready.wait()
            for _ in range(60):
                fa.gelu(x, out=out)
        callers = [threading.Thread(target=calls) for _ in range(3)]
        before, start = seconds(), time.process_time()
        for c in callers: c.start()
        for c in callers: c.join()
        print((seconds() - before) / os.sysconf("SC_CLK_TCK") / (time.process_time() - start), pool.callers)
    """
    if sys.platform != "linux":
        pytest.skip("the time of a thread is read from /proc")
    share, left = map(float, run(code).split())
    assert share < 0.2
    assert left == 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_workers_keep_off_the_callers_cpu() -> None:
    """Woken there they would take turns with the caller: guests of KVM do so after a pause."""
    code = """
        import os, numpy as np, fastact as fa
        from fastact.cpu.threads import pool
        x, allowed = np.zeros(4_000_000, np.float32), os.sched_getaffinity(0)
        def off():
            fa.gelu(x)
            workers = [pool.steered[2 * k] for k in range(pool.started)]
            kept_off = {pool.steered[2 * k + 1] - 1 for k in range(pool.started)}
            assert len(kept_off) == 1, kept_off
            return workers, kept_off
        fa.set_num_threads(3)
        workers, cpu = off()
        assert len(workers) == 2 and cpu < allowed
        assert all(os.sched_getaffinity(w) == allowed - cpu for w in workers)
        one = max(allowed - cpu)
        os.sched_setaffinity(0, {one})  # nowhere else to go: the workers stay as they are
        assert off()[1] == cpu
        assert all(os.sched_getaffinity(w) == allowed - cpu for w in workers)
        os.sched_setaffinity(0, {one, *cpu})  # either of two
        (kept_off,) = off()[1]
        assert all(kept_off not in os.sched_getaffinity(w) for w in workers)
    """
    run(code, FASTACT_NUM_THREADS="1")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") and sys.platform != "win32", reason="CPUs cannot be chosen")
def test_no_more_threads_than_cpus_to_run_on() -> None:
    code = """
        import ctypes, os, sys
        if sys.platform == "win32":
            assert ctypes.WinDLL("kernel32").SetProcessAffinityMask(ctypes.c_void_p(-1), ctypes.c_size_t(1))
        else:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import fastact
        print(fastact.get_num_threads())
    """
    assert run(code, FASTACT_NUM_THREADS="", NUMBA_NUM_THREADS="", OMP_NUM_THREADS="").strip() == "1"
