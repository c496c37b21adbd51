"""The report in the terminal."""

from itertools import groupby

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from crosscheck.compare import LIMITS, agrees, verdict

HEADINGS = {"gradient": "gradient", "xla": "XLA"}


def with_progress(cases, measure):
    """`measure(case)` for each case, with a bar while it works if anybody watches."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    results = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(cases))
        for case in cases:
            progress.update(task, description=case.name)
            results.append(measure(case))
            progress.advance(task)
    return results


def show(report, console=None):
    """A line for each case under the line of its chapter; what is out of tolerance is red and has a cross."""
    console = console or Console(width=None if Console().is_terminal else 100)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("largest relative error\nlimit", no_wrap=True)
    for what, limit in LIMITS.items():
        table.add_column(f"{HEADINGS.get(what, what)}\n{limit:.0e}", justify="right", no_wrap=True)
    for (chapter, paper), results in groupby(report["results"], key=lambda result: (result["chapter"], result["paper"])):
        table.add_row()
        table.add_row(Text(chapter, style="bold"))
        table.add_row(Text(paper, style="dim"))
        for result in results:
            table.add_row(f"  {result['case'].split('/')[-1]}", *(cell(result, what) for what in LIMITS))
    console.print(table)
    console.print()
    for result in report["results"]:
        if result["stopped"]:
            console.print(Text(f"{result['case']} stopped with {result['stopped']}", style="red"))
    console.print(Text(verdict(report), style="bold green" if report["agree"] else "bold red"))


def cell(result, what):
    error = result["errors"].get(what)
    if error is None:
        return Text("stopped", style="red") if result["stopped"] else Text("–", style="dim")
    if agrees(what, error):
        return "exact" if error == 0 else f"{error:.1e}"
    return Text(f"✗ {error:.1e}", style="bold red")
