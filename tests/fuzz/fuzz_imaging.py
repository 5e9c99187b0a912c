"""Coverage-guided fuzzing of the readers: ``python tests/fuzz/fuzz_imaging.py nifti|nrrd|dicom [libFuzzer options]``.

Needs atheris (``pip install atheris``; there are wheels for Linux), which is no dependency of the project. Options of
libFuzzer follow the target, as ``-max_total_time=600 -seed=1``; a folder among them keeps what covers new code. A
finding is written as ``crash-*`` into the current folder: reduce it with ``-minimize_crash=1 -runs=10000 crash-*``,
mend the reader, and put the reduced file into ``tests/fuzz/reproducers/TARGET``, where the tests read it ever after.
More than 5 seconds of the processor or 2 GiB is a finding too.

With MEDSEG_FUZZ_UNFORESEEN=1 the run also tells, at its end, which refusals came from a parser's own exception.
"""

from __future__ import annotations

import atexit
import collections
import os
import sys
import tempfile
import traceback
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "imaging")]

with atheris.instrument_imports(include=["napari_medseg.imaging"]):
    import napari_medseg.imaging.dicom.rtstruct
    import napari_medseg.imaging.dicom.seg
    import napari_medseg.imaging.files
    import napari_medseg.imaging.nifti
    import napari_medseg.imaging.nrrd  # noqa: F401
    from napari_medseg.imaging import limits

import targets  # noqa: E402 - after the readers, so that they are instrumented

LIMITS = ("-rss_limit_mb=2048", "-timeout=60", "-max_len=32768")
WORDS = {
    "nifti": ["\\x5c\\x01\\x00\\x00", "\\x1c\\x02\\x00\\x00", "n+1\\x00", "ni1\\x00", "n+2\\x00", "\\x1f\\x8b\\x08"],
    "nrrd": [
        *("space directions: ", "space origin: ", "spacings: ", "sizes: ", "kinds: ", "encoding: ", "endian: big"),
        *("data file: LIST", "line skip: ", "byte skip: -1", "type: ", "dimension: ", "none", "(1,0,0)", "nan", "inf"),
        *("space: ", "left-posterior-superior", "scanner-xyz", "units: ", "space units: ", "gzip", "bzip2", "hex"),
        *("ascii", "double", "uint64", "Segment0_Layer:=", "Segment0_LabelValue:=", "Segment0_Color:=", "RGB-color"),
    ],
    "dicom": [
        *("DICM", "\\xfe\\xff\\x00\\xe0", "\\xfe\\xff\\xdd\\xe0", "\\xff\\xff\\xff\\xff", "SQ", "SEG", "RTSTRUCT"),
        *("\\x28\\x00\\x08\\x00IS", "\\x20\\x00\\x32\\x00DS", "\\x20\\x00\\x37\\x00DS", "\\x28\\x00\\x30\\x00DS"),
        *("MONOCHROME1", "PALETTE COLOR", "YBR_FULL_422", "nan", "1e300", "\\\\", "1.2.840.10008.1.2.1.99"),
        "\\xe0\\x7f\\x10\\x00OW",
    ],
}


def main() -> None:
    kind = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if kind not in targets.TARGETS:
        sys.exit(__doc__)
    if os.environ.get("MEDSEG_FUZZ_UNFORESEEN"):
        tell_unforeseen()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        corpus, words = Path(folder, "corpus"), Path(folder, "words")
        corpus.mkdir()
        for number, seed in enumerate([*targets.seeds(kind), *targets.corpus(kind), *reproducers(kind)]):
            (corpus / str(number)).write_bytes(seed)
        words.write_text("".join(f'"{word}"\n' for word in WORDS[kind]))
        work = Path(folder, "work")
        work.mkdir()
        replays = any(Path(argument).is_file() for argument in sys.argv[1:])
        sys.argv += [*LIMITS, f"-dict={words}", *([] if replays else [str(corpus)])]
        atheris.Setup(sys.argv, lambda data: targets.run(kind, data, work))
        atheris.Fuzz()


def reproducers(kind: str) -> list[bytes]:
    return [file.read_bytes() for file in sorted((HERE / "reproducers" / kind).glob("*"))]


def tell_unforeseen() -> None:
    """Count the exceptions that only the reader's last safety net turned into a sentence."""
    seen: collections.Counter[str] = collections.Counter()
    original = limits.ImagingError

    class Counted(original):  # type: ignore[misc, valid-type]
        def __init__(self, sentence: str) -> None:
            error = sys.exc_info()[1]
            if error is not None and "is damaged as a" in sentence:
                place = traceback.extract_tb(error.__traceback__)[-1]
                seen[f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:80]}"] += 1
            super().__init__(sentence)

    limits.ImagingError = Counted  # type: ignore[misc]
    atexit.register(lambda: [print(count, what) for what, count in seen.most_common(40)])


if __name__ == "__main__":
    main()
