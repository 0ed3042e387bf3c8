"""What `fastact.cuda.check` needs of the libraries whose arrays are given to the functions: those that are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .check_results import dtypes

Array = np.ndarray[Any, Any]


class Own:
    """Arrays of the check itself, with ``__cuda_array_interface__`` and nothing else."""

    name, makes, backwards = "own", False, True
    another_stream: Callable[[], Any] | None = None

    def __init__(self, gpu: Any) -> None:
        self.gpu, self.dtypes = gpu, tuple(dtypes())

    def upload(self, array: Array) -> Any:
        return self.gpu.upload(array)

    def view(self, flat: Any, offset: int, shape: Sequence[int], strides: Sequence[int]) -> Any:
        """An array in the memory of `flat`, in elements."""
        return flat.part(offset, tuple(shape), tuple(strides))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.gpu.empty(shape, dtype)

    def download(self, array: Any) -> Array:
        """The numbers of an array of any layout: those of its whole memory are fetched."""
        return np.asarray(self.gpu.download(array))


class Torch:
    """PyTorch's tensors."""

    name, makes, backwards = "torch", True, False

    def __init__(self, device: str = "cuda") -> None:
        import torch

        self.torch, self.device, self.dtypes = torch, device, tuple(dtypes())

    def upload(self, array: Array) -> Any:
        given = np.ascontiguousarray(array)
        if array.dtype.name == "bfloat16":
            return self.torch.from_numpy(given.view(np.int16)).to(self.device).view(self.torch.bfloat16)
        return self.torch.from_numpy(given).to(self.device)

    def view(self, flat: Any, offset: int, shape: Sequence[int], strides: Sequence[int]) -> Any:
        return flat.as_strided(tuple(shape), tuple(strides), offset)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.torch.empty(shape, dtype=getattr(self.torch, np.dtype(dtype).name), device=self.device)

    def download(self, array: Any) -> Array:
        if array.dtype == self.torch.bfloat16:
            found: Array = array.contiguous().view(self.torch.int16).cpu().numpy().view(dtypes()["bfloat16"])
            return found
        return np.asarray(array.cpu().numpy())

    def copy(self, to: Any, source: Any) -> None:
        to.copy_(source)

    def sleep(self, cycles: int) -> None:
        self.torch.cuda._sleep(cycles)

    @contextmanager
    def another_stream(self) -> Iterator[Callable[[], None]]:
        stream = self.torch.cuda.Stream()
        self.torch.cuda.synchronize()
        with self.torch.cuda.stream(stream):
            yield stream.synchronize


class CuPy:
    """CuPy's arrays; whether it knows bfloat16 depends on its version."""

    name, makes, backwards = "cupy", True, True
    dtypes = ("float16", "float32", "float64")

    def __init__(self) -> None:
        import cupy

        self.cupy = cupy
        self._wait = cupy.RawKernel(
            'extern "C" __global__ void wait(long long n) { for (long long end = clock64() + n; clock64() < end;); }',
            "wait",
        )

    def upload(self, array: Array) -> Any:
        return self.cupy.asarray(np.ascontiguousarray(array))

    def view(self, flat: Any, offset: int, shape: Sequence[int], strides: Sequence[int]) -> Any:
        steps = tuple(s * flat.itemsize for s in strides)
        return self.cupy.lib.stride_tricks.as_strided(flat[offset:], tuple(shape), steps)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.cupy.empty(shape, dtype)

    def download(self, array: Any) -> Array:
        return np.asarray(self.cupy.asnumpy(array))

    def copy(self, to: Any, source: Any) -> None:
        to[...] = source

    def sleep(self, cycles: int) -> None:
        self._wait((1,), (1,), (np.int64(cycles),))

    @contextmanager
    def another_stream(self) -> Iterator[Callable[[], None]]:
        self._wait((1,), (1,), (np.int64(1),))  # which compiles it
        stream = self.cupy.cuda.Stream(non_blocking=True)
        self.cupy.cuda.runtime.deviceSynchronize()
        with stream:
            yield stream.synchronize


class Numba(Own):
    """Device arrays of numba-cuda, which know no bfloat16."""

    name, makes = "numba", True

    def __init__(self, gpu: Any) -> None:
        from numba import cuda

        super().__init__(gpu)
        self.cuda, self.dtypes = cuda, ("float16", "float32", "float64")
        cuda.device_array(1, np.float32)  # fails where numba-cuda does

    def upload(self, array: Array) -> Any:
        return self.cuda.to_device(np.ascontiguousarray(array))

    def view(self, flat: Any, offset: int, shape: Sequence[int], strides: Sequence[int]) -> Any:
        return self.cuda.as_cuda_array(_View(flat, offset, shape, strides))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.cuda.device_array(shape, dtype)

    def download(self, array: Any) -> Array:
        return np.asarray(array.copy_to_host())


class _View:
    """Memory of an array in another layout."""

    def __init__(self, flat: Any, offset: int, shape: Sequence[int], strides: Sequence[int]) -> None:
        its = flat.__cuda_array_interface__
        item = int(its["typestr"][2:])
        self.flat = flat
        self.__cuda_array_interface__ = {
            "shape": tuple(shape),
            "strides": tuple(s * item for s in strides),
            "typestr": its["typestr"],
            "data": (its["data"][0] + offset * item, False),
            "version": 3,
        }


class DLPack(Torch):
    """PyTorch's tensors that show nothing but DLPack."""

    name, makes = "dlpack", False

    class Wrapped:
        def __init__(self, tensor: Any) -> None:
            self.tensor = tensor

        def __dlpack__(self, **options: Any) -> Any:
            return self.tensor.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.tensor.__dlpack_device__()

    another_stream = None  # type: ignore[assignment]

    def upload(self, array: Array) -> Any:
        return self.Wrapped(super().upload(array))

    def view(self, flat: Any, offset: int, shape: Sequence[int], strides: Sequence[int]) -> Any:
        return self.Wrapped(super().view(flat.tensor, offset, shape, strides))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.Wrapped(super().empty(shape, dtype))

    def download(self, array: Any) -> Array:
        return super().download(array.tensor)


def libraries(gpu: Any) -> Iterator[Any]:
    """Those that are installed and see the GPU."""
    for make in (Torch, DLPack, CuPy, lambda: Numba(gpu)):
        try:
            library = make()
            library.empty((1,), np.dtype(np.float32))
        except Exception:  # it is not there, or finds no GPU, and says so in its own way
            continue
        yield library
