"""Make the runs of a chapter, in processes side by side; what is done already is not done again."""

import json
import subprocess
import sys
import time
from functools import partial

from crosscheck.report import workers
from crosscheck.report.comparison import backend, in_a_line, versions
from crosscheck.report.progress import progress
from experiments.common.experiment import FOLDER, Run, experiments_of, hash_of
from experiments.common.results import thinned

KEPT = FOLDER.parent / "build" / "experiments"
"""Each run is written here as soon as it ends, in a file whose name has the hash of the chapter's experiments."""


def train(task):
    """For a worker, which gets (chapter, Run): the run with what came out, or with the error that stopped it."""
    chapter, run = task
    start = time.perf_counter()
    try:
        outcome = thinned(experiments_of(chapter)[run.experiment].train(run.arm, run.rate, run.seed))
        if taken := sorted({*Run._fields, "backend", "seconds", "error"} & set(outcome)):
            raise ValueError(f"a training must not return {', '.join(taken)}, which the runner writes itself")
    except Exception as error:
        outcome = {"error": in_a_line(error)}
    return run._asdict() | {"backend": backend(), "seconds": round(time.perf_counter() - start, 1)} | outcome


def make_runs(chapter, jobs, only=None):
    """Make the runs that are missing on this backend, in `jobs` processes, or in this one if an experiment wants that.

    Returns:
        The errors of those that were stopped, one a line.
    """
    done = {key_of(found) for found in kept(chapter)}
    chosen = [experiment for experiment in experiments_of(chapter).values() if only in (None, experiment.name)]
    wanted = [run for experiment in chosen for run in runs_of(experiment)]
    jobs = 0 if any(experiment.together for experiment in chosen) else jobs
    tasks = [(chapter, run) for run in wanted if (backend(), *run) not in done]
    errors = []
    with progress(len(tasks)) as (watch, advance):
        for (_, run), found in workers.run(tasks, "experiments.common.runner:train", jobs, partial(show, watch)):
            if isinstance(found, workers.Death):
                found = {"error": in_a_line(found)}
            if "error" in found:
                errors.append(f"{chapter}: {described(run)}: {found['error']}")
            else:
                keep(chapter, found)
                print(f"{chapter}: {described(run)} on {backend()}: {found['seconds']:.0f} s", flush=True)
            advance()
    return errors


def runs_of(experiment):
    return experiment.runs() if backend() == "tensorflow" else experiment.runs_elsewhere()


def make_runs_on_jax(chapter, jobs, only=None):
    """The same in a process of the other backend. Returns its exit status."""
    command = [sys.executable, "-m", "experiments", chapter, "--backend", "jax", "--jobs", str(jobs)]
    return subprocess.run(command + (["--only", only] if only else []), cwd=FOLDER.parent).returncode


def show(watch, running):
    watch([(described(run), seconds) for (_, run), seconds in running])


def described(run):
    return f"{run.experiment}, {run.arm}, rate {run.rate:g}, seed {run.seed}"


def key_of(found):
    return found["backend"], *Run(**{field: found[field] for field in Run._fields})


def file_of(chapter):
    return KEPT / f"{chapter}-{hash_of(chapter)}.jsonl"


def kept(chapter):
    """The runs that were made by the experiments as they are now."""
    path = file_of(chapter)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def keep(chapter, found):
    KEPT.mkdir(parents=True, exist_ok=True)
    with file_of(chapter).open("a", encoding="utf-8") as file:
        file.write(json.dumps(found, allow_nan=False) + "\n")


def store(chapter):
    """Write `experiments/CHAPTER.json` from the runs. Returns those that are missing, as keys."""
    found = {key_of(run): run for run in kept(chapter)}
    experiments, missing = {}, []
    for name, experiment in experiments_of(chapter).items():
        keys = [("tensorflow", *run) for run in experiment.runs()] + [("jax", *run) for run in experiment.runs_elsewhere()]
        missing += [key for key in keys if key not in found]
        experiments[name] = [
            {what: value for what, value in found[key].items() if what != "experiment"} for key in keys if key in found
        ]
    if not missing:
        head = {"code": hash_of(chapter), "versions": versions("tensorflow") | versions("jax")}
        (FOLDER / f"{chapter}.json").write_text(as_text(head, experiments), encoding="utf-8")
    return missing


def as_text(head, experiments):
    """JSON with a line for each run, so that a change of one is a change of one line."""
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    blocks = [f"{json.dumps(name)}: [\n" + ",\n".join(map(json.dumps, runs)) + "\n]" for name, runs in experiments.items()]
    parts.append('"experiments": {\n' + ",\n".join(blocks) + "\n}")
    return "{" + ",\n".join(parts) + "}\n"
