"""The tests of the card use the renderer tests' scenes."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "renderer"))
