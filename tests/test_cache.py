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
from fastact.cpu import cache as disk

from .conftest import copy_driver

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
    source = kernels.read_text("utf-8")
    assert "select(x <= 0.0, 0.0, x)" in source
    kernels.write_text(source.replace("select(x <= 0.0, 0.0, x)", "select(x <= 0.0, 5.0, x)"), "utf-8")
    assert compiles_anew(cache, **where) == "[5.0, 2.0]"


def test_the_cpu_is_part_of_the_key(cache: Path) -> None:
    assert compiles_anew(cache, NUMBA_CPU_NAME="generic") == ANSWER


def compiles_anew(cache: Path, **environment: str) -> str:
    """The result of a process that must not use what `cache` holds of the function, only the driver."""
    (before,) = cache.iterdir()
    key = run("from fastact.cpu import cache; print(cache.key())", cache, **environment).stdout.strip()
    assert key != before.name
    directory = copy_driver(before, cache / key)
    assert not list(directory.glob("relu-*"))
    out = run(CALL, cache, **environment).stdout.strip()
    assert len(list(directory.glob("relu-*"))) == 1
    assert len(list(cache.iterdir())) == 2
    return out


def damaged(content: bytes, damage: str) -> bytes:
    middle = len(content) // 2
    return {
        "cut short": content[:-7],
        "empty": b"",
        "flipped bit": content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :],
        "something else": b"not code at all",
    }[damage]


DAMAGES = ("cut short", "empty", "flipped bit", "something else")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setenv("FASTACT_CACHE_DIR", str(tmp_path))
    made = "symbol", bytes(range(256))
    assert disk.load_or_compile("name", lambda: made) == made
    (file,) = tmp_path.rglob("*.bin")
    good = file.read_bytes()
    assert disk.load_or_compile("name", lambda: ("another", b"")) == made
    file.write_bytes(damaged(good, damage))
    assert disk.load_or_compile("name", lambda: made) == made
    assert file.read_bytes() == good


def test_damaged_code_does_not_run(cache: Path) -> None:
    """Every file is damaged, each in another way than its neighbour."""
    files = sorted(cache.rglob("*.bin"))
    assert len(files) >= len(DAMAGES)
    for k, file in enumerate(files):
        file.write_bytes(damaged(file.read_bytes(), DAMAGES[k % len(DAMAGES)]))
    assert run(CALL, cache).stdout.strip() == ANSWER
    assert "False" in run(CALL + "; import sys; print('numba' in sys.modules)", cache).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="permissions work differently")
def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """No directory was chosen, and the user's cannot be made."""
    home = tmp_path / "file"
    home.write_text("a file where the directory should be", "utf-8")
    code = "import os; del os.environ['FASTACT_CACHE_DIR']; " + CALL
    done = run(code, tmp_path, HOME=str(home), XDG_CACHE_HOME="")
    assert done.stdout.strip() == ANSWER
    assert done.stderr.count("RuntimeWarning: fastact cannot keep compiled code in") == 1
    assert str(home) in done.stderr
    assert "set FASTACT_CACHE_DIR to a writable directory" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="permissions work differently")
def test_the_warning_comes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("a file where the directory should be", "utf-8")
    monkeypatch.setenv("FASTACT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    made = "symbol", b"code"
    with pytest.warns(RuntimeWarning, match="cannot keep compiled code in .*cache"):
        assert disk.load_or_compile("one", lambda: made) == made
    assert disk.load_or_compile("two", lambda: made) == made  # warnings are errors


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root can write everywhere")
def test_a_read_only_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = run(CALL, tmp_path / "cache")
    assert done.stdout.strip() == ANSWER
    assert done.stderr.count("RuntimeWarning") == 1


def test_processes_that_fill_the_cache_at_once(with_driver: Path) -> None:
    """Four of them, with the parts of the driver that are quick to compile missing."""
    (directory,) = with_driver.iterdir()
    for file in sorted(directory.iterdir(), key=lambda file: file.stat().st_size)[:4]:
        file.unlink()
    command = [sys.executable, "-c", CALL]
    environment = {**os.environ, "FASTACT_CACHE_DIR": str(with_driver)}
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        out, _ = process.communicate()
        assert process.returncode == 0
        assert out.strip() == ANSWER
    assert not [f for f in with_driver.rglob("*") if f.is_file() and f.suffix != ".bin"]
    assert "False" in run(CALL + "; import sys; print('numba' in sys.modules)", with_driver).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="permissions work differently")
def test_others_may_read_the_cache(tmp_path: Path) -> None:
    """As where one user builds a container image, and another one runs it."""
    code = "import os; os.umask(0o022); " + CALL
    run(code, tmp_path / "cache")
    files = list((tmp_path / "cache").rglob("*.bin"))
    assert files
    assert {file.stat().st_mode & 0o777 for file in files} == {0o644}
