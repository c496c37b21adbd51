"""The report as one page that needs nothing but itself: the verdict, and a row for each chapter on one axis."""

from collections import Counter
from html import escape
from itertools import groupby
from pathlib import Path

from crosscheck.report.comparison import LIMITS, VERDICTS
from crosscheck.report.page import axis, rows
from crosscheck.report.table import duration

HERE = Path(__file__).parent
STYLE = (HERE / "page.css").read_text(encoding="utf-8")
"""What all pages share."""

NAMED = 8
"""Cases that are named before the first row; of more, how many there are."""

READING = """\
A mark is the largest difference between a layer and its reference in any case of a chapter, relative to the largest number of
the reference. A mark left of the line of its color is below its limit; one beyond it has a red ring. Open a row to see its
cases."""

METHOD = """\
Each layer and its reference get the same weights and inputs, and the reference always computes in float64. The gradient is
compared with the slope of the reference, and what XLA compiles with what runs step by step, both in float64."""


def as_html(report):
    """The whole page."""
    sign = "✓" if report["agree"] else "✗"
    columns = measured(report)
    groups = groupby(report["results"], key=lambda result: result["case"].split("/")[0])
    chapters = "".join(rows.chapter(list(results), columns, options_of(report, columns)) for _, results in groups)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{sign} Layers and references compared</title>
<style>
{STYLE}{(HERE / "comparison.css").read_text(encoding="utf-8")}</style>
</head>
<body>
{axis.definitions()}
<main>
{answer(report)}
<p class="explanation">{READING}</p>
{FILTER}
<div class="chart" style="--numbers: {len(columns)}">
{head(columns)}
{chapters}<div class="foot">{axis.scale(numbers=36, limits=12, height=42)}</div>
</div>
<p class="explanation">{METHOD}</p>
</main>
<script>
{(HERE / "filter.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""


FILTER = """\
<form role="search" hidden>
<label for="filter">Filter</label> <input id="filter" type="search" placeholder="chapter or case" autocomplete="off">
<button type="button">Open all</button> <output for="filter"></output>
</form>"""


def measured(report):
    """What the report says anything of, in the order of `LIMITS`; all of them if it says nothing of any."""
    said = {what for result in report["results"] for part in ("errors", "raised", "skipped") for what in result[part]}
    return [what for what in LIMITS if what in said] or list(LIMITS)


def options_of(report, columns):
    """What to add to the command so that it measures the same again."""
    xla = " --xla" if "xla" in columns else ""
    seed = f" --seed {report['seed']}" if report["seed"] else ""
    return f" --backend {report['backend']}{xla}{seed}"


def answer(report):
    """The heading, the verdict, what does not agree, and what it was measured on."""
    sign, style = ("✓", "good") if report["agree"] else ("✗", "bad")
    first, *others = report["summary"].split("; ")
    counts = Counter(result["verdict"] for result in report["results"])
    details = [f"{counts[verdict]} {verdict}" for verdict in VERDICTS[1:] if counts[verdict]]
    details += [part for part in others if part.split(":")[0] not in VERDICTS]
    beside = f'<p class="beside">{escape(" · ".join(details))}</p>' if details else ""
    return f"""<header>
<h1>Production layers compared with their NumPy references</h1>
<p class="verdict {style}">{sign} {escape(first)}</p>
{beside}
{problems(report)}
<p class="soft">{escape(" · ".join(conditions(report)))}</p>
</header>"""


def problems(report):
    """The cases that do not agree, each with a link to its row."""
    wrong = [result for result in report["results"] if rows.is_wrong(result)]
    lines = [
        f'<li><a href="#{escape(rows.place_of(result))}">{escape(result["case"])}</a> {escape(rows.why(result))}</li>\n'
        for result in wrong[:NAMED]
    ]
    if len(wrong) > NAMED:
        lines.append(f"<li>and {len(wrong) - NAMED} more, in the rows below</li>\n")
    return f'<ul class="problems">\n{"".join(lines)}</ul>' if lines else ""


def conditions(report):
    """What the results were measured on, and what that took."""
    yield ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    yield f"seed {report['seed']}"
    if took := duration(report).lstrip(", "):
        yield took
    peaks = [process["peak_mb"] for process in report.get("processes", ()) if process.get("peak_mb")]
    if peaks:
        processes = "1 process" if len(peaks) == 1 else f"{len(peaks)} processes"
        yield f"{processes}, at most {max(peaks):,} MB each"


def head(columns):
    """The axis, and the names of the columns of numbers with their limits, which are the legend of the marks too."""
    return f"""<div class="head">
<div class="legend"><span class="title"><b>chapter</b> <b>cases</b></span>
{"".join(map(heading, columns))}<span class="seconds"><b>seconds</b></span></div>
<div class="axis"><span>largest relative error</span>{axis.scale(numbers=14, limits=32, height=40)}</div>
</div>"""


def heading(what):
    sign = f'<svg viewBox="-7 -7 14 14" aria-hidden="true"><use href="#{what}"/></svg>' if what in axis.MARKS else ""
    name = rows.HEADINGS.get(what, what)
    return f'<span class="{what}">{sign} <b>{name}</b> <small>&lt; {LIMITS[what]:.0e}</small></span>\n'
