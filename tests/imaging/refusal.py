"""What a refusal must look like: one sentence that names the file, in little time and memory."""

from __future__ import annotations

import time
import tracemalloc

import pytest

import napari_medseg as ms

MOST_SECONDS = 5.0
MOST_BYTES = 64 * 1024 * 1024


def assert_refused(path, match, read=ms.read_volumes):
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(ms.MedSegError, match=match) as caught:
            read(path)
        seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    sentence = str(caught.value)
    assert path.name.split(".")[0] in sentence
    assert "\n" not in sentence
    assert len(sentence) < 420
    assert seconds < MOST_SECONDS
    assert peak < MOST_BYTES
