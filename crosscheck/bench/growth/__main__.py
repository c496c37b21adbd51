"""`python -m crosscheck.bench.growth`: growth of time and memory of the long-sequence mechanisms with the length."""

import argparse

from crosscheck.bench.growth import measurements
from crosscheck.bench.growth.measurements import (
    LIMIT,
    LONGEST,
    SHORTEST,
    Probe,
    complaints,
    find,
    lengths_to,
    measure_again,
)
from crosscheck.bench.growth.mechanisms import HEADS, KEY_DIM, MECHANISMS
from crosscheck.bench.growth.probe import PASSES
from crosscheck.report.command import Parser, WithoutStderr, as_program, prepare, refuse, writable, write

DESCRIPTION = f"""\
Measure how time and memory of the long-sequence mechanisms grow as the length doubles from {SHORTEST} tokens on: one example,
{HEADS} heads of size {KEY_DIM}, float32, each measurement in a separate process. Memory is the peak above the use before."""

EXAMPLES = f"""\
examples:
  python -m crosscheck.bench.growth                          all mechanisms; takes some minutes
  python -m crosscheck.bench.growth full bigbird             two mechanisms
  python -m crosscheck.bench.growth bigbird --longest 32768  one mechanism, up to a greater length
  python -m crosscheck.bench.growth --html build/growth.html also write a page with table and plot

mechanisms:
  {", ".join(MECHANISMS)}

exit status:
  0  for every mechanism that should be linear, the last doubling of the length takes at most {LIMIT} times as much
  1  one of these takes more, or a measurement of it stopped with an error
  2  a name or an option is not known, or a file cannot be written"""


def parse(argv):
    parser = Parser("crosscheck.bench.growth", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mechanism (default: all)")
    parser.add_argument("--longest", type=doubled, default=LONGEST, metavar="T", help=f"longest length (default: {LONGEST})")
    parser.add_backend()
    parser.add_argument("--plot", type=writable, metavar="FILE", help="write the plot (default: build/growth.png)")
    parser.add_argument("--html", type=writable, metavar="FILE", help="write table and plot as an HTML page")
    options = parser.parse(argv)
    options.plot = options.plot or writable("build/growth.png")
    return options


def doubled(text):
    """A length that is reached by doubling."""
    length = int(text) if text.isdecimal() else 0
    if length < 2 * SHORTEST or length.bit_count() != 1:
        raise argparse.ArgumentTypeError(f"expected {2 * SHORTEST}, {4 * SHORTEST}, {8 * SHORTEST}, … Received: {text}")
    return length


def main(argv=None):
    """Run the command. Returns the exit status."""
    options = parse(argv)
    prepare(options.backend)
    try:
        names = find(options.names)
    except KeyError as error:
        return refuse(error.args[0])
    with WithoutStderr():
        from crosscheck.bench.growth import report
        from crosscheck.report import progress

    lengths = lengths_to(options.longest)
    probes = [Probe(name, what, length) for name in names for what in PASSES for length in lengths]
    results = dict(zip(probes, progress.with_progress(probes, measurements.measure)))
    measure_again(results, lengths)
    found = complaints(results)
    report.show(results, lengths, found, options.backend)
    report.draw(results, lengths, options.plot)
    print(f"Written: {options.plot}")
    write(results, {lambda results: report.as_html(results, lengths, found, options.backend): options.html})
    return 1 if found else 0


if __name__ == "__main__":
    as_program(main)
