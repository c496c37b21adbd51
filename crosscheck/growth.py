"""`python -m crosscheck.growth`: how time and memory of the long-sequence mechanisms grow with the length."""

import argparse
from typing import NamedTuple

import numpy as np

from crosscheck.__main__ import Parser, WithoutStderr, as_program, prepare, refuse, writable, write
from crosscheck.growth_probe import PASSES, SECONDS
from crosscheck.long_sequences import HEADS, KEY_DIM, MECHANISMS
from crosscheck.names import check_known
from crosscheck.processes import in_process

SHORTEST, LONGEST = 1024, 8192
UNITS = {"ms": "time", "MB": "memory"}
LIMIT = 2.3
"""How many times as much a linear mechanism may take for the longest sequence as for one of half its length."""

DESCRIPTION = f"""\
Measure how time and memory of the long-sequence mechanisms grow from {SHORTEST} tokens on, doubling: one example, {HEADS} heads
of size {KEY_DIM}, float32, each measurement in a process of its own. Memory is the peak above what the process had before."""

EXAMPLES = f"""\
examples:
  python -m crosscheck.growth                          all mechanisms; some minutes
  python -m crosscheck.growth full bigbird             two of them
  python -m crosscheck.growth bigbird --longest 32768  further
  python -m crosscheck.growth --html build/growth.html a page with table and picture

mechanisms:
  {", ".join(MECHANISMS)}

exit status:
  0  every mechanism that should be linear takes at most {LIMIT} times as much when the longest length is reached by doubling
  1  one takes more, or a measurement of it stopped with an error
  2  a name or an option is not known, or a file cannot be written"""


class Probe(NamedTuple):
    """One thing to measure."""

    mechanism: str
    what: str
    length: int

    @property
    def name(self):
        return f"{self.mechanism} {self.what} {self.length}"


def parse(argv):
    parser = Parser("crosscheck.growth", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mechanism (default: all)")
    parser.add_argument("--longest", type=doubled, default=LONGEST, metavar="T", help=f"last length (default: {LONGEST})")
    parser.add_backend()
    parser.add_argument("--plot", type=writable, metavar="FILE", help="the picture (default: build/growth.png)")
    parser.add_argument("--html", type=writable, metavar="FILE", help="write table and picture as a page")
    options = parser.parse(argv)
    options.plot = options.plot or writable("build/growth.png")
    return options


def doubled(text):
    """A length that doubling reaches."""
    length = int(text) if text.isdecimal() else 0
    if length < 2 * SHORTEST or length.bit_count() != 1:
        raise argparse.ArgumentTypeError(f"expected {2 * SHORTEST}, {4 * SHORTEST}, {8 * SHORTEST}, … Received: {text}")
    return length


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
    return in_process("crosscheck.growth_probe", probe.mechanism, probe.what, probe.length, seconds, TF_NUM_INTEROP_THREADS="1")


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


def main(argv=None):
    """Returns the exit status."""
    options = parse(argv)
    prepare(options.backend)
    try:
        names = find(options.names)
    except KeyError as error:
        return refuse(error.args[0])
    with WithoutStderr():
        from crosscheck import growth_report, table

    lengths = lengths_to(options.longest)
    probes = [Probe(name, what, length) for name in names for what in PASSES for length in lengths]
    results = dict(zip(probes, table.with_progress(probes, measure)))
    measure_again(results, lengths)
    found = complaints(results)
    growth_report.show(results, lengths, found, options.backend)
    growth_report.draw(results, lengths, options.plot)
    print(f"Written: {options.plot}")
    write(results, {lambda results: growth_report.as_html(results, lengths, found, options.backend): options.html})
    return 1 if found else 0


if __name__ == "__main__":
    as_program(main)
