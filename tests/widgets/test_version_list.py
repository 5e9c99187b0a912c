"""Every version of a model can be used again by one press, the oldest too."""

from types import SimpleNamespace

import pytest
from qtpy.QtWidgets import QPushButton

from napari_medseg.session.training import VersionRow
from napari_medseg.widgets.version_list import VersionList


@pytest.fixture
def used():
    return []


@pytest.fixture
def versions(qtbot, used):
    rows = tuple(VersionRow(n, n == 9, "2026-01-01", 0.8, True, "") for n in range(9, 0, -1))
    controller = SimpleNamespace(
        versions=lambda: rows, is_running=False, figure_short="Dice", roll_back=lambda: None, activate=used.append
    )
    made = VersionList(controller)
    qtbot.addWidget(made)
    made.show()
    made.draw()
    return made


def usable(versions):
    names = [each.accessibleName() for each in versions.findChildren(QPushButton) if each.isVisible()]
    return [int(name.split()[-1]) for name in names if name.startswith("Use version")]


def test_the_newest_are_shown_and_the_others_by_one_press(versions, used, qtbot):
    assert usable(versions) == [8, 7, 6, 5, 4]
    older = next(each for each in versions.findChildren(QPushButton) if each.text() == "3 older versions")
    older.click()
    qtbot.waitUntil(lambda: usable(versions) == [8, 7, 6, 5, 4, 3, 2, 1])
    next(each for each in versions.findChildren(QPushButton) if each.accessibleName() == "Use version 1").click()
    assert used == [1]
    older.click()
    qtbot.waitUntil(lambda: usable(versions) == [8, 7, 6, 5, 4])
