"""What the check needs of a GPU besides kernels: memory, copies, clocks, streams and graphs, with NVIDIA's bindings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from . import driver

_CODES = {"bfloat16": "<V2"}


def _ask(result: tuple[Any, ...]) -> Any:
    """The value of a call of the driver; RuntimeError if it failed."""
    status, *values = result
    if int(status) != 0:
        raise RuntimeError(f"the CUDA driver says {status!r}")
    return values[0] if len(values) == 1 else tuple(values)


class Memory:
    """An array in the memory of the GPU, which frees it with itself; or a part of one. Strides are in elements."""

    strides: tuple[int, ...] | None = None  # the elements lie one after the other

    def __init__(self, shape: tuple[int, ...], dtype: Any, owner: Memory | None = None, offset: int = 0) -> None:
        self.shape, self.dtype, self.owner, self.offset = shape, np.dtype(dtype), owner, offset
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        if owner is None:
            from cuda.bindings import driver as api

            self._free = api.cuMemFree
            self.pointer = int(_ask(api.cuMemAlloc(max(self.nbytes, 1))))
        else:
            self.pointer = owner.pointer + offset * self.dtype.itemsize
        code = _CODES.get(self.dtype.name, self.dtype.str)
        self._interface = {"shape": shape, "typestr": code, "data": (self.pointer, False), "version": 3}

    def __del__(self) -> None:
        if self.owner is None and hasattr(self, "pointer"):
            self._free(self.pointer)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self._interface

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0  # kDLCUDA, and the first GPU

    def part(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...] | None = None) -> Memory:
        """Elements from `offset` on."""
        made = Memory(shape, self.dtype, self, offset)
        if strides is not None:
            made.strides = strides
            made._interface["strides"] = tuple(s * self.dtype.itemsize for s in strides)
        return made


class Gpu:
    """The first GPU."""

    def __init__(self) -> None:
        core = driver._core()
        from cuda.bindings import driver as api

        self.api = api
        core.Device(0).set_current()
        self.name = driver.device_name(0)
        self.capability = driver.capability(0)
        flag = api.CUevent_flags.CU_EVENT_DEFAULT
        self._events = [_ask(api.cuEventCreate(flag)) for _ in range(2)]
        self.stream = int(_ask(api.cuStreamCreate(api.CUstream_flags.CU_STREAM_NON_BLOCKING)))
        self.waiting_stream = int(_ask(api.cuStreamCreate(api.CUstream_flags.CU_STREAM_DEFAULT)))  # for the default one

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Memory:
        return Memory(shape, dtype)

    def upload(self, array: np.ndarray[Any, Any]) -> Memory:
        made = Memory(array.shape, array.dtype)
        if array.size:
            given = np.ascontiguousarray(array)
            _ask(self.api.cuMemcpyHtoD(made.pointer, given.ctypes.data, given.nbytes))
            self.wait()  # for streams that do not wait for this one
        return made

    def download(self, memory: Memory) -> np.ndarray[Any, Any]:
        self.wait()
        if memory.strides is not None and memory.owner is not None:
            whole, steps = self.download(memory.owner).reshape(-1), memory.strides
            return as_strided(whole[memory.offset :], memory.shape, [s * whole.itemsize for s in steps])
        array = np.empty(memory.shape, memory.dtype)
        if array.size:
            _ask(self.api.cuMemcpyDtoH(array.ctypes.data, memory.pointer, memory.nbytes))
        return array

    def copy(self, to: Memory, source: Memory, stream: int = 0) -> None:
        _ask(self.api.cuMemcpyDtoDAsync(to.pointer, source.pointer, to.nbytes, stream))

    def wait(self) -> None:
        _ask(self.api.cuCtxSynchronize())

    def seconds(self, work: Callable[[int], Any], calls: int = 10, repeat: int = 20) -> float:
        """The GPU's time for one call of `work(stream)`: the median of several graphs of some calls each.

        Called one by one, kernels would wait for Python.
        """
        work(self.stream)  # no kernel is to be loaded while a graph is captured
        self.wait()

        def several(stream: int) -> None:
            for _ in range(calls):
                work(stream)

        replay, times = self.captured(several), []
        for _ in range(3):
            replay()
        for _ in range(repeat):
            _ask(self.api.cuEventRecord(self._events[0], self.stream))
            replay()
            _ask(self.api.cuEventRecord(self._events[1], self.stream))
            _ask(self.api.cuEventSynchronize(self._events[1]))
            times.append(float(_ask(self.api.cuEventElapsedTime(*self._events))) / 1e3 / calls)
        return float(np.median(times))

    def captured(self, work: Callable[[int], Any]) -> Callable[[], None]:
        """`work(stream)` captured in a graph; what is returned launches it."""
        api = self.api
        _ask(api.cuStreamBeginCapture(self.stream, api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))
        try:
            work(self.stream)
        finally:
            graph = _ask(api.cuStreamEndCapture(self.stream))
        executable = _ask(api.cuGraphInstantiate(graph, 0))
        return lambda: _ask((*api.cuGraphLaunch(executable, self.stream), None))
