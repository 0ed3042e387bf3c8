"""Arrays on a device, whoever made them: pointer, layout, stream, and how their library makes another.

PyTorch, CuPy and Numba are known by name, which is quick and lets them make results and tell their current stream; any
other library is read through ``__cuda_array_interface__`` or DLPack.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .driver import DEFAULT_STREAMS

ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "bool": 1, "int32": 4, "int64": 8}
FLOATS, MASKS, CLASSES = ("float16", "bfloat16", "float32", "float64"), ("bool",), ("int32", "int64")
_TYPE_CODES = {"<f2": "float16", "<f4": "float32", "<f8": "float64", "<V2": "bfloat16", "|V2": "bfloat16"}
_TYPE_CODES |= {"|b1": "bool", "<i4": "int32", "<i8": "int64"}


Dtypes = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Library:
    """What is asked of the library an array belongs to."""

    name: str
    stream: Callable[[Any, int], int | None]  # the stream an array is used in, on a device; None if it does not say
    # an array like another, of a shape; to be used in a stream if that is none of the library's
    empty: Callable[[Any, tuple[int, ...], int | None], Any]
    current: bool = False  # whether that stream is the thread's, the same for all arrays


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """An array as kernels see it; strides are in elements, None if the elements lie one after the other."""

    owner: Any
    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: str
    device: int
    read_only: bool
    library: Library

    @property
    def size(self) -> int:
        return prod(self.shape)

    def full_strides(self) -> tuple[int, ...]:
        return self.strides if self.strides is not None else row_major(self.shape)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides, in elements, of an array of a shape whose elements lie one after the other."""
    strides = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


# --- PyTorch


def _torch_stream(x: Any, device: int) -> int:
    import torch

    return int(torch._C._cuda_getCurrentRawStream(device))


def _torch_empty(x: Any, shape: tuple[int, ...], stream: int | None) -> Any:
    import torch

    if stream is not None:  # the allocator must know: memory it gives or takes may be in use in the current one
        default = stream in DEFAULT_STREAMS  # as an external stream, 0 would be a new one
        there = torch.cuda.default_stream(x.device) if default else torch.cuda.ExternalStream(stream, x.device)
        with torch.cuda.stream(there):
            return _torch_empty(x, shape, None)
    return torch.empty_like(x) if x.shape == shape else torch.empty(shape, dtype=x.dtype, device=x.device)


_TORCH = Library("torch", _torch_stream, _torch_empty, current=True)
_torch_dtypes: dict[Any, str] = {}


def _from_torch(x: Any, name: str, allowed: Dtypes) -> DeviceArray:
    import torch

    if not _torch_dtypes:  # all at once, for the sake of other threads
        _torch_dtypes.update({getattr(torch, known): known for known in ITEMSIZE})
    device = x.device
    if device.type != "cuda":
        raise TypeError(_host(name, f"a torch tensor on the device {str(device)!r}"))
    if x.requires_grad and torch.is_grad_enabled():
        raise TypeError(
            f"{name} requires grad, which would be lost: call inside torch.no_grad() or a torch.autograd.Function, "
            "or detach() it"
        )
    dtype = _torch_dtypes.get(x.dtype)
    if dtype is None or x.layout != torch.strided:
        raise TypeError(_wrong(name, allowed, f"{x.dtype}" if dtype is None else f"of the layout {x.layout}"))
    if x.is_neg():  # the imaginary part of a conjugate: what is in memory has the other sign
        raise TypeError(f"{name} has its negative bit set, so its memory holds other values: call resolve_neg() on it")
    strides = None if x.is_contiguous() else tuple(x.stride())
    return DeviceArray(x, x.data_ptr(), tuple(x.shape), strides, dtype, device.index, False, _TORCH)


# --- CuPy


def _cupy_stream(x: Any, device: int) -> int:
    import cupy

    return int(cupy.cuda.get_current_stream(device).ptr)


def _cupy_empty(x: Any, shape: tuple[int, ...], stream: int | None) -> Any:
    import cupy

    with cupy.cuda.Device(x.device.id):
        if stream is not None:  # its memory pool has blocks for each stream
            default = stream in DEFAULT_STREAMS
            with cupy.cuda.Stream.null if default else cupy.cuda.ExternalStream(stream, x.device.id):
                return _cupy_empty(x, shape, None)
        return cupy.empty_like(x) if x.shape == shape else cupy.empty(shape, x.dtype)


_CUPY = Library("cupy", _cupy_stream, _cupy_empty, current=True)


def _from_cupy(x: Any, name: str, allowed: Dtypes) -> DeviceArray:
    dtype = "bfloat16" if x.dtype.name == "bfloat16" else _TYPE_CODES.get(x.dtype.str)
    if dtype is None:
        raise TypeError(_wrong(name, allowed, f"{x.dtype}"))
    strides = None if x.flags.c_contiguous else _in_elements(x.strides, ITEMSIZE[dtype], name)
    return DeviceArray(x, x.data.ptr, tuple(x.shape), strides, dtype, x.device.id, False, _CUPY)


# --- anything with __cuda_array_interface__, Numba among them


def _interface_stream(x: Any, device: int) -> int | None:
    stream = x.__cuda_array_interface__.get("stream")
    return None if stream is None else int(stream)


def _numba_stream(x: Any, device: int) -> int:
    stream = getattr(x, "stream", 0)
    handle = getattr(stream, "handle", stream)
    return int(getattr(handle, "value", handle) or 0)


def _numba_empty(x: Any, shape: tuple[int, ...], stream: int | None) -> Any:
    from numba import cuda

    return cuda.device_array(shape, x.dtype, stream=cuda.external_stream(stream) if stream else x.stream)


def _namespace_empty(x: Any, shape: tuple[int, ...], stream: int | None) -> Any:
    if stream is not None:
        raise TypeError(
            f"{type(x).__module__}.{type(x).__qualname__} cannot be asked for a result that is used in another stream: "
            "with stream=, pass out="
        )
    namespace = getattr(x, "__array_namespace__", None)
    if namespace is None:
        raise TypeError(
            f"{type(x).__module__}.{type(x).__qualname__} has no way to make a result: pass out= (PyTorch, CuPy, Numba "
            "and libraries of the array API standard need none)"
        )
    return namespace().empty(shape, dtype=x.dtype, device=x.device)


_NUMBA = Library("numba", _numba_stream, _numba_empty)
_INTERFACE = Library("__cuda_array_interface__", _interface_stream, _namespace_empty)


def _from_interface(x: Any, name: str, allowed: Dtypes, interface: Any) -> DeviceArray:
    dtype = _TYPE_CODES.get(interface["typestr"])
    if dtype is None:
        raise TypeError(_wrong(name, allowed, interface["typestr"]))
    if interface.get("mask") is not None:
        raise TypeError(f"{name} has a mask, which is not supported")
    address, read_only = interface["data"]
    strides = interface.get("strides")
    elements = None if strides is None else _in_elements(tuple(map(int, strides)), ITEMSIZE[dtype], name)
    shape = tuple(map(int, interface["shape"]))  # a kernel takes a NumPy integer for one of its own size
    library = _NUMBA if type(x).__module__.startswith("numba") else _INTERFACE
    pointer = int(address or 0)
    return DeviceArray(x, pointer, shape, elements, dtype, _device_of(x, pointer, name), bool(read_only), library)


def _device_of(x: Any, pointer: int, name: str) -> int:
    """Where the array says it is, if it does, so that the driver need not be asked in every call."""
    says = getattr(type(x), "__dlpack_device__", None)
    if says is not None:
        kind, device = says(x)
        if int(kind) in _DLPACK_CUDA:
            return int(device)
    from . import driver

    try:
        return driver.device_of(pointer)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


# --- DLPack


def _dlpack_stream(x: Any, device: int) -> int:
    return 0  # which is what it was asked to be ready for


_DLPACK = Library("DLPack", _dlpack_stream, _namespace_empty)
_DLPACK_CUDA = (2, 13)  # kDLCUDA, kDLCUDAManaged


def _from_dlpack(x: Any, name: str, allowed: Dtypes) -> DeviceArray:
    kind, _ = x.__dlpack_device__()
    if int(kind) not in _DLPACK_CUDA:
        raise TypeError(_host(name, f"{type(x).__module__}.{type(x).__qualname__}"))
    from . import driver

    view = driver.dlpack_view(x)
    dtype = getattr(view.dtype, "name", str(view.dtype))
    if dtype not in ITEMSIZE:
        raise TypeError(_wrong(name, allowed, dtype))
    strides = None if view.strides is None else tuple(view.strides)
    return DeviceArray(
        x, int(view.ptr), tuple(view.shape), strides, dtype, int(view.device_id), bool(view.readonly), _DLPACK
    )


# --- all of them


def describe(x: Any, name: str, allowed: Dtypes = FLOATS) -> DeviceArray:
    """`x` as a device array; TypeError if it is none, or of a dtype that is not `allowed`, ValueError if misaligned."""
    found = _describe(x, name, allowed)
    if found.dtype not in allowed:
        raise TypeError(_wrong(name, allowed, found.dtype))
    if found.pointer % ITEMSIZE[found.dtype]:  # to read it would end the process's use of the GPU
        raise ValueError(f"{name} is at {found.pointer:#x}, which is no multiple of its item size")
    return found


def _describe(x: Any, name: str, allowed: Dtypes) -> DeviceArray:
    module = type(x).__module__
    torch = sys.modules.get("torch") if not module.startswith(("cupy", "numba")) else None
    if torch is not None and isinstance(x, torch.Tensor):
        return _from_torch(x, name, allowed)
    if module.startswith("cupy") and is_device_array(x):  # and no sparse matrix
        return _from_cupy(x, name, allowed)
    interface = getattr(x, "__cuda_array_interface__", None)
    if interface is not None:
        return _from_interface(x, name, allowed, interface)
    if isinstance(x, np.ndarray | np.generic) or np.isscalar(x) or isinstance(x, list | tuple):
        raise TypeError(_host(name, f"{type(x).__module__}.{type(x).__qualname__}"))
    if hasattr(x, "__dlpack_device__"):
        return _from_dlpack(x, name, allowed)
    raise TypeError(_host(name, f"{type(x).__module__}.{type(x).__qualname__}"))


def is_device_array(x: Any) -> bool:
    """Whether `x` is an array rather than a number, without reading anything from it."""
    kind = type(x)  # asking a torch tensor itself may raise
    if isinstance(x, int | float | np.generic | np.ndarray):
        return False
    return hasattr(kind, "__cuda_array_interface__") or hasattr(kind, "__dlpack_device__")


def _in_elements(strides: Sequence[int], itemsize: int, name: str) -> tuple[int, ...]:
    if any(s % itemsize for s in strides):
        raise ValueError(f"the strides of {name}, {tuple(strides)} bytes, are not multiples of its item size")
    return tuple(s // itemsize for s in strides)


def _host(name: str, what: str) -> str:
    return (
        f"{name} must be an array on a GPU (PyTorch, CuPy, Numba, __cuda_array_interface__ or DLPack), not {what}; "
        "arrays in host memory go to the functions of fastact itself"
    )


def _wrong(name: str, allowed: Dtypes, what: str) -> str:
    return f"{name} must be {' or '.join(filter(None, (', '.join(allowed[:-1]), allowed[-1])))}, not {what}"
