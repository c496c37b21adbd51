"""`python -m crosscheck.bench.references`: the time of each NumPy reference for a batch of sequences of usual length."""

from crosscheck.bench.references.calls import LIMIT, SIZES, find, mark, measure
from crosscheck.report.command import Parser, as_program, refuse

DESCRIPTION = f"""\
Time every reference that works on a whole batch, once: {SIZES.b} sequences of {SIZES.t} tokens of {SIZES.m} numbers, float64.
Definitions, which work query by query or pair by pair, are meant for small sizes and are left out."""

EXAMPLES = f"""\
examples:
  python -m crosscheck.bench.references                        everything; some seconds
  python -m crosscheck.bench.references attention bert         two files of reference/
  python -m crosscheck.bench.references kernel_attention/exp   one line

exit status:
  0  each takes less than {LIMIT:.0f} s
  1  one takes longer
  2  a name or an option is not known"""


def main(argv=None):
    """Run the command. Returns the exit status."""
    parser = Parser("crosscheck.bench.references", description=DESCRIPTION, epilog=EXAMPLES)
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
