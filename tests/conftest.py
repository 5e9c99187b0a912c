"""Fixtures for all rooms."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real labelled scans, where this checkout has them beside it."""
    if not SHARED.is_dir():
        pytest.skip("needs the real scans in ../shared/data, which are not part of the project")
    return SHARED


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test out of the user's own library, corrections and settings."""
    monkeypatch.setenv("NAPARI_MEDSEG_HOME", str(tmp_path_factory.mktemp("home")))
