"""The command line of `posegen doctor`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from posegen.config.names import plain
from posegen.config.schema import PosegenConfig
from posegen.doctor import files, machine
from posegen.doctor.catalogue import data_folder
from posegen.doctor.finding import ERROR, OK, Finding, exit_status, report
from posegen.errors import ConfigError, PosegenError
from posegen.files.results import split_result, write_result

HELP = """posegen doctor [--ray] [--json FILE] [key=value ...]

Says what this machine has, which assets, checkpoints and data sets are found, which are missing, where to get them and
where to put them. The same keys as for the other commands name places: body.path, mocap.path, estimator=spin
estimator.checkpoint, benchmark=3dpw benchmark.annotations. Other files are looked for in $POSEGEN_DATA
(now {data}).

  --ray        also start a local Ray and stop it (some ten seconds)
  --json FILE  the same for machines; --overwrite writes over a file that is there

Exit status: 0 when everything that is needed is well, 1 when something needed is wrong.
"""


def examine(config: PosegenConfig, ray: bool = False) -> Iterator[Finding]:
    """All findings, in the order of the report."""
    from posegen.assets import cache_dir

    yield from machine.examine(cache_dir(), Path(config.run.outputs))
    if ray:
        yield ray_starts(config)
    yield from files.configured_paths(plain(config))
    yield from files.assets()
    yield from files.wanted_files(plain(config))


def ray_starts(config: PosegenConfig) -> Finding:
    """Whether a local Ray starts, runs one task and stops."""
    started = time.monotonic()
    try:
        from posegen.engine.cluster import connect, disconnect

        engine = config.engine
        cluster = connect(engine.address, cpus=engine.cpus, object_store_mb=engine.object_store_mb)
        try:
            import ray

            answer = ray.get(ray.remote(num_cpus=1)(lambda: 6 * 7).remote(), timeout=60)
        finally:
            disconnect()
    except (PosegenError, OSError, RuntimeError, ImportError, TimeoutError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Finding(machine.SECTION, "ray", ERROR, f"does not start: {first}", "free memory or set engine.address")
    good = answer == 42
    text = f"{cluster}; started and stopped in {time.monotonic() - started:.0f} s"
    return Finding(machine.SECTION, "ray", OK if good else ERROR, text)


def main(argv: list[str]) -> int:
    """Prints the report; returns the exit status. Raises PosegenError for wrong arguments."""
    if any(word in ("-h", "--help") for word in argv):
        sys.stdout.write(HELP.format(data=data_folder()))
        return 0
    ray, overrides = False, []
    words, json_file = split_result(argv, "--json", "posegen doctor --help")
    for word in words:
        if word == "--ray":
            ray = True
        elif word.startswith("-"):
            raise ConfigError(
                f"unknown option {word}", where="posegen doctor", choices=("--ray", "--json", "--overwrite"),
                next_command="posegen doctor --help",
            )  # fmt: skip
        else:
            overrides.append(f"+{word}" if word.startswith("benchmark=") else word)
    from posegen.config import compose

    findings = list(examine(compose(overrides), ray))
    status = exit_status(findings)
    sys.stdout.write(report(findings) + "\n")
    following = "posegen run" if status == 0 else "what stands beside the lines marked !!, then posegen doctor"
    sys.stdout.write(f"next: {following}\n")
    if json_file is not None:
        content = {"status": status, "findings": [asdict(finding) for finding in findings]}
        write_result(json_file, json.dumps(content, indent=2) + "\n", overwrite=True)  # it was free before
    return status
