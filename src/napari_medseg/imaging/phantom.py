"""Sample scans made from nothing but numpy, with the masks of everything in them.

Two CT-like patients, a FLAIR-like head and the same head on an oblique grid. One seed, one image: the same everywhere.
``python -m napari_medseg.imaging.phantom OUT_DIR`` writes them as NIfTI files.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medseg.imaging import phantom_brain, phantom_chest
from napari_medseg.imaging.orientation import memory_grid, to_disk
from napari_medseg.imaging.volume import LabelMap, Volume

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A made scan with its truth.

    Parameters
    ----------
    volume : Volume
        The scan.
    lesions : LabelMap
        Its lesions, one label each, named.
    organs : LabelMap
        Its organs, named; a lesion counts to the organ that it lies in.
    """

    volume: Volume
    lesions: LabelMap
    organs: LabelMap


def chest_ct(patient: int = 1, *, coarser: float = 1.0) -> Phantom:
    """Make a CT-like chest and upper abdomen with two liver lesions and a lung nodule.

    Parameters
    ----------
    patient : {1, 2}
        Another patient has another build, other organs and other lesions.
    coarser : float
        Voxels that many times larger, for quick tests; 1 gives 40 x 110 x 144 voxels of 4.4 x 2.2 x 2.2 mm.

    Raises
    ------
    KeyError
        If there is no such patient.
    """
    shape, affine = _grid((40, 110, 144), (4.4, 2.2, 2.2), (0.0, 0.0, 0.0), coarser)
    made = phantom_chest.Chest(phantom_chest.PATIENTS[patient], shape, affine)
    image = made.scan(noise_hu=13.0, seed=100 + patient)
    names = [lesion.name for lesion in made.patient.lesions]
    return _phantom(
        f"chest CT {patient}", "CT", image, affine, (made.lesions, names), (made.organs, phantom_chest.ORGANS)
    )


def brain_mr(*, oblique: bool = False, coarser: float = 1.0) -> Phantom:
    """Make a FLAIR-like head with a left frontal tumour (label 1) and five white matter lesions.

    Parameters
    ----------
    oblique : bool
        The same head on a grid that is turned by 24 and tilted by 12 degrees, as if the patient had moved; its voxels
        are 1.2 times as large.
    coarser : float
        Voxels that many times larger, for quick tests; 1 gives 34 x 142 x 120 voxels of 4.5 x 1.5 x 1.5 mm.
    """
    if oblique:
        coarser *= 1.2
    shape, affine = _grid((34, 142, 120), (4.5, 1.5, 1.5), (0.0, 0.0, 14.0), coarser)
    if oblique:
        affine = _turned(affine, (24.0, 12.0), about=(0.0, 0.0, 14.0))
    made = phantom_brain.Head(phantom_brain.PATIENTS[1], shape, affine)
    image = made.scan(noise=16.0, seed=301 if oblique else 300)
    names = ["tumour", *(f"white matter lesion {n}" for n in range(1, len(made.patient.plaques) + 1))]
    name = "brain MR oblique" if oblique else "brain MR"
    return _phantom(name, "MR", image, affine, (made.lesions, names), (made.organs, phantom_brain.ORGANS))


SAMPLES: Mapping[str, Callable[[], Phantom]] = MappingProxyType(
    {
        "chest_ct_1": chest_ct,
        "chest_ct_2": lambda: chest_ct(2),
        "brain_mr": brain_mr,
        "brain_mr_oblique": lambda: brain_mr(oblique=True),
    }
)


def write_samples(folder: Path) -> list[Path]:
    """Write every sample as NIfTI: the scan, its lesions and its organs, byte for byte the same each time."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for key, make in SAMPLES.items():
        phantom = make()
        for suffix, content in (("", phantom.volume), ("_lesions", phantom.lesions), ("_organs", phantom.organs)):
            path = folder / f"{key}{suffix}.nii.gz"
            path.write_bytes(_nifti(content))
            written.append(path)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the samples into the folder that is named on the command line."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 1:
        sys.stderr.write("usage: python -m napari_medseg.imaging.phantom OUT_DIR\n")
        return 2
    for path in write_samples(Path(given[0])):
        sys.stdout.write(f"{path} ({path.stat().st_size / 1000:.0f} kB)\n")
    return 0


def _grid(
    shape: tuple[int, int, int], spacing_mm: Triple, centre_mm: Triple, coarser: float
) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine of an axial stack in memory order (S, P, L) round a position."""
    nz, ny, nx = (max(1, round(n / coarser)) for n in shape)
    dz, dy, dx = (d * coarser for d in spacing_mm)
    affine = np.array([[0, 0, -dx, 0], [0, -dy, 0, 0], [dz, 0, 0, 0], [0, 0, 0, 1]], np.float64)
    middle = (np.array([nz, ny, nx]) - 1) / 2
    affine[:3, 3] = np.asarray(centre_mm) - affine[:3, :3] @ middle
    return (nz, ny, nx), affine


def _turned(affine: NDArray[np.float64], degrees: tuple[float, float], about: Triple) -> NDArray[np.float64]:
    """Turn a grid about the body's long axis, then tilt it about the right-left axis."""
    (ct, st), (cx, sx) = ((np.cos(a), np.sin(a)) for a in np.radians(degrees))
    turn = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]) @ np.array([[ct, -st, 0], [st, ct, 0], [0, 0, 1]])
    move = np.eye(4)
    move[:3, :3] = turn
    move[:3, 3] = np.asarray(about) - turn @ np.asarray(about)
    return np.asarray(move @ affine)


def _phantom(
    name: str,
    modality: str,
    image: NDArray[np.int16],
    affine: NDArray[np.float64],
    lesions: tuple[NDArray[np.uint8], Sequence[str]],
    organs: tuple[NDArray[np.uint8], Mapping[int, str]],
) -> Phantom:
    grid = memory_grid(image.shape, affine)
    lesion_names = MappingProxyType(dict(enumerate(lesions[1], start=1)))
    return Phantom(
        Volume(image, affine, name=name, modality=modality, grid=grid),
        LabelMap(lesions[0], affine, names=lesion_names, grid=grid),
        LabelMap(organs[0], affine, names=MappingProxyType(dict(organs[1])), grid=grid),
    )


def _nifti(content: Volume | LabelMap) -> bytes:
    """Gzipped NIfTI without a time stamp."""
    import nibabel as nib

    assert content.grid is not None
    image: Any = nib.Nifti1Image(np.asarray(to_disk(content.data, content.grid)), content.grid.affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")
    image.set_sform(content.grid.affine, code=1)
    image.set_qform(content.grid.affine, code=1)
    return gzip.compress(image.to_bytes(), compresslevel=9, mtime=0)


if __name__ == "__main__":
    raise SystemExit(main())
