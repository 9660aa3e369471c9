"""The whole experiment as stages: source, generators, data sets, fine-tuning, evaluation, report.

Each stage reads what earlier ones left in the run directory and leaves its own files and a marker; see
posegen.experiment.stages. Who does the work is not its matter: see posegen.experiment.work.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from posegen.arms.registry import BEFORE, arm_of
from posegen.arms.rows import SOURCE_ARM, persons_of
from posegen.config import PosegenConfig, plain, run_name, run_path
from posegen.errors import ConfigError, DataError
from posegen.estimator import save_checkpoint, trainable
from posegen.estimator.configured import build_estimator
from posegen.experiment.evaluations import Evaluations
from posegen.experiment.going_on import with_seed
from posegen.experiment.kin import Kin
from posegen.experiment.plans import ArmRound, Plans
from posegen.experiment.rendering import Rendering
from posegen.experiment.stages import RunFolder, digest_of
from posegen.experiment.target_stages import TargetStages
from posegen.experiment.work import Training, Workers
from posegen.files.atomic import replacing, write_text
from posegen.files.secrets import masked, masked_words
from posegen.finetune.guard import told_at_the_end
from posegen.generator.build import save_generator
from posegen.progress import Bar, Reporter


class Experiment:
    """One run of one configuration.

    Args:
        config: of the run.
        workers: who renders and trains.
        reporter: tells a person what is going on.
        overrides: what the configuration was composed of, for the commands that are told to the user.
        kin: runs whose stages are taken over where they are the same.
    """

    def __init__(
        self,
        config: PosegenConfig,
        workers: Workers,
        reporter: Reporter | None = None,
        overrides: Sequence[str] = (),
        kin: Sequence[Kin] = (),
    ) -> None:
        self.config, self.workers, self.overrides, self.kin = config, workers, tuple(overrides), kin
        self.reporter = reporter or Reporter()
        self.run = RunFolder(run_path(config), run_name(config))
        self.arms = list(config.dataset.arms)
        self.plans = Plans(config, self.run, self.command())
        self.on_stage: Callable[[str], None] = lambda stage: None  # told of each stage that has ended
        self.telling = threading.Lock()  # one listener at a time
        self._told: set[str] = set()  # stages a person has been told of

    @cached_property
    def evaluations(self) -> Evaluations:
        """What is measured and watched, all of it found on this machine."""
        return Evaluations(self.config, self.run, self.stage)

    @cached_property
    def target(self) -> TargetStages:
        """The user's own domain."""
        return TargetStages(self.config, self.run, self.stage)

    @cached_property
    def tunes(self) -> bool:
        """Whether the estimator has weights that arms fine-tune."""
        return trainable(build_estimator(self.config))

    def write_config(self) -> None:
        """Keeps the configuration beside the results, under the command that goes on with the run."""
        from omegaconf import OmegaConf

        text = OmegaConf.to_yaml(OmegaConf.create(masked(plain(self.config))))
        write_text(self.run.path / "config.yaml", f"# {self.command()}\n{text}")

    def command(self, verb: str = "run") -> str:
        """What a user types to go on in this run, with all that makes it this run; secrets are masked."""
        kept = [word for word in self.overrides if word.partition("=")[0] not in ("run.name", "run.restart")]
        return shlex.join(["posegen", verb, *masked_words(kept), f"run.name={self.run.name}"])

    def another(self) -> str:
        """What a user types for the same experiment with the next seed; secrets are masked."""
        return with_seed(self.command(), self.config.seed + 1)

    def stage(
        self, name: str, title: str, digest: str, total: int | None, work: Callable[[Bar], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Runs a stage with a progress bar, unless it is done, here or by the run's kin. Returns its marker."""
        done = self._done(name, digest)
        if done:
            if name not in self._told:
                self.reporter.say(f"{title:<34} {done}")
            self._told.add(name)
            return self.run.run_stage(name, digest, dict)
        self._told.add(name)
        with self.reporter.stage(title, total) as bar:
            marker = self.run.run_stage(name, digest, lambda: work(bar))
        with self.telling:
            self.on_stage(name)
        return marker

    def _done(self, name: str, digest: str) -> str:
        """Who has done a stage, in words; "" where neither this run nor its kin has, or theirs was of no use."""
        if self.run.is_done(name, digest):
            return "done before"
        if name in self.run.forgotten:
            return ""
        return next((f"as in {kin.name}" for kin in self.kin if kin.lend(name, digest, self.run)), "")

    def show_target(self) -> None:
        """Finds and lifts the target's people, where an arm is shown them; before arms are at work side by side."""
        if any(arm_of(arm).shown_target for arm in self.arms):
            self.target.files()

    # -- what comes before an arm's rows -----------------------------------------------------------------------

    def source(self) -> Path:
        """Rows of the source's own kind, mixed into every batch so that the estimator does not forget."""
        rendering = self.plans.source()
        self._rendered(f"dataset/{SOURCE_ARM}", "source rows", rendering)
        return self.run.path / "dataset" / SOURCE_ARM

    def generator(self, turn: ArmRound, workers: Workers | None = None) -> Path:
        """Trains the generator of an arm against the estimator: the file of its weights."""
        workers = workers or self.workers
        training = self.plans.generator(turn)
        file = training.folder / "generator.pt"

        def work(bar: Bar) -> dict[str, Any]:
            from posegen.adversarial.alarms import Alarms, loss_weights
            from posegen.adversarial.plausibility import meter_summary
            from posegen.files.state import read_history

            alarms = Alarms(loss_weights(plain(training.task.config)))
            for row in read_history(training.history):  # of a training that goes on
                alarms.see(row)

            def tell(row: dict[str, float]) -> None:
                bar.update(int(row["step"]), training.steps, _figure(row, "error_mm", "mm on samples"))
                for line in alarms.see(row):
                    self.reporter.say(f"  generator {turn.arm.name}: {line}")

            outcome = workers.train(training, tell)
            state = outcome.state()
            save_generator(state["generator"], file)
            workers.forget(training)
            return {"plausibility": meter_summary(state), "restarts": outcome.restarts, "steps": outcome.steps,
                    "alarms": [f"{alarm.name} {alarm}" for alarm in alarms.found]}  # fmt: skip

        self.stage(training.stage, turn.title("generator"), training.digest, training.steps, work)
        workers.generator_at(training, file)
        return file

    def selected(self, turn: ArmRound, generator: Path | None) -> Path:
        """Renders an arm's candidates, and chooses its rows by their errors: the file of the chosen ids."""
        from posegen.arms.selection import select
        from posegen.shards.reader import read_shards

        rendering = self.plans.candidates(turn, generator)
        settings = self.config.dataset.selection
        name = turn.stage("candidates")
        file = self.run.folder(*name.split("/")) / "chosen_ids.npy"

        def work(bar: Bar) -> dict[str, Any]:
            self._render(rendering, bar)
            table = read_shards(str(rendering.folder)).table(["row_id", "error_at_birth_mm"]).sort_by("row_id")
            errors_mm = table.column("error_at_birth_mm").to_numpy()
            anchors = persons_of(rendering.config, np.arange(rendering.rows)) if settings.per_anchor else None
            selection = select(errors_mm, self.config.dataset.images // turn.of, settings, anchors)
            with replacing(file) as partial:
                np.save(partial, selection.ids)
            return {"rendered": rendering.rows, **selection.figures(errors_mm)}

        digest = digest_of(rendering.fingerprint, plain(settings))
        self.stage(name, turn.title("candidates for"), digest, rendering.rows, work)
        return file

    # -- an arm ------------------------------------------------------------------------------------------------

    def rounds(self, arm: str) -> int:
        """How many rounds an arm takes."""
        return self.config.rounds if arm_of(arm).follows else 1

    def overlaps(self, arm: str) -> bool:
        """Whether rows are rendered and used while their generator is still trained."""
        return self.config.overlap and arm_of(arm).trains_generator

    def dataset(self, arm: str) -> Path:
        """Renders an arm's rows to disk, without fine-tuning on them. `posegen run` does both at once."""
        if self.overlaps(arm):
            raise ConfigError(
                "with overlap=true an arm's rows are rendered while it is fine-tuned, not before",
                where="overlap",
                next_command="posegen run overlap=true  # or: posegen generate overlap=false",
            )
        rows = self._rows(self._turn(arm))
        if rows is None:
            self.reporter.say(f"{f'data set {arm}':<34} nothing is rendered for this arm")
        else:
            self._rendered(f"dataset/{arm}", f"data set {arm}", rows)
        return self.run.path / "dataset" / arm

    def finetune(self, arm: str) -> Path:
        """Fine-tunes on an arm's rows while they are rendered: the file of the estimator's weights.

        The method's own arm may take several rounds: generate, fine-tune, generate against the fine-tuned estimator.
        """
        *_, weights = self.finetune_rounds(arm)
        return weights

    def finetune_rounds(self, arm: str) -> Iterator[Path]:
        """The weights after each round of an arm."""
        earlier: Path | None = None
        weights: Path | None = None
        for index in range(self.rounds(arm)):
            turn = self._turn(arm, index, weights, earlier)
            earlier = weights
            weights = self._overlapped(turn) if self.overlaps(arm) else self._finetuned(turn, self._rows(turn))
            yield weights

    def _turn(self, arm: str, index: int = 0, weights: Path | None = None, earlier: Path | None = None) -> ArmRound:
        """A round of an arm, with the target where the arm is shown it and there is one."""
        found, rounds = arm_of(arm), self.rounds(arm)
        turn = ArmRound(found, index, rounds, weights, earlier)
        if not found.shown_target:
            return turn
        name = turn.stage("weights").rpartition("/")[2]
        files = self.target.weighed(name, weights, earlier) if found.follows else self.target.files()
        return replace(turn, target=files)

    def _overlapped(self, turn: ArmRound) -> Path:
        """Trains the generator, renders with its newest version and fine-tunes on that, all at the same time."""
        rows = self.plans.online_rows(turn)
        training = self.plans.finetuning(turn, rows)
        if self._done(training.stage, training.digest):
            self.generator(turn)
            return self._finetuned(turn, rows)
        return self.workers.overlapped(
            rows,
            self.source,
            lambda workers: self.generator(turn, workers),
            lambda workers: self._finetuned(turn, rows, workers),
        )

    def _finetuned(self, turn: ArmRound, rows: Rendering | None, workers: Workers | None = None) -> Path:
        workers = workers or self.workers
        self.source()
        training = self.plans.finetuning(turn, rows)
        file = training.folder / "estimator.pt"

        def work(bar: Bar) -> dict[str, Any]:
            def tell(row: dict[str, float]) -> None:
                bar.update(int(row["step"]), training.steps, _figure(row, "loss", "loss"))

            outcome = workers.train(training, tell) if rows is None else workers.finetune(training, rows, tell)
            state = outcome.state()
            self._keep_weights(state["averaged"], file)
            workers.forget(training)
            return {
                "restarts": outcome.restarts, "steps": outcome.steps, "rows": 0 if rows is None else rows.rows,
                **outcome.counts, **self._guarded(training, state["guard"]),
            }  # fmt: skip

        self.stage(training.stage, turn.title("fine-tuning"), training.digest, training.steps, work)
        return file

    def _keep_weights(self, averaged: Mapping[str, Any], file: Path) -> None:
        estimator: Any = build_estimator(self.config)
        estimator.load_state_dict(averaged)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(estimator, file)

    def _guarded(self, training: Training, guard: Mapping[str, Any]) -> dict[str, int]:
        """Tells what the guard of a fine-tuning saw; returns figures for the marker."""
        for told in told_at_the_end(guard):
            self.reporter.say(f"  fine-tuning {training.task.arm}: {told}")
        return {"kept_step": guard["kept"]["step"], "blowups": guard["blowups"]} if guard["kept"] else {}

    def weights_of(self, arm: str) -> Path | None:
        """The estimator of an arm that was fine-tuned earlier; None for `before`. Raises DataError if it is missing."""
        if arm == BEFORE:
            return None
        last = ArmRound(arm_of(arm), self.rounds(arm) - 1)
        file = self.run.path / last.stage("finetune") / "estimator.pt"
        if not file.is_file():
            raise DataError(
                f"arm {arm!r} has not been fine-tuned in this run",
                where=self.run.path,
                next_command=self.command("finetune"),
            )
        return file

    # -- pieces ------------------------------------------------------------------------------------------------

    def _rows(self, turn: ArmRound) -> Rendering | None:
        """An arm's rows, once what they need has been trained and selected; None for an arm without rows."""
        if turn.arm.propose is None:
            return None
        generator = self.generator(turn) if turn.arm.trains_generator else None
        chosen = self.selected(turn, generator) if self.plans.selects(turn.arm) else None
        return self.plans.rows(turn, generator, chosen)

    def _rendered(self, name: str, title: str, rendering: Rendering) -> None:
        self.stage(name, title, rendering.fingerprint, rendering.rows, lambda bar: self._render(rendering, bar))

    def _render(self, rendering: Rendering, bar: Bar) -> Mapping[str, float]:
        return self.workers.render(rendering, lambda done: bar.update(done, rendering.rows))


def _figure(row: Mapping[str, float], key: str, unit: str) -> str:
    return f"{row[key]:.3g} {unit}" if key in row else ""
