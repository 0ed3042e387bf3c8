"""The part of `fastact.cuda.check` that looks at corner cases: layouts, libraries, streams, graphs, and huge arrays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

import fastact

from .. import cuda
from .check_libraries import Own
from .check_results import Result, differences, dtypes
from .check_rows import APART, apart

Array = np.ndarray[Any, Any]

LAYOUTS: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {  # in elements: offset, shape, strides
    "contiguous": (0, (60, 70), (70, 1)),
    "misaligned": (1, (60, 70), (70, 1)),
    "every second": (0, (2050,), (2,)),
    "transposed": (0, (60, 70), (1, 60)),
    "permuted": (8, (5, 6, 7, 3), (3, 105, 15, 1)),
    "rows apart": (16, (50, 64), (80, 1)),
    "backwards": (4199, (4200,), (-1,)),
    "0-d": (5, (), ()),
    "empty": (0, (3, 0), (1, 1)),
}
_ROOM = 4208  # elements that hold each of them
_SPREAD = 1 << 28  # cycles: some tenth of a second, long enough for a kernel in a wrong stream to be early


def numbers(dtype: Any, size: int = _ROOM) -> Array:
    """Numbers from a normal distribution."""
    return (np.random.default_rng(0).normal(size=size) * 3).astype(dtype)


def _found(label: str, library: str, size: int, wrong: int) -> Result:
    return Result("corner", label, library, size, wrong, "different", wrong == 0)


def _on_host(flat: Array, layout: str) -> Array:
    offset, shape, strides = LAYOUTS[layout]
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, [s * flat.itemsize for s in strides])


def a_layout(library: Any, layout: str) -> Result:
    """`gelu` of every dtype: a result that the library makes, one in another layout, and in place."""
    wrong = size = 0
    for name in library.dtypes:
        flat = numbers(dtypes()[name])
        x = _on_host(flat, layout)
        want = np.asarray(fastact.gelu(x))
        given = library.view(library.upload(flat), *LAYOUTS[layout])
        made = library.empty(x.shape, flat.dtype)
        found = [cuda.gelu(given, out=made)]
        if library.makes:
            found.append(cuda.gelu(given))
        elsewhere = library.view(library.upload(np.zeros_like(flat)), *LAYOUTS[layout])
        found += [cuda.gelu(given, out=elsewhere), cuda.gelu(given, out=given)]
        for array in found:
            got = library.download(array)
            wrong += differences(got, want) if got.shape == want.shape else max(want.size, 1)
            size += want.size
    return _found(layout, library.name, size, wrong)


def parameters(library: Any) -> Result:
    """Parameters that are arrays on the GPU and broadcast, beside numbers."""
    wrong = size = 0
    for name in library.dtypes:
        dtype = dtypes()[name]
        x, low, high = (
            numbers(dtype, 4200).reshape(60, 70),
            -abs(numbers(dtype, 70)),
            abs(numbers(dtype, 60)).reshape(60, 1),
        )
        on = [library.upload(a) for a in (x, low, high)]
        two = dtype.type(2)
        for function, host, given in (
            ("leaky_relu", (x, low), on[:2]),
            ("leaky_relu", (x, high), (on[0], on[2])),
            ("hard_tanh", (x, low, high), on),
            ("hard_tanh", (x, low, two), (*on[:2], 2)),
            ("relu_vjp", (low, x), (on[1], on[0])),
            ("prelu", (x, low), on[:2]),
        ):
            out = library.empty(x.shape, dtype)
            getattr(cuda, function)(*given, out=out)
            wrong += differences(library.download(out), np.asarray(getattr(fastact, function)(*host)))
            size += x.size
    return _found("parameters", library.name, size, wrong)


def two_results(library: Any) -> Result:
    """A function with two results, the first of them in place."""
    wrong = size = 0
    for name in library.dtypes:
        x = numbers(dtypes()[name])
        given, slope = library.upload(x), library.empty(x.shape, x.dtype)
        cuda.silu_with_derivative(given, out=(given, slope))
        for got, want in zip((given, slope), fastact.silu_with_derivative(x), strict=True):
            wrong += differences(library.download(got), want)
            size += x.size
    return _found("two results", library.name, size, wrong)


def rows_in_layouts(library: Any) -> Result:
    """Rows along every axis, in place, apart, and of no element; results differ from the CPU by what sums do."""
    wrong = size = 0
    for name in library.dtypes:
        flat = numbers(dtypes()[name])
        for layout, axis, inside in (
            ("contiguous", -1, True),
            ("contiguous", 0, True),
            ("transposed", -1, False),
            ("rows apart", -1, True),
            ("misaligned", -1, False),
            ("permuted", 1, True),
            ("every second", 0, False),
            ("empty", 0, True),
        ):
            x = _on_host(flat, layout)
            want = np.asarray(fastact.softmax(x, axis=axis))
            given = library.view(library.upload(flat), *LAYOUTS[layout])
            out = given if inside else library.empty(x.shape, x.dtype)
            cuda.softmax(given, axis=axis, out=out)
            wrong += apart(library.download(out), want) > APART
            size += x.size
    return _found("rows in layouts", library.name, size, wrong)


def streams(gpu: Any) -> Iterator[Result]:
    """Kernels in every kind of stream come after what is in it already."""
    x = numbers(np.float32, 1 << 20)
    want = fastact.relu(fastact.gelu(x))
    source = gpu.upload(x)
    for label, handle in (("default", 0), ("legacy", 1), ("per thread", 2), ("own", gpu.stream), ("waiting", None)):
        stream = gpu.waiting_stream if handle is None else handle
        first, second = gpu.upload(np.zeros_like(x)), gpu.empty(x.shape, x.dtype)
        gpu.copy(first, source, stream)
        cuda.gelu(first, out=second, stream=stream)
        cuda.relu(second, out=second, stream=stream)
        yield _found(f"stream: {label}", "float32", x.size, differences(gpu.download(second), want))


def another_thread(gpu: Any) -> Result:
    """A thread that has not used the GPU yet."""
    x = numbers(np.float32)
    given, out, errors = gpu.upload(x), gpu.empty(x.shape, x.dtype), list[Exception]()

    def work() -> None:
        try:
            cuda.gelu(given, out=out)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return _found("a new thread", "float32", x.size, differences(gpu.download(out), fastact.gelu(x)))


def current_stream(library: Any) -> Result:
    """Without `stream`, a call goes to the current stream of the library: after what that one is still to do."""
    x = numbers(np.float32, 1 << 16)
    given, late = library.upload(np.zeros_like(x)), library.upload(x)
    cuda.gelu(given)  # whose kernel is to be loaded before
    with library.another_stream() as wait:
        library.sleep(_SPREAD)
        library.copy(given, late)
        made = cuda.gelu(given)
        wait()
    return _found("current stream", library.name, x.size, differences(library.download(made), fastact.gelu(x)))


def misaligned_stream_graph(gpu: Any, large: int) -> Iterator[Result]:
    """Slices of large arrays, the order within a stream, and a captured graph."""
    x = np.random.default_rng(0).normal(size=100_003).astype(np.float32)
    room, want = gpu.upload(x), fastact.gelu(x[1:])
    out = gpu.empty((x.size,), np.float32)
    cuda.gelu(room.part(1, want.shape), out=out.part(1, want.shape))
    yield _found("misaligned", "float32", want.size, differences(gpu.download(out)[1:], want))

    big = gpu.upload(np.resize(x, large))
    first, second = gpu.empty((large,), np.float32), gpu.empty((large,), np.float32)
    gpu.copy(first, big, gpu.stream)
    cuda.gelu(first, out=second, stream=gpu.stream)
    cuda.relu(second, out=second, stream=gpu.stream)
    want = np.resize(fastact.relu(fastact.gelu(x)), large)
    yield _found("stream order", "float32", large, differences(gpu.download(second), want))

    cuda.tanh(big, out=first)  # whose kernel is to be loaded before
    replay = gpu.captured(lambda stream: cuda.tanh(big, out=first, stream=stream))
    replay()
    yield _found("graph", "float32", large, differences(gpu.download(first), np.resize(fastact.tanh(x), large)))


def beyond_32_bits(gpu: Any) -> Iterator[Result]:
    """More elements than an int32 counts, one after the other and every second."""
    n, half = 2**31 + 4099, numbers(np.float16, 4099)
    large, result = gpu.empty((n,), np.float16), gpu.empty((n,), np.float16)
    for start in (0, 2**31):
        gpu.copy(large.part(start, half.shape), gpu.upload(half))
    for label, given, out in (
        ("beyond 2^31", large, result),
        ("beyond 2^31, backwards", large.part(n - 1, (n,), (-1,)), result.part(n - 1, (n,), (-1,))),
    ):
        for start in (0, 2**31):
            gpu.copy(result.part(start, half.shape), gpu.upload(np.zeros_like(half)))
        cuda.gelu(given, out=out)
        wrong = sum(
            differences(gpu.download(result.part(start, half.shape)), fastact.gelu(half)) for start in (0, 2**31)
        )
        yield _found(label, "float16", n, wrong)


def corners(
    gpu: Any, quick: bool, large: int, others: Sequence[Any] = ()
) -> Iterator[tuple[str, Callable[[], Iterator[Result] | Result]]]:
    """Each by its name, so that one that fails does not end the others."""
    for library in (Own(gpu), *others):
        for layout, (_, _, strides) in LAYOUTS.items():
            if library.backwards or all(s > 0 for s in strides):
                yield layout, partial(a_layout, library, layout)
        for check in (parameters, two_results, rows_in_layouts):
            yield check.__name__, partial(check, library)
        if library.another_stream is not None:
            yield "current stream", partial(current_stream, library)
    yield "streams", partial(streams, gpu)
    yield "another thread", partial(another_thread, gpu)
    yield "streams and graphs", partial(misaligned_stream_graph, gpu, large)
    if not quick:
        yield "beyond 2^31", partial(beyond_32_bits, gpu)
