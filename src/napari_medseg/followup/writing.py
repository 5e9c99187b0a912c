"""A comparison as files: the table, the registered prior, the change map and its mask, and the proposal."""

from __future__ import annotations

from pathlib import Path

from napari_medseg.classification.write import write_map
from napari_medseg.followup.compare import FollowUp
from napari_medseg.imaging.files import write_label_map
from napari_medseg.imaging.orientation import resample_volume


def write_follow_up(folder: Path, found: FollowUp) -> list[Path]:
    """Write all of a comparison into a folder, images on the current scan's own grid.

    Returns
    -------
    list of Path
        ``lesions.csv`` (where there are lesions), ``prior_registered``, ``change``, ``change_mask`` and, where lesions
        were proposed, ``proposed`` (``.nii.gz`` each; a proposal on the prior lies on the prior's grid).

    Raises
    ------
    MedSegError
        If a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [found.write_csv(folder / "lesions.csv")] if found.rows else []
    registered = resample_volume(found.prior, found.current)
    written.append(write_map(folder / "prior_registered.nii.gz", registered))
    written.append(write_map(folder / "change.nii.gz", found.change.map))
    written.append(write_label_map(folder / "change_mask.nii.gz", found.change.mask))
    if found.proposed is not None:
        written.append(write_label_map(folder / f"proposed_on_{found.proposed_on}.nii.gz", found.proposed))
    return written
