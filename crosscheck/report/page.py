"""The report as one page that needs nothing but itself: a row for each chapter, which opens to its cases."""

from html import escape
from itertools import groupby
from pathlib import Path

from crosscheck.report.comparison import LIMITS, within
from crosscheck.report.plot import CASE, CHAPTER, axis, grids, in_words, legend, row
from crosscheck.report.table import verdict

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
SEARCH = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
HEADINGS = {"gradient": "gradient", "xla": "XLA"}
SIGNS = {True: ("✓", "good", "agrees"), False: ("✗", "bad", "does not agree"), None: ("–", "soft", "not measured")}


def as_html(report):
    """The whole page."""
    mark, kind, _ = SIGNS[report["agree"]]
    chapters = [(key, list(results)) for key, results in by_chapter(report)]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{mark} Layers and references compared</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>Production layers compared with their NumPy references</h1>
<p class="verdict answer {kind}">{mark} {escape(report["summary"])}</p>
{problems(report)}
<p>Each layer and its reference, which always computes in float64, got the same weights and inputs. An error is the largest difference,
relative to the largest number of the reference. {also(report)} Open a row to see its cases. <small>{escape(versions(report))}</small></p>
{grids()}{legend()}
<input type="search" placeholder="Find a chapter or a case" aria-label="Find a chapter or a case" hidden>
{axis()}
{"".join(chapter(key, results, measured(report)) for key, results in chapters)}
{axis(is_foot=True)}
</main>
<script>{SEARCH}</script>
</body>
</html>
"""


def by_chapter(report):
    return groupby(report["results"], key=lambda result: (result["chapter"], result["paper"], result["link"]))


def measured(report):
    """What of `LIMITS` was measured of any case."""
    return [what for what in LIMITS if any(what in result["errors"] | result["raised"] for result in report["results"])]


def also(report):
    text = "The gradient is compared with the slope of the reference in float64."
    return text + (" What XLA compiles is compared with what runs step by step." if "xla" in measured(report) else "")


def versions(report):
    numbers = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    seconds = f"; {report['seconds']:.0f} s" if "seconds" in report else ""
    return f"{numbers}; seed {report['seed']}{seconds}."


def problems(report):
    """A list of what stopped and what was not measured."""
    lines = []
    for result in report["results"]:
        for error in dict.fromkeys(result["raised"].values()):
            lines.append(f'<li class="bad">{escape(result["case"])} raised {escape(error)}</li>')
        if result["verdict"] == "not measured":
            why = next(iter(result["skipped"].values()), "")
            lines.append(f'<li class="soft">{escape(result["case"])} was not measured: {escape(why)}</li>')
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def chapter(key, results, columns):
    """A row with the largest error of each dtype, which opens to a row for each case and to all numbers."""
    title, paper, link = key
    agrees = verdict(results)
    sign, kind, words = SIGNS[agrees]
    worst = {
        what: max(result["errors"][what] for result in results if what in result["errors"])
        for what in LIMITS
        if any(what in result["errors"] for result in results)
    }
    state = "raised" if any(result["raised"] for result in results) and not worst else "" if worst else "not measured"
    source = f'<a href="{escape(link)}">{escape(paper)}</a>' if link else escape(paper)
    name = escape(results[0]["case"].split("/")[0])
    return f"""<details class="chapter" data-name="{name} {escape(title)}"{"" if agrees is not False else " open"}>
<summary class="row"><span class="name">{escape(title)}</span>{row(title, worst, state, CHAPTER)}
<span class="count">{len(results)}</span><span class="mark {kind}" role="img" aria-label="{words}">{sign}</span></summary>
<div class="cases"><p>{source} · <code>python -m crosscheck {name} --cases</code></p>
{"".join(case(result) for result in results)}
{table(results, columns)}</div>
</details>
"""


def case(result):
    name, state = escape(variant(result)), result["verdict"]
    sign, kind, words = SIGNS[{"agrees": True, "not measured": None}.get(state, False)]
    return f"""<div class="row case" data-name="{name}"><span class="name">{name}</span>{row(variant(result), result["errors"], state, CASE)}
<span class="count"></span><span class="mark {kind}" role="img" aria-label="{words}">{sign}</span></div>
"""


def table(results, columns):
    head = "".join(f'<th scope="col">{HEADINGS.get(what, what)}<br><small>{LIMITS[what]:.0e}</small></th>' for what in columns)
    rows = [
        f'<tr data-name="{escape(variant(result))}"><th scope="row">{escape(variant(result))}</th>'
        + "".join(f"<td>{cell(result, what)}</td>" for what in columns)
        + f"<td>{result['seconds']:.1f}</td></tr>\n"
        for result in results
    ]
    return f"""<div class="scroll" role="region" aria-label="All numbers" tabindex="0"><table>
<thead><tr><th scope="col">case<br><small>limit</small></th>{head}<th scope="col">seconds</th></tr></thead>
<tbody>{"".join(rows)}</tbody>
</table></div>"""


def variant(result):
    return result["case"].split("/", 1)[-1]


def cell(result, what):
    if what in result["raised"]:
        return '<span class="bad">✗ raised</span>'
    if what not in result["errors"]:
        return f'<span class="soft" title="{escape(result["skipped"].get(what, "not measured"))}">–</span>'
    error = result["errors"][what]
    return in_words(error) if within(what, error) else f'<span class="bad">✗ {in_words(error)}</span>'
