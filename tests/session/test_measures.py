"""What a lesion measures, against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest

from napari_medseg.imaging.volume import Volume
from napari_medseg.session.measures import as_json, measure_of
from napari_medseg.session.services import build
from napari_medseg.session.work import ScanWork

SPACING = (3.0, 1.0, 0.8)


def straight(spacing=SPACING):
    """Axes to superior, posterior and left."""
    z, y, x = spacing
    return np.array([[0, 0, -x, 30], [0, -y, 0, 40], [z, 0, 0, -50], [0, 0, 0, 1]], float)


def oblique(spacing=SPACING):
    """The same, turned by 30 degrees about one axis and by 20 about another."""
    (c, s), (d, t) = ((math.cos(a), math.sin(a)) for a in np.radians([30, 20]))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, d, -t], [0, t, d]])
    turned = straight(spacing)
    turned[:3, :3] = turn @ turned[:3, :3]
    return turned


def work_with(mask, *, affine=None, values=None):
    data = np.zeros(mask.shape, np.int16) if values is None else values
    work = ScanWork(Volume(data, straight() if affine is None else affine, modality="CT"))
    work.labels.load(mask.astype(np.uint8), tuple(slice(0, n) for n in mask.shape))
    return work


def measured(mask, label=1, **scan):
    work = work_with(mask, **scan)
    return measure_of(work.volume, work.labels, label)


def box(shape, *spans):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*span) for span in spans)] = True
    return mask


def ellipsoid(shape, radii_mm, spacing=SPACING):
    at = np.indices(shape) - (np.array(shape) // 2)[:, None, None, None]
    return ((at * (np.array(spacing) / radii_mm)[:, None, None, None]) ** 2).sum(0) <= 1


@pytest.mark.parametrize("affine", [straight(), oblique()], ids=["straight", "oblique"])
def test_a_box_measures_what_it_is(affine):
    rod = box((8, 20, 24), (2, 5), (7, 8), (3, 13))
    found = measured(rod, affine=affine)
    assert found.volume_ml == pytest.approx(3 * 10 * 3.0 * 1.0 * 0.8 / 1000)
    assert (found.long_mm, found.short_mm) == pytest.approx((10 * 0.8, 1.0))
    # Between the middles of two corner pixels' outer edges: 6 rows of 1 mm, 7 columns of 0.8 mm.
    assert measured(box((8, 20, 24), (2, 5), (7, 13), (3, 11)), affine=affine).long_mm == pytest.approx(
        math.hypot(6, 7 * 0.8)
    )


@pytest.mark.parametrize("affine", [straight(), oblique()], ids=["straight", "oblique"])
def test_an_ellipsoid_measures_its_two_axes_in_the_slice(affine):
    found = measured(ellipsoid((13, 40, 40), (18, 15, 9)), affine=affine)
    assert found.volume_ml == pytest.approx(4 / 3 * math.pi * 18 * 15 * 9 / 1000, rel=0.03)
    assert found.long_mm == pytest.approx(30, abs=1.0)
    assert found.short_mm == pytest.approx(18, abs=0.8)


def test_diameters_lie_in_the_plane_of_acquisition():
    spacing = (1.0, 5.0, 1.0)
    rod = box((24, 9, 20), (4, 16), (1, 8), (6, 7))
    found = measured(rod, affine=straight(spacing))
    assert (found.long_mm, found.short_mm) == pytest.approx((12.0, 1.0)), "coronal slices"
    assert measured(rod, affine=straight((1.0, 1.0, 1.0))).long_mm == pytest.approx(7.0), "axial ones"


def test_values_inside_and_nothing_beside():
    mask = box((6, 8, 10), (1, 3), (2, 6), (3, 7))
    values = np.full(mask.shape, 9999.0, np.float32)
    values[mask] = 10
    values[1][mask[1]] = 30
    found = measured(mask, values=values)
    assert (found.mean, found.sd, found.low, found.high) == (20, 10, 10, 30)
    values[1, 2, 3], values[2, 2, 3] = np.nan, np.inf
    assert measured(mask, values=values) == found
    values[mask] = np.nan
    assert math.isnan(measured(mask, values=values).mean)
    assert measured(mask, values=values).sentence("HU").endswith("(long and short axis, RECIST 1.1)")


def test_one_voxel_a_picture_and_nothing():
    one = measured(box((8, 20, 24), (2, 3), (7, 8), (3, 4)))
    assert (one.long_mm, one.short_mm, one.sd) == pytest.approx((1.0, 0.8, 0.0))
    picture = measured(box((1, 20, 24), (0, 1), (4, 5), (0, 24)))
    assert (picture.long_mm, picture.short_mm) == pytest.approx((24 * 0.8, 1.0))
    assert measured(np.zeros((8, 20, 24), bool)) is None
    assert set(as_json(None).values()) == {None}


def test_only_the_lesion_itself_is_measured():
    labels = np.zeros((8, 20, 24), np.uint8)
    labels[2, 5, 3:13], labels[2, 6, 3:23] = 1, 2
    assert measured(labels).long_mm == pytest.approx(8.0)
    assert measured(labels, 2).long_mm == pytest.approx(16.0)
    work = work_with(labels)
    work.labels.data[work.labels.data == 1] = 2
    assert measure_of(work.volume, work.labels, 1) is None, "painted over, and nobody took the stroke over yet"


def test_the_sentence():
    mask = box((6, 8, 30), (1, 2), (2, 3), (3, 23))
    values = np.zeros(mask.shape, np.int16)
    values[1, 2, 3:23:2], values[1, 2, 4:23:2] = -40, 180
    found = measured(mask, values=values)
    assert found.size == "0.048 ml, 16 x 1.0 mm"
    about = "0.048 ml, 16 x 1.0 mm (long and short axis, RECIST 1.1), mean 70 ± 110"
    assert found.sentence("HU") == f"{about} HU, -40 to 180"
    assert found.sentence() == f"{about}, -40 to 180"
    centred = np.where(mask, values - 70.25, 0).astype(np.float32)
    assert measured(mask, values=centred).sentence("HU").endswith("mean 0 ± 110 HU, -110 to 110")
    small = measured(mask, values=(values / 100).astype(np.float32))
    assert small.sentence("SUV").endswith("mean 0.70 ± 1.10 SUV, -0.40 to 1.80")


def test_json_has_plain_numbers():
    mask = box((6, 8, 30), (1, 2), (2, 3), (3, 23))
    told = json.loads(json.dumps(as_json(measured(mask, values=np.full(mask.shape, 0.00123456789, np.float32)))))
    assert told == pytest.approx(
        {"long_axis_mm": 16, "short_axis_mm": 1, "mean": 0.00123457, "sd": 0, "min": 0.00123457, "max": 0.00123457}
    )


def test_a_measure_is_kept_until_a_lesion_changes(services, another_volume):
    assert build().table.measure(1) is None, "no scan"
    data = services.session.work.labels.data
    data[2, 5, 3:13] = 1
    services.correcting.take_stroke()
    table = services.table
    first = table.measure(1)
    assert first.long_mm == pytest.approx(8.0)
    services.table.rename(1, "met")
    assert table.measure(1) is first
    data[2, 5, 13:15] = 1
    services.correcting.take_stroke()
    assert table.measure(1).long_mm == pytest.approx(9.6)
    services.correcting.undo()
    assert table.measure(1) == first
    services.opening.choose(another_volume)
    assert table.measure(1) is None
