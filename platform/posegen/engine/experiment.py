"""The whole experiment as stages: source, generators, data sets, fine-tuning, evaluation, report.

Each stage reads what earlier ones left in the run directory and leaves its own files and a marker; see
posegen.engine.stages. Where they run is the cluster's matter: rendering is a Ray Data stage, training a Ray Train run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from posegen.config import run_name
from posegen.engine.stages import RunFolder, digest_of, file_digest
from posegen.errors import DataError
from posegen.generator.proposals import GENERATOR_ARMS
from posegen.generator.rows import SOURCE_ARM, RowRenderer, SourceRenderer
from posegen.progress import Bar, Reporter

BEFORE = "before"
# What the rows of a data set depend on; the rest of the configuration may change without rendering them again.
ROW_KEYS = (
    "seed", "image_size", "body", "mocap", "background", "renderer", "estimator", "noise", "generator", "split",
)  # fmt: skip
MAIN_METRIC = "mpjpe_mm"


class Experiment:
    """One run of one configuration.

    Args:
        config: the plain dict of posegen.config.PosegenConfig.
        reporter: tells a person what is going on.
        check_resources: False where runs queue for resources on purpose, as the trials of a sweep do.
    """

    def __init__(self, config: dict[str, Any], reporter: Reporter | None = None, check_resources: bool = True) -> None:
        self.config = config
        self.check_resources = check_resources
        self.reporter = reporter or Reporter()
        self.run = RunFolder(Path(config["run"]["outputs"]) / run_name(config))
        if config["run"]["restart"]:
            self.run.clear()
        self.arms: list[str] = list(config["dataset"]["arms"])
        self.rounds = int(config["rounds"])
        self._told: set[str] = set()  # stages a person has been told of
        self.on_stage: Callable[[str], None] = lambda stage: None  # told of each stage that has ended

    @cached_property
    def tunes(self) -> bool:
        """Whether the estimator has weights that arms fine-tune."""
        from posegen.adversarial.world import build_estimator
        from posegen.estimator import trainable

        return trainable(build_estimator(self.config))

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
        self.on_stage(name)
        return marker

    def source(self) -> Path:
        """Rows of the source's own kind, mixed into every batch so that the estimator does not forget."""
        from posegen.engine.stream import render_to_disk

        rows = int(self.config["dataset"]["source_images"])
        folder = self.run.folder("dataset", SOURCE_ARM)
        digest = digest_of(rows, {key: self.config[key] for key in ("seed", "image_size", "split")})

        def work(bar: Bar) -> Any:
            stage = self._render_stage(SourceRenderer, self.config, rows, folder, digest)
            return render_to_disk(stage, lambda done: bar.update(done, rows))

        self._stage("dataset/source", "source rows", digest, rows, work)
        return folder

    def generator(self, arm: str, round_: int = 0, estimator_weights: Path | None = None) -> Path:
        """Trains the generator of an arm against the estimator: the file of its weights."""
        from posegen.engine.train import run_training

        name = _named("generate", arm, round_)
        file = self.run.path / name / "generator.pt"
        config = self._with(arm, round_, estimator_weights)
        steps = config["adversarial"]["steps"]
        parts = {key: config[key] for key in (*ROW_KEYS, "feedback", "adversarial")}
        digest = digest_of(parts, round_, _weights_digest(estimator_weights))

        def work(bar: Bar) -> Any:
            import torch

            outcome = run_training(
                "adversarial",
                config,
                workers=_workers(self.config["engine"]["train_workers"], self.config["engine"]["max_train_workers"]),
                checkpoint_every=config["adversarial"]["checkpoint_every"],
                on_metrics=lambda row: bar.update(int(row["step"]), steps, _figure(row, "error_mm", "mm on samples")),
                **self._training(name, digest),
            )
            state = outcome.state()
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state["generator"], file)
            from posegen.adversarial.plausibility import meter_summary

            self._forget_checkpoints(name, digest)
            return {"plausibility": meter_summary(state), "restarts": outcome.restarts, "steps": outcome.steps}

        title = f"generator {arm}" + (f" round {round_ + 1}" if self.rounds > 1 else "")
        self._stage(name, title, digest, steps, work)
        return file

    def mined(self) -> Path:
        """Renders a larger random pool, and chooses its hard rows: the file of the chosen ids."""
        from posegen.engine.stream import render_to_disk
        from posegen.generator.mining import mine
        from posegen.shards.reader import read_shards

        dataset = self.config["dataset"]
        pool = dataset["images"] * dataset["mined_factor"]
        folder = self.run.folder("mining", "pool")
        file = self.run.path / "mining" / "chosen_ids.npy"
        config = self._with("random")
        digest = digest_of(pool, dataset["mined_drop_top"], {key: config[key] for key in ROW_KEYS})

        def work(bar: Bar) -> Any:
            stage = self._render_stage(RowRenderer, config, pool, folder, digest)
            render_to_disk(stage, lambda done: bar.update(done, pool))
            errors = read_shards(folder).table(["error_at_birth_mm"]).column("error_at_birth_mm").to_numpy()
            np.save(file, mine(errors, dataset["images"], dataset["mined_drop_top"]))
            return {"median_error_mm": float(np.median(errors))}

        self._stage("mining", "mining a random pool", digest, pool, work)
        return file

    def dataset(self, arm: str) -> Path:
        """Renders an arm's rows to disk, without fine-tuning on them. `posegen run` does both at once."""
        from posegen.engine.stream import render_to_disk

        stage, digest = self._arm_stage(arm, 0, None)

        def work(bar: Bar) -> Any:
            return render_to_disk(stage, lambda done: bar.update(done, stage.rows))

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
        from posegen import estimator as estimators
        from posegen.adversarial.world import build_estimator
        from posegen.engine.finetune import run_finetuning

        stage, rows_digest = self._arm_stage(arm, round_, before, rounds)
        name = _named("finetune", arm, round_)
        file = self.run.path / name / "estimator.pt"
        source = self.source()
        config = self._with(arm, round_, before)
        config["source_rows"] = str(source)
        steps = config["finetune"]["steps"] // rounds
        config["finetune"] = {**config["finetune"], "steps": steps}
        source_marker = self.run.marker("dataset/source") or {}
        digest = digest_of(rows_digest, config["finetune"], config["seed"], source_marker.get("digest"))

        def work(bar: Bar) -> Any:
            outcome = run_finetuning(
                config,
                stage,
                seed=int(config["seed"]),
                keep_mb=self.config["engine"]["keep_mb"],
                stream_share=config["finetune"]["stream_share"],
                workers=self.config["engine"]["finetune_workers"],
                checkpoint_every=config["finetune"]["checkpoint_every"],
                on_metrics=lambda row: bar.update(int(row["step"]), steps, _figure(row, "loss", "loss")),
                **self._training(name, digest),
            )
            estimator: Any = build_estimator(config)
            estimator.load_state_dict(outcome.state()["averaged"])
            file.parent.mkdir(parents=True, exist_ok=True)
            estimators.save_checkpoint(estimator, file)
            self._forget_checkpoints(name, digest)
            return {"restarts": outcome.restarts, "steps": outcome.steps, "rows": stage.rows}

        title = f"fine-tuning {arm}" + (f" round {round_ + 1}" if rounds > 1 else "")
        self._stage(name, title, digest, steps, work)
        return file

    def evaluate(self, arm: str, weights: Path | None) -> dict[str, Any]:
        """Errors of an arm's estimator on every benchmark: benchmark -> BenchmarkResult."""
        from posegen.adversarial.world import build_estimator, evaluation_body
        from posegen.benchmarks.evaluate import evaluate
        from posegen.benchmarks.result import BenchmarkResult

        settings = self.config["evaluation"]
        names = settings["suite"]
        folder = self.run.folder("evaluation", arm)
        parts = [settings[key] for key in ("suite", "images", "seed")]
        scene_parts = {key: self.config[key] for key in ("estimator", "body", "split", "image_size")}
        digest = digest_of(parts, scene_parts, _weights_digest(weights))

        def work(bar: Bar) -> Any:
            checkpoint = str(weights) if weights else None
            estimator = build_estimator(self.config, checkpoint=checkpoint, compared_with="free body")
            body = evaluation_body(estimator, self.config)
            for number, benchmark in enumerate(self.benchmarks()):
                result = evaluate(estimator, benchmark, body, settings["batch"])
                result.save(folder / f"{benchmark.name}.parquet")
                bar.update(number + 1, len(names), f"{result.metrics[MAIN_METRIC]:.1f} mm on {benchmark.name}")
            return {}

        self._stage(f"evaluate/{arm}", f"evaluating {arm}", digest, len(names), work)
        return {name: BenchmarkResult.load(folder / f"{name}.parquet") for name in names}

    def benchmarks(self) -> list[Any]:
        """The benchmarks of the configuration. The embedded ones are rendered at first use and cached."""
        from posegen.benchmarks import embedded, protocol

        settings = self.config["evaluation"]
        own = {"images": settings["images"], "seed": settings["seed"], "split": self.config["split"]}
        own["size_px"] = self.config["image_size"]
        ours = {*embedded.EMBEDDED_TESTS, *embedded.EMBEDDED_OTHERS}
        return [protocol.REGISTRY.get(name)(**(own if name in ours else {})) for name in settings["suite"]]

    # -- pieces ------------------------------------------------------------------------------------------------

    def _storage(self) -> str:
        return self.config["engine"]["storage"] or str(self.run.folder("checkpoints"))

    def _training(self, stage: str, digest: str) -> dict[str, Any]:
        """What every Ray Train run of this experiment is given."""
        engine = self.config["engine"]
        return {
            "storage": self._storage(),
            "name": f"train-{stage.replace('/', '-')}-{digest}",
            "cpus_per_worker": engine["cpus_per_trainer"],
            "gpus_per_worker": engine["gpus_per_trainer"],
            "history": self.run.path / stage / "history.jsonl",
            "max_failures": engine["max_failures"],
            "fingerprint": digest,
            "wait_s": engine["wait_for_nodes_s"],
            "check_resources": self.check_resources,
        }

    def _forget_checkpoints(self, stage: str, digest: str) -> None:
        """A finished training's weights are in the run; its checkpoints with optimiser states are not needed more."""
        shutil.rmtree(Path(self._storage()) / self._training(stage, digest)["name"], ignore_errors=True)

    def _with(self, arm: str, round_: int = 0, estimator_weights: Path | None = None) -> dict[str, Any]:
        """The configuration as a worker of this arm and round receives it."""
        config = {**self.config, "arm": arm, "round": round_, "generator_version": round_}
        if arm == "no_feedback":
            config["feedback"] = {**config["feedback"], "name": "none"}
        if estimator_weights is not None:
            config["estimator_weights"] = str(estimator_weights)
        return config

    def _arm_stage(self, arm: str, round_: int, estimator_weights: Path | None, rounds: int = 1) -> tuple[Any, str]:
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
        folder = self.run.folder(*_named("dataset", arm, round_).split("/"))
        return self._render_stage(RowRenderer, config, rows, folder, digest), digest

    def _render_stage(self, factory: Callable, config: dict[str, Any], rows: int, folder: Path, digest: str) -> Any:
        from posegen.engine.stream import Stage

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
            command=f"posegen run run.name={self.run.name}",
        )

    def weights_of(self, arm: str) -> Path | None:
        """The estimator of an arm that was fine-tuned earlier; None for `before`. Raises DataError if it is missing."""
        if arm == BEFORE:
            return None
        file = self.run.path / _named("finetune", arm, self.rounds - 1 if arm == "posegen" else 0) / "estimator.pt"
        if not file.is_file():
            raise DataError(
                f"arm {arm!r} has not been fine-tuned in this run",
                where=self.run.path,
                next_command=f"posegen finetune run.name={self.run.name}",
            )
        return file

    def make_latest(self) -> None:
        """Points outputs/latest at this run."""
        link = self.run.path.parent / "latest"
        temporary = link.with_name(f".latest.{os.getpid()}")
        temporary.symlink_to(self.run.name, target_is_directory=True)
        os.replace(temporary, link)


def _named(stage: str, arm: str, round_: int) -> str:
    return f"{stage}/{arm}" if round_ == 0 else f"{stage}/{arm}-round{round_ + 1}"


def _workers(fewest: int, most: int | None) -> int | tuple[int, int]:
    return fewest if most is None or most == fewest else (fewest, most)


def _weights_digest(weights: Path | None) -> str | None:
    return None if weights is None else file_digest(weights)


def _figure(row: dict[str, float], key: str, unit: str) -> str:
    return f"{row[key]:.3g} {unit}" if key in row else ""
