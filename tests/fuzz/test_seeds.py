"""Every file that the fuzzer begins from or once failed on is read or refused, as the fuzzer demands."""

from __future__ import annotations

from pathlib import Path

import pytest
from targets import TARGETS, corpus, run, seeds

HERE = Path(__file__).parent
REPRODUCERS = [(file.parent.name, file.name) for file in sorted(HERE.glob("reproducers/*/*"))]


@pytest.mark.parametrize("kind", TARGETS)
def test_the_seeds_are_read_or_refused(tmp_path, kind):
    n_seeds = 0
    for seed in seeds(kind):
        run(kind, seed, tmp_path)
        n_seeds += 1
    assert n_seeds >= 4


@pytest.mark.parametrize("kind", TARGETS)
def test_what_earlier_runs_found_is_read_or_refused(tmp_path, kind):
    n_inputs = 0
    for data in corpus(kind):
        run(kind, data, tmp_path)
        n_inputs += 1
    assert n_inputs >= 40


@pytest.mark.parametrize(("kind", "name"), REPRODUCERS)
@pytest.mark.timeout(20)
def test_what_once_failed_is_read_or_refused(tmp_path, kind, name):
    run(kind, (HERE / "reproducers" / kind / name).read_bytes(), tmp_path)


def test_the_reproducers_stay_small():
    assert sum(file.stat().st_size for file in HERE.glob("reproducers/*/*")) < 200_000
    assert sum(file.stat().st_size for file in HERE.glob("corpus/*.zip")) < 200_000
