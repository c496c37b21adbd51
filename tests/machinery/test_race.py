"""`python -m crosscheck.bench.race`: what it runs, what it says and how it ends, with layers of our own for the Model Garden's.

How long anything takes is not tested.
"""

import json
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from crosscheck.backends import compiled_step
from crosscheck.bench import layers as bench_layers
from crosscheck.bench import probe as bench_probe
from crosscheck.bench import race
from crosscheck.bench.case import SIZES, Case
from crosscheck.bench.cases import CASES
from crosscheck.bench.growth.probe import PASSES
from crosscheck.bench.probe import LEAST_ROUNDS

RELATIVE = ("MultiHeadRelativeAttention", "TwoStreamRelativeAttention", "TransformerXLBlock", "TransformerXL")


@pytest.mark.parametrize("name", CASES)
def test_a_mechanism_is_the_layer_of_its_name_among_those_given(name):
    layers = MagicMock()
    case = CASES[name](SIZES["small"], layers)
    assert case.layer is getattr(layers, name.split("_")[0]).return_value


@pytest.mark.parametrize("name", RELATIVE)
def test_encodings_pass_what_the_layers_need_for_them(name):
    layers = MagicMock()
    case = CASES[name](SIZES["small"], layers)
    case.call(case.layer, *case.inputs)
    (x, *_), passed = case.layer.call_args
    given = passed.get("relative_position_encoding", case.layer.call_args.args[-1])
    assert given is layers.per_example.return_value
    assert layers.per_example.call_args.args[0].shape[0] == 1 and layers.per_example.call_args.args[1] is x


def test_a_step_has_gradients_for_variables_of_tensorflow_too():
    w, fixed = tf.Variable(np.ones((5, 4), "float32")), tf.Variable(2.0, trainable=False)
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    _, slopes = compiled_step(lambda x: fixed * x @ w, [w, fixed], (x,), with_gradient=True)()
    assert len(slopes) == 1
    assert_allclose(slopes[0], 8 * x.T @ (x @ w.numpy()), rtol=1e-4)


def test_each_side_runs_both_passes_in_both_modes_once_before_they_count(monkeypatch):
    ran = []

    def program(case, with_gradient, mode):
        return lambda: ran.append((case.layer, "gradient" if with_gradient else "forward", mode))

    monkeypatch.setattr(bench_probe, "layer_program", program)
    sides = {"theirs": "their layer", "ours": "our layer"}
    race.race(lambda size, layers: Case(layers, (), [], lambda layer: ran.append(layer)), None, sides, 0)
    order = {what: [(layer, what, mode) for layer in sides.values() for mode in ("graph", "xla")] for what in PASSES}
    first = [[layer, *(run for what in PASSES for run in order[what] if run[0] == layer)] for layer in sides.values()]
    assert ran == [*first[0], *first[1], *order["forward"] * LEAST_ROUNDS, *order["gradient"] * LEAST_ROUNDS]


def test_a_ratio_is_that_of_the_medians_of_the_faster_programs(monkeypatch):
    times = [[9.0, 9.0, 9.0], [6.0, 5.0, 100.0], [2.0, 1.0, 4.0], [3.0, 0.1, 3.0]]
    monkeypatch.setattr(race, "in_turn", lambda programs, seconds: times if programs == [1, 2, 3, 4] else None)
    timed = race.timed({"theirs": {"graph": 1, "xla": 2}, "ours": {"graph": 3, "xla": 4}}, 0)
    assert timed == {"theirs": {"graph": 9e3, "xla": 6e3}, "ours": {"graph": 2e3, "xla": 3e3}, "ratio": 3.0}


def result(*ratios):
    """A result that has these ratios of its passes."""
    return {what: {"theirs": {"xla": 8 * r}, "ours": {"graph": 80.0, "xla": 8.0}, "ratio": r} for what, r in zip(PASSES, ratios)}


def test_a_line_has_the_faster_programs_and_their_ratio():
    assert race.line("Transformer", result(2.0, 0.5)).split() == ["Transformer", "16.00", "8.00", "2.00", "4.00", "8.00", "0.50"]


def test_the_last_lines_have_geometric_mean_and_lowest_of_what_was_raced():
    results = {"A": result(1.0, 5.0), "B": {"error": "theirs raised"}, "C": result(8.0, 0.5), "D": result(1.0, 50.0)}
    assert race.summary(results) == [
        "3 of 4 mechanisms raced",
        "forward: geometric mean 2.00, lowest 1.00 (A)",
        "gradient: geometric mean 5.00, lowest 0.50 (C)",
    ]
    assert race.summary({"B": {"error": "theirs raised"}}) == ["0 of 1 mechanisms raced"]


class Broken(keras.layers.Layer):
    def __init__(self, **arguments):
        super().__init__()

    def call(self, x):
        raise RuntimeError("no\nkernel")


@pytest.fixture
def garden(monkeypatch):
    """Layers of our own for the Model Garden's, one of which does not run, in a small size."""
    layers = SimpleNamespace(**vars(bench_layers) | {"GatedFeedforward": Broken})
    monkeypatch.setattr(race, "garden", lambda: layers)
    monkeypatch.setattr(race, "version", lambda package: f"{package} 7")
    monkeypatch.setitem(SIZES, "bench", SIZES["small"])
    return layers


def test_a_side_that_cannot_run_is_said_and_the_race_goes_on(garden, tmp_path, capsys):
    file = tmp_path / "new" / "race.json"
    asked = ["ClassificationHead", "GatedFeedforward", "SelfAttentionMask"]
    assert race.main([*asked, "--budget", "0", "--json", str(file)]) == 1
    printed, written = capsys.readouterr().out.splitlines(), json.loads(file.read_text())
    lines = {words[0]: words[1:] for words in map(str.split, printed) if words}
    broken = next(line for line in printed if line.startswith("✗"))
    assert broken.startswith("✗ GatedFeedforward: theirs raised RuntimeError: ") and "no kernel" in broken
    assert "ours raised" not in broken
    results = written["mechanisms"]
    assert f"✗ GatedFeedforward: {results['GatedFeedforward']['error']}" == broken
    for name in ("ClassificationHead", "SelfAttentionMask"):
        ratios = [results[name][what]["ratio"] for what in PASSES]
        assert [lines[name][2], lines[name][5]] == [f"{ratio:.2f}" for ratio in ratios]
    assert [name for name in lines if name in CASES] == [name for name in CASES if name in (asked[0], asked[2])]
    assert printed[-4:-1] == written["summary"] and printed[-4] == "2 of 3 mechanisms raced"
    assert written["versions"]["tf-models-official"] == "tf-models-official 7" and written["budget"] == 0


def test_both_sides_are_said_if_neither_runs(garden):
    result = race.race(CASES["GatedFeedforward"], SIZES["small"], {"theirs": garden, "ours": garden}, 0)
    assert [part.split(" raised ")[0] for part in result["error"].split("; ")] == ["theirs", "ours"]


def test_a_race_of_all_that_run_ends_with_status_0(garden):
    assert race.main(["SelfAttentionMask", "--budget", "0"]) == 0


def test_the_budget_reaches_each_pass(garden, monkeypatch):
    asked = []
    monkeypatch.setattr(race, "in_turn", lambda programs, seconds: asked.append(seconds) or [[1.0] for _ in programs])
    race.main(["SelfAttentionMask", "--budget", "0.5"])
    assert asked == [0.5, 0.5]


def test_a_name_that_is_none_ends_with_the_nearest_and_status_2(capsys):
    assert race.main(["MaskedML"]) == 2
    assert capsys.readouterr().err.startswith("crosscheck: no mechanism is called 'MaskedML'. The nearest: MaskedLM")


def test_without_the_model_garden_it_ends_with_status_2_and_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "official", None)
    assert race.main(["MaskedLM"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("crosscheck: the Model Garden is not installed: ") and said.endswith(f"{race.RECIPE}\n")
    assert "pip install --no-deps tf-models-official==" in said


@pytest.mark.parametrize("argv", [["--budget", "-1"], ["--json", "/dev/null/race.json"], ["--backend", "jax"]])
def test_an_option_that_is_wrong_ends_with_status_2(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        race.parse(argv)
    assert stopped.value.code == 2 and argv[0].lstrip("-") in capsys.readouterr().err
