"""Free assets: a body, motion clips, dressed subjects and BlazePose's weights, made once and cached."""

from posegen.assets.cache import cache_dir
from posegen.assets.catalogue import ASSETS
from posegen.assets.store import MAKE_ASSETS, asset_path, ensure, repair, state_of
from posegen.assets.wheels import WHEELS, fetch_wheel_file

__all__ = [
    "ASSETS",
    "MAKE_ASSETS",
    "WHEELS",
    "asset_path",
    "cache_dir",
    "ensure",
    "fetch_wheel_file",
    "repair",
    "state_of",
]
