"""Compiled code on disk: found again, never stale, never half written, never needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fastact

PACKAGE = Path(fastact.__file__).parent
CALL = "import numpy as np, fastact as fa; print(fa.relu(np.float32([-1, 2])).tolist())"
ANSWER = "[0.0, 2.0]"


def run(code: str, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process that keeps compiled code in `cache`."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=Path(sys.prefix),  # not the checkout: the package that is imported is the one on the path
        env={"PYTHONPATH": str(PACKAGE.parent), **os.environ, "FASTACT_CACHE_DIR": str(cache), **environment},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cache")
    assert run(CALL, directory).stdout.strip() == ANSWER
    return directory


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> Path:
    """A copy of a filled cache."""
    return Path(shutil.copytree(filled, tmp_path / "cache"))


def test_a_second_process_compiles_nothing_and_does_not_import_numba(cache: Path) -> None:
    before = {f: f.stat().st_mtime_ns for f in cache.rglob("*.bin")}
    assert before
    out = run(CALL + "; import sys; print('numba' in sys.modules)", cache).stdout.split("\n")
    assert out[:2] == [ANSWER, "False"]
    assert {f: f.stat().st_mtime_ns for f in cache.rglob("*.bin")} == before


def test_a_change_in_a_kernel_is_noticed(cache: Path, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "copy" / "fastact", ignore=shutil.ignore_patterns("__pycache__"))
    kernels = tmp_path / "copy" / "fastact" / "kernels" / "rectified.py"
    where = {"PYTHONPATH": str(tmp_path / "copy")}
    assert run(CALL, cache, **where).stdout.strip() == ANSWER
    assert len(list(cache.iterdir())) == 1
    source = kernels.read_text()
    assert "select(x <= 0.0, 0.0, x)" in source
    kernels.write_text(source.replace("select(x <= 0.0, 0.0, x)", "select(x <= 0.0, 5.0, x)"))
    assert run(CALL, cache, **where).stdout.strip() == "[5.0, 2.0]"
    assert len(list(cache.iterdir())) == 2


def test_the_cpu_is_part_of_the_key(cache: Path) -> None:
    assert run(CALL, cache, NUMBA_CPU_NAME="generic").stdout.strip() == ANSWER
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut short", "empty", "flipped bit", "something else"])
def test_damaged_files_are_replaced(cache: Path, damage: str) -> None:
    for file in cache.rglob("*.bin"):
        content = bytearray(file.read_bytes())
        if damage == "cut short":
            content = content[:-7]
        elif damage == "empty":
            content = bytearray()
        elif damage == "flipped bit":
            content[len(content) // 2] ^= 4
        else:
            content = bytearray(b"not code at all")
        file.write_bytes(content)
    assert run(CALL, cache).stdout.strip() == ANSWER
    assert "False" in run(CALL + "; import sys; print('numba' in sys.modules)", cache).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="permissions work differently")
def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the directory should be")
    done = run(CALL, tmp_path / "file" / "cache")
    assert done.stdout.strip() == ANSWER
    assert done.stderr.count("RuntimeWarning: fastact cannot keep compiled code in") == 1
    assert "set FASTACT_CACHE_DIR to a writable directory" in done.stderr


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root can write everywhere")
def test_a_read_only_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = run(CALL, tmp_path / "cache")
    assert done.stdout.strip() == ANSWER
    assert done.stderr.count("RuntimeWarning") == 1


def test_no_home_at_all(tmp_path: Path) -> None:
    code = "import os; del os.environ['FASTACT_CACHE_DIR']; " + CALL
    done = run(code, tmp_path, HOME="/nonexistent", XDG_CACHE_HOME="")
    assert done.stdout.strip() == ANSWER


def test_processes_that_fill_the_cache_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CALL]
    environment = {**os.environ, "FASTACT_CACHE_DIR": str(tmp_path)}
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        out, _ = process.communicate()
        assert process.returncode == 0
        assert out.strip() == ANSWER
    assert not [f for f in tmp_path.rglob("*") if f.is_file() and f.suffix != ".bin"]
    assert "False" in run(CALL + "; import sys; print('numba' in sys.modules)", tmp_path).stdout
