"""The configuration as frozen dataclasses: everything an experiment is made of, each key with type, default and bounds.

The settings of a part lie with the part (posegen.generator.config, ...); here they are put together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from posegen.adversarial.config import AdversarialConfig
from posegen.arms.config import SelectionConfig
from posegen.config_types import choice, number, place, share
from posegen.estimator.config import EstimatorConfig
from posegen.feedback.config import FeedbackConfig
from posegen.finetune.config import FinetuneConfig
from posegen.generator.config import GeneratorConfig
from posegen.renderer.field.config import FieldConfig
from posegen.target.config import TargetConfig


@dataclass(frozen=True)
class RunConfig:
    """The run directory: outputs/<name>."""

    name: str | None = None  # none: from the experiment, the seed and a digest of the configuration
    outputs: str = place("outputs")
    restart: bool = False  # throws away what an earlier run of this name left


@dataclass(frozen=True)
class BodyConfig:
    """The body of scenes, renders and labels."""

    path: str | None = place(existing=True)  # a user's SMPL file or folder; none is the free body
    resolution: str = choice("low", ("low", "full"))  # of the free body


@dataclass(frozen=True)
class MocapConfig:
    """The pool of real poses."""

    path: str | None = place(existing=True)  # AMASS, BVH, ASF/AMC or a pack; none takes the pool's clips of the split


@dataclass(frozen=True)
class BackgroundConfig:
    """What is behind people."""

    photos: str | None = place(existing=True)  # a user's folder of photos; none takes the bundled ones


@dataclass(frozen=True)
class RendererConfig(FieldConfig):
    """The renderer, with the settings of the field; `anerf` holds those of the original A-NeRF."""

    name: str = choice("field", ("field", "anerf"))
    anerf: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NoiseConfig:
    """The distribution that a generator's noise is drawn from."""

    name: str = "gaussian"
    dim: int = number(32, low=1)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetConfig:
    """Generated data: the same number of images for every arm."""

    images: int = number(600, low=1)
    arms: tuple[str, ...] = ("random", "mocap", "mined_random", "no_feedback", "posegen")
    random_share: float = share(0.5)  # of a generator arm's rows, how many stay unshifted proposals
    mined_factor: int = number(3, low=1)  # the random pool that mining chooses from, in units of `images`
    mined_drop_top: float = share(0.1)
    # Of arms that select, with a target: rows are chosen among candidates that are hard but not hopeless.
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    source_images: int = number(800, low=1)  # rows of the source's own kind, mixed into every batch
    rows_per_block: int = number(64, low=1)
    freshness: int = number(2, low=0)  # with `overlap`: how many generator versions old a row may be when first used


@dataclass(frozen=True)
class DataConfig:
    """Where the real data sets of a suite are: `data=FOLDER` is data.root, `data.3dpw=FOLDER` is data.pw3d."""

    root: str | None = place()  # the folder that holds them all under their usual names
    pw3d: str | None = place()
    mpi_inf_3dhp: str | None = place()
    ski_poseptz: str | None = place()
    agora: str | None = place()
    h36m: str | None = place()
    emdb: str | None = place()


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured before and after: entries of conf/suite, see posegen.benchmarks.suites."""

    suite: tuple[Any, ...] = ("3dpw-like", "3dhp-like", "ski-like", "agora-like")
    watch: tuple[Any, ...] = ("source-like",)  # shown beside the suite, not in its average
    images: int = number(160, low=1)  # of each embedded benchmark
    seed: int = number(0, low=0)
    batch: int = number(64, low=1)
    bootstrap: int = number(2000, low=10)  # resamples of the intervals


@dataclass(frozen=True)
class EngineConfig:
    """Where things run. Nothing given: a local Ray on this machine."""

    address: str | None = None
    cpus: int | None = number(None, low=1)  # of a local Ray; none takes the machine's
    object_store_mb: int = number(400, low=80)
    train_workers: int = number(1, low=1)
    max_train_workers: int | None = number(None, low=1)  # more than train_workers makes training elastic
    finetune_workers: int = number(1, low=1)
    render_actors: int = number(1, low=1)
    parallel_arms: str = "auto"  # arms at work side by side: auto takes as many as there is room for; 1 is one by one
    cpus_per_trainer: float = number(1.0, low=0.0)
    cpus_per_renderer: float = number(1.0, low=0.0)
    gpus_per_trainer: float = number(0.0, low=0.0)
    gpus_per_renderer: float = number(0.0, low=0.0)
    storage: str | None = None  # of Ray Train's checkpoints; none is the run directory
    max_failures: int = number(2, low=0)  # deaths of workers that a training survives
    wait_for_nodes_s: float = number(0.0, low=0.0)  # how long an autoscaler may take to bring what is asked for
    keep_mb: float = number(1024.0, low=0.0)  # memory of each fine-tuning worker for rows of later epochs
    buffer_mb: int | None = number(None, low=1)  # of the object store that rows may fill which nobody has taken yet
    verbose: bool = False  # passes Ray's and the workers' output on


@dataclass(frozen=True)
class TrackingConfig:
    """Where MLflow keeps the runs."""

    uri: str | None = None  # none: MLFLOW_TRACKING_URI, else SQLite beside the outputs
    experiment: str = "posegen"


@dataclass(frozen=True)
class PosegenConfig:
    """Everything an experiment is made of."""

    experiment_name: str = "default"
    seed: int = number(0, low=0)
    image_size: int = number(96, low=16, high=2048)  # px; auto: the estimator's own
    rounds: int = number(1, low=1)
    overlap: bool = False  # render and fine-tune while the generator is still trained; timing then decides the rows
    run: RunConfig = field(default_factory=RunConfig)
    body: BodyConfig = field(default_factory=BodyConfig)
    mocap: MocapConfig = field(default_factory=MocapConfig)
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    renderer: RendererConfig = field(default_factory=RendererConfig)
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    data: DataConfig = field(default_factory=DataConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    benchmark: dict[str, Any] = field(default_factory=dict)  # one data set, of `posegen evaluate`
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    split: dict[str, Any] = field(default_factory=dict)  # read by posegen.scenes.split.load_split
