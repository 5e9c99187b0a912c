"""What is read beside the window: scans, what a folder offers, masks."""

from __future__ import annotations

from pathlib import Path

from napari_medseg.errors import ImagingError
from napari_medseg.imaging.mask_fit import read_mask_of
from napari_medseg.imaging.volume import LabelMap, Volume
from napari_medseg.session.offers import Offer, look_into
from napari_medseg.session.runner import Ticket


def read_path(
    path: Path, scans: tuple[Volume, ...], ticket: Ticket
) -> tuple[Volume, ...] | tuple[Offer, ...] | LabelMap:
    """Read a scan, a mask of one of the open scans, or what a folder offers."""
    from napari_medseg.imaging.mask_or_scan import has_few_values, is_surely_mask, looks_like_labels, may_be_mask

    if path.is_file() and may_be_mask(path):
        try:
            label_map = read_mask_of(path, scans, progress=ticket.report, should_stop=ticket.should_stop)
            if is_surely_mask(path) or looks_like_labels(label_map.data):
                return label_map
        except ImagingError:
            if is_surely_mask(path):
                raise
    found = look_into(path, progress=ticket.report, should_stop=ticket.should_stop)
    first = found[0]
    # Beside an open scan a file with few values is a mask; alone it may be a phantom.
    if scans and path.is_file() and len(found) == 1 and isinstance(first, Volume) and has_few_values(first.data):
        return read_mask_of(path, scans, should_stop=ticket.should_stop)
    return found


def read_offer(offer: Offer, ticket: Ticket) -> tuple[Volume, ...]:
    """Read an offered scan."""
    return offer.read(ticket.report, ticket.should_stop)


def read_mask(path: Path, scans: tuple[Volume, ...], ticket: Ticket) -> LabelMap:
    """Read a mask; contours are filled on the open scan that they name."""
    return read_mask_of(path, scans, progress=ticket.report, should_stop=ticket.should_stop)


def make_sample(_ticket: Ticket) -> tuple[Volume, ...]:
    """Make the sample scan."""
    from napari_medseg.imaging.phantom import chest_ct

    return (chest_ct().volume,)
