"""A bar while work is going on: how much is done, what runs now, and how long it may still take."""

from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SHOWN = 2
"""Running tasks that are named; of more, how many there are."""


@contextmanager
def progress(total, console=None):
    """Gives (watch, advance): `watch(running)` takes [(name, seconds)] of what runs now, `advance()` counts one as done.

    The bar is shown where somebody watches: on `console`, to which lines are printed above it, or on stderr if that is a
    file. It leaves nothing behind.
    """
    if console is None or not console.is_terminal:
        console = Console(stderr=True)
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True), TextColumn("{task.description}")
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal, expand=False) as bar:
        task = bar.add_task("starting", total=total)
        yield lambda running: bar.update(task, description=described(running)), lambda: bar.advance(task)


def described(running):
    """ "attention/cross, bert/plain (12 s)": a time stands behind what takes long."""
    names = [name if seconds < 5 else f"{name} ({seconds:.0f} s)" for name, seconds in running]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def with_progress(tasks, measure):
    """[measure(task) for each task], with the bar."""
    results = []
    with progress(len(tasks)) as (watch, advance):
        for task in tasks:
            watch([(task.name, 0.0)])
            results.append(measure(task))
            advance()
    return results
