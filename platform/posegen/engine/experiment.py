"""The whole experiment as stages: source, generators, data sets, fine-tuning, evaluation, report.

Each stage reads what earlier ones left in the run directory and leaves its own files and a marker; see
posegen.experiment.stages. Where they run is the cluster's matter: rendering is a Ray Data stage, training a Ray Train
run.
"""

from __future__ import annotations

import logging
import math
import os
import shlex
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posegen.arms.proposals import GENERATOR_ARMS
from posegen.arms.rows import SOURCE_ARM, RowRenderer, SourceRenderer
from posegen.benchmarks.suites import Entry, Suite, build_entry
from posegen.config import run_name
from posegen.engine.side_by_side import SideBySide
from posegen.engine.stream import Stage
from posegen.engine.worker import version_of
from posegen.errors import ConfigError, DataError
from posegen.experiment.evaluation import evaluate_into
from posegen.experiment.stage_names import (
    ROW_KEYS,
    generator_digest,
    stage_name,
    training_name,
    weights_digest,
    worker_range,
)
from posegen.experiment.stages import RunFolder, digest_of, file_digest
from posegen.files.atomic import replacing, write_text
from posegen.files.names import inside
from posegen.files.secrets import masked, masked_words
from posegen.generator.build import load_generator, save_generator
from posegen.progress import Bar, Reporter
from posegen.scenes.world import crop_of_config

if TYPE_CHECKING:
    from posegen.engine.overlap import Overlap

logger = logging.getLogger(__name__)

BEFORE = "before"


class Experiment:
    """One run of one configuration.

    Args:
        config: the plain dict of posegen.config.PosegenConfig.
        reporter: tells a person what is going on.
        check_resources: False where runs queue for resources on purpose, as the trials of a sweep do.
        overrides: what the configuration was composed of, for the commands that are told to the user.
    """

    def __init__(
        self,
        config: dict[str, Any],
        reporter: Reporter | None = None,
        check_resources: bool = True,
        overrides: Sequence[str] = (),
    ) -> None:
        self.config = config
        self.overrides = tuple(overrides)
        self.check_resources = check_resources
        self.reporter = reporter or Reporter()
        self.run = RunFolder(run_path(config), run_name(config))
        self.arms: list[str] = list(config["dataset"]["arms"])
        self.rounds = int(config["rounds"])
        self._told: set[str] = set()  # stages a person has been told of
        self.on_stage: Callable[[str], None] = lambda stage: None  # told of each stage that has ended
        self.started_ray = False  # for this run, on this machine
        self.together: SideBySide | None = None  # set where arms run side by side
        self.telling = threading.Lock()  # one listener at a time
        self._evaluating = threading.Lock()  # evaluation takes this process' cores, and its images from one cache

    @cached_property
    def suite(self) -> Suite:
        """What is measured and what is watched, all of it found on this machine."""
        return Suite.of(self.config)

    @cached_property
    def tunes(self) -> bool:
        """Whether the estimator has weights that arms fine-tune."""
        from posegen.estimator import trainable
        from posegen.scenes.world import build_estimator

        return trainable(build_estimator(self.config))

    def write_config(self) -> None:
        """Keeps the configuration beside the results."""
        from omegaconf import OmegaConf

        text = OmegaConf.to_yaml(OmegaConf.create(masked(self.config)))
        write_text(self.run.path / "config.yaml", text)

    def command(self, verb: str = "run") -> str:
        """What a user types to go on in this run, with all that makes it this run; secrets are masked."""
        kept = [word for word in self.overrides if word.partition("=")[0] not in ("run.name", "run.restart")]
        return shlex.join(["posegen", verb, *masked_words(kept), f"run.name={self.run.name}"])

    # -- stages ------------------------------------------------------------------------------------------------

    def _stage(self, name: str, title: str, digest: str, total: int | None, work: Callable[[Bar], Any]) -> dict:
        """Runs a stage with a progress bar, unless it is done."""
        if self.run.is_done(name, digest):
            if name not in self._told:
                self.reporter.say(f"{title:<34} done before")
            self._told.add(name)
            return self.run.run_stage(name, digest, dict)
        self._told.add(name)
        with self.reporter.stage(title, total) as bar:
            marker = self.run.run_stage(name, digest, lambda: work(bar))
        with self.telling:
            self.on_stage(name)
        return marker

    def source(self) -> Path:
        """Rows of the source's own kind, mixed into every batch so that the estimator does not forget."""
        rows = int(self.config["dataset"]["source_images"])
        folder = self.run.folder("dataset", SOURCE_ARM)
        digest = self._source_digest()

        def work(bar: Bar) -> Any:
            stage = self._render_stage(SourceRenderer, self.config, rows, folder, digest)
            return self._render(stage, bar)

        self._stage("dataset/source", "source rows", digest, rows, work)
        return folder

    def _source_digest(self) -> str:
        parts = {key: self.config[key] for key in ("seed", "image_size", "split")}
        crop = crop_of_config(self.config)
        if crop.reframes:
            parts["crop"] = vars(crop)
        return digest_of(int(self.config["dataset"]["source_images"]), parts)

    def generator(
        self, arm: str, round_: int = 0, estimator_weights: Path | None = None, overlap: Overlap | None = None
    ) -> Path:
        """Trains the generator of an arm against the estimator: the file of its weights.

        With `overlap` each checkpoint is published on its board.
        """
        from posegen.engine.train import run_training

        name = stage_name("generate", arm, round_)
        file = self.run.path / name / "generator.pt"
        config = self._with(arm, round_, estimator_weights)
        steps, checkpoint_every = config["adversarial"]["steps"], config["adversarial"]["checkpoint_every"]
        digest = generator_digest(config, round_, estimator_weights)

        def work(bar: Bar) -> Any:
            outcome = run_training(
                "adversarial",
                config,
                workers=worker_range(
                    self.config["engine"]["train_workers"], self.config["engine"]["max_train_workers"]
                ),
                checkpoint_every=checkpoint_every,
                on_metrics=lambda row: bar.update(int(row["step"]), steps, _figure(row, "error_mm", "mm on samples")),
                publish=overlap.board.publish_generator if overlap else None,
                **self._training(name, digest, overlap),
            )
            state = outcome.state()
            save_generator(state["generator"], file)
            from posegen.adversarial.plausibility import meter_summary

            self._forget_checkpoints(name, digest)
            return {"plausibility": meter_summary(state), "restarts": outcome.restarts, "steps": outcome.steps}

        title = f"generator {arm}" + (f" round {round_ + 1}" if self.rounds > 1 else "")
        self._stage(name, title, digest, steps, work)
        if overlap is not None:  # where the training was done before, this is its only version
            overlap.board.publish(version_of(steps, checkpoint_every), load_generator(file))
        return file

    def mined(self) -> Path:
        """Renders a larger random pool, and chooses its hard rows: the file of the chosen ids."""
        from posegen.arms.mining import mine
        from posegen.shards.reader import read_shards

        dataset = self.config["dataset"]
        pool = dataset["images"] * dataset["mined_factor"]
        folder = self.run.folder("mining", "pool")
        file = self.run.path / "mining" / "chosen_ids.npy"
        config = self._with("random")
        digest = digest_of(pool, dataset["mined_drop_top"], {key: config[key] for key in ROW_KEYS})

        def work(bar: Bar) -> Any:
            stage = self._render_stage(RowRenderer, config, pool, folder, digest)
            self._render(stage, bar)
            errors = read_shards(folder).table(["error_at_birth_mm"]).column("error_at_birth_mm").to_numpy()
            with replacing(file) as partial:
                np.save(partial, mine(errors, dataset["images"], dataset["mined_drop_top"]))
            return {"median_error_mm": float(np.median(errors))}

        self._stage("mining", "mining a random pool", digest, pool, work)
        return file

    def dataset(self, arm: str) -> Path:
        """Renders an arm's rows to disk, without fine-tuning on them. `posegen run` does both at once."""
        if self._overlaps(arm):
            raise ConfigError(
                "with overlap=true an arm's rows are rendered while it is fine-tuned, not before",
                where="overlap",
                next_command="posegen run overlap=true  # or: posegen generate overlap=false",
            )
        stage, digest = self._arm_stage(arm, 0, None)

        def work(bar: Bar) -> Any:
            return self._render(stage, bar)

        self._stage(f"dataset/{arm}", f"data set {arm}", digest, stage.rows, work)
        return self.run.path / "dataset" / arm

    def finetune(self, arm: str) -> Path:
        """Fine-tunes on an arm's rows while they are rendered: the file of the estimator's weights.

        The method's own arm may take several rounds: generate, fine-tune, generate against the fine-tuned estimator.
        """
        *_, weights = self.finetune_rounds(arm)
        return weights

    def finetune_rounds(self, arm: str) -> Iterator[Path]:
        """The weights after each round of an arm."""
        rounds = self.rounds if arm == "posegen" else 1
        weights: Path | None = None
        for round_ in range(rounds):
            weights = self._finetune_round(arm, round_, rounds, weights)
            yield weights

    def _finetune_round(self, arm: str, round_: int, rounds: int, before: Path | None) -> Path:
        if self._overlaps(arm):
            return self._overlapped_round(arm, round_, rounds, before)
        stage, digest = self._arm_stage(arm, round_, before, rounds)
        return self._finetune_on(stage, digest, arm, round_, rounds, before)

    def _overlaps(self, arm: str) -> bool:
        return bool(self.config["overlap"]) and arm in GENERATOR_ARMS

    def _overlapped_round(self, arm: str, round_: int, rounds: int, before: Path | None) -> Path:
        """Trains the generator, renders with its newest version and fine-tunes on that, all at the same time."""
        from posegen.engine.overlap import Overlap
        from posegen.engine.resources import require

        stage, digest = self._online_stage(arm, round_, before, rounds)
        place = (stage, digest, arm, round_, rounds, before)
        if self.run.is_done(*self._finetune_stage(*place)[:2]):
            self.generator(arm, round_, before)
            return self._finetune_on(*place)
        with self.together.turn() if self.together else nullcontext() as turn:
            if self.check_resources:
                patience: dict[str, Any] = {"free_within_s": math.inf, "progress": turn.waiting} if turn else {}
                wait_s = self.config["engine"]["wait_for_nodes_s"]
                require(self.asks(arm), f"overlap=true (training, rendering and fine-tuning of {arm} at once)",
                        wait_s=wait_s, **patience)  # fmt: skip
            self.source()  # done before where arms run side by side
            freshness = int(self.config["dataset"]["freshness"])
            overlap = Overlap(stage, freshness, turn.started if turn else lambda row: None)
            return overlap.run(
                lambda: self.generator(arm, round_, before, overlap), lambda: self._finetune_on(*place, overlap)
            )

    def _finetune_stage(
        self, stage: Stage, rows_digest: str, arm: str, round_: int, rounds: int, before: Path | None
    ) -> tuple[str, str, dict[str, Any]]:
        """The name of a fine-tuning stage, the digest of all it depends on, and its worker's configuration."""
        config = self._with(arm, round_, before)
        config["source_rows"] = str(self.run.folder("dataset", SOURCE_ARM))
        config["finetune"] = {**config["finetune"], "steps": config["finetune"]["steps"] // rounds}
        digest = digest_of(rows_digest, config["finetune"], config["seed"], self._source_digest())
        return stage_name("finetune", arm, round_), digest, config

    def _finetune_on(
        self,
        stage: Stage,
        rows_digest: str,
        arm: str,
        round_: int,
        rounds: int,
        before: Path | None,
        overlap: Overlap | None = None,
    ) -> Path:
        from posegen import estimator as estimators
        from posegen.engine.finetune import run_finetuning
        from posegen.scenes.world import build_estimator

        self.source()
        name, digest, config = self._finetune_stage(stage, rows_digest, arm, round_, rounds, before)
        file = self.run.path / name / "estimator.pt"
        steps = config["finetune"]["steps"]

        def work(bar: Bar) -> Any:
            def on_metrics(row: dict[str, float]) -> None:
                if overlap is not None:
                    overlap.on_row(row)
                bar.update(int(row["step"]), steps, _figure(row, "loss", "loss"))

            outcome = run_finetuning(
                config,
                stage,
                seed=int(config["seed"]),
                keep_mb=self.config["engine"]["keep_mb"],
                stream_share=config["finetune"]["stream_share"],
                workers=self.config["engine"]["finetune_workers"],
                checkpoint_every=config["finetune"]["checkpoint_every"],
                on_metrics=on_metrics,
                online=overlap.online if overlap else None,
                **self._training(name, digest, overlap),
            )
            estimator: Any = build_estimator(config)
            state = outcome.state()
            estimator.load_state_dict(state["averaged"])
            file.parent.mkdir(parents=True, exist_ok=True)
            estimators.save_checkpoint(estimator, file)
            self._forget_checkpoints(name, digest)
            counts = overlap.counts() if overlap else {}
            guard = state["guard"]
            for event in guard["events"]:
                self.reporter.say(f"  fine-tuning {arm}: {event}")
            if guard["best"]:
                counts |= {"kept_step": guard["best"]["step"], "blowups": guard["blowups"]}
            return {"restarts": outcome.restarts, "steps": outcome.steps, "rows": stage.rows, **counts}

        title = f"fine-tuning {arm}" + (f" round {round_ + 1}" if rounds > 1 else "")
        self._stage(name, title, digest, steps, work)
        return file

    def evaluate(self, arm: str, weights: Path | None) -> dict[str, Any]:
        """Errors of an arm's estimator on every benchmark: benchmark -> BenchmarkResult."""
        return self._evaluated(arm, weights, "evaluation", self.suite.measured)

    def watch(self, arm: str, weights: Path | None) -> dict[str, Any]:
        """The same on what is watched beside the benchmarks, such as what the estimator was good at before."""
        return self._evaluated(arm, weights, "watched", self.suite.watched)

    def _evaluated(self, arm: str, weights: Path | None, kind: str, entries: tuple[Entry, ...]) -> dict[str, Any]:
        from posegen.benchmarks.measure.result import BenchmarkResult

        if not entries:
            return {}
        settings = self.config["evaluation"]
        folder = self.run.folder(kind, arm)
        scene_parts = {key: self.config[key] for key in ("estimator", "body", "split", "image_size")}
        digest = digest_of(
            [[entry.as_plain() for entry in entries], settings["images"], settings["seed"]],
            scene_parts, weights_digest(weights),
        )  # fmt: skip

        def work(bar: Bar) -> Any:
            evaluate_into(folder, self.config, entries, weights, bar)
            return {}

        verb = {"evaluation": "evaluate", "watched": "watch"}[kind]
        title = f"evaluating {arm}" if kind == "evaluation" else f"what {arm} still knows"
        stage = f"{verb}/{arm}"
        with self._evaluating:
            self._stage(stage, title, digest, len(entries), work)
            try:
                return {entry.label: BenchmarkResult.load(folder / f"{entry.label}.parquet") for entry in entries}
            except DataError as error:
                logger.warning("%s (%s); it is measured again", error.what, error.where)
            self.run.forget(stage)
            self._stage(stage, title, digest, len(entries), work)
            return {entry.label: BenchmarkResult.load(folder / f"{entry.label}.parquet") for entry in entries}

    def benchmarks(self) -> list[Any]:
        """The benchmarks of the configuration."""
        return [build_entry(entry, self.config) for entry in self.suite.measured]

    # -- pieces ------------------------------------------------------------------------------------------------

    def _storage(self) -> str:
        return self.config["engine"]["storage"] or str(self.run.folder("checkpoints"))

    def _training(self, stage: str, digest: str, overlap: Overlap | None = None) -> dict[str, Any]:
        """What every Ray Train run of this experiment is given. With `overlap`, who overlaps has the turn already."""
        engine = self.config["engine"]
        groups = [group for group in (self.together, overlap and overlap.together) if group]
        return {
            "storage": self._storage(),
            "name": training_name(stage, digest),
            "cpus_per_worker": engine["cpus_per_trainer"],
            "gpus_per_worker": engine["gpus_per_trainer"],
            "history": self.run.path / stage / "history.jsonl",
            "max_failures": engine["max_failures"],
            "fingerprint": digest,
            "wait_s": engine["wait_for_nodes_s"],
            "check_resources": self.check_resources,
            "turn": self.together.turn() if self.together and not overlap else None,
            "callbacks": [group.lifeline() for group in groups],
        }

    def _forget_checkpoints(self, stage: str, digest: str) -> None:
        """A finished training's weights are in the run; its checkpoints with optimiser states are not needed more."""
        shutil.rmtree(Path(self._storage()) / training_name(stage, digest), ignore_errors=True)

    def _with(self, arm: str, round_: int = 0, estimator_weights: Path | None = None) -> dict[str, Any]:
        """The configuration as a worker of this arm and round receives it."""
        config = {**self.config, "arm": arm, "round": round_, "generator_version": round_}
        if arm == "no_feedback":
            config["feedback"] = {**config["feedback"], "name": "none"}
        if estimator_weights is not None:
            config["estimator_weights"] = str(estimator_weights)
        return config

    def _arm_stage(self, arm: str, round_: int, estimator_weights: Path | None, rounds: int = 1) -> tuple[Stage, str]:
        """The Ray Data stage that renders an arm's rows, and the digest of all that they depend on."""
        config = self._with(arm, round_, estimator_weights)
        inputs: list[Any] = []
        if arm in GENERATOR_ARMS:
            config["generator_file"] = str(self.generator(arm, round_, estimator_weights))
            inputs.append(file_digest(config["generator_file"]))
        if arm == "mined_random":
            config["chosen_file"] = str(self.mined())
            inputs.append(file_digest(config["chosen_file"]))
        rows = self.config["dataset"]["images"] // rounds
        share = self.config["dataset"]["random_share"]
        digest = digest_of(arm, rows, round_, share, inputs, {key: config[key] for key in ROW_KEYS})
        folder = self.run.folder(*stage_name("dataset", arm, round_).split("/"))
        return self._render_stage(RowRenderer, config, rows, folder, digest), digest

    def _online_stage(self, arm: str, round_: int, estimator_weights: Path | None, rounds: int) -> tuple[Stage, str]:
        """The stage of rows that are rendered while their generator is trained, and the digest of all that decides."""
        config = self._with(arm, round_, estimator_weights)
        config["online"] = True
        dataset, settings = self.config["dataset"], self.config["finetune"]
        rows = dataset["images"] // rounds
        generated = settings["batch"] - round(settings["batch"] * settings["source_share"])
        block = generated // self.config["engine"]["finetune_workers"]  # what a worker uses in one step
        if block < 1:
            raise ConfigError(
                "no generated rows are left in a fine-tuning worker's batch", where="finetune.source_share",
                next_command="lower finetune.source_share or engine.finetune_workers",
            )  # fmt: skip
        trained = generator_digest(config, round_, estimator_weights)
        digest = digest_of("overlap", arm, rows, block, dataset["random_share"], dataset["freshness"], trained)
        folder = self.run.folder(*stage_name("dataset", arm, round_).split("/"))
        return replace(
            self._render_stage(RowRenderer, config, rows, folder, digest), rows_per_block=min(rows, block)
        ), digest

    def _render_stage(self, factory: Callable, config: dict[str, Any], rows: int, folder: Path, digest: str) -> Stage:
        engine = self.config["engine"]
        return Stage(
            factory=factory,
            config=config,
            rows=rows,
            rows_per_block=min(rows, self.config["dataset"]["rows_per_block"]),
            actors=engine["render_actors"],
            num_cpus=engine["cpus_per_renderer"],
            num_gpus=engine["gpus_per_renderer"],
            folder=str(folder),
            buffer_mb=engine["buffer_mb"],
            fingerprint=digest,
            command=self.command(),
        )

    def _render(self, stage: Stage, bar: Bar) -> Mapping[str, float]:
        """Renders a stage to disk, in turn where arms run side by side."""
        from posegen.engine.stream import render_to_disk

        if self.together is None:
            self._require_room(stage)
            return render_to_disk(stage, lambda done: bar.update(done, stage.rows))
        with self.together.turn() as turn:
            self._require_room(stage, free_within_s=math.inf, progress=turn.waiting)

            def progress(done: int) -> None:
                turn.started()
                turn.check()
                bar.update(done, stage.rows)

            return render_to_disk(stage, progress)

    def _require_room(self, stage: Stage, **patience: Any) -> None:
        """An error, not Ray Data's endless wait, where the renderers have no place."""
        from posegen.engine.resources import require

        if self.check_resources:
            require(stage.bundles(), "rendering", wait_s=self.config["engine"]["wait_for_nodes_s"], **patience)

    def asks(self, arm: str) -> list[dict[str, float]]:
        """What an arm takes of the cluster when it takes most."""
        engine = self.config["engine"]
        trainer = {"CPU": float(engine["cpus_per_trainer"]), "GPU": float(engine["gpus_per_trainer"])}
        renderer = {"CPU": float(engine["cpus_per_renderer"]), "GPU": float(engine["gpus_per_renderer"])}
        generating = engine["train_workers"] if arm in GENERATOR_ARMS else 0
        finetuning = engine["finetune_workers"]
        trainers = finetuning + generating if self._overlaps(arm) else max(finetuning, generating)
        return [trainer] * trainers + [renderer] * engine["render_actors"]

    def weights_of(self, arm: str) -> Path | None:
        """The estimator of an arm that was fine-tuned earlier; None for `before`. Raises DataError if it is missing."""
        if arm == BEFORE:
            return None
        file = self.run.path / stage_name("finetune", arm, self.rounds - 1 if arm == "posegen" else 0) / "estimator.pt"
        if not file.is_file():
            raise DataError(
                f"arm {arm!r} has not been fine-tuned in this run",
                where=self.run.path,
                next_command=self.command("finetune"),
            )
        return file

    def make_latest(self) -> None:
        """Points outputs/latest at this run, where the file system has links: a convenience that fails no run."""
        outputs = Path(os.path.abspath(Path(self.config["run"]["outputs"]).expanduser()))
        link = outputs / "latest"
        temporary = outputs / f".latest.{os.getpid()}"
        try:
            temporary.symlink_to(os.path.relpath(self.run.path, outputs), target_is_directory=True)
            os.replace(temporary, link)
        except OSError as error:
            logger.warning("%s does not lead to this run (%s); it is in %s", link, error.strerror, self.run.path)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def run_path(config: Mapping[str, Any]) -> Path:
    """The run directory of a configuration, inside its outputs folder. ConfigError for a name that leads elsewhere."""
    return inside(Path(config["run"]["outputs"]).expanduser(), run_name(dict(config)))


def _figure(row: dict[str, float], key: str, unit: str) -> str:
    return f"{row[key]:.3g} {unit}" if key in row else ""
