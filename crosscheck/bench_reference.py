"""`python -m crosscheck.bench_reference`: how long each NumPy reference takes for a batch of sequences of usual length."""

import argparse
from time import perf_counter

from crosscheck import reference_calls, reference_calls_around, reference_calls_of_blocks
from crosscheck.__main__ import Parser, as_program, refuse
from crosscheck.names import check_known
from crosscheck.reference_draws import BatchSizes, Draw

SIZES = BatchSizes()
SMALL = BatchSizes(b=2, t=24, m=12, h=4, d=6, f=9, n=17, r=8, features=7, memory=5, block=2, characters=300)
LIMIT = 2.0
"""Seconds that a reference may take: it is for reading, and whoever reads it wants to try it."""

CALLS = {
    name.removeprefix("of_"): call
    for part in (reference_calls, reference_calls_of_blocks, reference_calls_around)
    for name, call in vars(part).items()
    if name.startswith("of_")
}
"""For each file of `reference/` that is timed: what takes a `Draw` and yields (variant, function without arguments)."""

DESCRIPTION = f"""\
Time every reference that works on a whole batch, once: {SIZES.b} sequences of {SIZES.t} tokens of {SIZES.m} numbers, float64.
Definitions, which go query by query or pair by pair, are for small sizes and left out."""

EXAMPLES = f"""\
examples:
  python -m crosscheck.bench_reference                        everything; some seconds
  python -m crosscheck.bench_reference attention bert         two files of reference/
  python -m crosscheck.bench_reference kernel_attention/exp   one line

exit status:
  0  each takes less than {LIMIT:.0f} s
  1  one takes longer
  2  a name or an option is not known"""


def lines(sizes=SMALL, modules=CALLS):
    """(name, function without arguments) of each line of the table, drawn as it comes up."""
    for module in modules:
        for variant, call in CALLS[module](Draw(sizes)):
            yield f"{module}/{variant}" if variant else module, call


def find(names):
    """The names of the lines that `names` ask for, each a file of `reference/` or a line; all of them for no names.

    Raises:
        KeyError: for a name that is neither, with the nearest names.
    """
    known = [name for name, _ in lines()]
    check_known(names, list(dict.fromkeys([*CALLS, *known])), "reference", shown=CALLS)
    return [name for name in known if not names or name in names or name.split("/")[0] in names]


def measure(names=None, sizes=SIZES):
    """(name, seconds) of each line that `names` ask for, as soon as it has run; a caller may show them as they come."""
    wanted = find(names or [])
    for name, call in lines(sizes, dict.fromkeys(name.split("/")[0] for name in wanted)):
        if name in wanted:
            start = perf_counter()
            call()
            yield name, perf_counter() - start


def mark(seconds):
    return "✓" if seconds < LIMIT else "✗"


def main(argv=None):
    """Returns the exit status."""
    parser = Parser(
        "crosscheck.bench_reference",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="file of reference/, or file/line (default: all)")
    options = parser.parse_args(argv)
    try:
        names = find(options.names)
    except KeyError as error:
        return refuse(error.args[0])
    slow = []
    for name, seconds in measure(names):
        print(f"{name:40} {seconds:6.2f} s  {mark(seconds)}", flush=True)
        slow += [] if seconds < LIMIT else [name]
    print(f"{'✗' if slow else '✓'} {len(names) - len(slow)} of {len(names)} take less than {LIMIT:.0f} s")
    return 1 if slow else 0


if __name__ == "__main__":
    as_program(main)
