"""The configuration: a structured root schema that Hydra's YAML files in conf/ fill, with errors a user can act on.

Frozen, typed and checked at the edge; inside, stages receive its plain dict.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posegen.adversarial.config import AdversarialConfig
from posegen.errors import ConfigError, closest
from posegen.feedback.config import FeedbackConfig
from posegen.files.names import check_run_name
from posegen.finetune.config import FinetuneConfig
from posegen.generator.config import GeneratorConfig
from posegen.target.config import TargetConfig


@dataclass
class RunConfig:
    """The run directory: outputs/<name>."""

    name: str | None = None  # none: from the experiment, the seed and a digest of the configuration
    outputs: str = "outputs"
    restart: bool = False  # throws away what an earlier run of this name left


@dataclass
class BodyConfig:
    """The body of scenes, renders and labels."""

    path: str | None = None  # a user's SMPL file or folder; none is the free body
    resolution: str = "low"  # low | full, of the free body


@dataclass
class MocapConfig:
    path: str | None = None  # a folder of AMASS, BVH, ASF/AMC, or one pack; none takes the pool's clips of the split


@dataclass
class BackgroundConfig:
    photos: str | None = None  # a user's folder of photos; none takes the bundled ones


@dataclass
class RendererConfig:
    name: str = "field"  # field | anerf
    checkpoint: str | None = None
    backend: str = "auto"  # auto | fused | eager
    step_m: float = 0.02
    occupancy_threshold: float = 0.25
    transmittance_threshold: float = 2e-3
    near_m: float = 0.1
    subjects: list[str] = field(default_factory=list)  # none takes all of the checkpoint
    anerf: dict[str, Any] = field(default_factory=dict)


@dataclass
class EstimatorConfig:
    name: str = "hmr_small"
    checkpoint: str | None = None
    mean_params: str | None = None
    body: str | None = None  # SMPL file or folder of the estimator itself; none takes body.path
    random: bool = False  # lets one that has no checkpoint and no shipped weights start from random ones
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class NoiseConfig:
    name: str = "gaussian"
    dim: int = 32
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class DatasetConfig:
    """Generated data: the same number of images for every arm."""

    images: int = 600
    arms: list[str] = field(default_factory=lambda: ["random", "mocap", "mined_random", "no_feedback", "posegen"])
    random_share: float = 0.5  # of a generator arm's rows, how many stay unshifted proposals
    mined_factor: int = 3  # the random pool that mining chooses from, in units of `images`
    mined_drop_top: float = 0.1
    source_images: int = 800  # rows of the source's own kind, mixed into every batch
    rows_per_block: int = 64
    encoding: str = "raw"  # raw | png | jpeg
    freshness: int = 2  # with `overlap`: a row may be at most so many generator versions old when it is first used


@dataclass
class DataConfig:
    """Where the real data sets of a suite are: `data=FOLDER` is data.root, `data.3dpw=FOLDER` is data.pw3d."""

    root: str | None = None  # the folder that holds them all under their usual names
    pw3d: str | None = None
    mpi_inf_3dhp: str | None = None
    ski_poseptz: str | None = None
    agora: str | None = None
    h36m: str | None = None
    emdb: str | None = None


@dataclass
class EvaluationConfig:
    """What is measured before and after: entries of conf/suite, see posegen.benchmarks.suites."""

    suite: list[Any] = field(default_factory=lambda: ["3dpw-like", "3dhp-like", "ski-like", "agora-like"])
    watch: list[Any] = field(default_factory=lambda: ["source-like"])  # shown beside the suite, not in its average
    images: int = 160  # of each embedded benchmark
    seed: int = 0
    batch: int = 64
    bootstrap: int = 2000  # resamples of the intervals


@dataclass
class EngineConfig:
    """Where things run. Nothing given: a local Ray on this machine."""

    address: str | None = None
    cpus: int | None = None  # of a local Ray; none takes the machine's
    object_store_mb: int = 400
    train_workers: int = 1
    max_train_workers: int | None = None  # more than train_workers makes training elastic
    finetune_workers: int = 1
    render_actors: int = 1
    parallel_arms: str = "auto"  # arms at work side by side: auto takes as many as there is room for; 1 is one by one
    cpus_per_trainer: float = 1.0
    cpus_per_renderer: float = 1.0
    gpus_per_trainer: float = 0.0
    gpus_per_renderer: float = 0.0
    storage: str | None = None  # of Ray Train's checkpoints; none is the run directory
    max_failures: int = 2  # deaths of workers that a training survives
    wait_for_nodes_s: float = 0.0  # how long an autoscaler may take to bring what is asked for
    keep_mb: float = 1024.0  # memory of each fine-tuning worker for rows of later epochs
    buffer_mb: int | None = None  # of the object store that rows may fill which nobody has taken yet
    verbose: bool = False  # passes Ray's and the workers' output on


@dataclass
class TrackingConfig:
    uri: str | None = None  # none: MLFLOW_TRACKING_URI, else SQLite beside the outputs
    experiment: str = "posegen"


@dataclass
class PosegenConfig:
    """Everything an experiment is made of."""

    experiment_name: str = "default"
    seed: int = 0
    image_size: int = 96  # px; auto: the estimator's own
    rounds: int = 1
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
    split: dict[str, Any] = field(default_factory=dict)


# Parts that say where a run happens and where it is written, not what it computes.
PLACE_KEYS = ("run", "engine", "tracking", "data")


def conf_dir() -> Path:
    """The folder of YAML files: conf/ of the checkout."""
    here = Path(__file__).resolve()
    for parent in here.parents:
        if (parent / "conf" / "config.yaml").is_file():
            return parent / "conf"
    raise ConfigError(
        "the folder conf/ with config.yaml is not there", where=here.parents[2], next_command="git status"
    )


def groups() -> dict[str, list[str]]:
    """The config groups and their options."""
    root = conf_dir()
    return {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in sorted(root.iterdir())
        if folder.is_dir() and any(folder.glob("*.yaml"))
    }


def _register() -> None:
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    ConfigStore.instance().store(name="schema", node=PosegenConfig)
    OmegaConf.register_new_resolver("own_image_size", _own_image_size, replace=True)


def _own_image_size(*, _root_: Any) -> int:
    """The side that the configuration's estimator works at, px: what image_size=auto means."""
    from omegaconf import OmegaConf

    from posegen.estimator import declared_crop
    from posegen.estimator.config import EstimatorConfig as Settings

    settings = Settings(**OmegaConf.to_container(_root_.estimator))  # type: ignore[arg-type]
    return declared_crop(settings.name, settings.keywords()).size_px


def compose(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The plain dict of a configuration with Hydra-style overrides, such as `noise=mixture finetune.steps=50`.

    Raises ConfigError for an unknown key, group option or a value of the wrong type, with the valid choices.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _register()
    for override in overrides:
        _check_shape(override)
    overrides = [_own_size(_data(_plugin(override))) for override in overrides]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = hydra_compose("config", [_open(override) for override in overrides])
            plain = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, overrides) from error
    assert isinstance(plain, dict)
    return plain  # type: ignore[return-value]


def _check_shape(override: str) -> None:
    if "=" not in override and not override.startswith("~"):
        raise ConfigError(
            f"{override!r} is no override: write key=value",
            choices=sorted({*groups(), *PosegenConfig.__dataclass_fields__}),
            next_command="posegen run --help",
        )


def _plugin(override: str) -> str:
    """`estimator=NAME` of a plug-in, which has no YAML file of its own, sets the name alone."""
    key, _, name = override.partition("=")
    if key != "estimator" or not name or name in groups()["estimator"]:
        return override
    from posegen.estimator import REGISTRY

    return f"estimator.name={name}" if name in REGISTRY.names() else override


def _data(override: str) -> str:
    """`data=FOLDER` and `data.3dpw=FOLDER`, of which Hydra's grammar knows neither."""
    for short, key in (("data=", "data.root="), ("data.3dpw=", "data.pw3d=")):
        if override.startswith(short):
            return key + override.removeprefix(short)
    return override


def _own_size(override: str) -> str:
    """`image_size=auto` is the estimator's own."""
    return "image_size=${own_image_size:}" if override == "image_size=auto" else override


def _open(override: str) -> str:
    """Lets an override add a key to a part that may hold any, such as estimator.options or benchmark."""
    key = override.partition("=")[0]
    node: Any = PosegenConfig
    for part in key.split("."):
        if not hasattr(node, "__dataclass_fields__"):
            return f"++{override}"
        if part not in node.__dataclass_fields__:
            return override
        factory = node.__dataclass_fields__[part].default_factory
        node = factory if isinstance(factory, type) else None
    return override


def _explained(error: Exception, overrides: Sequence[str]) -> ConfigError:
    """Hydra's error in the terms of the override that caused it."""
    cause = error.__cause__ if error.__cause__ is not None else error
    text = str(cause).splitlines()[0] if str(cause) else str(error)
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        known = groups()
        if key in known and "." not in key and value and value not in known[key]:
            near = closest(value, known[key])
            hint = f"; did you mean {near!r}?" if near else ""
            return ConfigError(f"{key} has no option {value!r}{hint}", where=override, choices=known[key])
        problem = _unknown_key(key)
        if problem is not None:
            return ConfigError(problem[0], where=override, choices=problem[1])
        if f"'{value}'" in text or key in str(error):
            return ConfigError(text, where=override)
    return ConfigError(text, where=" ".join(overrides) or "conf/")


def _unknown_key(key: str) -> tuple[str, list[str]] | None:
    """Walks a dotted key through the schema: the sentence and the valid names where it leaves it."""
    node: Any = PosegenConfig
    if key in groups():
        return None
    for depth, part in enumerate(key.split(".")):
        if not hasattr(node, "__dataclass_fields__"):
            return None  # a free dict or list: anything may follow
        valid = list(node.__dataclass_fields__)
        if part not in valid:
            near = closest(part, valid)
            hint = f"; did you mean {near!r}?" if near else ""
            return f"unknown key {'.'.join(key.split('.')[: depth + 1])!r}{hint}", valid
        kind = node.__dataclass_fields__[part]
        factory = kind.default_factory
        node = factory if isinstance(factory, type) else None
    return None


def digest(config: dict[str, Any]) -> str:
    """Eight characters that change with anything that changes what a run computes."""
    told = {key: value for key, value in config.items() if key not in PLACE_KEYS}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]


def run_name(config: dict[str, Any]) -> str:
    """The run's name: as given, or from experiment, seed and digest, so that the same call finds the same run."""
    given = config["run"]["name"]
    if given is not None:
        return check_run_name(str(given))
    made = f"{config['experiment_name']}-seed{config['seed']}-{digest(config)}"
    return check_run_name(made, "experiment_name")
