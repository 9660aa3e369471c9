"""The command line: `posegen COMMAND [key=value ...]`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from posegen import __version__
from posegen.errors import ConfigError, DataError, PosegenError, did_you_mean
from posegen.extras import explained
from posegen.files.secrets import MaskingFormatter, masked_text
from posegen.machine import keep_freed_memory
from posegen.proxies import spare_loopback

Command = Callable[[list[str]], int]

INTERRUPTED = 130
LONGEST_NAME = 200  # shown of a file's

HELP = """posegen {version}: find the poses, cameras and looks on which a 3D human pose estimator fails, and mend it.

usage: posegen [COMMAND [key=value ...]]

an experiment and its stages
  run          everything: generate, fine-tune, evaluate before and after, report. Goes on where it was stopped
  generate     train the generators and render the data sets of all arms
  finetune     fine-tune the estimator on each rendered data set
  evaluate     error of an estimator on a benchmark, or of all arms of a run on the embedded four
  sweep        search over noise, loss weights and bands with Ray Tune
  fit-subject  fit a subject's articulated field
  lift         2-D keypoints or pictures of your own domain to people in the world with their cameras

looking
  atlas        where an estimator fails: groups of people with names, pictures, shares of the error; before and after
  show         the table of a run again: text, Markdown, LaTeX, CSV, JSON
  compare      runs side by side, with intervals, as one HTML file
  export       a run's pictures and labels for Hugging Face, SPIN or WebDataset
  ui           browse the runs in MLflow
  track sync   send to MLflow what it was not there for

machines and files
  submit       any of the above as a job on a Ray cluster
  assets       build or list the free body, motions and weights; import a user's SMPL files
  doctor       what is found on this machine, what is missing, where to get it
  help         what a command, a group or a key of the configuration means: posegen help finetune.steps
  completion   makes bash, zsh or fish complete commands, keys and their values

`posegen` alone says where one stands: the last runs, what is at work, what to type next.
`posegen COMMAND --help` says more. Examples:
  posegen run experiment=quickstart_target       the quickstart: ten minutes on two cores
  posegen run experiment=full seed=1 noise=mixture
  posegen run estimator=blazepose feedback=band feedback.weight=2
"""


ABOUT = {
    "run": "the whole experiment; an interrupted one goes on where it stopped",
    "generate": "trains the generators and renders every arm's data set",
    "finetune": "fine-tunes the estimator on every arm's data set",
    "evaluate": "three uses\n\n"
    "  posegen evaluate run.name=NAME              every arm of a run, and its report\n"
    "  posegen evaluate suite=NAME [data=FOLDER]   one estimator on a suite\n"
    "      more: posegen evaluate suite=paper --help\n"
    "  posegen evaluate benchmark=NAME [--json FILE [--overwrite]] [benchmark.KEY=VALUE ...]\n"
    "      one estimator on one data set, options in conf/benchmark/NAME.yaml\n"
    "      more: posegen help benchmark=NAME, posegen evaluate benchmark=NAME --help",
}


def _main_of(module: str) -> Command:
    """The `main` of a module that is imported when the command is called: the others cost it nothing."""
    return lambda argv: import_module(module).main(argv)


def _experiment(command: str) -> Command:
    def run(argv: list[str]) -> int:
        if any(word in ("-h", "--help") for word in argv):
            from posegen.commandline.key_help import help_text

            sys.stdout.write(help_text(command, ABOUT[command]) + "\n")
            return 0
        for word in argv:
            if word.startswith("benchmark="):
                name = word.partition("=")[2]
                raise ConfigError(
                    f"posegen {command} is measured on a suite, not on one benchmark", where=word,
                    next_command=f"posegen {command} 'evaluation.suite=[{name}]'   # or suite=paper data=FOLDER",
                )  # fmt: skip
        _check(argv)
        from posegen.engine.command import main

        return main(command, argv)

    return run


def _check(argv: list[str]) -> None:
    """What is mistyped is told before seconds are spent on loading torch."""
    from posegen.config import check_words

    check_words(argv)


def _lift(argv: list[str]) -> int:
    if not any(word in ("-h", "--help", "help") for word in argv):
        _check(argv)
    from posegen.target.command import main

    return main(argv)


def _evaluate(argv: list[str]) -> int:
    if any(word.startswith("benchmark=") for word in argv):
        from posegen.benchmarks.command import main

        return main(argv)
    if any(word.startswith("suite=") for word in argv) and not any(word.startswith("run.name=") for word in argv):
        from posegen.experiment.suite_command import main as suite_main

        return suite_main(argv)
    return _experiment("evaluate")(argv)


def _help(argv: list[str]) -> int:
    """`posegen help`, `posegen help COMMAND`, `posegen help KEY`."""
    from posegen.commandline.key_help import about, is_part

    words = [word for word in argv if not word.startswith("-")]
    if not words:
        sys.stdout.write(HELP.format(version=__version__))
        return 0
    # A command that is a part of the configuration, too, such as `finetune`: both are told.
    said = 0
    if words[0] in COMMANDS and words[0] != "help":
        said = COMMANDS[words[0]](["--help"])
    if words[0] not in COMMANDS or is_part(words[0]):
        sys.stdout.write(about(words[0]) + "\n")
    return said


COMMANDS: dict[str, Command] = {
    "run": _experiment("run"),
    "generate": _experiment("generate"),
    "finetune": _experiment("finetune"),
    "evaluate": _evaluate,
    "sweep": _main_of("posegen.engine.sweep_command"),
    "fit-subject": _main_of("posegen.renderer.fit.command"),
    "lift": _lift,
    "atlas": _main_of("posegen.atlas.command"),
    "compare": _main_of("posegen.tracking.compare.command"),
    "show": _main_of("posegen.tracking.report.show_command"),
    "export": _main_of("posegen.shards.export_command"),
    "ui": _main_of("posegen.tracking.store.ui"),
    "track": _main_of("posegen.tracking.store.sync_command"),
    "submit": _main_of("posegen.engine.jobs"),
    "assets": _main_of("posegen.assets.command"),
    "doctor": _main_of("posegen.doctor.command"),
    "help": _help,
    "completion": _main_of("posegen.commandline.completion"),
}


def dispatch(argv: Sequence[str]) -> int:
    """Runs a command line without the program's name; returns the exit status. Raises PosegenError."""
    if not argv or list(argv) == ["--json"]:
        from posegen.commandline.standing import main as tell

        return tell(list(argv))
    if argv[0] in ("-h", "--help"):
        sys.stdout.write(HELP.format(version=__version__))
        return 0
    if argv[0] in ("-V", "--version"):
        sys.stdout.write(f"posegen {__version__}\n")
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        raise ConfigError(f"unknown command {name!r}{hint}", choices=COMMANDS, next_command="posegen --help")
    return COMMANDS[name](rest)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: errors a user can act on are printed without a traceback (POSEGEN_TRACEBACK=1 shows it)."""
    handler = logging.StreamHandler()
    handler.setFormatter(MaskingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=os.environ.get("POSEGEN_LOG", "WARNING"), handlers=[handler])
    spare_loopback()
    keep_freed_memory()
    try:
        return dispatch(sys.argv[1:] if argv is None else argv)
    except PosegenError as error:
        if os.environ.get("POSEGEN_TRACEBACK"):
            raise
        sys.stderr.write(f"posegen: {masked_text(str(error))}\n")
        return 2
    except ModuleNotFoundError as error:
        missing = explained(error)
        if missing is None:
            raise
        sys.stderr.write(f"posegen: {missing}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nposegen: interrupted; what is done is kept, and the same command goes on from there\n")
        return INTERRUPTED
    except BrokenPipeError:  # `posegen ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None or os.environ.get("POSEGEN_TRACEBACK"):
            raise
        # A name too long for the file system, a folder that may not be entered: too many ask for a file to tell each.
        told = DataError(
            f"the system refuses a file or folder: {error.strerror}", where=str(error.filename)[:LONGEST_NAME],
            next_command="the same with POSEGEN_TRACEBACK=1 tells who asked for it",
        )  # fmt: skip
        sys.stderr.write(f"posegen: {masked_text(str(told))}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
