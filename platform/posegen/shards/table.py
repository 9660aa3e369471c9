"""Between batches of tensors and Arrow tables, without a copy where the memory allows it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from posegen.errors import DataError
from posegen.files.pictures import decode_rgb
from posegen.scene import Camera, Light, Scene
from posegen.shards.schema import LABELS, Encoding, encoding_of, schema


def _array(values: Tensor | np.ndarray, dtype: pa.DataType, shape: tuple[int, ...]) -> pa.Array:
    """A batch (B,*shape) as an Arrow array that shares its memory when type and layout fit."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    values = np.ascontiguousarray(values, dtype=dtype.to_pandas_dtype())
    if values.shape[1:] != shape:
        raise DataError(f"a column has rows of shape {values.shape[1:]}, expected {shape}")
    return pa.FixedShapeTensorArray.from_numpy_ndarray(values) if shape else pa.array(values, dtype)


def rows_to_table(  # noqa: PLR0913 - the columns of a row
    row_ids: Tensor | np.ndarray,
    scene: Scene,
    images: Tensor | np.ndarray,
    *,
    joints2d_px: Tensor,
    joints3d_cam_m: Tensor,
    seed: int,
    round: int,
    generator_version: int,
    arm: str,
    error_at_birth_mm: Tensor | None = None,
    encoding: Encoding = "raw",
) -> pa.Table:
    """One table of B rows.

    Args:
        row_ids: (B,) int64.
        scene: the B scenes that were rendered.
        images: (B,3,H,W) uint8 RGB.
        joints2d_px: (B,24,2); joints3d_cam_m: (B,24,3), camera frame.
        error_at_birth_mm: (B,) the estimator's error when the rows were made; None: not measured (NaN).
        encoding: how the images are stored.
    """
    rows = len(scene)
    if images.dtype not in (torch.uint8, np.dtype(np.uint8)):
        raise DataError(f"images must be uint8, got {images.dtype}")
    if error_at_birth_mm is None:
        error_at_birth_mm = torch.full((rows,), float("nan"))
    columns: dict[str, Tensor | np.ndarray] = {
        "row_id": row_ids,
        "pose": scene.pose,
        "betas": scene.betas,
        "transl": scene.transl,
        "camera_R": scene.camera.R,
        "camera_t": scene.camera.t,
        "focal": scene.camera.focal,
        "centre": scene.camera.centre,
        "joints2d_px": joints2d_px,
        "joints3d_cam_m": joints3d_cam_m,
        "subject": scene.subject,
        "light": scene.light.as_numbers(),
        "background": scene.background,
        "seed": np.full(rows, seed, np.int64),
        "round": np.full(rows, round, np.int32),
        "generator_version": np.full(rows, generator_version, np.int32),
        "error_at_birth_mm": error_at_birth_mm,
    }
    arrays: dict[str, pa.Array] = {name: _array(values, *LABELS[name]) for name, values in columns.items()}
    arrays["arm"] = pa.array([arm] * rows, pa.string())
    arrays["image"] = _image_array(images, encoding)
    table_schema = schema(images.shape[2], images.shape[3], encoding)
    return pa.Table.from_arrays([arrays[name] for name in table_schema.names], schema=table_schema)


def _image_array(images: Tensor | np.ndarray, encoding: Encoding) -> pa.Array:
    if encoding == "raw":
        return _array(images, pa.uint8(), tuple(images.shape[1:]))
    pixels = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
    return pa.array([encode_image(image, encoding) for image in pixels], pa.binary())


def encode_image(image: np.ndarray, encoding: Encoding) -> bytes:
    """(3,H,W) uint8 -> PNG (exact) or JPEG (quality 95) bytes."""
    from PIL import Image

    out = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    if encoding == "png":
        picture.save(out, "PNG", compress_level=1)
    else:
        picture.save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


def decode_image(data: bytes) -> np.ndarray:
    """PNG or JPEG bytes -> (3,H,W) uint8."""
    return np.ascontiguousarray(decode_rgb(data, "a shard's picture").transpose(2, 0, 1))


def _numpy(column: pa.ChunkedArray, name: str) -> np.ndarray:
    chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(chunk, pa.ChunkedArray):  # a column of no chunks, or one that did not fit one chunk
        chunk = pa.concat_arrays(chunk.chunks) if chunk.num_chunks else pa.array([], chunk.type)
    if isinstance(chunk.type, pa.FixedShapeTensorType):
        return chunk.to_numpy_ndarray()
    if isinstance(chunk.type, pa.BaseExtensionType):
        raise DataError(f"column {name!r} has type {chunk.type}, expected an Arrow fixed-shape tensor")
    return chunk.to_numpy(zero_copy_only=False)


def table_to_tensors(table: pa.Table, columns: Sequence[str] | None = None, copy: bool = False) -> dict[str, Tensor]:
    """The numeric columns of a table as CPU tensors (B,...); encoded images are decoded to (B,3,H,W) uint8.

    Without `copy` the tensors share the table's memory (when it is one chunk) and must not be written to: memory that
    comes from Ray's object store is read-only, and torch cannot know. Text columns have no tensor and are left out.
    """
    out: dict[str, Tensor] = {}
    with warnings.catch_warnings():  # once for all columns: it costs as much as a column
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        for name in columns if columns is not None else table.column_names:
            column = table.column(name)
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                if columns is not None:
                    raise DataError(f"column {name!r} is text and has no tensor", choices=tensor_columns(table.schema))
                continue
            if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
                out[name] = torch.from_numpy(np.stack([decode_image(value.as_py()) for value in column]))
                continue
            tensor = torch.from_numpy(_numpy(column, name))
            out[name] = tensor.clone() if copy else tensor
    return out


def tensor_columns(table_schema: pa.Schema) -> list[str]:
    """Names of the columns that table_to_tensors gives."""
    return [field.name for field in table_schema if not pa.types.is_string(field.type)]


def table_to_scene(table: pa.Table, height: int | None = None, width: int | None = None) -> Scene:
    """The scenes that rows were rendered from. Height and width are needed only where images are encoded."""
    if height is None or width is None:
        if encoding_of(table.schema) == "raw":
            height, width = table.schema.field("image").type.shape[1:]
        else:
            height, width = decode_image(table.column("image")[0].as_py()).shape[1:]
    names = [name for name in LABELS if name != "arm"]
    column = table_to_tensors(table, names, copy=True)
    light = column["light"]
    return Scene(
        pose=column["pose"],
        betas=column["betas"],
        transl=column["transl"],
        camera=Camera(column["camera_R"], column["camera_t"], column["focal"], column["centre"], height, width),
        subject=column["subject"].long(),
        light=Light(light[:, :3], light[:, 3], light[:, 4]),
        background=column["background"],
    )
