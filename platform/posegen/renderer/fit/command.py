"""`posegen fit-subject`: fields for the free subjects, or for a user's own, with figures on views held out."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from posegen.assets.making.surface import vertex_normals
from posegen.config_types import typed
from posegen.devices import default_device
from posegen.errors import ConfigError, DataError
from posegen.files.atomic import write_json
from posegen.files.listing import files_matching
from posegen.files.results import free
from posegen.files.state import parse_json, read_text
from posegen.renderer.field.artifact import join_fields, load_field_file, save_field
from posegen.renderer.field.config import FieldConfig
from posegen.renderer.field.dense_mesh import densified
from posegen.renderer.field.field import ArticulatedField
from posegen.renderer.field.regions import find_regions, region_weights, vertex_areas
from posegen.renderer.field.volumes import SkinnedMesh, VolumeRig, build_rig, place_volumes, volume_weights
from posegen.renderer.fit.fit import FieldFit, FitSchedule, Skin, start_near_surface
from posegen.renderer.fit.quality import FitQuality, measure, save_side_by_side
from posegen.renderer.fit.views import FitViews, mesh_scene, render_views, subject_mesh

if TYPE_CHECKING:
    from posegen.body.model import BodyModel

logger = logging.getLogger(__name__)

REPORT = "report.json"

# Joints whose skin bends over a wide region: with a volume to a bone, they get a second one, turned by half of the
# joint's rotation.
BENDING_JOINTS = (
    "left_hip", "right_hip", "spine1", "spine2", "spine3", "neck", "left_collar", "right_collar", "left_shoulder",
    "right_shoulder", "left_knee", "right_knee", "left_elbow", "right_elbow",
)  # fmt: skip


@dataclass(frozen=True)
class FitConfig:
    """What is fitted, to what, and where the result goes.

    Args:
        subjects: names of free subjects; empty takes all training subjects. With `folder`, the one name to give.
        folder: a user's views instead of a free subject: a folder, A-NeRF's .h5, or SURREAL's clips (layouts in
            docs/reference/renderer-formats.md).
        body: SMPL file that the folder's poses belong to; None takes the free body.
        output: folder for the field, the figures and the pictures.
        size_px: side of the pictures that are fitted to.
        views: of each free subject, rendered; held_out_views: as many more to measure on. Of a user's views, no more
            than both together are read, and every tenth of them is measured on.
        supersampling: rays along each side of a pixel of the rendered views.
        resolution: voxels along each side of a volume.
        regions: of the skin, a volume to each; 0 for a volume to each bone.
        half_joints: of volumes to bones, see BENDING_JOINTS.
        bend: whether the pose bends the volumes, as skinning bends the skin; without, they are rigid.
        reach_m: how far from the body's skin the subject may reach.
        min_weight: the skin that a volume may hold belongs to it by this much at least: its skinning weight, or,
            of regions, a number that falls from 1 to 0 around their edges.
        resume: go on from a stopped fit of the same output folder.
        overwrite: fit subjects anew whose fields are in the output folder already.
        device: where to fit; None takes the GPU if there is one.
    """

    subjects: tuple[str, ...] = ()
    folder: str | None = None
    body: str | None = None
    output: str = "outputs/fit-subject"
    size_px: int = 96
    views: int = 800
    held_out_views: int = 32
    supersampling: int = 3
    resolution: int = 14
    regions: int = 128
    half_joints: tuple[str, ...] = BENDING_JOINTS
    bend: bool = True
    reach_m: float = 0.04
    min_weight: float = 0.1
    seed: int = 0
    resume: bool = True
    overwrite: bool = False
    device: str | None = None
    schedule: FitSchedule = field(default_factory=FitSchedule)
    renderer: FieldConfig = field(default_factory=FieldConfig)

    def __post_init__(self) -> None:
        if self.size_px < 16:
            raise ConfigError(f"pictures of {self.size_px} px are too small to fit to", where="fit-subject size_px")
        if self.views < 1 or self.held_out_views < 1:
            raise ConfigError("a fit needs at least one view, and one held out", where="fit-subject views")
        if self.device not in (None, "cpu", "cuda"):
            raise ConfigError(f"no device {self.device!r}", where="fit-subject device", choices=("cpu", "cuda"))
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("no GPU is usable here", where="fit-subject device", next_command="posegen doctor")
        if self.folder is not None and len(self.subjects) != 1:
            raise ConfigError("a folder of views holds one subject: give it one name", where="fit-subject subjects")


@dataclass(frozen=True)
class Source:
    """One subject to fit: where its volumes are, and its views."""

    name: str
    rig: VolumeRig
    skin: Skin
    train: FitViews
    held_out: FitViews


@dataclass(frozen=True)
class SubjectReport:
    name: str
    quality: FitQuality
    fit_s: float  # wall time of the fit
    views_s: float  # of making or reading the views
    field: str
    picture: str
    made_by: str = ""  # the digest of what the fit depends on
    sha256: str = ""  # of the field's file

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name, **self.quality.as_dict(), "fit_s": self.fit_s, "views_s": self.views_s,
            "field": self.field, "picture": self.picture, "made_by": self.made_by, "sha256": self.sha256,
        }  # fmt: skip


Progress = Callable[[str, int, int], None]  # what, done, of how many


def place(mesh: SkinnedMesh, faces: torch.Tensor, body: BodyModel, config: FitConfig) -> tuple[VolumeRig, Skin]:
    """The volumes around a mesh (faces (F,3)) on a body's skeleton, and its skin."""
    mesh, faces = densified(mesh, faces)
    normals = torch.from_numpy(vertex_normals(mesh.template_m.double().numpy(), faces.numpy())).float()
    if config.regions == 0:
        rig = build_rig(mesh, config.half_joints, bend=config.bend)
        return rig, Skin(mesh.template_m, normals, volume_weights(mesh.weights, rig.joint, rig.fraction))
    regions = find_regions(body.v_template, body.weights, body.faces, config.regions)
    follow = region_weights(regions, mesh.template_m, mesh.weights)
    importance = follow * vertex_areas(mesh.template_m, faces)[:, None] if config.bend else None
    rig = place_volumes(mesh, regions.joint, regions.fraction, follow, importance)
    return rig, Skin(mesh.template_m, normals, follow)


def free_source(name: str, config: FitConfig, progress: Progress | None = None) -> Source:
    """Renders the views of a free subject."""
    from posegen.body.model import load_body
    from posegen.body.subjects import load_subjects

    subject = load_subjects([name])[0]
    parts = []
    for split, count in (("train", config.views), ("held_out", config.held_out_views)):
        scene = mesh_scene(subject, count, config.size_px, config.seed, split)
        parts.append(render_views(subject, scene, config.supersampling, progress))
    return Source(name, *place(subject_mesh(subject), subject.faces, load_body(None), config), *parts)


def folder_source(name: str, config: FitConfig, progress: Progress | None = None) -> Source:
    """Reads a user's views; every tenth is held out."""
    from posegen.body.model import load_body

    assert config.folder is not None
    body = load_body(config.body)
    views = user_views(Path(config.folder), body, config, progress)
    held_out = torch.arange(len(views)) % 10 == 9
    if not bool(held_out.any()):
        raise ConfigError(f"{len(views)} views are too few to fit to: at least 10", where=config.folder)
    joints = body.rest_joints(torch.zeros(1, 10))[0]
    directions = (body.rest_joints(torch.eye(10)) - joints).permute(1, 2, 0)
    mesh = SkinnedMesh(body.v_template, body.shapedirs, body.weights, joints, directions)
    return Source(name, *place(mesh, body.faces, body, config), views.pick(~held_out), views.pick(held_out))


def user_views(path: Path, body: BodyModel, config: FitConfig, progress: Progress | None = None) -> FitViews:
    """Reads views in any of the layouts of docs/reference/renderer-formats.md, told apart by their files."""
    from posegen.renderer.fit.anerf_views import read_anerf_h5
    from posegen.renderer.fit.folder import read_views
    from posegen.renderer.fit.surreal import read_surreal

    most = config.views + config.held_out_views
    if path.suffix in (".h5", ".hdf5"):
        return read_anerf_h5(path, body, config.size_px, most, progress)
    if path.suffix == ".mp4":
        return read_surreal([path], body, config.size_px, most, progress)
    if not (path / "views.npz").is_file():
        infos = files_matching(path, "**/*_info.mat")
        clips = [info.with_name(info.name.removesuffix("_info.mat") + ".mp4") for info in infos]
        if clips:
            return read_surreal(clips, body, config.size_px, most, progress)
    return read_views(path, config.size_px, most, progress)


def fit_source(
    source: Source, config: FitConfig, progress: Progress | None = None
) -> tuple[ArticulatedField, FitQuality, torch.Tensor, float]:
    """Fits one subject and measures it: the field, its quality, the held-out renders (V,3,H,W) and seconds."""
    fitted = ArticulatedField([source.rig], [source.name], config.resolution, config.renderer)
    start_near_surface(fitted, source.skin, config.reach_m, config.min_weight)
    device = config.device or default_device()
    fitted.to(device)
    state = Path(config.output) / f"{source.name}.state"
    fit = FieldFit(fitted, source.train, config.schedule, state)
    if config.resume and fit.load_state():
        logger.info("going on with %s from step %d", source.name, fit.step_index)

    def tell(done: int, total: int, loss: float) -> None:
        if progress is not None:
            progress(f"{source.name}: fitting, loss {loss:.4f}", done, total)

    seconds = fit.run(tell)
    quality, images = measure(fitted, source.held_out, device=device)
    return fitted.cpu(), quality, images, seconds


def _digest_of(config: FitConfig) -> str:
    """Of all that a fitted field depends on: not of where it goes, nor of who else is fitted."""
    told = asdict(config)
    for name in ("output", "subjects", "resume", "overwrite", "device"):
        del told[name]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def finished(output: Path, made_by: str) -> dict[str, SubjectReport]:
    """The subjects that an earlier call with the same settings has fitted, whose fields are as they were written."""
    try:
        stored = parse_json(read_text(output / REPORT, "the report of earlier fits"))
    except (FileNotFoundError, DataError, ValueError):
        return {}
    done = {}
    for row in stored if isinstance(stored, list) else []:
        try:
            report = SubjectReport(
                str(row["name"]), FitQuality(**{f.name: row[f.name] for f in fields(FitQuality)}), float(row["fit_s"]),
                float(row["views_s"]), str(row["field"]), str(row["picture"]), str(row["made_by"]), str(row["sha256"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            continue
        path = output / f"{report.name}.npz"
        same = report.made_by == made_by and report.name == Path(report.name).name
        if same and path.is_file() and file_sha256(path) == report.sha256:
            done[report.name] = replace(report, field=str(path), picture=str(output / f"{report.name}.png"))
    return done


def fit_subjects(config: FitConfig, progress: Progress | None = None) -> list[SubjectReport]:
    """Fits every subject named. Writes `<name>.npz`, `<name>.png` (truth above, field below) and `report.json`, and
    for several subjects `subjects.npz` with all of them."""
    from posegen.body.subjects import TRAIN_SUBJECTS

    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    subjects = config.subjects or TRAIN_SUBJECTS
    made_by = _digest_of(config)
    # of a user's own views, which may have changed meanwhile, nothing is taken for done
    goes_on = config.resume and not config.overwrite and config.folder is None
    done = finished(output, made_by) if goes_on else {}
    for name in subjects:  # before hours of work, not after
        going_on = config.resume and (name in done or (output / f"{name}.state").exists())
        for made in (f"{name}.npz", f"{name}.png"):
            free(output / made, config.overwrite or going_on, "overwrite=true")
    reports: list[SubjectReport] = []
    for name in subjects:
        if name in done:
            logger.info("%s is done before", name)
            reports.append(done[name])
            continue
        start = time.monotonic()
        source = (free_source if config.folder is None else folder_source)(name, config, progress)
        views_s = time.monotonic() - start
        fitted, quality, images, seconds = fit_source(source, config, progress)
        path = save_field(fitted, output / f"{name}.npz")
        picture = save_side_by_side(images, source.held_out, output / f"{name}.png")
        logger.info("%s: %s", name, quality)
        reports.append(
            SubjectReport(name, quality, seconds, views_s, str(path), str(picture), made_by, file_sha256(path))
        )
        others = [report for other, report in done.items() if other not in subjects]
        write_json(output / REPORT, [report.as_dict() for report in [*others, *reports]])
        (output / f"{name}.state").unlink(missing_ok=True)  # last: until then a stop goes on from it
    if len(reports) > 1:
        save_field(join_fields([load_field_file(report.field) for report in reports]), output / "subjects.npz")
    return reports


HELP = """usage: posegen fit-subject [key=value ...]

Fits an articulated field to posed views and measures it on views held out.

  subjects=[amber,birch]       free subjects; none takes all that are for training
  folder=VIEWS subjects=[me]   your own views instead: a folder, A-NeRF's .h5, SURREAL's .mp4 or a folder of its clips
                               (layouts: docs/reference/renderer-formats.md); body=FILE is their SMPL model
  output=FOLDER                where field, picture and report.json go ({output})
  device=cuda|cpu              where to fit: the GPU if there is one
  size_px={size_px} views={views} resolution={resolution} schedule.steps={steps} schedule.batch={batch} seed=0 ...

Stopped by Ctrl-C, the same command goes on where it was (resume=false starts anew). Fields that are in the output
folder already are not written over; overwrite=true does that.
"""


def parse(argv: list[str]) -> FitConfig:
    """Words `key=value` to a checked FitConfig. Raises ConfigError with the valid keys."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for word in argv:
        if "=" not in word:
            raise ConfigError(f"expected key=value, not {word!r}", where="fit-subject",
                              next_command="posegen fit-subject --help")  # fmt: skip
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist(argv), resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(
            f"a value cannot be read: {str(error).splitlines()[0]}", where=f"fit-subject {' '.join(argv)}",
            next_command="posegen fit-subject --help",
        ) from error  # fmt: skip
    assert isinstance(values, dict)
    return typed(FitConfig, {str(key): value for key, value in values.items()}, "fit-subject")


def main(argv: list[str]) -> int:
    """The command line; returns the exit status."""
    if any(word in ("-h", "--help", "help") for word in argv):
        default = FitConfig()
        sys.stdout.write(HELP.format(output=default.output, size_px=default.size_px, views=default.views,
                                     resolution=default.resolution, steps=default.schedule.steps,
                                     batch=default.schedule.batch))  # fmt: skip
        return 0
    config = parse(argv)

    def show(what: str, done: int, total: int) -> None:
        if done % 20 == 0 or done == total:
            sys.stderr.write(f"\r{what} {done}/{total}" + " " * 10 + ("\n" if done == total else ""))

    reports = fit_subjects(config, show)
    sys.stderr.write("\n")
    for report in reports:
        sys.stdout.write(f"{report.name}: {report.quality}\n")
        sys.stdout.write(
            f"  views {report.views_s:.0f} s, fit {report.fit_s:.0f} s; {report.field}, {report.picture}\n"
        )
    joined = Path(config.output) / "subjects.npz" if len(reports) > 1 else Path(reports[0].field)
    sys.stdout.write(f"next: posegen run renderer.checkpoint={joined}\n")
    return 0
