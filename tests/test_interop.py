"""Libraries that take NumPy's ufuncs take these."""

from __future__ import annotations

import numpy as np
import pytest

import fastact as fa

from .functions import same_bits

X = np.float32([-1.5, 0, 2])


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    series = pandas.Series(X, index=["a", "b", "c"], name="x")
    for function in (fa.gelu, fa.leaky_relu):
        result = function(series)
        assert isinstance(result, pandas.Series)
        assert list(result.index) == ["a", "b", "c"]
        assert result.name == "x"
        assert same_bits(result.to_numpy(), function(X))
    frame = pandas.DataFrame({"u": X, "v": X[::-1]})
    assert isinstance(fa.sigmoid(frame), pandas.DataFrame)


def test_xarray() -> None:
    xarray = pytest.importorskip("xarray")
    array = xarray.DataArray(X, dims=["t"], coords={"t": [1, 2, 3]})
    for function in (fa.gelu, fa.leaky_relu):
        result = function(array)
        assert isinstance(result, xarray.DataArray)
        assert result.dims == ("t",)
        assert same_bits(result.to_numpy(), function(X))


def test_dask_stays_lazy() -> None:
    dask_array = pytest.importorskip("dask.array")
    x = np.linspace(-3, 3, 1000, dtype=np.float32)
    lazy = dask_array.from_array(x, chunks=300)
    for function in (fa.relu, fa.gelu, fa.leaky_relu):
        result = function(lazy)
        assert isinstance(result, dask_array.Array)
        assert same_bits(result.compute(scheduler="threads"), function(x))
    assert isinstance(fa.leaky_relu(lazy, negative_slope=0.5), dask_array.Array)


def test_dask_arrays_with_masks() -> None:
    dask_array = pytest.importorskip("dask.array")
    x = np.random.default_rng(0).normal(size=(5, 4, 6)).astype(np.float32)
    lazy, mask = dask_array.from_array(x, chunks=(2, 3, 6)), x > -1
    for options in ({"causal": True}, {"where": mask}, {"where": mask[:, :1]}, {"where": mask, "causal": True}):
        result = fa.softmax(lazy, **options)
        assert isinstance(result, dask_array.Array)
        assert np.array_equal(np.asarray(result), fa.softmax(x, **options))
    assert np.array_equal(np.asarray(fa.softmax(lazy, where=lazy > -1)), fa.softmax(x, where=mask))
