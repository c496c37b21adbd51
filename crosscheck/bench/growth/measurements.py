"""Measurements of growth: which there are, what came of them, and whether that is too much."""

from typing import NamedTuple

import numpy as np

from crosscheck.bench.growth.mechanisms import MECHANISMS
from crosscheck.bench.growth.probe import SECONDS
from crosscheck.bench.processes import in_process
from crosscheck.report.command import check_known

SHORTEST, LONGEST = 1024, 8192
UNITS = {"ms": "time", "MB": "memory"}
LIMIT = 2.3
"""How many times as much a linear mechanism may take for the longest sequence as for one of half its length."""


class Probe(NamedTuple):
    """One thing to measure."""

    mechanism: str
    what: str
    length: int

    @property
    def name(self):
        return f"{self.mechanism} {self.what} {self.length}"


def find(names, mechanisms=MECHANISMS):
    """Those of the `mechanisms` that `names` ask for, in their order; all of them for no names.

    Raises:
        KeyError: for a name that is none, with the nearest names.
    """
    check_known(names, mechanisms, "mechanism")
    return [name for name in mechanisms if not names or name in names]


def lengths_to(longest):
    """1024, 2048, … up to `longest`."""
    return [SHORTEST * 2**step for step in range((longest // SHORTEST).bit_length())]


def measure(probe, seconds=SECONDS):
    """{"ms": …, "MB": …} of a fresh process; {"error": its last line} if it stopped."""
    # One operation after the other: what runs beside what would change the peak from one time to the next.
    return in_process(
        "crosscheck.bench.growth.probe", probe.mechanism, probe.what, probe.length, seconds, TF_NUM_INTEROP_THREADS="1"
    )


def exponent(lengths, values):
    """The slope of a straight line through the logarithms: 1 is linear, 2 is quadratic; None if a value is missing."""
    if None in values or min(values) <= 0:
        return None
    return float(np.polyfit(np.log(lengths), np.log(values), 1)[0])


def series(results, mechanism, what, unit):
    """One row of the table: the measured values by length, None for one that is missing."""
    return [result.get(unit) for probe, result in results.items() if (probe.mechanism, probe.what) == (mechanism, what)]


def too_fast(results, limit=LIMIT):
    """(mechanism, pass, unit, value of half the longest length, value of the longest) of each linear one that grows too fast."""
    found = []
    for name, what in dict.fromkeys((probe.mechanism, probe.what) for probe in results if MECHANISMS[probe.mechanism].is_linear):
        for unit in UNITS:
            half, full = series(results, name, what, unit)[-2:]
            if half is not None and full is not None and full > limit * half:
                found.append((name, what, unit, half, full))
    return found


def measure_again(results, lengths):
    """Once more what grew too fast, the last two lengths, keeping the less of both: a busy machine only ever adds."""
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
