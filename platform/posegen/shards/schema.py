"""The row of a generated dataset: one rendered image with every label and where it came from.

Columns that are arrays are Arrow's own fixed-shape tensors, so that plain pyarrow opens a shard typed and a batch
reaches torch without a copy. An image column is raw uint8 by default; `encoding="png"` or `"jpeg"` stores compressed
bytes instead, for datasets kept for long.
"""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

from posegen.errors import DataError

Encoding = Literal["raw", "png", "jpeg"]
ENCODINGS: tuple[Encoding, ...] = ("raw", "png", "jpeg")

SCHEMA_VERSION = 1
VERSION_KEY = b"posegen.schema_version"
ENCODING_KEY = b"posegen.image_encoding"

# name: (value type, shape of one row). Frames and units as in posegen.scene.
LABELS: dict[str, tuple[pa.DataType, tuple[int, ...]]] = {
    "row_id": (pa.int64(), ()),  # names the row for ever: the same id is the same scene
    "pose": (pa.float32(), (24, 3)),  # axis-angle rad, world
    "betas": (pa.float32(), (10,)),
    "transl": (pa.float32(), (3,)),  # m, world
    "camera_R": (pa.float32(), (3, 3)),  # world -> camera
    "camera_t": (pa.float32(), (3,)),  # m
    "focal": (pa.float32(), ()),  # px
    "centre": (pa.float32(), (2,)),  # px
    "joints2d_px": (pa.float32(), (24, 2)),
    "joints3d_cam_m": (pa.float32(), (24, 3)),
    "subject": (pa.int32(), ()),
    "light": (pa.float32(), (5,)),  # direction xyz (world), ambient, diffuse
    "background": (pa.int64(), ()),  # seed; -1 white
    "seed": (pa.int64(), ()),
    "round": (pa.int32(), ()),
    "generator_version": (pa.int32(), ()),
    "arm": (pa.string(), ()),
    "error_at_birth_mm": (pa.float32(), ()),  # the estimator's MPJPE when the row was made; NaN if not measured
}


def tensor_type(value: pa.DataType, shape: tuple[int, ...]) -> pa.DataType:
    """The Arrow type of one column: the value itself, or a fixed-shape tensor of it."""
    return pa.fixed_shape_tensor(value, shape) if shape else value


def schema(height: int, width: int, encoding: Encoding = "raw") -> pa.Schema:
    """The Arrow schema of shards with images of height x width px."""
    if encoding not in ENCODINGS:
        raise DataError(f"unknown image encoding {encoding!r}", choices=ENCODINGS)
    image = tensor_type(pa.uint8(), (3, height, width)) if encoding == "raw" else pa.binary()
    fields = [pa.field("row_id", pa.int64(), nullable=False), pa.field("image", image)]
    fields += [pa.field(name, tensor_type(*spec)) for name, spec in LABELS.items() if name != "row_id"]
    metadata = {VERSION_KEY: str(SCHEMA_VERSION).encode(), ENCODING_KEY: encoding.encode()}
    return pa.schema(fields, metadata=metadata)


def encoding_of(table_schema: pa.Schema) -> Encoding:
    """How the image column is stored, by its type (metadata may have been dropped on the way)."""
    stored = (table_schema.metadata or {}).get(ENCODING_KEY)
    if stored is not None:
        for encoding in ENCODINGS:
            if stored == encoding.encode():
                return encoding
        raise DataError(f"unknown image encoding {stored[:40]!r}", choices=ENCODINGS)
    image = table_schema.field("image").type
    return "raw" if isinstance(image, pa.FixedShapeTensorType) else "png"


def check_version(table_schema: pa.Schema, where: object) -> None:
    """Refuses rows of another schema version than this code reads."""
    stored = (table_schema.metadata or {}).get(VERSION_KEY)
    if stored is None or not (stored.isdigit() and len(stored) < 9):
        raise DataError("not a PoseGen shard: it carries no schema version", where=where)
    if int(stored) != SCHEMA_VERSION:
        raise DataError(
            f"shard has schema version {int(stored)}, this version of posegen reads {SCHEMA_VERSION}",
            where=where,
            next_command="posegen run  # with another run name, to render the dataset again",
        )
