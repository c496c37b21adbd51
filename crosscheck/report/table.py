"""The report in the terminal."""

from itertools import groupby

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from crosscheck.report.comparison import LIMITS, within

LEGEND = """\
Largest error relative to the reference, by dtype of the layer; its gradient
against the reference's slope; compiled by XLA against step by step."""
HEADINGS = {"xla": "XLA"}
COLUMN, WIDTH, SCREEN = 9, 80, 40  # of a number; of the whole; rows that one sees with their heading


def with_progress(cases, measure):
    """`measure(case)` for each case, with a bar while it works if anybody watches."""
    console = Console(stderr=True)
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
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
    console = console or Console()
    results = report["results"]
    measured = [what for what in LIMITS if any(what in result["errors"] | result["raised"] for result in results)]
    names = WIDTH - COLUMN * len(measured)
    heading = f"{'':{names}}" + "".join(f"{HEADINGS.get(what, what):>{COLUMN}}" for what in measured)
    limits = f"{'limit':{names}}" + "".join(f"{LIMITS[what]:>{COLUMN}.0e}" for what in measured)

    lines = [Text(LEGEND, style="dim"), Text(), Text(heading, style="bold"), Text(limits)]
    for (chapter, paper), group in groupby(results, key=lambda result: (result["case"].split("/")[0], result["paper"])):
        lines += [Text(), Text.assemble((chapter, "bold"), "  ", (paper, "dim"))]
        for result in group:
            name = f"  {result['case'].split('/', 1)[-1]}"
            if len(name) > names:
                lines.append(Text(name))
                name = ""
            lines.append(Text.assemble(f"{name:{names}}", *(cell(result, what) for what in measured)))
    if len(results) > SCREEN:
        lines += [Text(), Text(heading, style="bold"), Text(limits)]
    lines.append(Text())
    for result in results:
        if result["raised"]:
            lines.append(Text(f"✗ {result['case']} raised {next(iter(result['raised'].values()))}", style="red"))
        elif result["verdict"] == "not measured":
            lines.append(Text(f"– {result['case']} was not measured{reason(result)}", style="dim"))
    mark, style = ("✓", "bold green") if report["agree"] else ("✗", "bold red")
    lines.append(Text(f"{mark} {report['summary']}", style=style))
    for line in lines:
        console.print(line, soft_wrap=True)


def cell(result, what):
    """A number, (text, style), as wide as its column."""
    if what in result["raised"]:
        return f"{'✗ raised':>{COLUMN}}", "bold red"
    if what not in result["errors"]:
        return f"{'–':>{COLUMN}}", "dim"
    error = result["errors"][what]
    text = "exact" if error == 0 else f"{error:.1e}"
    return (f"{text:>{COLUMN}}", "") if within(what, error) else (f"{'✗' + text:>{COLUMN}}", "bold red")


def reason(result):
    return next((f": {why}" for why in result["skipped"].values()), "")
