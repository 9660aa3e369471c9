"""What a number means: the protocol of a benchmark, and the batches it hands out.

Two numbers are comparable only where joint set, root, alignment, gender rule, frame stride and cameras agree, so the
protocol is an object that is printed with every result.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, runtime_checkable
from typing import Protocol as TypingProtocol

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from posegen.arguments import check_arguments
from posegen.body.joint_sets import JointSet, comparable, joint_set
from posegen.errors import ConfigError
from posegen.registry import Registry
from posegen.scene import Camera

if TYPE_CHECKING:
    from posegen.estimator.crop import CropConvention


@dataclass(frozen=True)
class Protocol:
    """The rules under which a benchmark's numbers are made. `str()` is one printable line."""

    name: str
    joint_set: str  # of the ground truth, a name in posegen.body.joint_sets.JOINT_SETS
    joints: tuple[str, ...] = ()  # those compared; () means all that prediction and truth share
    pck_joints: tuple[str, ...] = ()  # those that PCK and AUC count; () means all that are compared
    root: tuple[str, ...] = ()  # both sides are centred on the mean of these; () means the joint set's root
    alignment: str = "root translation"  # of MPJPE, PVE, PCK and AUC; PA-MPJPE adds rotation and scale
    gender: str = "none"  # which body the ground truth is posed with
    split: str = "test"
    stride: int = 1  # every n-th frame counts
    cameras: str = "all"
    scale: str = "metric, none fitted"  # how the prediction's size is set
    boxes: str = "ground truth"  # where the crop comes from
    ordered: bool = False  # whether the frames of a group follow each other, so that acceleration means something
    source: str = ""  # the publication or the repository that defines it

    def __post_init__(self) -> None:
        truth = joint_set(self.joint_set)
        for name in (*self.joints, *self.pck_joints, *self.root):
            truth.index(name)
        if self.stride < 1:
            raise ConfigError(f"the frame stride must be at least 1, not {self.stride}")

    @property
    def truth_set(self) -> JointSet:
        """The joint set of the ground truth with the protocol's root."""
        truth = joint_set(self.joint_set)
        return replace(truth, root=self.root) if self.root else truth

    @property
    def root_joints(self) -> tuple[str, ...]:
        return self.root or joint_set(self.joint_set).root

    def compared(self, predicted: str) -> tuple[str, ...]:
        """Names of the joints compared with predictions in the set called `predicted`, in the truth's order."""
        truth, other = joint_set(self.joint_set), joint_set(predicted)
        names = tuple(j for j in truth.joints if j in other.joints and (not self.joints or j in self.joints))
        if not names:
            raise ConfigError(
                f"{self.name}: predictions in joint set {predicted} share no compared joint with {self.joint_set}",
                choices=self.joints or truth.joints,
            )
        return names

    def matched(self, prediction: Tensor, predicted: str, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Compared joints of both sides, each centred on the same root: (B,J,3), (B,K,3) m -> two of (B,C,3) m."""
        truth_set, other = self.truth_set, joint_set(predicted)
        p, t = comparable(prediction, other, truth, truth_set)
        in_common = [truth_set.joints[i] for i in truth_set.common(other)[0]]
        keep = [in_common.index(name) for name in self.compared(predicted)]
        return p[:, keep], t[:, keep]

    def matched_root(self, predicted: str) -> tuple[str, ...]:
        """The joints whose mean both sides are centred on, given the predicted joint set."""
        other = joint_set(predicted)
        return self.root_joints if all(j in other.joints for j in self.root_joints) else ("left_hip", "right_hip")

    def __str__(self) -> str:
        joints = f"{len(self.joints)} of {self.joint_set}" if self.joints else self.joint_set
        if self.pck_joints:
            joints += f", PCK and AUC on {len(self.pck_joints)}"
        parts = [
            f"joints {joints}",
            f"root {'+'.join(self.root_joints)}",
            f"alignment {self.alignment}",
            f"scale {self.scale}",
            f"gender {self.gender}",
            f"split {self.split}",
            f"stride {self.stride}",
            f"cameras {self.cameras}",
            f"boxes {self.boxes}",
        ]
        return f"{self.name}: " + "; ".join(parts) + (f" ({self.source})" if self.source else "")

    def digest(self) -> str:
        """Eight characters that differ when any rule differs."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class EvalBatch:
    """Crops and their ground truth."""

    images: Tensor  # (B,3,S,S) RGB in [0,1]
    joints: Tensor  # (B,J,3) m, camera frame (any translation)
    joint_set: str
    ids: list[str]
    groups: list[str]  # clip or sequence: what an interval draws as a whole
    vertices: Tensor | None = None  # (B,V,3) m, in the frame of `joints`
    pose: Tensor | None = None  # (B,24,3) axis-angle rad, global orient in the camera frame
    betas: Tensor | None = None  # (B,10)
    azimuth_rad: Tensor | None = None  # (B,) where the camera stands about the body
    elevation_rad: Tensor | None = None  # (B,)
    valid: Tensor | None = None  # (B,J) bool, the joints that count; None: all
    frames: list[int] | None = None  # frame number in the track, for acceleration
    actions: list[str] | None = None  # a second way to group: activity
    tracks: list[str] | None = None  # one person in one camera's frames; None: the groups
    camera: Camera | None = None  # from the frame of `joints` to px of `images`, where it is known

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> EvalBatch:
        """These rows of the batch, in this order."""
        index = torch.as_tensor(list(rows), dtype=torch.long)
        chosen: dict[str, Any] = {}
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, Tensor | Camera):
                chosen[part.name] = value[index]
            elif isinstance(value, list):
                chosen[part.name] = [value[row] for row in index.tolist()]
        return replace(self, **chosen)


@dataclass
class Skipped:
    """Frames that were left out of the last pass, by name."""

    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    # Left out by the reader before any picture was opened: reason -> names, such as "without_truth".
    by_reader: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Pictures that could not be read."""
        return len(self.missing) + len(self.damaged)

    @property
    def names(self) -> list[str]:
        return [*self.missing, *self.damaged, *(name for names in self.by_reader.values() for name in names)]


@runtime_checkable
class Recropped(TypingProtocol):
    """A benchmark of pictures that exist, which can crop the person as an estimator wants it."""

    def cropped_for(self, crop: CropConvention) -> Benchmark:
        """The same images and truth in another crop."""
        ...


@runtime_checkable
class Benchmark(TypingProtocol):
    """Named images with ground truth and a protocol. Iterating twice gives the same batches.

    All that evaluation, gallery and report ask of a data set, embedded or real. Subclasses say the first two, their
    length and batches; the rest has an answer that fits most.
    """

    name: str  # of the results; differs from the protocol's where one data set is used twice
    protocol: Protocol

    def __len__(self) -> int: ...

    def batches(self, batch_size: int) -> Iterator[EvalBatch]: ...

    # Whose skeleton the truth is of: an estimator chooses the joints that it answers with by this.
    truth_of: Literal["free body", "own"] = "own"
    truth_body: nn.Module | None = None  # what the truth's mesh is of, where that is known
    vertex_subset: NDArray | None = None  # indices of the vertices that the truth holds; None: all
    skipped: Skipped = Skipped()  # of the last pass

    def examples(self, ids: Sequence[str]) -> Iterator[EvalBatch]:
        """Single images by their ids, in this order, a batch of one each."""
        found: dict[str, EvalBatch] = {}
        for batch in self.batches(64):
            for row in (row for row, name in enumerate(batch.ids) if name in ids):
                found[batch.ids[row]] = batch.take([row])
            if len(found) == len(set(ids)):
                break
        for name in ids:
            yield found[name]

    def detection(self, metrics: dict[str, float], counted: dict[str, int]) -> dict[str, float]:
        """Further metrics that follow from how many people were found."""
        return {}


REGISTRY: Registry[Benchmark] = Registry("benchmarks")

# Where the factories are registered. A reader itself is imported when it is built.
_MODULES = ("posegen.benchmarks.embedded.stand_ins", "posegen.benchmarks.readers.datasets")


def _load_factories() -> None:
    import importlib

    for module in _MODULES:
        importlib.import_module(module)


def names() -> list[str]:
    """The benchmarks that can be built by name."""
    _load_factories()
    return REGISTRY.names()


def build(name: str, crop: CropConvention | None = None, **options: Any) -> Benchmark:
    """The benchmark called `name`. Unknown names and options raise ConfigError with the valid ones.

    Args:
        crop: how the estimator to be measured wants its person cropped; None is the benchmark's own box.

    Example:
        >>> from posegen import build_benchmark
        >>> benchmark = build_benchmark("ski-like", images=8, size_px=64)
        >>> len(benchmark), next(benchmark.batches(4)).images.shape
        (8, torch.Size([4, 3, 64, 64]))
    """
    _load_factories()
    factory = REGISTRY.get(name)
    again = f"posegen evaluate benchmark={name}"
    check_arguments(
        f"benchmark {name}", factory, options, where=f"benchmark={name}",
        missing=lambda blanks: " ".join([again, *(f"benchmark.{blank}" for blank in blanks)]),
    )  # fmt: skip
    if crop is None or not crop.reframes:
        return factory(**options)
    if "crop" in inspect.signature(factory).parameters:  # pictures that are made for the occasion
        return factory(crop=crop, **options)
    built = factory(**options)
    if not isinstance(built, Recropped):
        raise ConfigError(
            f"benchmark {name} cannot crop as the estimator wants it ({crop.describe('its boxes')})",
            where=f"benchmark={name}",
            next_command="give it a method cropped_for, see posegen.benchmarks.protocol.Recropped",
        )
    return built.cropped_for(crop)


def concatenated(items: Sequence[Tensor | None]) -> Tensor | None:
    """Tensors of consecutive batches as one; None where any batch lacks it."""
    present = [item for item in items if item is not None]
    return torch.cat(present) if present and len(present) == len(items) else None
