"""Layers and session in step, on a viewer without a window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_medseg.imaging.volume import Volume
from napari_medseg.segmentation.prompts import Box, Lasso, Scribble
from napari_medseg.session.services import build
from napari_medseg.widgets import scan_view
from napari_medseg.widgets.binding import bind
from napari_medseg.widgets.layer_bridge import LAYER_REMOVED
from napari_medseg.widgets.prompt_tools import Tool

AT = (4, 10, 12)


class Event:
    """A mouse event of the canvas."""

    def __init__(self, position, *, pos=(0, 0), button=1, modifiers=(), kind="mouse_press"):
        self.position, self.pos, self.button, self.modifiers, self.type = position, pos, button, modifiers, kind


class Bench:
    """A viewer, a session and the tools between them."""

    def __init__(self, runner=None, model=None):
        self.viewer = ViewerModel()
        services = build(answers=runner)
        services.session.model = model
        self.binding = bind(self.viewer, services)
        self.services, self.bridge, self.tools = self.binding.services, self.binding.bridge, self.binding.tools
        self.session = self.services.session

    @property
    def labels(self) -> np.ndarray:
        return self.session.work.labels.data

    def world(self, index) -> tuple[float, ...]:
        return tuple(self.bridge.ensure_labels().data_to_world(index))

    def mouse(self, *indices, button=1, modifiers=(), far=True) -> None:
        """Press at the first voxel, move over the others, release at the last."""
        event = Event(self.world(indices[0]), button=button, modifiers=modifiers)
        for callback in list(self.viewer.mouse_drag_callbacks):
            steps = callback(self.viewer, event)
            if steps is None or callback.__name__ != "_on_press":
                continue
            next(steps, None)
            for number, index in enumerate(indices[1:], start=1):
                event.type, event.position = "mouse_move", self.world(index)
                event.pos = (50 * number if far else 1, 0)
                next(steps, None)
            event.type = "mouse_release"
            next(steps, None)


@pytest.fixture
def volume() -> Volume:
    affine = np.array([[0, 0.1, -0.8, 30], [0, -1, 0.1, 40], [3, 0.2, 0, -50], [0, 0, 0, 1]], float)
    data = np.random.default_rng(1).normal(0, 100, (8, 20, 24)).astype(np.int16)
    return Volume(data, affine, name="scan", modality="CT")


@pytest.fixture
def bench(model, volume) -> Bench:
    made = Bench(model=model)
    made.services.opening.choose(volume)
    return made


def click(bench, index=AT) -> None:
    bench.services.segmenting.click(tuple(map(float, bench.session.volume.position_of(index))))


def test_an_open_scan_has_an_image_and_a_labels_layer_in_millimetres(bench, volume):
    image, labels = bench.viewer.layers
    assert scan_view.volume_of(image) is volume
    assert labels.data is bench.labels
    assert labels.data.dtype == np.uint8
    assert np.array_equal(labels.scale, image.scale)
    assert np.array_equal(labels.translate, image.translate)
    assert [str(unit) for unit in labels.units] == ["millimeter"] * 3
    assert labels.metadata["napari_medseg"]["volume"] is volume
    assert bench.viewer.layers.selection.active is labels


def test_a_position_under_the_mouse_is_the_voxels_place_in_the_patient(bench, volume):
    for index in [(0, 0, 0), AT, (7, 19, 23)]:
        assert bench.bridge.position_of(bench.world(index)) == pytest.approx(tuple(volume.position_of(index)))
    assert bench.bridge.position_of(bench.world((0, 0, 30))) is None


def test_an_answer_is_drawn_in_the_lesions_colour(bench):
    click(bench)
    layer = bench.bridge.labels
    assert layer.get_value(bench.world(AT), world=True) == 1
    assert np.allclose(layer.colormap.map(np.uint8(1))[:3], [1, 0xB0 / 255, 0], atol=0.01)
    bench.services.table.show(1, False)
    assert layer.colormap.map(np.uint8(1))[3] == 0
    bench.services.table.recolour(1, "#00ff00")
    bench.services.table.show(1, True)
    assert np.allclose(layer.colormap.map(np.uint8(1)), [0, 1, 0, 1])


def test_naparis_own_paint_fill_and_undo_go_through_the_one_history(bench):
    click(bench)
    predicted = bench.labels.copy()
    layer = bench.bridge.labels
    bench.bridge.jump_to(AT)
    layer.selected_label = 2
    layer.paint((4, 2, 2), 2)
    assert bench.session.work.labels.locked[4, 2, 2]
    assert [lesion.label for lesion in bench.session.lesions] == [1, 2]
    layer.fill((4, 10, 12), 2)
    assert bench.labels[AT] == 2
    layer.undo()
    layer.undo()
    assert np.array_equal(bench.labels, predicted)
    assert not bench.session.work.labels.locked.any()
    layer.redo()
    assert bench.labels[4, 2, 2] == 2


def test_a_polygon_and_a_data_setitem_are_corrections(bench):
    layer = bench.bridge.labels
    bench.bridge.jump_to(AT)
    layer.paint_polygon([[4, 2, 2], [4, 2, 8], [4, 9, 8]], 1)
    assert bench.session.work.labels.locked.sum() == (bench.labels == 1).sum() > 10
    layer.data_setitem((np.array([0, 1]), np.array([0, 0]), np.array([0, 1])), 3)
    assert bench.session.work.labels.locked[0, 0, 0]
    assert bench.session.work.labels.n_voxels[3] == 2


@pytest.mark.parametrize("n_dimensions", [2, 3])
@pytest.mark.parametrize("size", [1, 4, 9])
def test_a_recorded_stroke_is_exactly_what_naparis_brush_covers(bench, n_dimensions, size):
    layer = bench.bridge.labels
    bench.bridge.jump_to(AT)
    layer.n_edit_dimensions, layer.brush_size = n_dimensions, size
    layer.paint(AT, 1)
    painted = bench.labels == 1
    assert np.array_equal(bench.session.work.labels.locked, painted)
    layer.undo()
    bench.labels[painted] = 1
    bench.services.correcting.take_stroke()
    bench.session.work.labels.locked[...] = False
    layer.paint(AT, 1)  # changes nothing, so napari says nothing
    assert np.array_equal(bench.session.work.labels.locked, painted)


def test_a_mouse_stroke_is_one_step(bench):
    layer = bench.bridge.labels
    bench.bridge.jump_to(AT)
    layer.mode = "paint"
    event = Event(bench.world(AT))
    event.view_direction, event.dims_displayed = None, [1, 2]
    strokes = [callback(layer, event) for callback in list(layer.mouse_drag_callbacks)]
    for kind, index in (("mouse_press", AT), ("mouse_move", (4, 10, 16)), ("mouse_release", (4, 10, 16))):
        event.type, event.position = kind, bench.world(index)
        for stroke in strokes:
            next(stroke, None)
        if kind != "mouse_release":
            assert bench.session.work.history.last is None
    assert bench.session.work.history.last.text == "stroke"
    assert bench.labels[AT] == bench.labels[4, 10, 16] == 1
    layer.undo()
    assert not bench.labels.any()
    assert bench.session.work.history.last is None


def test_a_deleted_labels_layer_keeps_the_lesions_and_comes_back(bench):
    click(bench)
    first = bench.bridge.labels
    bench.viewer.layers.remove(first)
    assert bench.session.message == LAYER_REMOVED
    click(bench, (2, 4, 4))
    assert bench.bridge.labels is not first
    assert bench.bridge.labels in bench.viewer.layers
    assert bench.bridge.labels.data[AT] == 1


def test_a_layer_deleted_while_the_model_works_comes_back_with_the_answer(runner, model, volume):
    bench = Bench(runner, model)
    bench.services.opening.choose(volume)
    click(bench)
    bench.viewer.layers.remove(bench.bridge.labels)
    runner.finish()
    assert bench.bridge.labels.data[AT] == 1


def test_removing_the_scan_closes_it_and_late_answers_go_nowhere(runner, model, volume):
    bench = Bench(runner, model)
    bench.services.opening.choose(volume)
    click(bench)
    bench.viewer.layers.remove(bench.bridge.image)
    assert bench.session.volume is None
    assert bench.session.busy is None
    runner.requests[0].run()()
    assert list(bench.viewer.layers) == []
    bench.services.opening.choose(volume)
    assert bench.session.volume is volume
    assert len(bench.viewer.layers) == 2


def test_two_scans_have_a_layer_of_lesions_each(bench, volume):
    other = Volume(volume.data[:5], volume.affine, name="other")
    click(bench)
    bench.services.opening.choose(other)
    assert bench.bridge.labels.data.shape == (5, 20, 24)
    assert len(bench.viewer.layers) == 4
    bench.services.opening.choose(volume)
    assert bench.bridge.labels.data[AT] == 1
    bench.viewer.layers.remove(bench.bridge.image)
    assert bench.session.volume is other
    assert len(bench.viewer.layers) == 2


def test_a_scan_that_was_there_before_is_adopted(volume, model):
    viewer = ViewerModel()
    layer = scan_view.add_volume(viewer, volume)
    binding = bind(viewer, build())
    assert binding.services.session.volume is volume
    assert binding.bridge.image is layer
    assert bind(viewer) == binding


@pytest.mark.parametrize("shape", [(40, 50), (6, 40, 50)])
def test_an_array_of_the_console_is_adopted_with_doubts(model, shape):
    bench = Bench(model=model)
    bench.viewer.add_image(np.zeros(shape), scale=(3, 0.5, 0.25)[-len(shape) :], translate=(7, 5, 3)[-len(shape) :])
    found = bench.session.volume
    assert found.data.shape == (6 if len(shape) == 3 else 1, 40, 50)
    assert found.spacing_mm == ((3.0 if len(shape) == 3 else 1.0), 0.5, 0.25)
    assert any("Units unknown" in warning for warning in found.warnings)
    click(bench, (0, 20, 24))
    assert bench.bridge.labels.data[0, 20, 24] == 1
    assert bench.bridge.position_of(bench.world((0, 3, 4))) == pytest.approx(tuple(found.position_of((0, 3, 4))))


def test_colours_and_movies_are_refused_in_a_sentence(model):
    bench = Bench(model=model)
    bench.viewer.add_image(np.zeros((8, 9, 3), np.uint8), rgb=True, name="photo")
    assert bench.session.message == "'photo' is in colours: a scan has one value a voxel."
    bench.viewer.add_image(np.zeros((2, 3, 8, 9)), name="movie")
    assert bench.session.message == "'movie' has 4 axes: a scan has two or three."
    assert bench.session.volume is None


def test_another_array_for_the_layer_is_taken_over_as_a_correction(bench):
    ours = bench.labels
    wanted = np.zeros_like(ours)
    wanted[3, 4:8, 5:9] = 2
    bench.bridge.labels.data = wanted.astype(np.int32)
    assert bench.bridge.labels.data is ours
    assert np.array_equal(ours, wanted)
    assert [lesion.label for lesion in bench.session.lesions] == [2]
    bench.bridge.labels.data = np.zeros((2, 3, 4), np.uint8)
    assert np.array_equal(ours, wanted)
    assert "do not fit the scan" in bench.session.message


def test_the_tools_turn_the_mouse_into_prompts(bench, volume):
    bench.tools.choose(Tool.CLICK)
    bench.mouse(AT)
    bench.mouse((4, 10, 16), button=2)
    bench.mouse((4, 14, 12), modifiers=("Control",))
    bench.mouse(AT, (4, 12, 14))
    assert [prompt.positive for prompt in bench.session.prompts] == [True, False, False]
    assert bench.session.prompts[0].position_mm == pytest.approx(tuple(volume.position_of(AT)))
    bench.tools.choose(Tool.BOX)
    bench.mouse((4, 6, 6), (4, 8, 8), (4, 12, 15))
    bench.tools.choose(Tool.SCRIBBLE)
    bench.mouse((4, 6, 6), (4, 8, 8), (4, 12, 15), button=2)
    box, scribble = bench.session.prompts[3:]
    assert box == Box(*(pytest.approx(tuple(volume.position_of(index))) for index in ((4, 6, 6), (4, 12, 15))))
    assert isinstance(scribble, Scribble)
    assert not scribble.positive
    assert len(scribble.points_mm) == 3
    bench.tools.choose(Tool.LASSO)
    bench.mouse((4, 6, 6), (4, 8, 8))
    bench.mouse((4, 6, 6), (4, 8, 8), (4, 12, 15))
    assert len(bench.session.prompts) == 6, "two points enclose nothing"
    lasso = bench.session.prompts[5]
    assert isinstance(lasso, Lasso)
    assert lasso.positive
    assert lasso.points_mm == scribble.points_mm
    turn = np.linspace(0, 4 * np.pi, 300)
    bench.mouse(*((4, round(10 + 6 * np.sin(t)), round(12 + 7 * np.cos(t))) for t in turn))
    assert len(bench.session.prompts) == 7, "a line that crosses itself is one too"
    bench.tools.choose(Tool.NONE)
    bench.mouse((1, 2, 3))
    assert len(bench.session.prompts) == 7


def test_a_tool_pans_or_draws_and_a_brush_turns_it_off(bench):
    layer = bench.bridge.labels
    bench.tools.choose(Tool.CLICK)
    assert (layer.mouse_pan, layer.cursor) == (True, "cross")
    bench.tools.choose(Tool.BOX)
    assert (layer.mouse_pan, layer.cursor) == (False, "cross")
    bench.tools.choose(Tool.NONE)
    assert (layer.mouse_pan, layer.cursor) == (True, "standard")


def test_prompts_are_drawn_and_follow_undo_and_the_active_lesion(bench, volume):
    bench.tools.choose(Tool.CLICK)
    bench.mouse(AT)
    bench.mouse((4, 10, 16), button=2)
    points = bench.viewer.layers["Clicks"]
    assert points.data.tolist() == [[4, 10, 12], [4, 10, 16]]
    assert points.face_color[:, 0].argmax() == 1
    assert [str(unit) for unit in points.units] == ["millimeter"] * 3
    bench.services.correcting.undo()
    assert points.data.tolist() == [[4, 10, 12]]
    bench.services.segmenting.new_lesion()
    assert len(points.data) == 0
    bench.services.table.select(1)
    assert len(points.data) == 1
    bench.viewer.layers.remove(points)
    bench.mouse((4, 11, 13))
    assert len(bench.viewer.layers["Clicks"].data) == 2
    assert bench.viewer.layers.selection.active is bench.bridge.labels


def test_prompts_in_3d_are_explained(bench):
    bench.tools.choose(Tool.CLICK)
    bench.viewer.dims.ndisplay = 3
    bench.mouse(AT)
    assert bench.session.message == "Prompts belong on a slice: switch to 2-D (Ctrl+Y) first."
    assert bench.session.prompts == ()


def test_slices_are_counted_along_the_plane_of_acquisition(bench):
    bench.bridge.jump_to(AT)
    assert bench.bridge.slice_shown() == 4
    bench.bridge.show_slice(6)
    assert bench.bridge.slice_shown() == 6
    scan_view.show_plane(bench.viewer, "sagittal")
    assert bench.bridge.slice_shown() is None
