"""The configuration: typed and frozen inside, Hydra's YAML files and overrides at the edge."""

from posegen.config.compose import check_words, compose, groups
from posegen.config.names import digest, parts_of, plain, run_name, run_path
from posegen.config.schema import PosegenConfig
from posegen.config.task import ArmTask
from posegen.folders import conf_dir

__all__ = [
    "ArmTask",
    "PosegenConfig",
    "check_words",
    "compose",
    "conf_dir",
    "digest",
    "groups",
    "parts_of",
    "plain",
    "run_name",
    "run_path",
]
