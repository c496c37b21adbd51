"""`python -m crosscheck`: what it measures, how it says it, and its exit status."""

import json
import os
import re
import subprocess
import sys
from html import escape
from typing import NamedTuple

import keras
import numpy as np
import pytest
from jaxtyping import Float
from numpy import ndarray as Array

from crosscheck import catalogue
from crosscheck.__main__ import DTYPES, main
from crosscheck.case import TOLERANCE, Case
from crosscheck.catalogue import PARTS, Chapter
from crosscheck.report import comparison


class ScaleWeights(NamedTuple):
    scale: Float[Array, " m"]


class Scale(keras.layers.Layer):
    """Multiplies by a weight, and by `fault` after it."""

    def __init__(self, fault=1.0, **kwargs):
        super().__init__(**kwargs)
        self.fault = fault

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale", initializer="ones")

    def call(self, x):
        return x * self.scale * self.fault


class Broken(Scale):
    def call(self, x):
        raise ValueError("no <b>luck</b>\nat all")


class ScaleWithoutSlope(Scale):
    """Right numbers, but what `where` does not choose makes their slope 0 · ∞."""

    def call(self, x):
        return keras.ops.where(x == x, super().call(x), keras.ops.log(0 * x))


def case(name, layer=Scale, **options):
    return Case(name, layer, lambda rng: {"x": rng.normal(size=(2, 3))}, ScaleWeights, lambda w, x: x * w.scale, **options)


def chapter(number, name, *cases):
    return Chapter(number, name, f"{name.title()} & <co>", PARTS[0], "", f"{name.title()} et al., 20{number}", "", (), (), cases)


GOOD = (case("first/plain"), case("first/mixed-up"))
WRONG = case("second/wrong", lambda dtype: Scale(1.01, dtype=dtype))
NAN = case("second/nan", lambda dtype: Scale(np.nan, dtype=dtype))
NAN_SLOPE = case("second/nan-slope", ScaleWithoutSlope, skips={"xla": "compiled or not, it is NaN"})
STOPS = case("second/stops", Broken)
SKIPPED = case("third/text", Broken, dtypes=(), skips={"gradient": "text has no slope", "xla": "text does not compile"})


@pytest.fixture
def chapters(monkeypatch):
    """Replaces the chapters by those given."""

    def replace(*cases):
        names = list(dict.fromkeys(case.chapter for case in cases))
        made = [chapter(i, name, *(c for c in cases if c.name.startswith(f"{name}/"))) for i, name in enumerate(names, 11)]
        monkeypatch.setattr(catalogue, "chapters", lambda: tuple(made))

    return replace


@pytest.fixture
def run(chapters, capsys, tmp_path):
    """The exit status, what was printed, the JSON and the page, for the command on these cases."""

    def command(*cases, arguments=()):
        chapters(*cases)
        files = tmp_path / "new" / "results.json", tmp_path / "page.html"
        status = main([*arguments, "--jobs", "0", "--xla", "--json", str(files[0]), "--html", str(files[1])])
        printed = capsys.readouterr()
        return status, printed.out, json.loads(files[0].read_text(), parse_constant=pytest.fail), files[1].read_text()

    return command


def test_dtypes_that_can_be_asked_for_are_those_with_a_tolerance():
    assert set(DTYPES) == set(TOLERANCE)


def test_agreement_is_status_0_and_every_case_has_its_line_if_asked(run):
    status, out, found, html = run(*GOOD, arguments=["--cases"])
    assert status == 0
    assert "2 cases agree on tensorflow" in out
    for name in ("plain", "mixed-up"):
        (line,) = [line for line in out.splitlines() if line.split()[:1] == [name]]
        assert len(line.split()) == 1 + len(comparison.LIMITS)
    assert found["agree"] is True
    assert "✗" not in out and "✗" not in html


def test_a_chapter_is_one_line_with_its_largest_errors(run):
    _, out, found, _ = run(*GOOD, case("second/plain"))
    lines = [line.split() for line in out.splitlines() if line.endswith("✓")]
    assert [line[:2] for line in lines] == [["first", "2"], ["second", "1"]]
    worst = max(one["errors"]["float32"] for one in found["cases"][:2])
    assert lines[0][3] == ("exact" if worst == 0 else f"{worst:.1e}")
    assert "plain" not in out and "mixed-up" not in out


def test_xla_is_measured_only_if_asked_for(chapters, capsys):
    chapters(*GOOD)
    assert main(["--jobs", "0"]) == 0
    assert "XLA" not in capsys.readouterr().out
    assert main(["--jobs", "0", "--xla"]) == 0
    assert "XLA" in capsys.readouterr().out


def test_the_table_fits_80_columns_and_has_no_control_characters_when_piped(run):
    _, out, *_ = run(*GOOD, case("first/a-name-that-is-longer-than-its-column"), arguments=["--cases"])
    assert "a-name-that-is-longer-than-its-column\n" in out
    table = out.split("Written:")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert table.replace("\n", "").isprintable()


@pytest.mark.parametrize("faulty", [WRONG, NAN], ids=lambda case: case.name)
def test_a_wrong_number_or_none_at_all_is_out_of_tolerance_and_status_1(run, faulty):
    status, out, found, html = run(*GOOD, faulty)
    assert status == 1
    assert f"2 of 3 cases agree on tensorflow; out of tolerance: {faulty.name}" in out
    assert [one["verdict"] for one in found["cases"]] == ["agrees", "agrees", "out of tolerance"]
    (line,) = [line for line in out.splitlines() if line.split()[:1] == [faulty.name.split("/")[1]]]
    assert line.count("✗") >= 3  # 1.01 is near enough for bfloat16
    assert "<title>✗" in html


def test_a_gradient_that_is_not_a_number_is_out_of_tolerance_though_the_outputs_agree(run):
    status, out, found, html = run(*GOOD, NAN_SLOPE)
    assert status == 1
    assert "out of tolerance: second/nan-slope" in out
    assert found["cases"][2]["gradient"] == "inf"
    assert all(error < TOLERANCE[dtype] for dtype, error in found["cases"][2]["errors"].items())
    assert "✗ inf" in html


def test_a_case_that_raises_is_named_and_the_others_still_run(run):
    status, out, found, html = run(STOPS, *GOOD)
    assert status == 1
    assert "✗ second/stops raised ValueError: " in out
    assert "no <b>luck</b> at all" in " ".join(out.split())
    assert "2 of 3 cases agree on tensorflow; raised: second/stops" in out
    assert [one["verdict"] for one in found["cases"]] == ["raised", "agrees", "agrees"]
    assert set(found["cases"][0]["raised"]) == set(comparison.LIMITS)
    assert escape("no <b>luck</b> at all") in html


def test_what_was_not_measured_is_not_said_to_agree(run):
    status, out, found, html = run(*GOOD, SKIPPED)
    assert status == 0
    assert "2 of 3 cases agree on tensorflow; not measured: third/text" in out
    assert "third/text was not measured: text has no slope" in out
    assert found["cases"][2]["verdict"] == "not measured"
    assert found["cases"][2]["gradient"] is None
    assert "text has no slope" in html


def test_a_case_that_jax_cannot_run_is_not_measured_there(monkeypatch, chapters):
    only_tensorflow = case("first/plain", skips={"jax": "TensorFlow's operations"})
    chapters(only_tensorflow)
    assert comparison.measure(only_tensorflow)["verdict"] == "agrees"
    monkeypatch.setattr(comparison, "backend", lambda: "jax")
    result = comparison.measure(only_tensorflow)
    assert (result["verdict"], result["errors"]) == ("not measured", {})
    assert set(result["skipped"].values()) == {"TensorFlow's operations"}


@pytest.mark.parametrize(("name", "nearest"), [("frist", "first"), ("first/plane", "first/plain"), ("zzz", "first, second")])
def test_an_unknown_name_is_status_2_with_the_nearest_names(chapters, capsys, name, nearest):
    chapters(*GOOD, WRONG)
    assert main(["--jobs", "0", name]) == 2
    error = capsys.readouterr().err
    assert f"no chapter or case is called {name!r}. The nearest: " in error
    assert nearest in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dtype", "float8"], "argument --dtype: invalid choice: 'float8' (choose from 'float64', 'float32'"),
        (["--backend", "torch"], "argument --backend: invalid choice: 'torch'"),
        (["--seed", "-1"], "argument --seed: expected 0, 1, 2, … Received: -1"),
        (["--json", "."], "argument --json: cannot write .: Is a directory"),
        (["--html", __file__ + "/page.html"], "page.html: "),
        (["--htm"], "argument --html: expected one argument"),
    ],
)
def test_a_wrong_option_is_status_2_and_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert re.sub("['‘’]", "'", message) in error
    assert error.startswith("crosscheck: ")
    assert error.count("\n") == 1


def test_an_unknown_backend_in_the_environment_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(SystemExit):
        main([])
    assert "KERAS_BACKEND must be one of tensorflow, jax. Received: torch" in capsys.readouterr().err


def test_a_backend_that_comes_too_late_is_refused_and_not_ignored(monkeypatch, chapters, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")  # restored afterwards
    chapters(*GOOD)
    assert main(["--jobs", "0", "--backend", "jax"]) == 2
    assert "Keras already runs on tensorflow" in capsys.readouterr().err


def test_trying_a_file_leaves_an_existing_one_as_it_was_and_no_empty_one(chapters, tmp_path):
    chapters(*GOOD)
    (tmp_path / "old.json").write_text("kept")
    assert main(["--jobs", "0", "zzz", "--json", str(tmp_path / "old.json"), "--html", str(tmp_path / "new.html")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "kept"


def test_only_the_dtypes_and_cases_asked_for_are_measured_with_the_seed(run):
    asked = ["--dtype", "float32", "first/plain", "--dtype", "float64", "--seed", "3"]
    _, out, found, _ = run(*GOOD, WRONG, arguments=asked)
    (only,) = found["cases"]
    assert only["case"] == "first/plain"
    assert set(only["errors"]) == {"float32", "float64"}
    assert "float16" not in out
    assert found["seed"] == 3 and found["jobs"] == 0
    assert only["errors"]["float32"] == comparison.measure(GOOD[0], ["float32"], seed=3)["errors"]["float32"]
    assert only["errors"]["float32"] != comparison.measure(GOOD[0], ["float32"], seed=0)["errors"]["float32"]


def test_json_is_strict_and_complete(run):
    *_, found, _ = run(*GOOD, NAN)
    assert {"backend": "tensorflow", "seed": 0, "agree": False}.items() <= found.items()
    assert set(found["versions"]) == {"keras", "tensorflow", "numpy"}
    assert found["versions"]["numpy"] == np.__version__
    assert found["tolerances"] == comparison.LIMITS
    for one in found["cases"]:
        assert set(one) >= {"case", "chapter", "paper", "errors", "gradient", "xla", "seconds", "verdict"}
        assert set(one["errors"]) == set(TOLERANCE)
    assert found["cases"][0]["errors"]["float64"] <= 1e-15
    assert found["cases"][2]["errors"]["float64"] == "inf"


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_command_runs_on_both_backends_and_prints_nothing_beside_its_table(backend):
    command = [sys.executable, "-m", "crosscheck", "--backend", backend, "masked_softmax/masked"]
    hidden = ("KERAS_BACKEND", "PYTEST_CURRENT_TEST", "TF_CPP_MIN_LOG_LEVEL")  # the last two silence TensorFlow too
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert f"✓ 1 case agrees on {backend}" in ran.stdout
    assert ran.stderr == ""
