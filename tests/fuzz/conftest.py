"""Let these tests import the targets beside them and the phantoms of the imaging tests."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "imaging")]
