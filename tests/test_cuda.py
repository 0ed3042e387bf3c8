"""`fastact.cuda` without a GPU: its kernels run on the CPU (`tests.cuda_host`), called through the public functions."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastact as fa
from fastact import cuda
from fastact.api import LOSSES, ROWS, aliases, elementwise_forms
from fastact.cuda import arrays, compiler, driver, functions

from .cuda_host import DTYPES, Array, HostDriver, Huge, needs_compiler, same
from .functions import SHAPES, parameters, sample

DEVICE_OF = driver.device_of  # which `gpu` replaces
TILE = 2048  # float32 elements of a block with one input
# One of every way to compute: tables, a reciprocal, a quotient, neither.
KERNELS = ("tanh", "gelu", "sigmoid", "silu_with_derivative", "softplus", "elu_vjp")


def operands(name: str, n: int, dtype: Any) -> list[np.ndarray[Any, Any]]:
    with np.errstate(over="ignore"):
        return [sample(n, seed=k).astype(dtype) for k in range(len(elementwise_forms()[name][1].arrays))]


# --- names


def test_every_function_is_there() -> None:
    names = set(cuda.__all__)
    assert set(elementwise_forms()) | set(aliases()) <= names
    assert set(ROWS) | set(LOSSES) <= names
    assert names <= set(dir(cuda))
    with pytest.raises(AttributeError, match="no attribute 'gelo'"):
        cuda.gelo  # noqa: B018


@pytest.mark.parametrize(
    "name", ["relu", "gelu_with_derivative", "leaky_relu", "prelu", "softmax", "logsumexp_vjp", *LOSSES]
)
def test_functions_are_documented(name: str) -> None:
    function = getattr(cuda, name)
    assert function.__name__ == name
    assert function.__module__ == "fastact.cuda"
    text = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    assert list(signature.parameters)[-2:] == ["out", "stream"]
    for part in signature.parameters:
        assert part in text


def test_a_second_name_is_the_same_function() -> None:
    assert cuda.expit is cuda.sigmoid


def test_importing_asks_for_nothing() -> None:
    code = "import sys, fastact, fastact.cuda; fastact.cuda.gelu; fastact.cuda.softmax; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {m.split(".")[0] for m in done.stdout.split()}
    assert not loaded & {"numba", "numba_cuda", "cupy", "torch", "llvmlite"}
    code = "import sys, fastact; fastact.__all__; print([m for m in sys.modules if m.startswith('fastact.cuda')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- the same bits


BITS = [(name, dtype) for name in SHAPES for dtype in ("bfloat16", "float32")]
BITS += [(name, dtype) for name in KERNELS for dtype in ("float16", "float32", "float64")]


@needs_compiler
@pytest.mark.parametrize(("name", "dtype"), BITS)
def test_the_bits_of_the_cpu(gpu: HostDriver, name: str, dtype: str) -> None:
    xs = operands(name, TILE + 1500, DTYPES[dtype])
    values = [DTYPES[dtype](p) for p in parameters(name)]
    got = getattr(cuda, name)(*(Array(x) for x in xs), *values)
    assert same(got, getattr(fa, name)(*xs, *values))


def test_what_is_rare_is_a_branch() -> None:
    """Where an array decides: a parameter would make it the rule, and tables have no use for it."""
    for name, dtype, places, rare in (
        ("mish_with_derivative", "float32", "", True),
        ("swish_derivative", "float32", "s", False),
        ("swish_derivative", "float32", "a", True),
        ("mish", "bfloat16", "", False),
        ("softplus", "float16", "", True),
        ("mish", "float64", "", False),
    ):
        assert ("rare |= usually(" in functions.source(name, dtype, places, "contiguous")) == rare
    assert "usually(" not in functions.source("mish", "float32", "", "strided")


@needs_compiler
@pytest.mark.parametrize("n", [0, 1, 3, TILE - 1, TILE, TILE + 1, 3 * TILE])
@pytest.mark.parametrize("offset", [0, 1])
def test_any_length_and_alignment(gpu: HostDriver, n: int, offset: int) -> None:
    room = np.zeros(n + 8, np.float32)
    start = (-room.ctypes.data // 4) % 4 + offset
    x = room[start : start + n]
    x[:] = sample(n) if n else 0
    assert same(cuda.silu(Array(x)), fa.silu(x))
    assert len(gpu.launches) == (n > 0)
    if n:
        assert gpu.launches[0][2] == -(-n // TILE)
    before = x.copy()
    cuda.silu(Array(x), out=(same_array := Array(x)))
    assert same(same_array, fa.silu(before))
    assert not room[:start].any()
    assert not room[start + n :].any()


@needs_compiler
def test_older_gpus_convert_to_bfloat16_by_hand(cuda_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    HostDriver(cuda_directory, architecture=750).install(monkeypatch)
    for dtype in (ml_dtypes.bfloat16, np.float16):
        x = np.arange(65536, dtype=np.uint16).view(dtype)
        assert same(cuda.sigmoid(Array(x)), fa.sigmoid(x))


# --- layouts

X = sample(3 * 40 * 50).reshape(3, 40, 50)
LAYOUTS = {
    "transposed": X.T,
    "reversed": X[:, ::-1],
    "every second": X[:, ::2, 1:],
    "reordered": np.ascontiguousarray(X.transpose(2, 0, 1)).transpose(1, 2, 0),
    "scalar": X[0, 0, 0:1].reshape(()),
    "ten dimensions": sample(2**10).reshape((2,) * 10)[..., ::-1].swapaxes(0, 9)[:, ::-1, :, ::-1, :, ::-1],
}


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(gpu: HostDriver, layout: str) -> None:
    x = LAYOUTS[layout]
    assert same(cuda.tanh(Array(x)), fa.tanh(x))
    out = Array(np.zeros_like(x, order="F"))
    assert cuda.tanh(Array(x), out=out) is out
    assert same(out, fa.tanh(x))


@needs_compiler
def test_broadcasting(gpu: HostDriver) -> None:
    g = sample(50, seed=1)
    assert same(cuda.relu_vjp(Array(g), Array(X)), fa.relu_vjp(g, X))
    assert same(cuda.relu_vjp(Array(X), Array(g[:40, None])), fa.relu_vjp(X, g[:40, None]))
    with pytest.raises(ValueError, match=r"relu_vjp\(\): .* do not go together: g \(50,\), x \(3,\)"):
        cuda.relu_vjp(Array(g), Array(X[:, 0, 0].copy()))


def test_strided_arrays_of_more_elements_than_a_launch_takes(idle: HostDriver) -> None:
    n = 2**31 + 1
    cuda.relu(Huge((n,), strides=(8,)), out=Huge((n,), pointer=1 << 50))
    assert sum(a[2] for a in idle.arguments) == n
    assert [a[0] - (1 << 40) for a in idle.arguments] == [0, 8 * (n // 2)]
    assert [a[1] - (1 << 50) for a in idle.arguments] == [0, 4 * (n // 2)]


# --- parameters


@needs_compiler
@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_parameters(gpu: HostDriver, dtype: str) -> None:
    x = sample(3000).astype(DTYPES[dtype])
    for value in (0.2, 3):
        # ml_dtypes does not know that a Python number is weak
        want = fa.leaky_relu(x, x.dtype.type(value))
        assert same(cuda.leaky_relu(Array(x), value), want)
        assert same(cuda.leaky_relu(Array(x), negative_slope=np.float64(value)), want)
    assert same(cuda.leaky_relu(Array(x), 0.01), fa.leaky_relu(x))
    slopes = np.array([0.1, 0.2, 0.3], DTYPES[dtype])
    assert same(cuda.leaky_relu(Array(x.reshape(-1, 3)), Array(slopes)), fa.leaky_relu(x.reshape(-1, 3), slopes))
    limits = np.array([1, 2, 3], DTYPES[dtype])
    got = cuda.hard_tanh(Array(x.reshape(-1, 3)), -0.5, Array(limits))
    assert same(got, fa.hard_tanh(x.reshape(-1, 3), x.dtype.type(-0.5), limits))


def test_parameters_that_are_refused(idle: HostDriver) -> None:
    x = Array(sample(8))
    with pytest.raises(ValueError, match=r"elu\(\): alpha must not be 0|softplus\(\): beta must not be 0"):
        cuda.softplus(x, 0)
    with pytest.raises(TypeError, match=r"leaky_relu\(\): negative_slope must be a number or an array on the GPU"):
        cuda.leaky_relu(x, np.zeros(8))
    for wrong in ("2", np.str_("2"), np.datetime64(2, "s"), np.void(b"2"), 1j, np.complex64(2)):
        with pytest.raises(TypeError, match=r"leaky_relu\(\): negative_slope must be a number or an array on the GPU"):
            cuda.leaky_relu(x, wrong)
    with pytest.raises(ValueError, match=r"leaky_relu\(\): negative_slope is an int too large for float32"):
        cuda.leaky_relu(x, 10**400)
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        cuda.prelu(x)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        cuda.relu(x, where=True)
    with pytest.raises(TypeError, match="too many positional arguments"):
        cuda.relu(x, 1, 2)


# --- outputs, overlap, errors


def test_outputs(idle: HostDriver) -> None:
    x = Array(sample(64))
    with pytest.raises(ValueError, match=r"relu\(\): out has the shape \(3,\), the result \(64,\)"):
        cuda.relu(x, out=Array(np.zeros(3, np.float32)))
    with pytest.raises(TypeError, match=r"relu\(\): out is float64, the result float32"):
        cuda.relu(x, out=Array(np.zeros(64)))
    with pytest.raises(ValueError, match=r"relu\(\): out is read-only"):
        cuda.relu(x, out=Array(np.zeros(64, np.float32), read_only=True))
    with pytest.raises(ValueError, match=r"relu_with_derivative\(\): out must be 2 arrays in a tuple"):
        cuda.relu_with_derivative(x, out=Array(np.zeros(64, np.float32)))
    with pytest.raises(ValueError, match="out is broadcast"):
        cuda.relu(x, out=Array(np.broadcast_to(np.float32(0), (64,))))
    room, strided = np.zeros(64, np.float32), np.lib.stride_tricks.as_strided
    for shape, strides in (((5, 3), (4, 4)), ((3, 4, 2), (-8, 4, 24)), ((2, 6, 3), (40, 4, 20))):
        window = strided(room[20:], shape, strides)
        with pytest.raises(ValueError, match=r"relu\(\): out has several elements in one place"):
            cuda.relu(Array(np.ones(shape, np.float32)), out=Array(window))
    assert not idle.launches
    cuda.relu(Array(np.ones((3, 2), np.float32)), out=Array(strided(room, (3, 2), (8, 12))))  # 0, 3, 2, 5, 4, 7
    assert len(idle.launches) == 1
    idle.launches.clear()
    both = (Array(np.zeros(64, np.float32)), Array(np.zeros(64, np.float32)))
    assert cuda.relu_with_derivative(x, out=both) == both
    assert not idle.launches[1:]


def test_overlap(idle: HostDriver) -> None:
    room = sample(100)
    square = room[:64].reshape(8, 8)
    for a, b in ((room[:64], room[1:65]), (room[:64:2], room[2:66:2]), (square, square.T)):
        with pytest.raises(ValueError, match="out overlaps input 0 without being the same array"):
            cuda.relu(Array(a), out=Array(b))
    assert not idle.launches
    cuda.relu(Array(room[:64]), out=Array(room[:64]))
    cuda.relu(Array(room[:64:2]), out=Array(room[1:65:2]))
    cuda.relu(Array(room[:64]), out=Array(room[32:96].copy()))
    assert len(idle.launches) == 3
    once, again = room[:64:2][None], room.reshape(1, 100)[:, :64:2]  # the stride of a dimension of one element differs
    assert once.strides != again.strides
    cuda.relu(Array(once), out=Array(again))
    assert len(idle.launches) == 4
    with pytest.raises(ValueError, match=r"out\[1\] and out\[0\] are the same memory"):
        cuda.relu_with_derivative(Array(room[:30]), out=(Array(room[50:80]), Array(room[50:80])))


@pytest.mark.parametrize("wrong", [np.zeros(3), 1.0, [1.0], np.float32(1), "x", None])
def test_what_is_not_on_a_gpu(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"gelu\(\): x must be an array on a GPU .* arrays in host memory go to"):
        cuda.gelu(wrong)
    with pytest.raises(TypeError, match=r"softmax\(\): x must be an array on a GPU"):
        cuda.softmax(wrong)


def test_dtypes_that_are_refused(idle: HostDriver) -> None:
    for dtype in (np.int32, np.bool_, np.complex64, np.float64(0).dtype.newbyteorder(">")):
        with pytest.raises(TypeError, match=r"gelu\(\): x must be float16, bfloat16, float32 or float64, not "):
            cuda.gelu(Array(np.zeros(3, dtype)))
    with pytest.raises(TypeError, match=r"relu_vjp\(\): g is float64 but x is float32"):
        cuda.relu_vjp(Array(np.zeros(3)), Array(np.zeros(3, np.float32)))


@pytest.mark.parametrize("kind", [np.int16, np.int64])
def test_shapes_of_numpy_integers(idle: HostDriver, kind: Any) -> None:
    """cuda.core passes a NumPy integer in its own size, and takes none for a grid."""
    shape, strides = (kind(2), kind(3)), (kind(4), kind(8))
    for x in (Huge(shape), Huge(shape, strides=strides)):
        cuda.relu(x, out=Huge((2, 3), pointer=1 << 50))
        cuda.softmax(x, out=Huge((2, 3), pointer=1 << 50))
    for launch, arguments in zip(idle.launches, idle.arguments, strict=True):
        assert {type(v) for v in (*launch, *arguments)} == {int}


def test_a_library_that_cannot_make_arrays(idle: HostDriver) -> None:
    with pytest.raises(TypeError, match="has no way to make a result: pass out="):
        cuda.relu(Huge((3,)))


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    driver._core.cache_clear()
    monkeypatch.setattr(driver, "device_of", lambda pointer: 0)
    for name in ("cuda", "cuda.core"):
        monkeypatch.setitem(sys.modules, name, None)
    driver.capability.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'fastact\[cuda\]'"):
        cuda.relu(Array(np.zeros(3, np.float32)))


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuda.core", reason="the extra cuda is not installed")
    driver._core.cache_clear()
    if sys.platform == "linux" and Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match=r"found no (NVIDIA driver|GPU)"):
        driver._core()


@pytest.mark.parametrize(("status", "count"), [(0, 0), (100, 0)])
def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, status: int, count: int) -> None:
    """A driver that counts no GPU, or cannot be started."""
    bindings: Any = types.ModuleType("cuda.bindings")
    bindings.driver = types.SimpleNamespace(cuInit=lambda _: (status,), cuDeviceGetCount=lambda: (0, count))
    package: Any = types.ModuleType("cuda")
    package.core, package.bindings = types.ModuleType("cuda.core"), bindings
    for name, module in (("cuda", package), ("cuda.core", package.core), ("cuda.bindings", bindings)):
        monkeypatch.setitem(sys.modules, name, module)
    driver._core.cache_clear()
    with pytest.raises(RuntimeError, match=r"found no GPU that can be used \(the driver says (0|100), 0 devices\)"):
        driver._core()
    driver._core.cache_clear()


# --- dispatch


@pytest.mark.parametrize("n", [0, 1, 3, 2047, 2048, 2**31 + 1, 2**40])
def test_grid(idle: HostDriver, n: int) -> None:
    cuda.relu(Huge((n,)), out=Huge((n,), pointer=1 << 50))
    cuda.relu_vjp(Huge((n,)), Huge((n,), pointer=1 << 45), out=Huge((n,), pointer=1 << 50))
    if n == 0:
        assert not idle.launches
        return
    assert [launch[2:] for launch in idle.launches] == [(-(-n // 2048), 256)] * 2
    assert idle.arguments[0] == (1 << 40, 1 << 50, n, n // 2048)


@pytest.mark.parametrize("shift", [0, 4, 8, 16])
def test_alignment_decides_how_memory_is_read(idle: HostDriver, shift: int) -> None:
    cuda.relu(Huge((5000,), pointer=(1 << 40) + shift), out=Huge((5000,), pointer=1 << 50))
    assert idle.arguments[0][-1] == (5000 // 2048 if shift % 16 == 0 else 0)


def test_an_address_of_the_host(idle: HostDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    bindings: Any = types.ModuleType("cuda.bindings")
    attribute = types.SimpleNamespace(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL=9)
    bindings.driver = types.SimpleNamespace(cuPointerGetAttribute=lambda *_: (1, None), CUpointer_attribute=attribute)
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
    monkeypatch.setattr(driver, "_core", lambda: None)
    monkeypatch.setattr(driver, "device_of", DEVICE_OF)
    with pytest.raises(ValueError, match=r"relu\(\): x: 0x10000000000 is not a pointer to memory of a GPU"):
        cuda.relu(Huge((3,)))


def test_items_that_no_gpu_can_read(idle: HostDriver) -> None:
    x, odd = Huge((8,)), Huge((8,), pointer=(1 << 50) + 2)
    with pytest.raises(ValueError, match=r"relu\(\): x is at 0x4000000000002, which is no multiple of its item size"):
        cuda.relu(odd, out=x)
    with pytest.raises(ValueError, match=r"softmax\(\): out is at 0x4000000000002"):
        cuda.softmax(x, out=odd)
    with pytest.raises(ValueError, match=r"leaky_relu\(\): negative_slope is at 0x"):
        cuda.leaky_relu(x, Array(np.frombuffer(bytes(9), np.uint8)[1:].view(np.float32)))
    assert not idle.launches


class Stream:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


def test_streams(idle: HostDriver) -> None:
    x, out = Array(sample(8), stream=7), Array(np.zeros(8, np.float32))
    for stream in (None, 9, Stream(cuda_stream=10), Stream(ptr=11), Stream(__cuda_stream__=lambda: (0, 12))):
        cuda.relu(x, out=out, stream=stream)
    assert [launch[1] for launch in idle.launches] == [7, 9, 10, 11, 12]
    with pytest.raises(TypeError, match=r"relu\(\): stream must be a CUDA stream or its handle"):
        cuda.relu(x, out=out, stream="main")


def test_operands_of_different_streams(idle: HostDriver) -> None:
    """Which is to wait for which is not for us to say; an array that names no stream is ready."""
    x, none, out = Array(sample(8), stream=7), Array(sample(8)), Array(np.zeros(8, np.float32), stream=9)
    with pytest.raises(ValueError, match=r"relu\(\): operands are used in different streams .*0x7.*0x9"):
        cuda.relu(x, out=out)
    with pytest.raises(ValueError, match=r"softmax\(\): operands are used in different streams"):
        cuda.softmax(x, out=out)
    cuda.relu(x, out=out, stream=9)
    cuda.relu(none, out=out)
    cuda.relu_vjp(x, none, out=none)
    default = Array(np.zeros(8, np.float32), stream=1)
    cuda.relu(none, out=default)
    assert [launch[1] for launch in idle.launches] == [9, 9, 7, 1]


def test_results_for_another_stream(idle: HostDriver) -> None:
    """Memory that a library lends to its current stream may still be in use there."""
    with pytest.raises(TypeError, match="with stream=, pass out="):
        cuda.relu(Array(sample(8)), stream=9)


class ReadOnly:
    @staticmethod
    def empty(shape: tuple[int, ...], dtype: Any, device: str) -> Array:
        return Array(np.zeros(shape, dtype), read_only=True)


def test_a_library_whose_results_must_not_be_written_to(idle: HostDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    x = Array(sample(8))
    monkeypatch.setattr(Array, "__array_namespace__", lambda self: ReadOnly)
    with pytest.raises(TypeError, match="must not be written to: pass out="):
        cuda.relu(x)


def test_a_kernel_is_made_once(idle: HostDriver) -> None:
    x = Array(sample(8))
    made = []
    idle.load = lambda code, name: made.append(name)  # type: ignore[method-assign]
    driver.load = idle.load
    for _ in range(3):
        cuda.binary_step(x)
    assert made == ["contiguous"]


@pytest.mark.parametrize("file", ["kernels/pairs.py", "cuda/templates.py", "graph/trace.py", "api.py"])
def test_no_cubin_of_other_sources_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str) -> None:
    package = tmp_path / "fastact"
    shutil.copytree(Path(fa.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(compiler.disk, "__file__", str(package / "cpu" / "cache.py"))  # whose sources() compiler asks
    before = compiler.directory.__wrapped__()
    assert compiler.directory.__wrapped__() == before
    (package / file).write_text((package / file).read_text("utf-8") + "\n", "utf-8")
    assert compiler.directory.__wrapped__() != before


class FakeTensor:
    """As much of a torch.Tensor as is asked for."""

    layout, negative = "strided", False

    def __init__(self, array: np.ndarray[Any, Any], device: str = "cuda", requires_grad: bool = False) -> None:
        self.array, self.requires_grad = array, requires_grad
        self.device = types.SimpleNamespace(type=device, index=1)
        self.dtype, self.shape = array.dtype.name, array.shape

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        raise RuntimeError("not for tensors that require grad")

    def is_contiguous(self) -> bool:
        return self.array.flags.c_contiguous

    def stride(self) -> tuple[int, ...]:
        return tuple(s // self.array.itemsize for s in self.array.strides)

    def is_neg(self) -> bool:
        return self.negative

    def data_ptr(self) -> int:
        return self.array.ctypes.data


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As much of PyTorch as is asked for."""
    made: Any = types.ModuleType("torch")
    made.Tensor = FakeTensor
    made.strided = "strided"
    made.is_grad_enabled = lambda: True
    made.empty_like = lambda x: FakeTensor(np.zeros_like(x.array))
    made._C = types.SimpleNamespace(_cuda_getCurrentRawStream=lambda device: 40 + device)
    for name in arrays.ITEMSIZE:
        setattr(made, name, name)
    monkeypatch.setitem(sys.modules, "torch", made)
    monkeypatch.setattr(arrays, "_torch_dtypes", {})
    return made


def test_torch_in_two_threads_at_once(idle: HostDriver, torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One asks for the dtypes while the other is at it."""
    x, other = FakeTensor(np.zeros(3)), []

    class Dtypes(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            other.append(None)
            if len(other) == 1:
                cuda.relu(x, out=FakeTensor(np.zeros(3)))
            return name

    slow: Any = Dtypes("torch")
    for name, value in vars(torch).items():
        if name not in ("bool", "int32", "int64", "float64"):
            setattr(slow, name, value)
    monkeypatch.setitem(sys.modules, "torch", slow)
    cuda.relu(x, out=FakeTensor(np.zeros(3)))
    assert len(idle.launches) == 2


def test_torch_tensors_whose_memory_has_the_other_sign(idle: HostDriver, torch: Any) -> None:
    x, out = FakeTensor(np.zeros(3)), FakeTensor(np.zeros(3))
    x.negative = True
    with pytest.raises(TypeError, match=r"relu\(\): x has its negative bit set, .* call resolve_neg\(\) on it"):
        cuda.relu(x, out=out)
    with pytest.raises(TypeError, match=r"relu\(\): out has its negative bit set"):
        cuda.relu(out, out=x)
    assert not idle.launches


def test_what_is_no_array_of_cupy(idle: HostDriver) -> None:
    sparse = type("csr_matrix", (), {"__module__": "cupyx.scipy.sparse", "dtype": np.dtype(np.float32)})
    with pytest.raises(TypeError, match=r"relu\(\): x must be an array on a GPU .*, not cupyx.scipy.sparse.csr_matrix"):
        cuda.relu(sparse())


@needs_compiler
def test_torch(gpu: HostDriver, torch: Any) -> None:
    for dtype in DTYPES.values():
        x = sample(300).astype(dtype).reshape(20, 15)
        for own in (x, x.T):
            got = cuda.relu(FakeTensor(own))
            assert isinstance(got, FakeTensor)
            assert same(got, fa.relu(own))
            assert gpu.launches[-1][:2] == (1, 41)
    slopes = np.float32([0.5] * 15)
    got = cuda.leaky_relu(FakeTensor(x.astype(np.float32)), FakeTensor(slopes))
    assert same(got, fa.leaky_relu(x.astype(np.float32), slopes))
    with pytest.raises(TypeError, match="requires grad, which would be lost"):
        cuda.relu(FakeTensor(x, requires_grad=True))
    with pytest.raises(TypeError, match="not a torch tensor on the device"):
        cuda.relu(FakeTensor(x, device="cpu"))
    with pytest.raises(TypeError, match="must be float16, bfloat16, float32 or float64"):
        cuda.relu(FakeTensor(np.zeros(3, np.int32)))
