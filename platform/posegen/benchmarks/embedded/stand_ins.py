"""The embedded stand-ins for the four benchmarks: pictures of the dressed mesh, made once and cached.

They answer "does it work here", not "how good is it on 3DPW": each borrows from the data set it is named after the kind
of camera, motion, people and surroundings (conf/split/embedded.yaml says which), nothing else. The mesh is traced by
posegen.renderer.mesh, never by the field, so that nothing is tested on its own pictures.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial as bind
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from posegen.assets.cache import cache_dir, locked_file, read_manifest, replacing
from posegen.benchmarks.protocol import REGISTRY, Benchmark, EvalBatch, Protocol
from posegen.body.cameras import viewing_angles
from posegen.body.motion.pack import CMU_SHA256
from posegen.body.rotations import aa_to_matrix, matrix_to_aa
from posegen.errors import AssetError, ConfigError, DataError
from posegen.files.arrays import read_npz
from posegen.files.values import text
from posegen.scene import Camera, Renderer
from posegen.scenes.photographer import Photographer
from posegen.scenes.sampler import EMBEDDED_SIZE_PX, SceneDraw, SceneSampler
from posegen.scenes.split import WINDOW_S, Split, SplitPart, load_split, part_digest

if TYPE_CHECKING:
    from posegen.body.model import BodyModel
    from posegen.estimator.crop import CropConvention

logger = logging.getLogger(__name__)

EMBEDDED_TESTS = ("3dpw-like", "3dhp-like", "ski-like", "agora-like")
EMBEDDED_OTHERS = ("source-like", "source-wide-like", "validation")
RECIPE = 2  # counts changes of the pictures that neither the split nor the assets show
QUICK_IMAGES = 160
BATCH = 32
SEGMENT_S = WINDOW_S  # pictures of one clip within half a second count as one group: they show nearly the same pose

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EmbeddedSet:
    """All pictures of one set with their labels, as numpy arrays (N first)."""

    images: np.ndarray  # (N,3,S,S) uint8
    pose: np.ndarray  # (N,24,3) rad, global orient in the world
    betas: np.ndarray  # (N,10)
    transl: np.ndarray  # (N,3) m
    camera_R: np.ndarray  # (N,3,3) world -> camera
    camera_t: np.ndarray  # (N,3) m
    focal: np.ndarray  # (N,) px
    centre: np.ndarray  # (N,2) px
    subject: np.ndarray  # (N,) index into the part's subjects
    clip: np.ndarray  # (N,) index into the part's clips
    frame: np.ndarray  # (N,)
    segment: np.ndarray  # (N,) half seconds since the clip's start
    light: np.ndarray  # (N,5) direction, ambient, diffuse
    background: np.ndarray  # (N,) seed, also of the look

    def __len__(self) -> int:
        return len(self.images)

    def digest(self) -> str:
        """sha256 over all arrays: the identity of the set, and the check that a file is whole."""
        sha = hashlib.sha256()
        for name, value in sorted(vars(self).items()):
            sha.update(f"{name}{value.dtype}{value.shape}".encode())
            sha.update(np.ascontiguousarray(value).tobytes())
        return sha.hexdigest()


def mesh_renderer(part: SplitPart) -> Renderer:
    """The reference renderer with the part's dressed subjects."""
    from posegen.body.subjects import load_subjects
    from posegen.renderer.mesh import MeshRenderer

    return MeshRenderer(load_subjects(list(part.subjects)), supersampling=2)


def render_part(
    part: SplitPart,
    images: int,
    seed: int,
    size_px: int = EMBEDDED_SIZE_PX,
    *,
    sampler: SceneSampler | None = None,
    renderer: Renderer | None = None,
    progress: Progress | None = None,
    crop: CropConvention | None = None,
) -> EmbeddedSet:
    """Renders a set. Row i is a function of (part, seed, i): a larger set begins with the smaller one."""
    sampler = SceneSampler(part, size_px=size_px, crop=crop) if sampler is None else sampler
    renderer = mesh_renderer(part) if renderer is None else renderer
    photograph = Photographer.of_part(part, renderer, clamped=True)
    rows: list[dict[str, np.ndarray]] = []
    with torch.no_grad():
        for start in range(0, images, BATCH):
            ids = torch.arange(start, min(start + BATCH, images))
            draw = sampler.draw(ids, seed)
            rows.append(_columns(draw, photograph(draw.scene), sampler))
            if progress is not None:
                progress(min(start + BATCH, images), images)
    return EmbeddedSet(**{key: np.concatenate([row[key] for row in rows]) for key in rows[0]})


def _columns(draw: SceneDraw, picture: Tensor, sampler: SceneSampler) -> dict[str, np.ndarray]:
    scene = draw.scene
    seconds = draw.frame / sampler.fps[draw.clip]
    columns = {
        "images": (picture * 255).round().to(torch.uint8),
        "pose": scene.pose,
        "betas": scene.betas,
        "transl": scene.transl,
        "camera_R": scene.camera.R,
        "camera_t": scene.camera.t,
        "focal": scene.camera.focal,
        "centre": scene.camera.centre,
        "subject": scene.subject,
        "clip": draw.clip,
        "frame": draw.frame,
        "segment": (seconds / SEGMENT_S).long(),
        "light": scene.light.as_numbers(),
        "background": scene.background,
    }
    return {name: value.numpy() for name, value in columns.items()}


def set_path(part: SplitPart, images: int, seed: int, size_px: int, crop: CropConvention | None = None) -> Path:
    """Where a set is cached: the name changes with all that the pictures depend on."""
    assets = {name: entry.get("sha256") for name, entry in read_manifest().items()}
    assets = {name: assets.get(name) for name in ("body_low", "mocap", "subjects")} | {"cmu": CMU_SHA256}
    told = [RECIPE, part_digest(part), images, seed, size_px, assets]
    if crop is not None and crop.reframes:
        told.append([crop.margin, crop.upright])
    text = json.dumps(told, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    return cache_dir() / "embedded" / f"{part.name}-{images}x{size_px}-seed{seed}-{key}.npz"


def read_set(path: Path) -> EmbeddedSet | None:
    """The set in a file; None when there is none or when it is damaged."""
    if not path.is_file():
        return None
    try:
        names = [field.name for field in fields(EmbeddedSet)]
        arrays = read_npz(path, [*names, "digest"], text=("digest",), what="the cached set")
        expected = text(arrays.pop("digest"), "digest", path)
    except DataError as error:
        logger.warning("%s; it will be made again: %s", error.what, path)
        return None
    loaded = EmbeddedSet(**arrays)
    if loaded.digest() != expected:
        logger.warning("the cached set %s does not match its digest and will be made again", path)
        return None
    return loaded


def write_set(data: EmbeddedSet, path: Path) -> None:
    """Writes a set so that no reader ever sees half of it."""
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, digest=np.array(data.digest()), **vars(data))  # type: ignore[arg-type]
    except OSError as error:
        raise AssetError(
            f"the embedded set cannot be written: {error.strerror or error}",
            where=path,
            next_command="free some space or set POSEGEN_CACHE to another folder",
        ) from error


def cached_set(
    part: SplitPart,
    images: int,
    seed: int,
    size_px: int = EMBEDDED_SIZE_PX,
    make: Callable[[], EmbeddedSet] | None = None,
    progress: Progress | None = None,
    crop: CropConvention | None = None,
) -> EmbeddedSet:
    """The set from the cache, rendered first if need be. Of several processes that ask at once, one renders."""
    path = set_path(part, images, seed, size_px, crop)
    if (found := read_set(path)) is not None:
        return found
    make = bind(render_part, part, images, seed, size_px, progress=progress, crop=crop) if make is None else make
    with locked_file(path.with_suffix(".lock"), f"another process draws {part.name}", logger.warning):
        if (found := read_set(path)) is not None:
            return found
        logger.info("rendering %d pictures of %s", images, part.name)
        data = make()
        write_set(data, path)
        return data


class EmbeddedBenchmark(Benchmark):
    """One embedded set.

    Args:
        part: a part of the split.
        data: its pictures and labels.
        split: the split it is of, for the protocol line.
        body: gives joints and vertices of the labels; the embedded body at low resolution by default.
        crop: that the pictures were made with.
    """

    truth_of = "free body"

    def __init__(
        self,
        part: SplitPart,
        data: EmbeddedSet,
        split: Split,
        body: BodyModel | None = None,
        crop: CropConvention | None = None,
    ) -> None:
        if body is None:
            from posegen.body.model import load_body

            body = load_body(resolution="low")
        self.name = part.name
        self.part = part
        self.data = data
        self.body = self.truth_body = body
        boxes = f"ground-truth {part.camera.box} x {part.camera.box_factor:g}"
        self.protocol = Protocol(
            name=part.name,
            joint_set="smpl24",
            root=("pelvis",),
            gender="neutral free body",
            split=f"{split.name} v{split.version}, clips {' '.join(part.clips)}, {len(data)} images",
            cameras=f"{part.camera.lattice} azimuth sectors",
            boxes=boxes if crop is None else crop.describe(boxes),
            source="embedded stand-in, conf/split/embedded.yaml; not the data set it is named after",
        )

    def __len__(self) -> int:
        return len(self.data)

    def batches(self, batch_size: int) -> Iterator[EvalBatch]:
        for start in range(0, len(self), batch_size):
            yield self.batch(slice(start, min(start + batch_size, len(self))))

    @property
    def easy(self) -> np.ndarray:
        """(N,) bool: the pictures of the easy half, motion of kinds that training has (other trials of it)."""
        return np.isin(self.data.clip, [self.part.clips.index(clip) for clip in self.part.easy])

    def examples(self, ids: Sequence[str]) -> Iterator[EvalBatch]:
        for name in ids:
            row = int(name.rpartition("/")[2])
            yield self.batch(slice(row, row + 1))

    def camera(self, rows: slice) -> Camera:
        """The cameras of the rows, from their own frame to px."""
        data = self.data
        focal, centre = (torch.from_numpy(array[rows]) for array in (data.focal, data.centre))
        number = len(focal)
        return Camera(torch.eye(3).repeat(number, 1, 1), torch.zeros(number, 3), focal, centre, *data.images.shape[-2:])

    def batch(self, rows: slice) -> EvalBatch:
        """The rows with joints and vertices in the camera frame."""
        data = self.data
        pose, betas, transl, R, t = (
            torch.from_numpy(array[rows])
            for array in (data.pose, data.betas, data.transl, data.camera_R, data.camera_t)
        )
        rotations = aa_to_matrix(pose)
        with torch.no_grad():
            posed = self.body(rotations, betas, transl)
        azimuth, elevation = viewing_angles(R, rotations[:, 0])
        clips = [self.part.clips[i] for i in data.clip[rows].tolist()]
        frames = data.frame[rows].tolist()
        return EvalBatch(
            images=torch.from_numpy(data.images[rows]).float() / 255,
            joints=posed.joints @ R.transpose(1, 2) + t[:, None],
            joint_set="smpl24",
            ids=[f"{self.name}/{i:05d}" for i in range(*rows.indices(len(self)))],
            groups=[f"{clip}/{segment}" for clip, segment in zip(clips, data.segment[rows].tolist(), strict=True)],
            vertices=posed.vertices @ R.transpose(1, 2) + t[:, None],
            pose=torch.cat([matrix_to_aa(R @ rotations[:, 0])[:, None], pose[:, 1:]], 1),
            betas=betas,
            azimuth_rad=azimuth,
            elevation_rad=elevation,
            frames=frames,
            actions=clips,
            camera=self.camera(rows),
        )


def build_embedded(
    name: str,
    images: int = QUICK_IMAGES,
    seed: int = 0,
    size_px: int = EMBEDDED_SIZE_PX,
    split: str | Path | Mapping[str, Any] | Split = "embedded",
    progress: Progress | None = None,
    crop: CropConvention | None = None,
) -> EmbeddedBenchmark:
    """The embedded set called `name`, rendered at first use (about 3 s for 160 pictures).

    Args:
        images: how many; 160 for a quick look, 1000 for numbers.
        seed: another seed gives other pictures of the same kind.
        split: by name, file or mapping; see posegen.scenes.split.load_split.
        crop: how an estimator wants the person cropped; None is the person's box.
    """
    if images < 1 or size_px < 8:
        raise ConfigError(f"{images} images of {size_px} px make no benchmark", where=f"benchmark={name}")
    loaded = split if isinstance(split, Split) else load_split(split)
    if any(part.name == name for part in loaded.targets.values()):
        raise ConfigError(
            f"{name} has no labels to evaluate on",
            where="posegen.benchmarks.embedded.target_parts",
            choices=loaded.tests,
        )
    part = loaded[name]
    data = cached_set(part, images, seed, size_px, progress=progress, crop=crop)
    return EmbeddedBenchmark(part, data, loaded, crop=crop)


def _register(name: str) -> None:
    def factory(
        images: int = QUICK_IMAGES,
        seed: int = 0,
        size_px: int = EMBEDDED_SIZE_PX,
        split: str | Path | Mapping[str, Any] | Split = "embedded",
        progress: Progress | None = None,
        crop: CropConvention | None = None,
    ) -> EmbeddedBenchmark:
        return build_embedded(name, images, seed, size_px, split, progress, crop)

    REGISTRY.register(name)(factory)


for _name in (*EMBEDDED_TESTS, *EMBEDDED_OTHERS):
    _register(_name)
