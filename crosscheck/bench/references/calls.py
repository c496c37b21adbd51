"""The references that are timed, line by line."""

from time import perf_counter

from crosscheck.bench.references import attention, blocks, heads_and_text
from crosscheck.bench.references.inputs import BatchSizes, Draw
from crosscheck.report.command import check_known

SIZES = BatchSizes()
SMALL = BatchSizes(b=2, t=24, m=12, h=4, d=6, f=9, n=17, r=8, features=7, memory=5, block=2, characters=300)
LIMIT = 2.0
"""Seconds that a reference may take: it is for reading, and whoever reads it wants to try it."""

CALLS = {
    name.removeprefix("of_").replace("__", "."): call
    for part in (attention, blocks, heads_and_text)
    for name, call in vars(part).items()
    if name.startswith("of_")
}
"""For each file of `reference/` that is timed: what takes a `Draw` and yields (variant, function without arguments)."""


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
