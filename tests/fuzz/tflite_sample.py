"""A TFLite file of two operations, written as TensorFlow's converter lays it out."""

from __future__ import annotations

import flatbuffers
import numpy as np
import tflite
from tflite import BuiltinOperator, BuiltinOptions, TensorType


def _vector(builder: flatbuffers.Builder, start, offsets: list[int]) -> int:
    start(builder, len(offsets))
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _numbers(builder: flatbuffers.Builder, values: tuple[int, ...]) -> int:
    return builder.CreateNumpyVector(np.array(values, np.int32))


def small_tflite() -> bytes:  # noqa: PLR0915 - a file written field by field
    """Image (1,4,4,3) -> convolution with fp16 weights -> reshaped to (1,32)."""
    b = flatbuffers.Builder(1024)
    rng = np.random.default_rng(0)
    data = [
        None,
        rng.normal(size=(2, 3, 3, 3)).astype(np.float16),
        np.zeros(2, np.float32),
        np.array([1, 32], np.int32),
    ]
    buffers = []
    for value in data:
        vector = None if value is None else b.CreateByteVector(value.tobytes())
        tflite.BufferStart(b)
        if vector is not None:
            tflite.BufferAddData(b, vector)
        buffers.append(tflite.BufferEnd(b))
    tensors = []
    for shape, kind, buffer in (
        ((1, 4, 4, 3), TensorType.FLOAT32, 0), ((2, 3, 3, 3), TensorType.FLOAT16, 1), ((2, 3, 3, 3),
        TensorType.FLOAT32, 0),
        ((2,), TensorType.FLOAT32, 2), ((1, 4, 4, 2), TensorType.FLOAT32, 0), ((2,), TensorType.INT32, 3),
        ((1, 32), TensorType.FLOAT32, 0),
    ):  # fmt: skip
        vector = _numbers(b, shape)
        tflite.TensorStart(b)
        tflite.TensorAddShape(b, vector)
        tflite.TensorAddType(b, kind)
        tflite.TensorAddBuffer(b, buffer)
        tensors.append(tflite.TensorEnd(b))
    codes = []
    for code in (BuiltinOperator.DEQUANTIZE, BuiltinOperator.CONV_2D, BuiltinOperator.RESHAPE):
        tflite.OperatorCodeStart(b)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, code)
        tflite.OperatorCodeAddBuiltinCode(b, code)
        codes.append(tflite.OperatorCodeEnd(b))
    tflite.Conv2DOptionsStart(b)
    tflite.Conv2DOptionsAddStrideW(b, 1)
    tflite.Conv2DOptionsAddStrideH(b, 1)
    tflite.Conv2DOptionsAddDilationWFactor(b, 1)
    tflite.Conv2DOptionsAddDilationHFactor(b, 1)
    options = tflite.Conv2DOptionsEnd(b)
    operators = []
    for index, inputs, output in ((0, (1,), 2), (1, (0, 2, 3), 4), (2, (4, 5), 6)):
        inward, outward = _numbers(b, inputs), _numbers(b, (output,))
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, index)
        tflite.OperatorAddInputs(b, inward)
        tflite.OperatorAddOutputs(b, outward)
        if index == 1:
            tflite.OperatorAddBuiltinOptionsType(b, BuiltinOptions.Conv2DOptions)
            tflite.OperatorAddBuiltinOptions(b, options)
        operators.append(tflite.OperatorEnd(b))
    listed = _vector(b, tflite.SubGraphStartTensorsVector, tensors)
    steps = _vector(b, tflite.SubGraphStartOperatorsVector, operators)
    inward, outward = _numbers(b, (0,)), _numbers(b, (6,))
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, listed)
    tflite.SubGraphAddInputs(b, inward)
    tflite.SubGraphAddOutputs(b, outward)
    tflite.SubGraphAddOperators(b, steps)
    graphs = _vector(b, tflite.ModelStartSubgraphsVector, [tflite.SubGraphEnd(b)])
    known = _vector(b, tflite.ModelStartOperatorCodesVector, codes)
    held = _vector(b, tflite.ModelStartBuffersVector, buffers)
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddOperatorCodes(b, known)
    tflite.ModelAddSubgraphs(b, graphs)
    tflite.ModelAddBuffers(b, held)
    b.Finish(tflite.ModelEnd(b), file_identifier=b"TFL3")
    return bytes(b.Output())
