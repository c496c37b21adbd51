"""Measurements of growth: how they are made, and whether a mechanism grows too fast."""

from typing import NamedTuple

import numpy as np

from crosscheck.bench.growth.mechanisms import MECHANISMS
from crosscheck.bench.growth.probe import SECONDS
from crosscheck.bench.processes import in_process
from crosscheck.report.command import check_known

SHORTEST, LONGEST = 1024, 8192
UNITS = {"ms": "time", "MB": "memory"}
LIMIT = 2.3
"""The largest factor by which a linear mechanism may grow from half the longest length to the longest."""


class Probe(NamedTuple):
    """One measurement: a mechanism, a pass and a length."""

    mechanism: str
    what: str
    length: int

    @property
    def name(self):
        return f"{self.mechanism} {self.what} {self.length}"


def find(names, mechanisms=MECHANISMS):
    """The `mechanisms` in `names`, in the order of `mechanisms`; all of them without names.

    Raises:
        KeyError: for an unknown name, with the nearest names.
    """
    check_known(names, mechanisms, "mechanism")
    return [name for name in mechanisms if not names or name in names]


def lengths_to(longest):
    """1024, 2048, … up to `longest`."""
    return [SHORTEST * 2**step for step in range((longest // SHORTEST).bit_length())]


def measure(probe, seconds=SECONDS):
    """{"ms": …, "MB": …}, measured in a new process; {"error": its last line} if it failed."""
    # One operation at a time: the peak would otherwise depend on which operations happen to run in parallel.
    return in_process(
        "crosscheck.bench.growth.probe", probe.mechanism, probe.what, probe.length, seconds, TF_NUM_INTEROP_THREADS="1"
    )


def exponent(lengths, values):
    """The slope of a line through the logarithms: 1 for linear, 2 for quadratic growth; None if a value is missing."""
    if None in values or min(values) <= 0:
        return None
    return float(np.polyfit(np.log(lengths), np.log(values), 1)[0])


def series(results, mechanism, what, unit):
    """One row of the table: the values by length, None for a missing one."""
    return [result.get(unit) for probe, result in results.items() if (probe.mechanism, probe.what) == (mechanism, what)]


def too_fast(results, limit=LIMIT):
    """(mechanism, pass, unit, value at half the longest length, value at the longest) of linear ones that grow too fast."""
    found = []
    for name, what in dict.fromkeys((probe.mechanism, probe.what) for probe in results if MECHANISMS[probe.mechanism].is_linear):
        for unit in UNITS:
            half, full = series(results, name, what, unit)[-2:]
            if half is not None and full is not None and full > limit * half:
                found.append((name, what, unit, half, full))
    return found


def measure_again(results, lengths):
    """Repeat the last two lengths of everything that grew too fast, and keep the smaller values, because load only adds time."""
    for name, what in dict.fromkeys(row[:2] for row in too_fast(results)):
        for length in lengths[-2:]:
            probe = Probe(name, what, length)
            again = measure(probe)
            results[probe] = {unit: min(value, again.get(unit, value)) for unit, value in results[probe].items()}


def complaints(results):
    """A line for each linear mechanism's measurement that stopped, and for each that grows too fast at the end."""
    errors = {probe: result["error"] for probe, result in results.items() if "error" in result}
    stopped = [f"{probe.name} stopped: {error}" for probe, error in errors.items() if MECHANISMS[probe.mechanism].is_linear]
    return stopped + [
        f"{name} {what}: {UNITS[unit]} grows from {half:,.0f} to {full:,.0f} {unit} with the last doubling"
        for name, what, unit, half, full in too_fast(results)
    ]
