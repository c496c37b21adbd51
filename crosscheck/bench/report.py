"""The measurements of time and memory, as plain data for JSON and as tables in the terminal."""

import json
from statistics import geometric_mean

from rich.console import Console
from rich.text import Text

from crosscheck.bench.growth.measurements import UNITS
from crosscheck.bench.growth.mechanisms import LENGTHS
from crosscheck.bench.growth.probe import PASSES
from crosscheck.bench.references.calls import LIMIT, SIZES, mark
from crosscheck.report import comparison

COLUMNS = ("graph", "XLA", "floor", "ratio", "MB")
"""For each pass: milliseconds as a graph, compiled by XLA, and of the floor; the ratio; megabytes above the use before."""

NAMES, COLUMN = 34, 8

LEGEND = """\
Milliseconds: the median of rounds in which layer and floor run in turn. The floor is the time of the
matrix products that cannot be avoided, alone. The ratio is the time of the layer's faster program divided
by that of the floor's; – if there is no product; below 1 if the layer computes the products faster.
gradient: forward and the gradient for the weights; without trainable weights, forward and the sum of squares.
MB: the peak above the use before, as a graph if there is one."""
GROWTH = f"Gradient pass of one long sequence, with {LENGTHS[0]:,} and {LENGTHS[1]:,} tokens: ms, then MB"
REFERENCES = f"References, b={SIZES.b}, t={SIZES.t}, m={SIZES.m}, float64, definitions left out: seconds, ✓ under {LIMIT:.0f}"


def report(mechanisms, growths, backend, budget, references=None):
    """The results, with backend, versions and budget.

    Args:
        mechanisms: {name: output of `crosscheck/bench/probe.py`, or {"error": …}}.
        growths: {probe: output of `crosscheck/bench/growth/probe.py`, or {"error": …}}.
        backend: The name of the backend.
        budget: Seconds of repetition.
        references: {file of `reference/`: {line: seconds}, or {"error": …}}.
    """
    stopped = {name: result["error"] for name, result in mechanisms.items() if "error" in result}
    stopped |= {probe.name: result["error"] for probe, result in growths.items() if "error" in result}
    references = references or {}
    stopped |= {f"reference/{name}": result["error"] for name, result in references.items() if "error" in result}
    results = {name: passes_of(result) for name, result in mechanisms.items() if "error" not in result}
    return {
        "backend": backend,
        "versions": comparison.versions(backend),
        "budget": budget,
        "mechanisms": results,
        "growth": {name: grown(name, growths) for name in dict.fromkeys(probe.mechanism for probe in growths)},
        "references": {
            line: seconds for result in references.values() if "error" not in result for line, seconds in result.items()
        },
        "stopped": stopped,
        "summary": summary(results, backend),
    }


def passes_of(result):
    """The passes of a mechanism, each with the ratio of its faster program to its faster floor; None without a floor."""
    return {
        what: measured
        | {"ratio": min(measured["layer"].values()) / min(measured["floor"].values()) if measured["floor"] else None}
        for what, measured in result.items()
    }


def grown(name, growths):
    """{unit: {length: value, …, "factor": …}} of a mechanism; None for a value that was not measured."""
    short, long = (growths[probe] for probe in growths if probe.mechanism == name)
    return {unit: with_factor(short.get(unit), long.get(unit)) for unit in UNITS}


def with_factor(short, long):
    return {LENGTHS[0]: short, LENGTHS[1]: long, "factor": long / short if short and long else None}


def ratios(results, what):
    return [result[what]["ratio"] for result in results.values() if result[what]["ratio"] is not None]


def summary(results, backend):
    """The last line."""
    means = [f"{what} {geometric_mean(values):.2f}" for what in PASSES if (values := ratios(results, what))]
    if not means:
        return f"no mechanism measured on {backend} has a floor"
    count = len(ratios(results, PASSES[0]))
    return f"{', '.join(means)} times the floor on {backend}: geometric mean of {count} mechanism{'s' * (count > 1)}"


def as_json(report):
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def cells(measured):
    """The text of each of `COLUMNS` for a pass."""
    floor = min(measured["floor"].values(), default=None)
    values = (measured["layer"].get("graph"), measured["layer"]["xla"], floor, measured["ratio"])
    return [*map(shown, values), shown(measured["MB"], digits=0)]


def shown(value, digits=None):
    """A number with three digits, or with `digits` after the point."""
    if value is None:
        return "–"
    if digits is None:
        digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def show(report, console=None):
    """The tables in the terminal."""
    console = console or Console()
    for line in lines(report):
        console.print(line, soft_wrap=True)


def lines(report):
    """The texts of `show`."""
    if report["mechanisms"]:
        wide = COLUMN * len(COLUMNS)
        yield from (Text(LEGEND, style="dim"), Text())
        yield Text(f"{'':{NAMES}}" + "".join(f"{what:>{wide}}" for what in PASSES), style="bold")
        yield row("", COLUMNS * len(PASSES), style="bold")
        for name, passes in report["mechanisms"].items():
            yield row(name, [cell for what in PASSES for cell in cells(passes[what])])
    if report["growth"]:
        yield from (Text(), Text(GROWTH, style="bold"))
        lengths = [f"{length:,}" for length in LENGTHS]
        yield row("", [*lengths, "factor"] * 2, style="bold")
        for name, values in report["growth"].items():
            yield row(name, grown_cells(values))
    if report["references"]:
        yield from (Text(), Text(REFERENCES, style="bold"))
        for name, seconds in report["references"].items():
            yield row(name, reference_cells(seconds))
    yield Text()
    for name, error in report["stopped"].items():
        yield Text(f"✗ {name} stopped: {error}", style="red")
    yield Text(report["summary"], style="bold")


def row(name, cells, style=""):
    return Text(f"{name:{NAMES}}" + "".join(f"{cell:>{COLUMN}}" for cell in cells), style=style)


def reference_cells(seconds):
    return [f"{seconds:.2f}", mark(seconds)]


def grown_cells(values):
    return [shown(value, 2 if what == "factor" else 0) for unit in UNITS for what, value in values[unit].items()]
