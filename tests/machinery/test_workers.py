"""Tasks in processes of their own: in order, whatever happens to a process, and with what each process used."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crosscheck.report import workers
from crosscheck.report.workers import Death, LastingWorker, run

ROOT = Path(__file__).parent.parent.parent
JOB = f"{Path(__file__).stem}:job"


def job(task):
    """What a task says: wait, die, grow, or come back with the number of the process."""
    what, value = task
    if what == "wait":
        time.sleep(value)
    elif what == "die":
        os.kill(os.getpid(), value)
    elif what == "leave":
        os._exit(value)
    elif what == "grow":
        job.kept = bytearray(os.urandom(1)) * (value * 2**20)
    return what, value, os.getpid()


@pytest.fixture(autouse=True)
def workers_find_this_file(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}{os.pathsep}{ROOT}")


def results(tasks, jobs=2, **options):
    return [result for _, result in run(tasks, JOB, jobs, **options)]


def test_results_come_in_the_order_of_the_tasks_though_the_first_takes_longest():
    tasks = [("wait", 0.6), ("wait", 0.0), ("wait", 0.1)]
    assert [result[:2] for result in results(tasks)] == tasks


def test_a_result_is_there_before_later_tasks_are_done():
    found = run([("wait", 0.0), ("wait", 30.0)], JOB, 2)
    start = time.monotonic()
    assert next(found)[1][:2] == ("wait", 0.0)
    found.close()  # ends the worker that still waits
    assert time.monotonic() - start < 20


def test_two_workers_share_the_tasks_and_neither_is_this_process():
    pids = {result[2] for result in results([("wait", 0.2)] * 6)}
    assert len(pids) == 2 and os.getpid() not in pids


def test_no_jobs_is_this_process():
    assert {result[2] for result in results([("wait", 0.0)] * 2, jobs=0)} == {os.getpid()}


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (("die", signal.SIGKILL), "signal SIGKILL (out of memory?)"),
        (("die", signal.SIGSEGV), "SIGSEGV"),
        (("leave", 3), "exit status 3"),
    ],
)
def test_a_worker_that_dies_is_one_result_with_its_reason_and_the_others_go_on(task, reason):
    found = results([("wait", 0.0), task, ("wait", 0.0), ("wait", 0.0)])
    assert isinstance(found[1], Death) and reason in str(found[1])
    assert [result[0] for i, result in enumerate(found) if i != 1] == ["wait"] * 3


def test_a_worker_that_has_grown_is_replaced(monkeypatch):
    monkeypatch.setattr(workers, "FULL", 2000)
    usages = []
    found = results([("grow", 1900), ("wait", 0.0), ("wait", 0.0)], jobs=1, usages=usages)
    assert found[0][2] != found[1][2] == found[2][2]
    assert [usage["tasks"] for usage in usages] == [1, 2]
    assert usages[0]["peak_mb"] > 1900 > usages[1]["peak_mb"]
    assert all(usage["cpu_seconds"] > 0 for usage in usages)


def test_a_large_task_begins_in_a_fresh_process():
    usages = []
    tasks = [("wait", 0.0), ("wait", 0.0), ("wait", 0.1), ("wait", 0.0)]
    found = results(tasks, jobs=1, usages=usages, is_large=lambda task: task == ("wait", 0.1))
    assert found[0][2] == found[1][2] != found[2][2] == found[3][2]
    assert [usage["tasks"] for usage in usages] == [2, 2]


def test_what_runs_now_is_told_while_it_runs():
    seen = []
    results([("wait", 0.7), ("wait", 0.7)], watch=lambda running: seen.append(running))
    assert any(len(running) == 2 for running in seen)
    assert all(task[0] == "wait" and seconds >= 0 for running in seen for task, seconds in running)


def test_a_lasting_worker_lives_on_and_is_replaced_when_it_dies():
    worker = LastingWorker(JOB)
    first, second = worker(("wait", 0.0)), worker(("wait", 0.0))
    with pytest.raises(Death, match="exit status 4"):
        worker(("leave", 4))
    third = worker(("wait", 0.0))
    worker.stop()
    assert first[2] == second[2] != third[2]


def as_in_a_terminal():
    """A process group of its own that Ctrl-C reaches, also if these tests run where it is ignored, as in the background."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="Ctrl-C is sent to a process group")
def test_ctrl_c_ends_all_workers_and_shows_and_writes_what_was_measured(tmp_path):
    file = tmp_path / "results.json"
    program = [sys.executable, "-u", "-m", "crosscheck", "--json", str(file)]
    process = subprocess.Popen(
        program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=as_in_a_terminal
    )
    for line in process.stdout:
        if line.startswith("masked_softmax"):
            os.killpg(process.pid, signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped before the other" in out and "Traceback" not in err
    assert '"self_attention_mask/two-arguments"' in file.read_text() and '"agree": false' in file.read_text()
    with pytest.raises(ProcessLookupError):  # nobody of the group is left
        for _ in range(50):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
