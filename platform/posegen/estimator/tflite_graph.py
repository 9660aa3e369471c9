"""A TFLite flatbuffer as a list of operations and a dictionary of constants; weights can be written back into it.

Only what BlazePose's models use: convolutions, additions, padding, bilinear resizing, max pooling, reshaping, the
logistic function, and de-quantisation of fp16 weights. Layouts are TFLite's: NHWC activations, OHWI filters.
"""

from __future__ import annotations

import math
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posegen.errors import CheckpointError, DataError
from posegen.files.pickles import read_bytes

_DTYPES: dict[int, Any] = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64}  # TensorType of schema.fbs
KINDS = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "PAD", "RESIZE_BILINEAR", "MAX_POOL_2D", "RESHAPE", "LOGISTIC",
)  # fmt: skip


MAX_BYTES = 2**30
MAX_PARTS = 20_000  # tensors or operators of a graph
MAX_NUMBERS = 2**26  # of one tensor
_RANGES = {
    "stride": (1, 64), "dilation": (1, 64), "kernel": (1, 256), "padding": (0, 256), "size": (1, 4096),
    "activation": (0, 3),
}  # fmt: skip


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
    try:
        data = read_bytes(path, MAX_BYTES)
    except DataError as error:
        raise CheckpointError(error.what, where=path) from error
    if zipfile.is_zipfile(path):
        raise CheckpointError(
            "this is an archive (MediaPipe's .task), not the model in it", where=path,
            next_command=f"unzip {path.name} pose_landmarks_detector.tflite",
        )  # fmt: skip
    if data[4:8] != b"TFL3":
        raise CheckpointError("not a TFLite file (the identifier TFL3 is missing)", where=path)
    try:
        return _read(data, path)
    except (LookupError, ValueError, AttributeError, TypeError, AssertionError, OverflowError, struct.error) as error:
        reason = str(error) or type(error).__name__
        raise CheckpointError(
            f"the TFLite file is damaged: {reason}", where=path, next_command="posegen assets"
        ) from error


def _read(data: bytes, path: Path) -> TfliteGraph:  # noqa: PLR0912 - a branch for each part of the format
    import tflite

    names = {value: key for key, value in vars(tflite.BuiltinOperator).items() if isinstance(value, int)}
    model = tflite.Model.GetRootAsModel(data, 0)
    if model.SubgraphsLength() != 1:
        raise CheckpointError(f"the TFLite file has {model.SubgraphsLength()} graphs instead of one", where=path)
    graph = model.Subgraphs(0)
    for what, count in (("tensors", graph.TensorsLength()), ("operators", graph.OperatorsLength())):
        if not 0 < count <= min(MAX_PARTS, len(data) // 4):
            raise CheckpointError(f"the TFLite file claims {count} {what}", where=path)
    shapes: dict[int, tuple[int, ...]] = {}
    constants: dict[int, NDArray] = {}
    held = 0
    for number in range(graph.TensorsLength()):
        tensor = graph.Tensors(number)
        shapes[number] = _shape(tensor, number, path)
        place = tensor.Buffer()
        if place >= model.BuffersLength():
            raise CheckpointError(f"tensor {number} lies in buffer {place}, which is not there", where=path)
        buffer = model.Buffers(place)
        if buffer.DataLength():
            held += buffer.DataLength()
            if held > 2 * len(data):  # several tensors may lie in one buffer, a few times
                raise CheckpointError("the TFLite file's constants are larger than it: it is damaged", where=path)
            constants[number] = _constant(tensor, buffer, shapes[number], number, path)
    operations: list[Operation] = []
    stored_as: dict[int, int] = {}
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs = tuple(int(number) for number in operator.InputsAsNumpy())
        output = int(operator.OutputsAsNumpy()[0])
        if not inputs or not all(number in shapes for number in (*inputs, output)):
            raise CheckpointError(f"operator {index} uses tensors that are not there", where=path)
        if kind == "DEQUANTIZE" and inputs[0] in constants:
            if shapes[output] != shapes[inputs[0]]:
                raise CheckpointError(f"tensor {output} is of another shape than what it is made of", where=path)
            constants[output] = constants[inputs[0]].astype(np.float32)
            stored_as[output] = inputs[0]
            continue
        if kind not in KINDS:
            raise CheckpointError(f"operator {kind} is not supported", where=path, choices=KINDS)
        attributes = _checked(kind, _attributes(kind, operator, inputs, constants), path)
        operations.append(Operation(kind, index, inputs, output, attributes))
    ends = (*graph.InputsAsNumpy().tolist(), *graph.OutputsAsNumpy().tolist())
    if not all(number in shapes for number in ends) or not graph.InputsLength():
        raise CheckpointError("the graph's inputs or outputs are tensors that are not there", where=path)
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


def _shape(tensor: Any, number: int, path: Path) -> tuple[int, ...]:
    shape = tuple(int(n) for n in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
    if len(shape) > 8 or not all(0 < n < 2**30 for n in shape) or math.prod(shape) > MAX_NUMBERS:
        raise CheckpointError(f"tensor {number} has the impossible shape {shape[:9]}", where=path)
    return shape


def _constant(tensor: Any, buffer: Any, shape: tuple[int, ...], number: int, path: Path) -> NDArray:
    dtype = _DTYPES.get(tensor.Type())
    if dtype is None:
        raise CheckpointError(f"constant {number} is of a type that is not read (quantised?)", where=path)
    data = buffer.DataAsNumpy()
    if data.nbytes != math.prod(shape) * np.dtype(dtype).itemsize:
        raise CheckpointError(f"constant {number} has {data.nbytes} bytes for shape {shape}: damaged", where=path)
    values = np.frombuffer(data.tobytes(), dtype).reshape(shape)
    if not np.isfinite(values).all():
        raise CheckpointError(f"constant {number} has values that are not finite", where=path)
    return values.copy()


def _checked(kind: str, attributes: dict[str, Any], path: Path) -> dict[str, Any]:
    """Attributes within what such models have: strides of 0 or paddings of a million are damage."""
    for name, value in attributes.items():
        least, most = _RANGES.get(name, (0, 1))
        flat = np.asarray(value).reshape(-1)
        if (flat < least).any() or (flat > most).any():
            raise CheckpointError(f"operator {kind} has {name} = {str(value)[:80]}", where=path)
    if kind == "PAD" and np.shape(attributes["padding"]) != (4, 2):
        raise CheckpointError(f"operator PAD has the padding {str(attributes['padding'])[:80]}", where=path)
    return attributes


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
