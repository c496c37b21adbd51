"""The references that are timed, line by line."""

from time import perf_counter

from crosscheck.bench.references import attention, blocks, heads_and_text
from crosscheck.bench.references.inputs import BatchSizes, Draw
from crosscheck.report.command import check_known

SIZES = BatchSizes()
SMALL = BatchSizes(b=2, t=24, m=12, h=4, d=6, f=9, n=17, r=8, features=7, memory=5, block=2, characters=300)
LIMIT = 2.0
"""The seconds that a reference may take, so that readers can try it out."""

CALLS = {
    name.removeprefix("of_").replace("__", "."): call
    for part in (attention, blocks, heads_and_text)
    for name, call in vars(part).items()
    if name.startswith("of_")
}
"""For each timed file of `reference/`, a function of a `Draw` that yields (variant, function without arguments)."""


def lines(sizes=SMALL, modules=CALLS):
    """(name, function without arguments) of each line of the table. Inputs are drawn when a line is reached."""
    for module in modules:
        for variant, call in CALLS[module](Draw(sizes)):
            yield f"{module}/{variant}" if variant else module, call


def find(names):
    """The names of the lines in `names`, each a file of `reference/` or a single line; all lines without names.

    Raises:
        KeyError: for a name that is neither, with the nearest names.
    """
    known = [name for name, _ in lines()]
    check_known(names, list(dict.fromkeys([*CALLS, *known])), "reference", shown=CALLS)
    return [name for name in known if not names or name in names or name.split("/")[0] in names]


def measure(names=None, sizes=SIZES):
    """Yield (name, seconds) of each line in `names` as soon as it has run."""
    wanted = find(names or [])
    for name, call in lines(sizes, dict.fromkeys(name.split("/")[0] for name in wanted)):
        if name in wanted:
            start = perf_counter()
            call()
            yield name, perf_counter() - start


def mark(seconds):
    return "✓" if seconds < LIMIT else "✗"
