"""`python -m crosscheck.bench`: what it asks for, how it measures and how it says so. How long anything takes is not tested."""

import json
import subprocess
import sys

import keras
import pytest

from crosscheck.bench import __main__ as bench
from crosscheck.bench.__main__ import LENGTHS, TWINS, Mechanism, Reference, growing, main, parse
from crosscheck.bench.cases import CASES
from crosscheck.bench.growth import measurements as growth
from crosscheck.bench.growth.measurements import Probe
from crosscheck.bench.growth.mechanisms import MECHANISMS
from crosscheck.bench.growth.probe import PASSES
from crosscheck.bench.probe import LEAST_ROUNDS, in_turn, measure
from crosscheck.bench.processes import in_process
from crosscheck.bench.references import calls


def test_programs_run_in_turn_and_often_enough_whatever_the_time():
    ran = []
    times = in_turn([lambda: ran.append("layer"), lambda: ran.append("floor")], 0)
    assert ran == ["layer", "floor"] * LEAST_ROUNDS
    assert [len(column) for column in times] == [LEAST_ROUNDS] * 2


def test_a_measurement_has_times_of_both_modes_for_layer_and_floor():
    passes = measure("MaskedLM", 0, "small")
    assert set(passes) == set(PASSES)
    for measured in passes.values():
        assert measured["rounds"] >= LEAST_ROUNDS and measured["MB"] >= 0
        for side in ("layer", "floor"):
            assert list(measured[side]) == ["graph", "xla"] and min(measured[side].values()) > 0
    assert measure("MaskedSoftmax", 0, "small")["forward"]["floor"] == {}


@pytest.mark.parametrize(
    "name, backend, modes",
    [
        ("ClassificationHead", "tensorflow", {"graph", "xla"}),
        ("ClassificationHead", "jax", {"xla"}),
        ("RandomFeatureGaussianProcess", "jax", {"xla"}),  # with weights that are not trained
    ],
)
def test_a_process_prints_its_measurements_and_on_jax_there_is_xla_only(name, backend, modes):
    environment = {"KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1"}
    printed = in_process("crosscheck.bench.probe", name, 0, **environment)
    assert set(printed) == set(PASSES)
    assert all(set(part) == modes for passed in printed.values() for part in (passed["layer"], passed["floor"]))


def test_a_process_that_stops_is_an_error_with_its_last_line():
    assert in_process("crosscheck.bench.probe", "Nothing", 0) == {"error": "KeyError: 'Nothing'"}


def test_the_budget_reaches_the_processes(monkeypatch):
    asked = []
    for module in (bench, growth):
        monkeypatch.setattr(module, "in_process", lambda *arguments, **environment: asked.append(arguments))
    bench.measure(Mechanism("MaskedLM"), 0.5)
    bench.measure(Probe("elu", "gradient", 2048), 0.25)
    assert asked == [
        ("crosscheck.bench.probe", "MaskedLM", 0.5),
        ("crosscheck.bench.growth.probe", "elu", "gradient", 2048, 0.25),
    ]


def test_growth_is_measured_where_it_should_be_linear():
    assert growing(["Transformer"]) == []
    assert growing(["Transformer", "KernelAttention_exp"]) == [Probe("exp", "gradient", length) for length in LENGTHS]
    everything = [probe.mechanism for probe in growing([])]
    assert everything[::2] == everything[1::2] == [name for name, mechanism in MECHANISMS.items() if mechanism.is_linear]
    assert set(TWINS) <= set(CASES) and set(TWINS.values()) <= set(everything)


def test_a_name_that_is_none_ends_with_the_nearest_and_status_2(capsys):
    assert main(["MaskedML"]) == 2
    assert capsys.readouterr().err.startswith("crosscheck: no mechanism is called 'MaskedML'. The nearest: MaskedLM")


@pytest.mark.parametrize(
    "argv, said",
    [
        (["--budget", "-1"], "expected a number of seconds, 0 or more. Received: -1"),
        (["--budget", "inf"], "Received: inf"),
        (["--budget", "long"], "Received: long"),
        (["--backend", "torch"], "torch"),
        (["--json", "/dev/null/bench.json"], "cannot write /dev/null/bench.json"),
    ],
)
def test_an_option_that_is_wrong_ends_with_status_2(argv, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(argv)
    assert stopped.value.code == 2 and said in capsys.readouterr().err


def passed(value):
    return {"layer": {"xla": 4.0}, "floor": {"xla": value}, "MB": 1.0, "rounds": 5}


def results():
    """What processes would print: a mechanism of ratios 2 and 8, and one that stopped."""
    return {"Transformer": dict(zip(PASSES, (passed(2.0), passed(0.5)))), "MaskedLM": {"error": "MemoryError: <b>"}}


def test_main_measures_what_was_asked_for_and_writes_it(monkeypatch, tmp_path, capsys):
    asked, files = [], (tmp_path / "new" / "bench.json", tmp_path / "bench.html")

    def measure(task, seconds):
        asked.append((task.name, seconds))
        return results()["Transformer"] if isinstance(task, Mechanism) else {"ms": 1.0, "MB": 2.0}

    monkeypatch.setattr(bench, "measure", measure)
    names = ["Transformer", "KernelAttention_elu"]
    assert main([*names, "--budget", "0.5", "--json", str(files[0]), "--html", str(files[1])]) == 0
    tasks = ["KernelAttention_elu", "Transformer", *(f"elu gradient {length}" for length in LENGTHS)]
    assert asked == [(task, 0.5) for task in tasks]
    printed = capsys.readouterr().out.splitlines()
    assert all(f"Written: {file}" in printed and file.exists() for file in files)
    written = json.loads(files[0].read_text())
    assert written["mechanisms"]["Transformer"]["gradient"] == results()["Transformer"]["gradient"] | {"ratio": 8.0}
    assert written["versions"]["keras"] == keras.__version__ and written["budget"] == 0.5


def test_main_ends_with_status_1_if_a_measurement_stopped_and_shows_the_others(monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure", lambda task, seconds: results()[task.name])
    assert main(["MaskedLM", "Transformer"]) == 1
    printed = capsys.readouterr().out
    assert "✗ MaskedLM stopped" in printed and "forward 2.00" in printed


def test_help_says_what_it_measures():
    ran = subprocess.run([sys.executable, "-m", "crosscheck.bench", "--help"], capture_output=True, text=True, check=True)
    assert "matrix products" in ran.stdout and "exit status" in ran.stdout
    listed = ran.stdout.split("\nmechanisms:\n")[1]
    assert [name.strip() for name in listed.split(",")] == list(CASES)


def test_main_without_names_measures_everything_and_the_references_as_tasks(monkeypatch, capsys):
    asked = []

    def measure(task, seconds):
        asked.append(task)
        if isinstance(task, Mechanism):
            return results()["Transformer"]
        return {f"{task.name}/line": 0.125} if isinstance(task, Reference) else {"ms": 1.0, "MB": 2.0}

    monkeypatch.setattr(bench, "measure", measure)
    assert main([]) == 0
    assert asked == [*map(Mechanism, CASES), *growing([]), *map(Reference, calls.CALLS)]
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert all([f"{name}/line", "0.12", "✓"] in rows for name in calls.CALLS)


def test_a_reference_that_stops_is_an_error(monkeypatch):
    def ways(draw):
        yield "one", lambda: None
        yield "other", lambda: 1 / 0

    monkeypatch.setitem(calls.CALLS, "attention", ways)
    assert bench.measure(Reference("attention"), 0) == {"error": "ZeroDivisionError: division by zero"}
    monkeypatch.setitem(calls.CALLS, "attention", lambda draw: [("one", lambda: None)])
    assert list(bench.measure(Reference("attention"), 0)) == ["attention/one"]
