"""The worker threads of a window: what is saved waits for its turn."""

import threading

import nibabel as nib
import numpy as np
from napari.components import ViewerModel

from napari_medseg.imaging.volume import Volume
from napari_medseg.widgets.binding import bind


def test_accept_and_export_go_on_behind_the_next_scan(qtbot, model, tmp_path):
    services, gate = bind(ViewerModel()).services, threading.Event()
    services.session.model = model
    add, stored = services.store.add, []

    def slowly(correction):
        gate.wait(10)
        stored.append(add(correction))
        return stored[0]

    services.store.add = slowly
    affine = np.diag([3.0, 1.0, 0.8, 1.0])[[2, 1, 0, 3]]
    first, second = (Volume(np.full((6, 8, 10), n, np.int16), affine, name=str(n)) for n in range(2))
    services.opening.choose(first)
    services.session.work.labels.data[3, 2:5, 2:5] = 1
    services.correcting.accept()
    services.exporting.export(tmp_path / "mask.nii.gz")
    services.opening.choose(second)
    gate.set()
    qtbot.waitUntil(lambda: services.session.message.startswith("Saved, verified"), timeout=20_000)
    assert stored[0].is_dir()
    assert np.count_nonzero(nib.load(tmp_path / "mask.nii.gz").dataobj) == 9
    services.recovery.close()
