"""Which GPU is worked on: what arrays say, and the context that a caller has made current."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fastact import cuda
from fastact.cuda import driver

from .cuda_host import Array, HostDriver


class Placed(Array):
    """An array that says which device it is on."""

    place = (2, 3)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.place


class Pinned(Placed):
    place = (3, 0)  # in host memory


def test_arrays_that_say_where_they_are(idle: HostDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(driver, "device_of", lambda pointer: asked.append(pointer) or 5)
    x = np.ones(8, np.float32)
    cuda.relu(Placed(x), out=Placed(x.copy()))
    assert idle.launches[-1][0] == 3
    assert not asked
    with pytest.raises(ValueError, match=r"out is on device 5, the operands on 3"):
        cuda.relu(Placed(x), out=Array(x.copy()))
    cuda.relu(Pinned(x), out=Array(x.copy()))
    assert idle.launches[-1][0] == 5
    assert len(asked) == 3


class Core:
    """cuda.core on a machine with two GPUs, whose primary contexts are "primary 0" and "primary 1"."""

    def __init__(self, current: Any) -> None:
        self.current, self.launched, self.fails = current, list[Any](), False
        core = self

        class Device:
            def __init__(self, number: int | None = None) -> None:
                self.device_id = number if number is not None else int(core.current[-1])

            def set_current(self) -> None:
                core.current = f"primary {self.device_id}"

        self.Device = Device

    def launch(self, *arguments: Any) -> None:
        self.launched.append(self.current)
        if self.fails:
            raise RuntimeError("no launch")

    def LaunchConfig(self, **given: Any) -> Any:
        return given


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Iterator[Core]:
    made = Core("own 0")
    bindings: Any = types.ModuleType("cuda.bindings")
    bindings.driver = types.SimpleNamespace(
        cuCtxGetCurrent=lambda: (0, made.current),
        cuCtxSetCurrent=lambda context: setattr(made, "current", context),
        cuCtxGetDevice=lambda: (0, int(made.current[-1])),
    )
    package: Any = types.ModuleType("cuda")
    package.bindings = bindings
    monkeypatch.setitem(sys.modules, "cuda", package)
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setattr(driver, "_core", lambda: made)
    monkeypatch.setattr(driver, "stream_of", lambda handle: handle)
    driver._config.cache_clear()
    yield made
    driver._config.cache_clear()


def test_the_callers_context_is_current_again(core: Core) -> None:
    driver.launch(1, 0, "kernel", 1, 1, ())
    assert core.launched == ["primary 1"]
    assert core.current == "own 0"
    core.fails = True
    with pytest.raises(RuntimeError, match="no launch"):
        driver.launch(1, 0, "kernel", 1, 1, ())
    assert core.current == "own 0"


def test_the_callers_context_is_used_on_its_own_device(core: Core) -> None:
    driver.launch(0, 0, "kernel", 1, 1, ())
    assert core.launched == ["own 0"]
    assert core.current == "own 0"
