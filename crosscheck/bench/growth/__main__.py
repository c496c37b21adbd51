"""`python -m crosscheck.bench.growth`: how time and memory of the long-sequence mechanisms grow with the length."""

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
Measure how time and memory of the long-sequence mechanisms grow from {SHORTEST} tokens on, doubling: one example, {HEADS} heads
of size {KEY_DIM}, float32, each measurement in a process of its own. Memory is the peak above what the process had before."""

EXAMPLES = f"""\
examples:
  python -m crosscheck.bench.growth                          all mechanisms; some minutes
  python -m crosscheck.bench.growth full bigbird             two of them
  python -m crosscheck.bench.growth bigbird --longest 32768  further
  python -m crosscheck.bench.growth --html build/growth.html a page with table and picture

mechanisms:
  {", ".join(MECHANISMS)}

exit status:
  0  every mechanism that should be linear takes at most {LIMIT} times as much when the longest length is reached by doubling
  1  one takes more, or a measurement of it stopped with an error
  2  a name or an option is not known, or a file cannot be written"""


def parse(argv):
    parser = Parser(
        "crosscheck.bench.growth", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter
    )
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


def main(argv=None):
    """Returns the exit status."""
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
