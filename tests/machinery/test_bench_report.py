"""What `python -m crosscheck.bench` prints and writes, from numbers that are given."""

import io

from rich.console import Console

from crosscheck.bench import page as bench_page
from crosscheck.bench import report as bench_report
from crosscheck.bench.growth.measurements import Probe
from crosscheck.bench.growth.mechanisms import LENGTHS
from crosscheck.bench.growth.probe import PASSES
from crosscheck.bench.references.calls import LIMIT


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
    lines = shown(reported(mechanisms=more, references={"attention": {"attention": 0.125, "attention/slow": LIMIT}}))
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert rows["Transformer"] == ["6.00", "4.00", "2.00", "2.00", "12", "8.00", "80.0", "1.00", "8.00", "12"]
    assert rows["MaskedSoftmax"][2:4] == ["–", "–"] and rows["Other"][0] == "–"
    assert (
        rows["elu"] == ["20", "41", "2.00", "3", "3", "1.00"]
        and rows["attention"] == ["0.12", "✓"]
        and rows["attention/slow"] == ["2.00", "✗"]
    )
    assert "✗ MaskedLM stopped: MemoryError: <b>" in lines
    assert lines[-1] == "forward 3.00, gradient 6.00 times the floor on tensorflow: geometric mean of 2 mechanisms"


def test_a_report_of_nothing_with_a_floor_says_so():
    report = reported(
        mechanisms={"MaskedLM": {"error": "Killed"}},
        growths={Probe("elu", "gradient", n): {"error": "x"} for n in LENGTHS},
        references={"bert": {"error": "y"}},
    )
    assert shown(report)[-1] == "no mechanism measured on tensorflow has a floor"
    assert set(report["growth"]["elu"]["ms"].values()) == {None} and len(report["stopped"]) == 4 and report["references"] == {}
    assert report["stopped"]["reference/bert"] == "y" and "<svg" not in bench_page.as_html(report)


def test_page_has_tables_and_a_picture_of_what_has_a_floor():
    page = bench_page.as_html(reported(references={"attention": {"attention": 0.125, "attention/slow": LIMIT}}))
    assert "MemoryError: &lt;b&gt;" in page and page.count("<tbody>") == 3 and "<td>0.12</td><td>✓</td>" in page
    picture = page[page.index("<svg") : page.index("</svg>")]
    assert "<!-- Transformer -->" in picture and "MaskedSoftmax" not in picture
    assert "<h2>References" not in bench_page.as_html(reported())
