"""Training in another process: reports, failures, cancelling."""

import os
import sys
import time
from pathlib import Path

import pytest

from napari_medseg.errors import Cancelled, JobFailed
from napari_medseg.learning.process import run_job
from napari_medseg.learning.reports import Figures, Report, Verdict

VERDICT = Verdict(
    adopted=True,
    sentence="better",
    dice_before=0.5,
    dice_after=0.7,
    guard_before=0.6,
    guard_after=0.6,
    before=Figures(),
    after=Figures(),
)
DONE = Report(kind="done", step=2, n_steps=2, verdict=VERDICT)


def job(tmp_path: Path, program: str, **options):
    """Reports of a little program in the place of the command line."""
    script = tmp_path / "program.py"
    script.write_text("import os, signal, sys, time\n" + program)
    return run_job(["fine-tune"], command=[sys.executable, str(script)], **options)


def test_lines_become_reports(tmp_path):
    program = f"""
print("noise of a library")
print({Report(step=1, n_steps=2, loss=0.5).model_dump_json()!r}, flush=True)
print({DONE.model_dump_json()!r}, flush=True)
"""
    reports = list(job(tmp_path, program))
    assert [r.step for r in reports] == [1, 2]
    assert reports[0].loss == 0.5
    assert reports[-1].verdict == VERDICT


def test_what_the_program_says_is_the_reason(tmp_path):
    program = (
        "print('a warning', file=sys.stderr); print('napari-medseg: the masks are empty', file=sys.stderr); sys.exit(1)"
    )
    with pytest.raises(JobFailed, match=r"^the masks are empty$"):
        list(job(tmp_path, program))


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_process_is_a_failure_with_its_reason(tmp_path):
    program = f"print({Report(step=1).model_dump_json()!r}, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    reports = job(tmp_path, program)
    assert next(reports).step == 1
    with pytest.raises(JobFailed, match=r"SIGKILL, perhaps because memory ran out.*nothing was changed"):
        next(reports)


@pytest.mark.parametrize("program", ["raise ValueError('deep inside')", "pass"])
def test_an_end_without_a_result_is_a_failure(tmp_path, program):
    with pytest.raises(JobFailed, match="stopped without a result, status"):
        list(job(tmp_path, program))


def test_a_program_that_is_not_there(tmp_path):
    with pytest.raises(JobFailed, match="could not be started"):
        list(run_job([], command=[str(tmp_path / "nothing")]))


@pytest.mark.parametrize("stubborn", [False, True])
def test_cancelling_ends_the_process_within_five_seconds(tmp_path, stubborn):
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else ""
    program = f"""{ignore}
print({Report(step=1).model_dump_json()!r}, flush=True)
open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
time.sleep(60)
"""
    asked = []
    reports = job(tmp_path, program, should_stop=lambda: bool(asked))
    next(reports)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    asked.append(True)
    begun = time.monotonic()
    with pytest.raises(Cancelled, match="nothing was changed"):
        next(reports)
    assert time.monotonic() - begun < 5.0
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_closing_the_generator_ends_the_process(tmp_path):
    program = f"print({Report(message='x').model_dump_json()!r}, flush=True); print(os.getpid()); time.sleep(60)"
    reports = job(tmp_path, program)
    next(reports)
    begun = time.monotonic()
    reports.close()
    assert time.monotonic() - begun < 5.0


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="priorities of POSIX")
def test_the_process_has_a_lower_priority(tmp_path):
    program = f"""
time.sleep(0.3)
done = {DONE.model_dump_json()!r}
print(done.replace('"message":""', '"message":"%d"' % os.getpriority(os.PRIO_PROCESS, 0)), flush=True)
"""
    (report,) = list(job(tmp_path, program))
    assert int(report.message) >= min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)
