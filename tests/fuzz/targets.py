"""What a fuzzer calls: each target reads bytes from anybody and accepts a sound scan or a refusal, nothing else."""

from __future__ import annotations

import io
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from dicom_phantom import ct_slices, enhanced, image_header, save, set_pixels
from grid_phantom import label_phantom_ijk, order_affine, phantom_ijk
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite

import napari_medseg as ms
from napari_medseg.imaging.volume import LabelMap, Volume

# Stands between the files of one DICOM input.
NEXT_FILE = b"\0\0NEXT FILE\0\0"
MOST_FILES = 6
MOST_SECONDS = 5.0
AFFINE = order_affine((0, 1, 2), (-1, -1, 1), (10, -5, 20))


def nifti(data: bytes, folder: Path) -> None:
    """Read as a NIfTI file, gzip or not."""
    read_every_way(put(folder / "scan.nii", data))


def nrrd(data: bytes, folder: Path) -> None:
    """Read as an NRRD file."""
    read_every_way(put(folder / "scan.nrrd", data))


def dicom(data: bytes, folder: Path) -> None:
    """Read as a folder of up to six DICOM files, and the first of them alone."""
    folder = folder / "scan"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for number, part in enumerate(data.split(NEXT_FILE)[:MOST_FILES]):
        put(folder / f"IM{number}", part)
    read_every_way(folder)
    read_every_way(folder / "IM0")


TARGETS: dict[str, Callable[[bytes, Path], None]] = {"nifti": nifti, "nrrd": nrrd, "dicom": dicom}


def run(kind: str, data: bytes, folder: Path) -> None:
    """Run one target, and hold it to five seconds of the processor, which a busy machine does not stretch."""
    began = time.process_time()
    TARGETS[kind](data, folder)
    seconds = time.process_time() - began
    assert seconds < MOST_SECONDS, f"took {seconds:.1f} s"


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read_every_way(path: Path) -> None:
    """Read as scans and as a mask; any error but the package's own goes through."""
    for read in (ms.read_volumes, ms.read_label_map):
        try:
            found = read(path)
        except ms.MedSegError as error:
            check_sentence(str(error))
        else:
            for one in found if isinstance(found, tuple) else (found,):
                check_sound(one)


def check_sentence(sentence: str) -> None:
    assert sentence, "an empty sentence"
    assert sentence.isprintable(), f"no plain sentence: {sentence!r}"
    assert len(sentence) < 1500, f"too long: {sentence!r}"


def check_sound(found: Volume | LabelMap) -> None:
    assert found.data.ndim == 3, found.data.shape
    assert min(found.data.shape) >= 1, found.data.shape
    assert found.data.dtype.isnative
    assert np.isfinite(found.affine).all()
    assert all(0 < mm < 1e6 for mm in found.spacing_mm), found.spacing_mm
    assert found.grid is not None
    for warning in found.warnings:
        check_sentence(warning)


def seeds(kind: str) -> Iterator[bytes]:
    """Small good files of every variety, to begin from."""
    with tempfile.TemporaryDirectory() as folder:
        yield from {"nifti": _nifti_seeds, "nrrd": _nrrd_seeds, "dicom": _dicom_seeds}[kind](Path(folder))


def corpus(kind: str) -> Iterator[bytes]:
    """Small inputs that earlier runs found to lead through code of their own."""
    with zipfile.ZipFile(Path(__file__).parent / "corpus" / f"{kind}.zip") as archive:
        for name in archive.namelist():
            yield archive.read(name)


def _nifti_seeds(folder: Path) -> Iterator[bytes]:
    for number, (kind, dtype, suffix) in enumerate(
        [
            (nib.Nifti1Image, np.int16, ".nii"),
            (nib.Nifti2Image, np.float32, ".nii"),
            (nib.Nifti1Image, np.uint8, ".nii.gz"),
            (nib.Nifti1Image, ">i2", ".nii"),
        ]
    ):
        image = kind(phantom_ijk(np.int64).astype(dtype), AFFINE)
        image.header.set_xyzt_units("mm")
        path = folder / f"{number}{suffix}"
        nib.save(image, path)
        yield path.read_bytes()
    image = nib.Nifti1Image(np.stack([label_phantom_ijk()] * 2, -1), AFFINE)
    image.set_qform(AFFINE, 1)
    image.set_sform(None, 0)
    nib.save(image, folder / "time.nii")
    yield (folder / "time.nii").read_bytes()


def _nrrd_seeds(folder: Path) -> Iterator[bytes]:
    mask = LabelMap(label_phantom_ijk().T.copy(), np.diag([3.0, -1.0, -1.0, 1.0])[[2, 1, 0, 3]], names={1: "lesion"})
    for name in ("a.seg.nrrd", "b.nrrd"):
        yield ms.write_label_map(folder / name, mask).read_bytes()
    fields = (
        *("type: short", "dimension: 4", "space: right-anterior-superior-time", "sizes: 2 6 8 5", "endian: big"),
        *("kinds: list domain domain domain", "space directions: none (1,0,0,0) (0,1,0,0) (0,0,2,0)"),
        *("space origin: (1,2,3,0)", 'space units: "mm" "mm" "mm" "s"', "encoding: raw", "key:=value"),
    )
    yield b"\n".join([b"NRRD0005", *(field.encode() for field in fields)]) + b"\n\n" + bytes(range(240)) * 4
    text = ("type: uchar", "dimension: 2", "sizes: 3 2", "spacings: 0.5 nan", "encoding: ascii", "line skip: 0")
    yield b"\n".join([b"NRRD0001", *(field.encode() for field in text)]) + b"\n\n1 2 3 4 5 6\n"


def _dicom_seeds(folder: Path) -> Iterator[bytes]:
    voxels = (np.arange(3 * 4 * 6).reshape(3, 4, 6) * 7 + 100).astype(np.uint16)
    slices = ct_slices(voxels)
    yield NEXT_FILE.join(save(folder / str(k), ds).read_bytes() for k, ds in enumerate(slices))
    yield save(folder / "enhanced", enhanced(voxels)).read_bytes()
    for number, (syntax, frame) in enumerate(_compressed(voxels[0])):
        ds = ct_slices(voxels[:1])[0]
        ds.PixelData = encapsulate([frame])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.file_meta.TransferSyntaxUID = syntax
        yield save(folder / f"compressed{number}", ds).read_bytes()
    yield save(folder / "cine", _colour_cine()).read_bytes()
    implicit = io.BytesIO()
    dcmwrite(implicit, Dataset(slices[0]), implicit_vr=True, little_endian=True)
    yield implicit.getvalue()
    volume = ms.read_volume(_series(folder / "series", slices))
    mask = LabelMap((volume.data > volume.data.mean()).astype(np.uint8), volume.affine, grid=volume.grid,
                    metadata=volume.metadata, names={1: "lesion"})  # fmt: skip
    yield ms.write_label_map(folder / "mask.dcm", mask).read_bytes()


def _series(folder: Path, slices: list[Dataset]) -> Path:
    for k, ds in enumerate(slices):
        save(folder / str(k), ds)
    return folder


def _compressed(frame: np.ndarray) -> Iterator[tuple[str, bytes]]:
    import imagecodecs
    from pydicom.pixels.encoders import RLELosslessEncoder

    yield "1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode(frame)
    yield "1.2.840.10008.1.2.4.90", imagecodecs.jpeg2k_encode(frame, codecformat="J2K", reversible=True)
    yield "1.2.840.10008.1.2.4.70", imagecodecs.ljpeg_encode(frame, bitspersample=16)
    size = {"rows": frame.shape[0], "columns": frame.shape[1], "samples_per_pixel": 1, "number_of_frames": 1}
    kind = {"bits_allocated": 16, "bits_stored": 16, "pixel_representation": 0}
    kind |= {"photometric_interpretation": "MONOCHROME2", "planar_configuration": 0}
    yield "1.2.840.10008.1.2.5", bytes(RLELosslessEncoder.encode(frame.tobytes(), index=0, **size, **kind))


def _colour_cine() -> Dataset:
    ds = image_header("1.2.840.10008.5.1.4.1.1.3.1", "US")
    set_pixels(ds, np.zeros((2, 4, 6), np.uint8))
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, 0, "YBR_FULL_422"
    ds.PixelData = bytes(range(96))
    region = Dataset()
    region.PhysicalUnitsXDirection, region.PhysicalDeltaX, region.PhysicalDeltaY = 3, 0.05, 0.05
    ds.SequenceOfUltrasoundRegions = [region]
    return ds
