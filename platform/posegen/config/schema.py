"""The configuration as frozen dataclasses: everything an experiment is made of, each key with type, default and bounds.

The settings of a part lie with the part (posegen.generator.config, ...); here they are put together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from posegen.adversarial.config import AdversarialConfig
from posegen.arms.config import SelectionConfig
from posegen.atlas.config import AtlasConfig
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

    name: str | None = None  # of the run; null makes it from the experiment, the seed and a digest of the configuration
    outputs: str = place("outputs")  # the folder that holds the runs; on a cluster one that all machines see
    restart: bool = False  # throws away what an earlier run of this name left
    # finished runs, by name or directory: what they have made is taken over where nothing that it depends on differs
    kin: tuple[str, ...] = ()


@dataclass(frozen=True)
class BodyConfig:
    """The body of scenes, renders and labels."""

    path: str | None = place(existing=True)  # a user's SMPL file or folder; null is the free body
    resolution: str = choice("low", ("low", "full"))  # of the free body's mesh


@dataclass(frozen=True)
class MocapConfig:
    """The pool of real poses."""

    path: str | None = place(existing=True)  # AMASS, BVH, ASF/AMC or a pack; null takes the pool's clips of the split


@dataclass(frozen=True)
class BackgroundConfig:
    """What is behind people."""

    photos: str | None = place(existing=True)  # a user's folder of photos; null takes the bundled ones


@dataclass(frozen=True)
class RendererConfig(FieldConfig):
    """The renderer, with the settings of the field; `options` holds those that another has beside them."""

    name: str = "field"  # of the renderer: an option of the group renderer, or a plug-in's
    options: dict[str, Any] = field(default_factory=dict)  # further settings of that renderer


@dataclass(frozen=True)
class NoiseConfig:
    """The distribution that a generator's noise is drawn from."""

    name: str = "gaussian"  # of the distribution: an option of the group noise, or a plug-in's
    dim: int = number(32, low=1)  # numbers of one draw
    options: dict[str, Any] = field(default_factory=dict)  # further settings of that distribution


@dataclass(frozen=True)
class DatasetConfig:
    """Generated data: the same number of images for every arm."""

    images: int = number(600, low=1)  # rendered for each arm, the same number for all
    # what is compared with `before`, in this order
    arms: tuple[str, ...] = ("random", "mocap", "mined_random", "no_feedback", "posegen")
    random_share: float = share(0.5)  # of a generator arm's rows, how many stay unshifted proposals
    # of arms that select: rows are chosen among candidates that are hard but not hopeless
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    source_images: int = number(800, low=1)  # rows of the source's own kind, mixed into every batch
    rows_per_block: int = number(64, low=1)  # rendered, written and sent together: a shard's rows
    freshness: int = number(2, low=0)  # with `overlap`: how many generator versions old a row may be when first used


@dataclass(frozen=True)
class DataConfig:
    """Where the real data sets of a suite are: `data=FOLDER` is data.root, `data.3dpw=FOLDER` is data.pw3d."""

    root: str | None = place()  # the folder that holds all data sets under their usual names
    pw3d: str | None = place()  # 3DPW, in its original layout
    mpi_inf_3dhp: str | None = place()  # MPI-INF-3DHP, in its original layout
    ski_poseptz: str | None = place()  # Ski-PosePTZ, in its original layout
    agora: str | None = place()  # AGORA, in its original layout
    h36m: str | None = place()  # Human3.6M, in its original layout
    emdb: str | None = place()  # EMDB, in its original layout


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured before and after: entries of conf/suite, see posegen.benchmarks.suites."""

    # the data sets of the table and its average: names, or mappings with options
    suite: tuple[Any, ...] = ("3dpw-like", "3dhp-like", "ski-like", "agora-like")
    watch: tuple[Any, ...] = ("source-like",)  # shown beside the suite, not in its average
    images: int = number(160, low=1)  # of each embedded benchmark
    seed: int = number(0, low=0)  # of the scenes of embedded benchmarks
    batch: int = number(64, low=1)  # images that an estimator is shown at once
    bootstrap: int = number(2000, low=10)  # resamples of the intervals


@dataclass(frozen=True)
class EngineConfig:
    """Where things run. Nothing given: a local Ray on this machine."""

    address: str | None = None  # of a running Ray; null starts one on this machine, auto finds the one that is there
    cpus: int | None = number(None, low=1)  # of a local Ray; null takes the machine's
    object_store_mb: int = number(400, low=80)  # memory for blocks on their way, of a local Ray, MB
    train_workers: int = number(1, low=1)  # data-parallel trainers of the generator
    max_train_workers: int | None = number(None, low=1)  # more than train_workers makes training elastic
    finetune_workers: int = number(1, low=1)  # data-parallel trainers of the estimator
    render_actors: int = number(1, low=1)  # renderers at work side by side
    parallel_arms: str = "auto"  # arms at work side by side: auto takes as many as there is room for; 1 is one by one
    cpus_per_trainer: float = number(1.0, low=0.0)  # what one trainer takes
    cpus_per_renderer: float = number(1.0, low=0.0)  # what one renderer takes
    gpus_per_trainer: float = number(0.0, low=0.0)  # what one trainer takes; parts of a GPU can be shared
    gpus_per_renderer: float = number(0.0, low=0.0)  # what one renderer takes; parts of a GPU can be shared
    storage: str | None = None  # a folder or URI for Ray Train's checkpoints; null is the run directory
    max_failures: int = number(2, low=0)  # deaths of workers that a training survives
    wait_for_nodes_s: float = number(0.0, low=0.0)  # how long an autoscaler may take to bring what is asked for, s
    keep_mb: float = number(1024.0, low=0.0)  # memory of each fine-tuning worker for rows of later epochs, MB
    # of the object store, how much rows may fill that nobody has taken yet, MB; null leaves it to Ray Data
    buffer_mb: int | None = number(None, low=1)
    verbose: bool = False  # passes Ray's and the workers' output on


@dataclass(frozen=True)
class TrackingConfig:
    """Where MLflow keeps the runs."""

    uri: str | None = None  # of MLflow; null takes MLFLOW_TRACKING_URI, else SQLite beside the outputs
    experiment: str = "posegen"  # MLflow's experiment that the runs are kept in
    # folder or s3://... for files of an experiment that is new; null leaves it to a server, else takes the outputs
    artifacts: str | None = None
    # estimators that go into the registry: where runs start and the run's best, or those of all arms, or none
    models: str = choice("champion", ("none", "champion", "all"))
    every_s: float = number(10.0, above=0)  # between two looks at curves and at the machine's load, s
    # steps of a generator's training between two sheets of what it generates, with what the estimator says; 0: none
    gallery_every: int = number(100, low=0)
    gallery_images: int = number(16, low=1)  # on a sheet, made of the same draws each time


@dataclass(frozen=True)
class PosegenConfig:
    """Everything an experiment is made of."""

    experiment_name: str = "default"  # the first part of a run's name; each recipe of conf/experiment sets its own
    seed: int = number(0, low=0)  # of every random choice
    image_size: int = number(96, low=16, high=2048)  # side of rendered pictures, px; auto takes the estimator's own
    rounds: int = number(1, low=1)  # of generating and fine-tuning; later ones start from the fine-tuned estimator
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
    # one data set, of `posegen evaluate`: name and options of conf/benchmark
    benchmark: dict[str, Any] = field(default_factory=dict)
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    atlas: AtlasConfig = field(default_factory=AtlasConfig)
    # who may see which clips, people, cameras and backgrounds: conf/split
    split: dict[str, Any] = field(default_factory=dict)
