"""`python -m crosscheck.bench.growth`: what it asks for, how it judges, what it says. How long anything takes is not tested."""

import io
import json
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from rich.console import Console

from crosscheck.bench.growth import measurements
from crosscheck.bench.growth import report as growth_report
from crosscheck.bench.growth.__main__ import doubled, main, parse
from crosscheck.bench.growth.measurements import LIMIT, Probe, complaints, exponent, find, lengths_to, series
from crosscheck.bench.growth.mechanisms import MECHANISMS
from crosscheck.bench.growth.probe import PASSES, field, forget_peak, peak, prepared

LENGTHS = [1024, 2048, 4096, 8192]
IN_REPOSITORY = [name for name, mechanism in MECHANISMS.items() if find_spec(f"layers.{mechanism.module}")]


def measured(power, names=("bigbird",), last=1.0):
    """Results that grow with a power of the length; the longest one is `last` times that."""
    probes = [Probe(name, what, length) for name in names for what in PASSES for length in LENGTHS]
    size = {length: length**power * (last if length == LENGTHS[-1] else 1) / 1000 for length in LENGTHS}
    return {probe: {"ms": size[probe.length], "MB": 3 * size[probe.length]} for probe in probes}


def said(results, found=()):
    """The table as text."""
    console = Console(file=io.StringIO(), width=200)
    growth_report.show(results, LENGTHS, list(found), "tensorflow", console)
    return console.file.getvalue()


def test_the_exponent_of_a_power_is_that_power():
    for power in (0, 1, 1.5, 2):
        np.testing.assert_allclose(exponent(LENGTHS, [5.0 * length**power for length in LENGTHS]), power, atol=1e-12)


def test_there_is_no_exponent_where_a_value_is_missing_or_nothing():
    assert exponent(LENGTHS, [1.0, None, 3.0, 4.0]) is None
    assert exponent(LENGTHS, [0.0, 1.0, 2.0, 3.0]) is None


def test_linear_growth_is_no_complaint_and_quadratic_is_one_for_each_pass_and_quantity():
    assert complaints(measured(1)) == []
    found = complaints(measured(2))
    assert len(found) == 4
    assert found[0] == "bigbird forward: time grows from 16,777 to 67,109 ms with the last doubling"


def test_only_the_last_doubling_is_judged_and_the_limit_itself_is_allowed():
    assert complaints(measured(1, last=LIMIT / 2 * 0.999)) == []
    assert len(complaints(measured(1, last=LIMIT / 2 * 1.001))) == 4


def test_a_mechanism_that_is_not_linear_is_never_complained_about():
    assert complaints(measured(2, ["full"])) == []
    results = measured(2, ["full"]) | {Probe("full", "gradient", 8192): {"error": "Killed"}}
    assert complaints(results) == [] and "– full gradient 8192 stopped: Killed" in said(results)


def test_a_linear_mechanism_that_stops_is_complained_about_and_not_measured_further():
    results = measured(1) | {Probe("bigbird", "forward", 8192): {"error": "MemoryError"}}
    assert complaints(results) == ["bigbird forward 8192 stopped: MemoryError"]
    assert series(results, "bigbird", "forward", "ms")[-1] is None


def test_names_choose_mechanisms_in_their_order():
    assert find([]) == list(MECHANISMS)
    assert find(["bigbird", "full", "bigbird"]) == ["full", "bigbird"]


def test_a_name_that_is_none_ends_with_the_nearest_and_status_2(capsys):
    assert main(["bigbrid"]) == 2
    assert capsys.readouterr().err == "crosscheck: no mechanism is called 'bigbrid'. The nearest: bigbird\n"


def test_lengths_double_to_the_longest():
    assert lengths_to(8192) == LENGTHS and lengths_to(2048) == LENGTHS[:2]
    assert doubled("16384") == 16384


@pytest.mark.parametrize("text", ["1024", "5000", "0", "-2048", "many", ""])
def test_a_longest_length_that_no_doubling_reaches_is_rejected(text, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse([f"--longest={text}"])
    assert stopped.value.code == 2
    assert f"expected 2048, 4096, 8192, … Received: {text}" in capsys.readouterr().err


def test_a_backend_that_does_not_exist_is_rejected_wherever_it_comes_from(monkeypatch, capsys):
    for argv, backend in ((["--backend", "torch"], "tensorflow"), ([], "torch")):
        monkeypatch.setenv("KERAS_BACKEND", backend)
        with pytest.raises(SystemExit) as stopped:
            parse(argv)
        assert stopped.value.code == 2 and "torch" in capsys.readouterr().err


def test_table_has_every_value_with_its_exponent():
    text = said(measured(1, ["full", "bigbird"]))
    assert text.count("1.00") == 8 and "✓ no linear mechanism takes more than 2.3 times as much" in text
    assert [word for word in text.split() if word in MECHANISMS] == ["full", "bigbird"]
    row = next(line for line in text.splitlines() if "gradient" in line)
    assert row.split() == ["gradient", "ms", "1", "2", "4", "8", "1.00"]


def test_table_says_what_is_wrong():
    results = measured(2)
    text = said(results, complaints(results))
    assert text.count("✗") == 5 and "2.00" in text and "✗ bigbird gradient: memory grows" in text


def test_page_has_table_picture_and_verdict():
    results = measured(2) | {Probe("bigbird", "forward", 8192): {"error": "<b>Killed</b>"}}
    page = growth_report.as_html(results, LENGTHS, complaints(results), "jax")
    assert "&lt;b&gt;Killed" in page and "<svg" in page and page.count("<tr>") == 1 + 4 and "<td>–</td>" in page


@pytest.mark.parametrize("names", [["bigbird"], list(MECHANISMS)])
def test_picture_is_drawn_for_any_number_of_mechanisms(names, tmp_path):
    growth_report.draw(measured(1, names), LENGTHS, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_main_measures_each_pass_of_each_length_once_and_says_where_it_wrote(monkeypatch, tmp_path, capsys):
    asked = []

    def measure(probe):
        asked.append(probe.name)
        return {"ms": probe.length / 9, "MB": probe.length}

    monkeypatch.setattr(measurements, "measure", measure)
    files = tmp_path / "new" / "growth.png", tmp_path / "growth.html"
    assert main(["bigbird", "--longest", "2048", "--plot", str(files[0]), "--html", str(files[1])]) == 0
    assert asked == [f"bigbird {what} {length}" for what in PASSES for length in (1024, 2048)]
    printed = capsys.readouterr().out.splitlines()
    assert all(f"Written: {file}" in printed and file.exists() for file in files)


def test_what_grew_too_fast_is_measured_again_and_the_less_of_both_counts(monkeypatch):
    results = measured(1, ["full", "bigbird"])
    slow = Probe("bigbird", "forward", 8192)
    results[slow] = {"ms": 99.0, "MB": 24.576}
    asked = []
    monkeypatch.setattr(measurements, "measure", lambda probe: asked.append(probe) or {"ms": 9.0, "MB": 100.0})
    measurements.measure_again(results, LENGTHS)
    assert asked == [Probe("bigbird", "forward", 4096), slow]
    assert results[slow] == {"ms": 9.0, "MB": 24.576} and complaints(results) == []


def test_main_ends_with_status_1_if_a_linear_mechanism_grows_too_fast(monkeypatch, tmp_path):
    monkeypatch.setattr(measurements, "measure", lambda probe: {"ms": probe.length**2, "MB": probe.length})
    assert main(["bigbird", "--longest", "2048", "--plot", str(tmp_path / "growth.png")]) == 1
    assert main(["full", "--longest", "2048", "--plot", str(tmp_path / "growth.png")]) == 0


def test_a_process_that_stops_is_an_error_with_its_last_line():
    assert measurements.measure(Probe("nothing", "forward", 1024)) == {"error": "KeyError: 'nothing'"}


def test_a_measurement_is_a_process_of_its_own_that_prints_two_numbers():
    program = [sys.executable, "-m", "crosscheck.bench.growth.probe", "bigbird", "gradient", "1024"]
    ran = subprocess.run(program, capture_output=True, text=True, check=True)
    assert all(value > 0 for value in json.loads(ran.stdout.splitlines()[-1]).values())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak of a process cannot start again")
def test_memory_is_the_peak_above_what_was_there_and_is_seen_although_it_is_freed():
    held = np.ones(2**22)
    before = forget_peak()
    used = np.ones(2**23)
    del used
    assert 60 < (peak() - before) / 2**20 < 80
    assert field("VmRSS") - before < 2**24 and held.sum() == 2**22


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("what", PASSES)
def test_every_mechanism_runs(name, what):
    if name not in IN_REPOSITORY:
        pytest.skip(f"layers/{MECHANISMS[name].module}.py is not there")
    outputs = keras.tree.flatten(prepared(name, what, 128)())
    assert len(outputs) > (4 if what == "gradient" else 0) and all(np.isfinite(output).all() for output in outputs)
