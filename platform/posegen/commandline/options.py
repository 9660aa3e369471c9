"""Which options and words each command takes beside `key=value`: for completion. A test holds it to their help."""

from __future__ import annotations

from dataclasses import dataclass, field

FILE = "file"
RUN = "run"  # the name of a finished run
ARM = "arm"  # the name of an arm
COMMAND = "command"  # one that can be submitted
KEY = "key"  # a key, a group or a command
SHELLS = ("bash", "zsh", "fish")
EXPORTS = ("hf", "spin", "webdataset")
SUBMITTED = ("run", "generate", "finetune", "evaluate", "sweep", "fit-subject", "atlas")


@dataclass(frozen=True)
class Takes:
    """What a command's line may hold.

    Attributes:
        options: flag -> kind of its value: "" has none, "text" is anything, FILE, RUN, ARM, or the choices joined by
            commas.
        words: kind of the words that are no overrides: RUN, COMMAND, KEY, FILE, choices joined by commas, "" none.
        overrides: whether `key=value` is taken.
        own: words `name=value` of this command alone -> kind of their value, as of an option's.
        benchmark: whether `benchmark=` and `benchmark.key=` are.
    """

    options: dict[str, str]
    words: str = ""
    overrides: bool = False
    benchmark: bool = False
    own: dict[str, str] = field(default_factory=dict)


COMMANDS: dict[str, Takes] = {
    "run": Takes({}, overrides=True),
    "generate": Takes({}, overrides=True),
    "finetune": Takes({}, overrides=True),
    "evaluate": Takes({"--json": FILE, "--overwrite": ""}, overrides=True, benchmark=True),
    "sweep": Takes({"--json": FILE, "--overwrite": "", "--new": ""}, overrides=True),
    "fit-subject": Takes({}),  # its keys are its own: posegen help fit-subject
    "lift": Takes({}, overrides=True),
    "atlas": Takes({}, overrides=True, own={"run": RUN, "arm": ARM, "after": FILE, "scenes": "text"}),
    "compare": Takes(
        {"--json": FILE, "--html": FILE, "--csv": FILE, "--markdown": "", "--latex": "", "--outputs": FILE,
         "--overwrite": ""},
        RUN,
    ),
    "show": Takes({"--json": "", "--markdown": "", "--latex": "", "--csv": "", "--outputs": FILE}, RUN),
    "export": Takes({"--format": ",".join(EXPORTS), "--to": FILE, "--arm": ARM, "--outputs": FILE}, RUN),
    "ui": Takes(
        {"--allowed-hosts": "text", "--experiment": "text", "--host": "text", "--outputs": FILE, "--port": "text",
         "--uri": "text"}
    ),
    "track": Takes({"--outputs": FILE, "--uri": "text"}, "sync"),
    "submit": Takes(
        {"--address": "text", "--env": "text", "--follow": "text", "--json": "", "--limit-mb": "text", "--list": "",
         "--no-follow": "", "--status": "text", "--stop": "text", "--working-dir": FILE},
        COMMAND,
    ),
    "assets": Takes({"--list": "", "--repair": ""}),
    "doctor": Takes({"--json": FILE, "--overwrite": "", "--ray": ""}, overrides=True, benchmark=True),
    "help": Takes({}, KEY),
    "completion": Takes({}, ",".join(SHELLS)),
}  # fmt: skip
