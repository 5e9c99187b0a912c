"""The main story in the real window with the real mouse: open, click, correct, undo, accept, export, reload."""

import json

import nibabel as nib
import numpy as np
from qtpy.QtCore import Qt

from napari_medseg.segmentation.prompts import Box, Click, Lasso, Scribble
from napari_medseg.widgets.prompt_tools import Tool

CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


def middle(window):
    return tuple(n // 2 for n in window.labels.shape)


def moved(index, dy=0, dx=0):
    return (index[0], index[1] + dy, index[2] + dx)


def test_click_correct_undo_accept_export(window, scan, tmp_path):
    volume = window.open(scan)
    at = middle(window)
    window.show(at)
    window.press("Click")
    window.click(at)
    window.wait(lambda: window.labels[at] == 1)
    window.settled()
    [click] = window.session.prompts
    assert np.abs(volume.index_of(click.position_mm) - at).max() < 0.5, "the click lies in the voxel under the mouse"
    assert click.positive
    predicted = window.labels.copy()

    window.press("Brush")
    corner = moved(at, dy=12, dx=-14)
    window.drag(corner, moved(corner, dx=4), moved(corner, dx=8))
    painted = (window.labels != predicted).sum()
    assert window.labels[corner] == 1
    assert painted > 20

    window.press("Undo")
    assert np.array_equal(window.labels, predicted)
    window.press("Redo")
    assert window.labels[corner] == 1

    window.press("Click")
    window.click(at)
    window.wait(lambda: len(window.session.model.calls) == 2)
    window.settled()
    assert window.labels[corner] == 1, "no prediction paints over a stroke"

    window.press("Accept")
    window.wait(lambda: window.session.message.startswith("Accepted"))

    window.press("Export")
    window.wait(lambda: window.session.saved is not None)
    saved, source = nib.load(window.session.saved.path), nib.load(scan)
    assert saved.shape == source.shape
    assert np.allclose(saved.affine, source.affine, atol=1e-5)
    on_disk = np.asarray(saved.dataobj)
    assert (on_disk > 0).sum() == (window.layer.data > 0).sum()
    for index in np.argwhere(window.layer.data > 0)[::11]:
        ijk = np.linalg.solve(saved.affine, [*volume.position_of(index), 1])[:3]
        assert on_disk[tuple(np.rint(ijk).astype(int))] == 1


def test_a_fresh_scan_waits_for_a_click_and_all_planes_run_through_it(window, scan):
    window.open(scan)
    at = moved(middle(window), dy=6, dx=-7)
    window.show(middle(window))
    window.click(at)
    window.wait(lambda: window.labels[at] == 1)
    window.settled()
    assert np.abs(window.layer.world_to_data(window.viewer.dims.point[-3:]) - at).max() < 0.6
    window.press("Click")
    assert window.dock.tools.tool is Tool.NONE, "it was taken, so the button turns it off"
    window.dock.services.opening.choose(window.session.volume)
    assert window.dock.tools.tool is Tool.NONE, "where there are lesions a stray click changes none"


def test_who_asks_for_the_tool_that_is_on_keeps_it(window, scan):
    window.open(scan)
    assert window.dock.tools.tool is Tool.CLICK
    window.press("Click")
    assert window.dock.tools.tool is Tool.CLICK
    window.press("Click")
    assert window.dock.tools.tool is Tool.NONE


def test_other_pages_want_no_click(window, scan):
    window.dock.pages.choose("Evaluate")
    window.open(scan)
    assert window.dock.tools.tool is Tool.NONE


def test_right_and_ctrl_click_take_away_and_ctrl_z_brings_back(window, scan):
    window.open(scan)
    at = middle(window)
    window.show(at)
    window.press("Click")
    window.click(at)
    window.wait(lambda: window.labels[at] == 1)
    window.settled()
    before = window.labels.copy()
    window.click(moved(at, dx=9), Qt.MouseButton.RightButton)
    window.wait(lambda: window.labels.sum() < before.sum())
    window.settled()
    window.click(moved(at, dy=9), modifier=CTRL)
    window.wait(lambda: len(window.session.prompts) == 3)
    window.settled()
    assert [prompt.positive for prompt in window.session.prompts] == [True, False, False]
    window.key(Qt.Key.Key_Z, CTRL)
    window.key(Qt.Key.Key_Z, CTRL)
    assert np.array_equal(window.labels, before)
    assert len(window.session.prompts) == 1
    window.key(Qt.Key.Key_Z, CTRL | SHIFT)
    assert len(window.session.prompts) == 2


def test_a_drag_pans_and_does_not_click(window, scan):
    window.open(scan)
    at = middle(window)
    window.show(at)
    window.press("Click")
    centre = window.viewer.scene.camera.center
    window.drag(at, moved(at, dx=5), moved(at, dx=12))
    assert window.session.prompts == ()
    assert not np.allclose(window.viewer.scene.camera.center, centre)


def test_two_quick_clicks_are_two_clicks_and_no_zoom(window, scan):
    window.open(scan)
    at = middle(window)
    window.show(at)
    window.press("Click")
    zoom = window.viewer.scene.camera.zoom
    window.double_click(at)
    window.wait(lambda: len(window.session.prompts) == 2)
    window.settled()
    assert window.viewer.scene.camera.zoom == zoom
    window.press("Click")
    window.double_click(at)
    assert len(window.session.prompts) == 2
    assert window.viewer.scene.camera.zoom > zoom, "without a tool a double click zooms as in napari"


def test_box_scribble_and_lasso(window, scan):
    volume = window.open(scan)
    at = middle(window)
    window.show(at)
    centre = window.viewer.scene.camera.center
    window.key(Qt.Key.Key_W)
    assert window.dock.tools.tool is Tool.BOX
    window.drag(moved(at, -6, -8), at, moved(at, 7, 9))
    window.wait(lambda: len(window.session.prompts) == 1)
    [box] = window.session.prompts
    assert isinstance(box, Box)
    assert np.abs(volume.index_of(box.corner_mm) - moved(at, -6, -8)).max() < 0.5
    assert np.abs(volume.index_of(box.opposite_mm) - moved(at, 7, 9)).max() < 0.5
    window.settled()
    window.key(Qt.Key.Key_D)
    window.drag(moved(at, 9, 9), moved(at, 10, 6), moved(at, 12, 3), button=Qt.MouseButton.RightButton)
    window.wait(lambda: len(window.session.prompts) == 2)
    scribble = window.session.prompts[1]
    assert isinstance(scribble, Scribble)
    assert not scribble.positive
    assert np.abs(volume.index_of(scribble.points_mm[0]) - moved(at, 9, 9)).max() < 0.5
    window.settled()
    window.key(Qt.Key.Key_C)
    corners = [moved(at, -6, -8), moved(at, -6, 8), moved(at, 6, 8), moved(at, 6, -8)]
    window.drag(*corners)
    window.wait(lambda: len(window.session.prompts) == 3)
    lasso = window.session.prompts[2]
    assert isinstance(lasso, Lasso)
    assert lasso.positive
    found = np.array([volume.index_of(point) for point in lasso.points_mm])
    assert all(np.abs(found - corner).max(1).min() < 0.5 for corner in corners)
    assert np.allclose(window.viewer.scene.camera.center, centre), "drawing does not pan"
    window.settled()


def test_a_stroke_that_changes_nothing_still_locks(window, scan):
    window.open(scan)
    at = middle(window)
    window.show(at)
    window.press("Click")
    window.click(at)
    window.wait(lambda: window.labels[at] == 1)
    window.settled()
    window.press("Brush")
    window.drag(at, moved(at, dx=1), moved(at, dx=2))
    window.wait(lambda: bool(window.session.work.labels.locked[at]))
    window.session.model.radius_mm = 0.1
    window.press("Click")
    window.click(moved(at, dy=-15))
    window.wait(lambda: len(window.session.model.calls) == 2)
    window.settled()
    assert window.labels[at] == 1


def test_eraser_fill_and_polygon_are_naparis_own(window, scan):
    window.open(scan)
    at = middle(window)
    window.show(at)
    window.press("Click")
    window.click(at)
    window.wait(lambda: window.labels[at] == 1)
    window.settled()
    for text, mode in (("Eraser", "erase"), ("Fill", "fill"), ("Polygon", "polygon"), ("Brush", "paint")):
        window.press(text)
        assert str(window.layer.mode) == mode
        assert window.dock.tools.tool is Tool.NONE
    window.press("Eraser")
    window.drag(at, moved(at, dx=1))
    assert window.labels[at] == 0
    assert window.session.work.labels.locked[at]
    window.layer.undo()
    assert window.labels[at] == 1
    assert not window.session.work.labels.locked[at]
    window.press("2-D")
    window.press("Brush")
    window.press("Brush")
    window.press("Brush")
    window.drag(at, moved(at, dx=1))
    assert window.layer.n_edit_dimensions == 3


def test_new_lesion_review_keys_and_summary(window, scan, tmp_path):
    window.open(scan)
    at = middle(window)
    window.show(at)
    window.key(Qt.Key.Key_Q)
    window.click(at)
    window.wait(lambda: window.labels[at] == 1)
    window.settled()
    window.key(Qt.Key.Key_A)
    other = moved(at, dx=-20)
    window.click(other)
    window.wait(lambda: window.labels[other] == 2)
    window.settled()
    window.show(at)
    window.key(Qt.Key.Key_R)
    window.key(Qt.Key.Key_R)
    assert window.session.reviewed == {at[0], at[0] + 1}
    assert window.dock.bridge.slice_shown() == at[0] + 2
    path = tmp_path / "out.seg.nrrd"
    window.dock.services.exporting.export(path, summary=True)
    window.wait(lambda: window.session.saved is not None)
    about = json.loads((tmp_path / "out.json").read_text())
    assert [row["name"] for row in about["labels"]] == ["Lesion 1", "Lesion 2"]


def test_prompts_are_drawn_in_their_colours(window, scan):
    volume = window.open(scan)
    at = middle(window)
    window.show(at)
    window.dock.services.segmenting.click(tuple(volume.position_of(at)))
    window.settled()
    window.dock.services.segmenting.add(Click(tuple(volume.position_of(moved(at, dx=8))), positive=False))
    window.settled()
    points = window.viewer.layers["Clicks"]
    assert points.data.tolist() == [list(map(float, at)), list(map(float, moved(at, dx=8)))]
    assert points.face_color[0, 1] > points.face_color[0, 0]
    assert points.face_color[1, 0] > points.face_color[1, 1]
    assert str(points.units[0]) == "millimeter"
    assert window.viewer.layers.selection.active is window.layer
