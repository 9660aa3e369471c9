"""A TFLite flatbuffer as a list of operations and a dictionary of constants; weights can be written back into it.

Only what BlazePose's models use: convolutions, additions, padding, bilinear resizing, max pooling, reshaping, the
logistic function, and de-quantisation of fp16 weights. Layouts are TFLite's: NHWC activations, OHWI filters.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.errors import CheckpointError

_DTYPES: dict[int, Any] = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64}  # TensorType of schema.fbs
KINDS = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "PAD", "RESIZE_BILINEAR", "MAX_POOL_2D", "RESHAPE", "LOGISTIC",
)  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One operator.

    Attributes:
        kind: one of KINDS.
        index: its place in the file.
        inputs: tensor numbers; constants among them are in TfliteGraph.constants.
        output: tensor number.
        attributes: strides, dilations, `same` padding, fused `activation` (0 none, 1 relu, 3 relu6), and so on.
    """

    kind: str
    index: int
    inputs: tuple[int, ...]
    output: int
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TfliteGraph:
    """A model read from a file."""

    path: Path
    operations: tuple[Operation, ...]
    constants: dict[int, NDArray]  # tensor number -> value, fp16 weights widened to float32
    shapes: dict[int, tuple[int, ...]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    stored_as: dict[int, int]  # a widened constant's tensor number -> the tensor that holds it in the file

    def written_with(self, changed: dict[int, NDArray]) -> bytes:
        """The file's bytes with some constants replaced, in the precision they were stored in."""
        import tflite

        buffer = bytearray(self.path.read_bytes())
        model = tflite.Model.GetRootAsModel(buffer, 0)
        graph = model.Subgraphs(0)
        for number, value in changed.items():
            tensor = graph.Tensors(self.stored_as.get(number, number))
            place = model.Buffers(tensor.Buffer()).DataAsNumpy()
            data = np.ascontiguousarray(value, _DTYPES[tensor.Type()])
            if data.nbytes != place.nbytes:
                raise CheckpointError(f"constant {number} has {data.nbytes} bytes instead of {place.nbytes}")
            place[:] = np.frombuffer(data.tobytes(), np.uint8)
        return bytes(buffer)


def read_tflite(path: str | Path) -> TfliteGraph:
    """Reads a TFLite file.

    Raises:
        CheckpointError: missing, damaged, or using an operator that is not among KINDS.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError("no such TFLite file", where=path, next_command="posegen assets")
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise CheckpointError("not a TFLite file (the identifier TFL3 is missing)", where=path)
    try:
        return _read(data, path)
    except (IndexError, ValueError, AttributeError, TypeError, AssertionError, struct.error) as error:
        raise CheckpointError(
            f"the TFLite file is damaged: {error}", where=path, next_command="posegen assets"
        ) from error


def _read(data: bytes, path: Path) -> TfliteGraph:
    import tflite

    names = {value: key for key, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
    model = tflite.Model.GetRootAsModel(data, 0)
    graph = model.Subgraphs(0)
    shapes: dict[int, tuple[int, ...]] = {}
    constants: dict[int, NDArray] = {}
    for number in range(graph.TensorsLength()):
        tensor = graph.Tensors(number)
        shapes[number] = tuple(int(n) for n in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
        buffer = model.Buffers(tensor.Buffer())
        if buffer.DataLength():
            raw = np.frombuffer(buffer.DataAsNumpy().tobytes(), _DTYPES[tensor.Type()])
            constants[number] = raw.reshape(shapes[number]).copy()
    operations: list[Operation] = []
    stored_as: dict[int, int] = {}
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs = tuple(int(number) for number in operator.InputsAsNumpy())
        output = int(operator.OutputsAsNumpy()[0])
        if kind == "DEQUANTIZE" and inputs[0] in constants:
            constants[output] = constants[inputs[0]].astype(np.float32)
            stored_as[output] = inputs[0]
            continue
        if kind not in KINDS:
            raise CheckpointError(f"operator {kind} is not supported", where=path, choices=KINDS)
        operations.append(Operation(kind, index, inputs, output, _attributes(kind, operator, inputs, constants)))
    used = {number for operation in operations for number in operation.inputs}
    return TfliteGraph(
        path,
        tuple(operations),
        {number: value for number, value in constants.items() if number in used},
        shapes,
        tuple(int(number) for number in graph.InputsAsNumpy()),
        tuple(int(number) for number in graph.OutputsAsNumpy()),
        stored_as,
    )


def _attributes(kind: str, operator: Any, inputs: tuple[int, ...], constants: dict[int, NDArray]) -> dict[str, Any]:
    import tflite

    def options(cls: Any) -> Any:
        found, table = cls(), operator.BuiltinOptions()
        found.Init(table.Bytes, table.Pos)
        return found

    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        o = options(tflite.DepthwiseConv2DOptions if kind.startswith("D") else tflite.Conv2DOptions)
        return {
            "stride": (o.StrideH(), o.StrideW()),
            "dilation": (o.DilationHFactor(), o.DilationWFactor()),
            "same": o.Padding() == tflite.Padding.SAME,
            "activation": o.FusedActivationFunction(),
        }
    if kind == "ADD":
        return {"activation": options(tflite.AddOptions).FusedActivationFunction()}
    if kind == "PAD":
        return {"padding": constants[inputs[1]].tolist()}
    if kind == "RESIZE_BILINEAR":
        o = options(tflite.ResizeBilinearOptions)
        size = tuple(int(n) for n in constants[inputs[1]])
        return {"size": size, "align_corners": bool(o.AlignCorners()), "half_pixel": bool(o.HalfPixelCenters())}
    if kind == "MAX_POOL_2D":
        o = options(tflite.Pool2DOptions)
        return {
            "kernel": (o.FilterHeight(), o.FilterWidth()),
            "stride": (o.StrideH(), o.StrideW()),
            "same": o.Padding() == tflite.Padding.SAME,
        }
    return {}
