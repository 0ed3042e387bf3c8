"""All that is asked of the CUDA driver, through cuda.core; and what to say when something is missing."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

Handle = Any  # a kernel of cuda.core, with its module

_thread = threading.local()
_modules: list[Any] = []  # what kernels are part of

DEFAULT_STREAMS = frozenset({0, 1})  # handles of one stream


def missing_extra() -> ImportError:
    return ImportError(
        "fastact.cuda needs cuda-core and NVIDIA's compiler, which are not installed: pip install 'fastact[cuda]'"
    )


@cache
def _core() -> Any:
    """cuda.core, on a machine with a driver and a GPU."""
    try:
        from cuda import core
    except ImportError as error:
        raise missing_extra() from error
    try:
        from cuda.bindings import driver

        (status,) = driver.cuInit(0)
        status, count = driver.cuDeviceGetCount() if int(status) == 0 else (status, 0)
    except Exception as error:  # whatever a machine without a driver raises: it differs between versions
        raise RuntimeError(f"fastact.cuda found no NVIDIA driver on this machine ({error})") from error
    if int(status) != 0 or count == 0:
        raise RuntimeError(f"fastact.cuda found no GPU that can be used (the driver says {status!r}, {count} devices)")
    return core


@cache
def capability(device: int) -> tuple[int, int]:
    """The compute capability of a device."""
    found = _core().Device(device).compute_capability
    return int(found[0]), int(found[1])


@cache
def device_name(device: int) -> str:
    return str(_core().Device(device).name)


@cache
def load(cubin: bytes, name: str) -> Handle:
    """The kernel `name` of a cubin."""
    module = _core().ObjectCode.from_cubin(cubin)
    try:
        kernel = module.get_kernel(name)
    except Exception as error:  # of cuda.core, whose classes differ between versions
        raise RuntimeError(
            f"the CUDA driver, version {version()}, cannot load a compiled kernel ({error}): it may be older than the "
            "compiler that made it, so update the one or install an older nvidia-cuda-nvrtc"
        ) from error
    _modules.append(module)
    return kernel


def version() -> str:
    """The version of CUDA that the driver is made for."""
    from cuda.bindings import driver

    _, number = driver.cuDriverGetVersion()
    return f"{number // 1000}.{number % 1000 // 10}"


@lru_cache(1024)
def stream_of(handle: int) -> Any:
    """cuda.core's stream for a handle; 0 and 1 are the default stream, 2 the default stream of each thread."""
    core = _core()
    if handle in DEFAULT_STREAMS:
        return core.LEGACY_DEFAULT_STREAM
    return core.PER_THREAD_DEFAULT_STREAM if handle == 2 else core.Stream.from_handle(handle)


@lru_cache(4096)
def _config(grid: int, block: int) -> Any:
    return _core().LaunchConfig(grid=grid, block=block)


def _make_current(device: int) -> None:
    """See to it that this thread has a context, which a new thread has not: that of `device`."""
    from cuda.bindings import driver

    status, _ = driver.cuCtxGetDevice()
    if int(status) != 0:
        _core().Device(device).set_current()
    _thread.ready = True


def launch(device: int, stream: int, kernel: Handle, grid: int, block: int, arguments: Sequence[Any]) -> None:
    """Enqueue a kernel; an int is passed as 64 bits, a numpy.float32 or float as a float or a double."""
    core = _core()
    if not getattr(_thread, "ready", False):
        _make_current(device)
    current = core.Device()
    if current.device_id == device:
        core.launch(stream_of(stream), _config(grid, block), kernel, *arguments)
        return
    from cuda.bindings import driver

    _, before = driver.cuCtxGetCurrent()  # which may be one that the caller has made
    core.Device(device).set_current()
    try:
        core.launch(stream_of(stream), _config(grid, block), kernel, *arguments)
    finally:
        driver.cuCtxSetCurrent(before)


def device_of(pointer: int) -> int:
    """The device that memory belongs to."""
    core = _core()
    if pointer == 0:
        return int(core.Device().device_id)
    from cuda.bindings import driver

    attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    status, device = driver.cuPointerGetAttribute(attribute, pointer)
    if int(status) != 0:
        raise ValueError(f"{pointer:#x} is not a pointer to memory of a GPU ({status!r})")
    return int(device)


def dlpack_view(x: Any) -> Any:
    """Pointer, shape, strides, dtype and device of an array that exports DLPack, ready for the default stream."""
    _core()
    from cuda.core.utils import StridedMemoryView

    return StridedMemoryView.from_dlpack(x, stream_ptr=1)
