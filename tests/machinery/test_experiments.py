"""Experiments are run with enough seeds and rates, resume, and say when what is stored is older than what is run."""

import json
from dataclasses import replace

import pytest

from experiments import __main__ as command
from experiments.common import experiment, results, runner, table
from experiments.common.experiment import Experiment, Run

NAMES = experiment.names()


def made_up(arm, rate, seed):
    """A training that takes no time: the loss falls faster with a higher rate, and the second arm ends lower."""
    curve = [(step, (1 + seed / 10) / (1 + rate * step)) for step in range(1, 201)]
    return {"loss": curve, "end": curve[-1][1] - (arm == "new"), "map": [[0.123456, 1.0]]}


TWO = Experiment("two", made_up, ("old", "new"), (0.1, 1.0, 10.0), "end", lower_is_better=True, elsewhere="new")


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """A chapter called "made_up" with the one experiment, in a folder of its own."""
    (tmp_path / "made_up.py").write_text("EXPERIMENTS = []\n")
    for module in (experiment, results, runner):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(runner, "KEPT", tmp_path / "kept")
    for module in (runner, results):
        monkeypatch.setattr(module, "experiments_of", lambda chapter: {"two": TWO})
    return tmp_path


def make_all(chapter):
    """All runs, with those of JAX made up."""
    assert runner.make_runs("made_up", jobs=0) == []
    for run in TWO.runs_elsewhere():
        found = run._asdict() | {"backend": "jax", "seconds": 0.0} | results.thinned(made_up(*run[1:]))
        runner.keep("made_up", found)
    return runner.store("made_up")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stored_is_what_the_program_would_make(name):
    """Else: make experiments NAME=…"""
    found = json.loads((experiment.FOLDER / f"{name}.json").read_text())
    assert found["code"] == experiment.hash_of(name)
    expected = experiment.experiments_of(name)
    assert set(found["experiments"]) == set(expected)
    for which, runs in found["experiments"].items():
        keys = {(run["backend"], run["arm"], run["rate"], run["seed"]) for run in runs}
        assert keys == {(backend, *run[1:]) for backend, run in wanted(expected[which])}


def wanted(of):
    return [("tensorflow", run) for run in of.runs()] + [("jax", run) for run in of.runs_elsewhere()]


def test_the_table_of_claims_is_what_is_stored():
    """Else: python -m experiments --table"""
    assert table.PAGE.read_text() == table.page()


@pytest.mark.parametrize("name", NAMES)
def test_both_backends_train_alike(name):
    """The same run on JAX ends where the runs on TensorFlow do."""
    for found in results.stored(name).values():
        for run in found.experiment.runs_elsewhere():
            what = found.experiment.judged_by
            _, there = found.elsewhere(what)
            assert found.contains(there, what, run.arm, run.rate), (found.experiment.name, there)


def test_runs_that_are_made_are_not_made_again(chapter, capsys):
    assert make_all(chapter) == []
    assert capsys.readouterr().out.count("made_up: two") == 2 * 3 * 5
    assert runner.make_runs("made_up", jobs=0) == []
    assert capsys.readouterr().out == ""


def test_a_changed_program_makes_all_runs_anew_and_a_comment_or_a_claim_does_not(chapter):
    make_all(chapter)
    first = experiment.hash_of("made_up")
    (chapter / "made_up.py").write_text('"""What it is for."""\n\n# Why.\nEXPERIMENTS = []\nCLAIMS = [1]\n')
    assert experiment.hash_of("made_up") == first and runner.kept("made_up")
    (chapter / "made_up.py").write_text("EXPERIMENTS = [1]\n")
    assert experiment.hash_of("made_up") != first and not runner.kept("made_up")


def test_the_parts_of_a_chapter_that_is_a_folder_count_too(chapter):
    (chapter / "made_up.py").unlink()
    (chapter / "made_up").mkdir()
    (chapter / "made_up" / "__init__.py").write_text("EXPERIMENTS = []\n")
    (chapter / "made_up" / "part.py").write_text("SIZE = 1\n")
    assert experiment.names() == ["made_up"]
    first = experiment.hash_of("made_up")
    (chapter / "made_up" / "part.py").write_text("# A comment.\nSIZE = 1\n")
    assert experiment.hash_of("made_up") == first
    (chapter / "made_up" / "part.py").write_text("SIZE = 2\n")
    assert experiment.hash_of("made_up") != first


@pytest.mark.parametrize("together", [False, True])
def test_runs_that_share_programs_are_made_in_one_process(chapter, monkeypatch, together):
    asked_for = []
    monkeypatch.setattr(runner, "experiments_of", lambda chapter: {"two": replace(TWO, together=together)})
    monkeypatch.setattr(runner.workers, "run", lambda tasks, job, jobs, watch: asked_for.append(jobs) or [])
    runner.make_runs("made_up", jobs=2)
    assert asked_for == [0 if together else 2]


def test_missing_runs_are_said_and_nothing_is_stored(chapter):
    assert runner.make_runs("made_up", jobs=0) == []
    assert runner.store("made_up") == [("jax", *TWO.runs_elsewhere()[0])]
    assert not (chapter / "made_up.json").exists()


def test_a_run_that_fails_is_said_and_the_others_are_made(chapter, monkeypatch, capsys):
    def train(arm, rate, seed):
        if (arm, rate, seed) == ("new", 1.0, 3):
            return {"end": float("nan")}
        return made_up(arm, rate, seed)

    failing = replace(TWO, train=train)
    monkeypatch.setattr(runner, "experiments_of", lambda chapter: {"two": failing})
    (error,) = runner.make_runs("made_up", jobs=0)
    assert error == "made_up: two, new, rate 1, seed 3: ValueError: a training must return finite numbers. Received: nan"
    assert len(runner.kept("made_up")) == 29


def test_a_training_that_returns_what_the_runner_writes_is_refused(chapter, monkeypatch):
    failing = replace(TWO, train=lambda *_: {"error": 0.1, "seed": 1.0})
    monkeypatch.setattr(runner, "experiments_of", lambda chapter: {"two": failing})
    errors = runner.make_runs("made_up", jobs=0)
    assert len(errors) == 30 and "a training must not return error, seed, which the runner writes itself" in errors[0]


def test_results_are_asked_by_arm_and_best_rate(chapter):
    make_all(chapter)
    found = results.stored("made_up")["two"]
    assert found.best_rate("new") == 10.0
    assert found.values("end", "old", 0.1).shape == (5,)
    assert found.worst("end", "old") == max(found.values("end", "old", 10.0))
    steps, values = found.curves("loss", "old", 1.0)
    assert steps[0] == 1 and steps[-1] == 200 and len(steps) == results.POINTS and values.shape == (5, results.POINTS)
    assert found.values("map", "old").tolist() == [[[0.1235, 1.0]]] * 5


def test_a_live_run_must_land_among_the_stored_ones(chapter):
    make_all(chapter)
    found = results.stored("made_up")["two"]
    low, middle, high = found.spread("end", "old")
    assert found.contains(middle, "end", "old") and found.contains(high + (high - low) / 2, "end", "old")
    assert not found.contains(high + 1.1 * (high - low), "end", "old") and not found.contains(float("nan"), "end", "old")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"seeds": (0, 1)}, "seeds must be at least 3. Received: seeds=(0, 1)"),
        ({"rates": (0.1,)}, "rates must be at least 3, or (0.0,) where there is none"),
        ({"elsewhere": "nobody"}, "elsewhere must be one of the arms"),
    ],
)
def test_too_little_is_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint.replace("(", r"\(").replace(")", r"\)")):
        Experiment("two", made_up, **({"arms": ("old", "new"), "rates": (0.1, 1.0, 10.0), "judged_by": "end"} | options))


def test_a_chapter_without_results_is_named(chapter):
    with pytest.raises(FileNotFoundError, match="made_up has no stored results; `make experiments NAME=made_up` makes them"):
        results.stored("made_up")


def test_runs_take_turns_between_arms():
    assert [run.arm for run in TWO.runs()[:6]] == ["old"] * 3 + ["new"] * 3
    assert TWO.runs()[0] == Run("two", "old", 0.1, 0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["atention"], "no chapter with experiments is called 'atention'. The nearest: attention"),
        (["attention", "--only", "head"], "no experiment of attention is called 'head'. The nearest: heads"),
    ],
)
def test_what_there_is_not_is_refused_with_the_nearest(options, complaint, capsys, monkeypatch):
    monkeypatch.setattr(command, "prepare", lambda backend: None)  # the environment of the other tests stays as it is
    assert command.main(options) == 2
    assert complaint in capsys.readouterr().err
