"""The configuration: typed and frozen inside, Hydra's YAML files and overrides at the edge."""

from posegen.config.compose import compose, groups
from posegen.config.names import digest, plain, run_name
from posegen.config.schema import PosegenConfig
from posegen.folders import conf_dir

__all__ = ["PosegenConfig", "compose", "conf_dir", "digest", "groups", "plain", "run_name"]
