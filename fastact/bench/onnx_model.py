"""A one-node ONNX model as bytes, so that ONNX Runtime can be measured without the `onnx` package.

An ONNX file is a protocol buffer; what one node needs of that format is small: fields are a key
(number and wire type) followed by a varint, four bytes, or a length and bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

DTYPE_CODES = {"float32": 1, "float16": 10, "float64": 11}
OPSET = 21


def _varint(value: int) -> bytes:
    out = bytearray()
    value &= 0xFFFF_FFFF_FFFF_FFFF  # a negative number is its two's complement
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: int | float | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _attribute(name: str, value: int | float | str) -> bytes:
    # AttributeProto: name = 1, f = 2, i = 3, s = 4, type = 20 (FLOAT 1, INT 2, STRING 3)
    place, code = {float: (2, 1), int: (3, 2), str: (4, 3)}[type(value)]
    return _field(5, _field(1, name) + _field(place, value) + _field(20, code))


def _value_info(name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    # ValueInfoProto: name = 1, type = 2 { tensor_type = 1 { elem_type = 1, shape = 2 { dim = 1 {
    # dim_value = 1 }}}}
    dims = b"".join(_field(1, _field(1, n)) for n in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, DTYPE_CODES[dtype]) + _field(2, dims)))


def _initializer(name: str, dtype: str, value: float) -> bytes:
    # TensorProto: dims = 1 (none: a scalar), data_type = 2, name = 8, raw_data = 9
    raw = np.asarray(value, dtype).tobytes()
    return _field(2, DTYPE_CODES[dtype]) + _field(8, name) + _field(9, raw)


def _axes_initializer(axes: tuple[int, ...]) -> bytes:
    return _field(1, len(axes)) + _field(2, 7) + _field(8, "axes") + _field(9, np.array(axes, "<i8").tobytes())


def one_node_model(
    op: str,
    attributes: Mapping[str, int | float | str],
    constants: Mapping[str, float],
    dtype: str,
    shape: tuple[int, ...],
    *,
    domain: str = "",
    axes: tuple[int, ...] = (),
    result: tuple[int, ...] | None = None,
) -> bytes:
    """A model ``y = op(x, *constants)``, or ``y = op(x, axes)``, on arrays of one dtype and fixed shapes.

    `result` is the shape of y; by default it is that of x.
    """
    inputs = b"".join(_field(1, name) for name in ("x", *constants, *(("axes",) if axes else ())))
    node = inputs + _field(2, "y") + _field(4, op)
    node += b"".join(_attribute(name, value) for name, value in attributes.items())
    node += _field(7, domain)
    graph = _field(1, node) + _field(2, op)
    graph += b"".join(_field(5, _initializer(name, dtype, c)) for name, c in constants.items())
    graph += _field(5, _axes_initializer(axes)) if axes else b""
    graph += _field(11, _value_info("x", dtype, shape))
    graph += _field(12, _value_info("y", dtype, shape if result is None else result))
    opsets = _field(8, _field(1, "") + _field(2, OPSET))
    if domain:
        opsets += _field(8, _field(1, domain) + _field(2, 1))
    return _field(1, 10) + opsets + _field(7, graph)
