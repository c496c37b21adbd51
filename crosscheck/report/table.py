"""The report in the terminal: a line for each chapter as soon as it is measured, details where something is wrong."""

from rich.text import Text

from crosscheck.report.comparison import LIMITS, within

LEGEND = """\
Largest error of a chapter's cases, relative to the reference: outputs by dtype,
the float64 gradient against the reference's slope{xla}."""
XLA = ", XLA against step by step"
HEADINGS = {"xla": "XLA"}
NAMES, CASES = 23, 4
WIDTHS = {what: max(8, len(what) + 1) for what in LIMITS}
"""Of the columns; the whole is 80 wide."""

MARKS = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("–", "dim")}


class Table:
    """Prints to `console`: first the heading, then a line for each chapter, with its cases if `show_cases`."""

    def __init__(self, console, measured, show_cases=False):
        self.console, self.measured, self.show_cases = console, measured, show_cases

    def print(self, *lines):
        for line in lines:
            self.console.print(line, soft_wrap=True)

    def heading(self):
        heads = "".join(f"{HEADINGS.get(what, what):>{WIDTHS[what]}}" for what in self.measured)
        limits = "".join(f"{LIMITS[what]:>{WIDTHS[what]}.0e}" for what in self.measured)
        legend = LEGEND.format(xla=XLA if "xla" in self.measured else "")
        heading = Text(f"{'cases':>{NAMES + CASES}}{heads}", style="bold")
        self.print(Text(legend, style="dim"), Text(), heading, Text(f"{'limit':{NAMES + CASES}}{limits}"))

    def chapter(self, results):
        """The line of a chapter; those of its cases if they are asked for, or are not as they should be."""
        name = results[0]["case"].split("/")[0]
        worst = {what: [r["errors"][what] for r in results if what in r["errors"]] for what in self.measured}
        cells = [cell(what, max(errors, default=None), is_raised(results, what)) for what, errors in worst.items()]
        self.print(Text.assemble(f"{name:{NAMES}}{len(results):>{CASES}}", *cells, " ", MARKS[verdict(results)]))
        self.print(
            *(self.case(result) for result in results if self.show_cases or result["verdict"] not in ("agrees", "not measured"))
        )
        self.print(*(Text(line, style="red") for result in results for line in complaints(result)))

    def case(self, result):
        name = f"  {result['case'].split('/', 1)[-1]}"
        cells = [cell(what, result["errors"].get(what), what in result["raised"]) for what in self.measured]
        space = NAMES + CASES
        return Text.assemble(f"{name:{space}}" if len(name) <= space else f"{name}\n{'':{space}}", *cells, style="dim")

    def closing(self, report):
        """What was not measured, and the last line: the answer."""
        for result in report["results"]:
            if result["verdict"] == "not measured":
                self.print(Text(f"– {result['case']} was not measured{reason(result)}", style="dim"))
        mark, style = ("✓", "bold green") if report["agree"] else ("✗", "bold red")
        self.print(Text(), Text(f"{mark} {report['summary']}{duration(report)}", style=style))


def cell(what, error, raised=False):
    """A number, (text, style), as wide as its column."""
    width = WIDTHS[what]
    if raised:
        return f"{'raised':>{width}}", "bold red"
    if error is None:
        return f"{'–':>{width}}", "dim"
    text = "exact" if error == 0 else f"{error:.1e}"
    return (f"{text:>{width}}", "") if within(what, error) else (f"{f'✗ {error:.0e}':>{width}}", "bold red")


def is_raised(results, what):
    return any(what in result["raised"] for result in results)


def verdict(results):
    """Whether all that was measured of a chapter agrees; None if nothing was."""
    verdicts = {result["verdict"] for result in results} - {"not measured"}
    return verdicts == {"agrees"} if verdicts else None


def complaints(result):
    """A line for each different exception of a case."""
    return [f"  ✗ {result['case']} raised {error}" for error in dict.fromkeys(result["raised"].values())]


def reason(result):
    return next((f": {why}" for why in result["skipped"].values()), "")


def duration(report):
    seconds = report.get("seconds")
    if seconds is None:
        return ""
    whole = round(seconds)
    return f", {whole // 60} min {whole % 60} s" if whole >= 60 else f", {whole} s"
