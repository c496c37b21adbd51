"""`python -m crosscheck.bench`: what it asks for, how it measures and how it says so. How long anything takes is not tested."""

import io
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from rich.console import Console

from crosscheck import bench, bench_page, bench_report, growth
from crosscheck.backends import compiled_step
from crosscheck.bench import LENGTHS, TWINS, Mechanism, growing, main, parse
from crosscheck.bench_cases import CASES
from crosscheck.bench_probe import LEAST_ROUNDS, in_turn, measure
from crosscheck.growth import Probe
from crosscheck.growth_probe import PASSES
from crosscheck.long_sequences import MECHANISMS
from crosscheck.processes import in_process


@pytest.mark.parametrize("xla", [False, True])
def test_a_step_has_the_sum_of_squares_of_floats_and_its_gradient_for_trained_weights(xla):
    fixed, dense = keras.Variable(np.full(4, 2.0, "float32"), trainable=False), keras.layers.Dense(4, use_bias=False)
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    dense.build(x.shape)
    w = dense.kernel.numpy()

    def run(x, ids):
        return {"y": dense(x) + fixed, "nothing": None, "ids": ids}

    loss, slopes = compiled_step(run, [dense.kernel, fixed], (x, np.arange(3)), with_gradient=True, xla=xla)()
    assert_allclose(loss, np.square(x @ w + 2).sum(), rtol=1e-5)
    assert len(slopes) == 1
    assert_allclose(slopes[0], 2 * x.T @ (x @ w + 2), rtol=1e-4)
    ids, y = compiled_step(run, [dense.kernel, fixed], (x, np.arange(3)), xla=xla)()
    assert_array_equal(ids, [0, 1, 2])
    assert_allclose(y, x @ w + 2, rtol=1e-5)


def test_programs_run_in_turn_and_often_enough_whatever_the_time():
    ran = []
    times = in_turn([lambda: ran.append("layer"), lambda: ran.append("floor")], 0)
    assert ran == ["layer", "floor"] * LEAST_ROUNDS
    assert [len(column) for column in times] == [LEAST_ROUNDS] * 2


def test_a_measurement_has_times_of_both_modes_for_layer_and_floor():
    for what, measured in measure("MaskedLM", 0, "small").items():
        assert what in PASSES and measured["rounds"] >= LEAST_ROUNDS and measured["MB"] >= 0
        for side in ("layer", "floor"):
            assert list(measured[side]) == ["graph", "xla"] and min(measured[side].values()) > 0
    assert measure("MaskedSoftmax", 0, "small")["forward"]["floor"] == {}


@pytest.mark.parametrize("backend, modes", [("tensorflow", {"graph", "xla"}), ("jax", {"xla"})])
def test_a_process_prints_its_measurements_and_on_jax_there_is_xla_only(backend, modes):
    environment = {"KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1"}
    printed = in_process("crosscheck.bench_probe", "ClassificationHead", 0, **environment)
    assert set(printed) == set(PASSES)
    assert all(set(part) == modes for passed in printed.values() for part in (passed["layer"], passed["floor"]))


def test_a_process_that_stops_is_an_error_with_its_last_line():
    assert in_process("crosscheck.bench_probe", "Nothing", 0) == {"error": "KeyError: 'Nothing'"}


def test_the_budget_reaches_the_processes(monkeypatch):
    asked = []
    for module in (bench, growth):
        monkeypatch.setattr(module, "in_process", lambda *arguments, **environment: asked.append(arguments))
    bench.measure(Mechanism("MaskedLM"), 0.5)
    bench.measure(Probe("elu", "gradient", 2048), 0.25)
    assert asked == [
        ("crosscheck.bench_probe", "MaskedLM", 0.5),
        ("crosscheck.growth_probe", "elu", "gradient", 2048, 0.25),
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


def passed(layer, floor, megabytes=12.3):
    return {"layer": layer, "floor": floor, "MB": megabytes, "rounds": 5}


def results():
    """What processes would print: a mechanism of ratios 2 and 8, one without a floor, and one that stopped."""
    first = passed({"graph": 6.0, "xla": 4.0}, {"graph": 2.0, "xla": 3.0}), passed({"graph": 8.0, "xla": 80.0}, {"xla": 1.0})
    none = passed({"graph": 1.0, "xla": 0.5}, {})
    return {
        "Transformer": dict(zip(PASSES, first)),
        "MaskedSoftmax": dict.fromkeys(PASSES, none),
        "MaskedLM": {"error": "MemoryError: <b>"},
    }


def reported(**given):
    growths = {Probe("elu", "gradient", length): {"ms": length / 100, "MB": 3.0} for length in LENGTHS}
    arguments = {"mechanisms": results(), "growths": growths, "backend": "tensorflow", "budget": 1.0}
    return bench_report.report(**arguments | given)


def shown(report):
    console = Console(file=io.StringIO(), width=200)
    bench_report.show(report, console)
    return console.file.getvalue().rstrip("\n").split("\n")


def test_a_ratio_is_the_faster_program_to_the_faster_floor():
    report = reported()
    assert [report["mechanisms"]["Transformer"][what]["ratio"] for what in PASSES] == [2.0, 8.0]
    assert report["mechanisms"]["MaskedSoftmax"]["forward"]["ratio"] is None
    grown = {"ms": {2048: 20.48, 4096: 40.96, "factor": 2.0}, "MB": {2048: 3.0, 4096: 3.0, "factor": 1.0}}
    assert report["growth"] == {"elu": grown}


def test_table_has_every_number_and_ends_with_the_geometric_means():
    more = results() | {"Other": dict.fromkeys(PASSES, passed({"xla": 4.5}, {"xla": 1.0}))}
    lines = shown(reported(mechanisms=more, references=[("attention", 0.125)]))
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert rows["Transformer"] == ["6.00", "4.00", "2.00", "2.00", "12", "8.00", "80.0", "1.00", "8.00", "12"]
    assert rows["MaskedSoftmax"][2:4] == ["–", "–"] and rows["Other"][0] == "–"
    assert rows["elu"] == ["20", "41", "2.00", "3", "3", "1.00"] and rows["attention"] == ["0.12"]
    assert "✗ MaskedLM stopped: MemoryError: <b>" in lines
    assert lines[-1] == "forward 3.00, gradient 6.00 times the floor on tensorflow: geometric mean of 2 mechanisms"


def test_a_report_of_nothing_with_a_floor_says_so():
    report = reported(
        mechanisms={"MaskedLM": {"error": "Killed"}}, growths={Probe("elu", "gradient", n): {"error": "x"} for n in LENGTHS}
    )
    assert shown(report)[-1] == "nothing that was measured on tensorflow has a floor"
    assert set(report["growth"]["elu"]["ms"].values()) == {None} and len(report["stopped"]) == 3


def test_page_has_tables_and_a_picture_of_what_has_a_floor():
    page = bench_page.as_html(reported(references=[("attention", 0.125)]))
    assert "MemoryError: &lt;b&gt;" in page and page.count("<tbody>") == 3 and "<td>0.12</td>" in page
    picture = page[page.index("<svg") : page.index("</svg>")]
    assert "<!-- Transformer -->" in picture and "MaskedSoftmax" not in picture
    assert "<h2>References" not in bench_page.as_html(reported())


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
