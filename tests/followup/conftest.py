"""Two visits of a made-up patient."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from napari_medseg.imaging.volume import LabelMap, Volume

sys.path.insert(0, str(Path(__file__).parent))

from followup_phantom import MOTION, scanned


@pytest.fixture(scope="session")
def visits() -> tuple[tuple[Volume, LabelMap], tuple[Volume, LabelMap]]:
    """Prior and current scan with their masks; `MOTION` takes places of the first to places of the second."""
    return scanned(0, (3.0, 1.5, 1.5), (0, 0, 0), np.eye(4)), scanned(1, (2.5, 1.6, 1.4), (5, -3, 0), MOTION)
