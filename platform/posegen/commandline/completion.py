"""`posegen completion bash|zsh|fish`: the script that makes a shell complete commands, groups, keys and choices.

The scripts ask `posegen completion --words WORD...` at each press of the key: the last word is the one to complete. The
answer comes from the schema, conf/ and the outputs folder, without torch.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from posegen.commandline.candidates import listed
from posegen.commandline.options import SHELLS
from posegen.errors import ConfigError, did_you_mean

HELP = """posegen completion bash|zsh|fish

Prints the script that makes the shell complete commands, options, groups, keys and their values, and names of runs.

  bash   posegen completion bash > ~/.local/share/bash-completion/completions/posegen
         or, in ~/.bashrc:   eval "$(posegen completion bash)"
  zsh    posegen completion zsh > ~/.zfunc/_posegen      with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
         or, after compinit: eval "$(posegen completion zsh)"
  fish   posegen completion fish > ~/.config/fish/completions/posegen.fish
"""
_WORDS = "--words"


def script(shell: str) -> str:
    """The completion script of a shell. Raises ConfigError with the shells there are."""
    if shell not in SHELLS:
        hint = did_you_mean(shell, SHELLS)
        raise ConfigError(
            f"no completion for {shell!r}{hint}", choices=SHELLS, next_command="posegen completion --help"
        )
    return (Path(__file__).parent / "scripts" / f"posegen.{shell}").read_text(encoding="utf-8")


def main(argv: list[str]) -> int:
    """The command line; returns the exit status. Raises PosegenError."""
    if argv and argv[0] == _WORDS:
        words = argv[1:]
        sys.stdout.write(listed(words[1:] if words[:1] == ["--"] else words))
        return 0
    if any(word in ("-h", "--help") for word in argv):
        sys.stdout.write(HELP)
        return 0
    if len(argv) != 1:
        own = Path(os.environ.get("SHELL", "")).name
        shell = own if own in SHELLS else SHELLS[0]
        raise ConfigError("which shell?", choices=SHELLS, next_command=f"posegen completion {shell}")
    sys.stdout.write(script(argv[0]))
    return 0
