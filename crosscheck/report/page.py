"""The report as one page that needs nothing but itself."""

import math
from html import escape
from itertools import groupby

from crosscheck.case import TOLERANCE
from crosscheck.report.comparison import LIMITS, within

STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1b1b1b; --soft: #626262; --line: #e2e2e2; --zone: #f4f4f4; --good: #00692f; --bad: #b00020;
  --float64: #0072b2; --float32: #a86200; --bfloat16: #00755a; --float16: #a0487c; }
@media (prefers-color-scheme: dark) { :root { --back: #16181c; --ink: #e8e8e8; --soft: #a4a4a4; --line: #33363c; --zone: #1e2127; --good: #6fd39a;
  --bad: #ff8a80; --float64: #6cb8ea; --float32: #f0b64a; --bfloat16: #4cc9a0; --float16: #e39cc4; } }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--back); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3, tbody th[colspan] { font-size: 1rem; font-weight: 600; } h3 { margin: 1rem 0 .2rem; } small { font-size: .85rem; font-weight: 400; }
small, .soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); } .verdict, td .bad { font-weight: 600; } a { color: inherit; }
.legend { margin: 0; padding: .4rem 0; background: var(--back); font-size: .85rem; line-height: 1.4;
  display: flex; flex-wrap: wrap; gap: .1rem 1rem; border-bottom: 1px solid var(--line); }
@media (min-width: 40rem) { .legend { position: sticky; top: 0; z-index: 2; } }
.legend svg { width: 14px; height: 14px; vertical-align: -2px; }
.plot { display: grid; grid-template-columns: clamp(7.5rem, 26%, 13rem) minmax(0, 1fr); font-size: 12px; line-height: 20px; }
.plot ul { list-style: none; margin: 0; padding: 20px 0 0; } .plot li { height: 20px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; padding-right: 6px; }
.plot svg { width: 100%; display: block; overflow: visible; } .plot text { font: 11px system-ui, sans-serif; fill: var(--soft); } .plot .exact { fill: var(--zone); }
.plot line { stroke: var(--line); } .plot .ring { fill: none; stroke: var(--bad); stroke-width: 2; } .plot text.bad { fill: var(--bad); }
.float64 { --mark: var(--float64); } .float32 { --mark: var(--float32); } .bfloat16 { --mark: var(--bfloat16); } .float16 { --mark: var(--float16); }
use, .legend svg { fill: var(--mark); } .plot .limit { stroke: var(--mark); stroke-width: 1.5; opacity: .8; } use.limit { fill: var(--back); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; font-size: .9rem; }
th, td { padding: .15rem .6rem; text-align: right; white-space: nowrap; font-weight: 400; } thead th { font-weight: 600; border-bottom: 2px solid var(--line); vertical-align: bottom; }
th:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--back); } tbody th[scope=row] { padding-left: .8rem; }
@media (max-width: 40rem) { th, td { padding: .15rem .35rem; } }
tbody tr { border-top: 1px solid var(--line); } tbody th[colspan] { padding-top: .9rem; white-space: normal; }
"""

# Around their own middle; `use` brings them where they belong.
MARKS = {
    "float64": '<circle r="4"/>',
    "float32": '<rect x="-3.5" y="-3.5" width="7" height="7"/>',
    "bfloat16": '<path d="M0-4.5L4.6 3.5H-4.6z"/>',
    "float16": '<path d="M0-5L5 0 0 5-5 0z"/>',
}
HEADINGS = {"gradient": "gradient", "xla": "XLA"}
LEAST, MOST = -18, 0  # powers of ten at the ends of the axis
LEFT, RIGHT = 17, 98  # where they are, in percent of the plot's width; left of them is what is exact
ROW = 20  # height of a row in pixels, the same as the names' in STYLE


def as_html(report):
    """The whole page."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    mark, kind = ("✓", "good") if report["agree"] else ("✗", "bad")
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
<p class="verdict {kind}">{mark} {escape(report["summary"])}</p>
{problems(report)}
<p>Each layer and its reference, which always computes in float64, got the same weights and inputs. An error is the largest difference relative to the largest
number of the reference. The gradient is compared with the reference's slope, and what XLA compiles with what runs step by step, both in float64.
<small>{escape(versions)}; seed {report["seed"]}.</small></p>
<h2>Outputs by dtype</h2>
{legend()}
{"".join(plot(chapter, list(results)) for (chapter, *_), results in by_chapter(report))}
<h2>All numbers</h2>
{table(report)}
</main>
</body>
</html>
"""


def by_chapter(report):
    return groupby(report["results"], key=lambda result: (result["chapter"], result["paper"], result["link"]))


def problems(report):
    """A list of what stopped and what was not measured."""
    lines = []
    for result in report["results"]:
        if result["raised"]:
            lines.append(f'<li class="bad">{escape(result["case"])} raised {escape(next(iter(result["raised"].values())))}</li>')
        elif result["verdict"] == "not measured":
            why = next(iter(result["skipped"].values()), "")
            lines.append(f'<li class="soft">{escape(result["case"])} was not measured: {escape(why)}</li>')
    return f"<ul>{''.join(lines)}</ul>" if lines else ""


def table(report):
    head = "".join(
        f'<th scope="col">{HEADINGS.get(what, what)}<br><small>{limit:.0e}</small></th>' for what, limit in LIMITS.items()
    )
    bodies = []
    for (chapter, paper, link), results in by_chapter(report):
        source = f'<a href="{escape(link)}">{escape(paper)}</a>' if link else escape(paper)
        rows = [f'<tr><th scope="rowgroup" colspan="{len(LIMITS) + 1}">{escape(chapter)} <small>{source}</small></th></tr>']
        for result in results:
            cells = "".join(f"<td>{cell(result, what)}</td>" for what in LIMITS)
            rows.append(f'<tr><th scope="row">{escape(variant(result))}</th>{cells}</tr>')
        bodies.append(f"<tbody>{''.join(rows)}</tbody>")
    return f"""<div class="scroll" role="region" aria-label="All numbers" tabindex="0"><table>
<thead><tr><th scope="col">case<br><small>limit</small></th>{head}</tr></thead>
{"".join(bodies)}
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


def in_words(error):
    return "exact" if error == 0 else f"{error:.1e}"


def legend():
    """Which mark is which dtype; the marks are defined here and used in every plot."""
    entries = [
        f'<span><svg class="{dtype}" viewBox="-7 -7 14 14" aria-hidden="true"><g id="{dtype}">{shape}</g></svg> {dtype} '
        f'<span class="soft">below {TOLERANCE[dtype]:.0e}</span></span>'
        for dtype, shape in MARKS.items()
    ]
    return f'<p class="legend">{"".join(entries)}<span class="soft">dashed: the limit of the mark below it; red ring: beyond its limit</span></p>'


def plot(chapter, results):
    """One row for each case of a chapter: its errors on a log axis, and in a zone of its own what is exact."""
    bottom, middles = ROW * (len(results) + 1), [ROW * (row + 1.5) for row in range(len(results))]
    parts = [f'<rect class="exact" width="{LEFT - 2}%" y="{ROW}" height="{bottom - ROW}"/>', tick((LEFT - 2) / 2, "exact")]
    for power in range(-16, MOST + 1, 4):
        x = place(10.0**power)
        parts += [tick(x, f"1e{power}" if power else "1"), line(x, x, ROW, bottom)]
    parts += [line(0, 100, y, y) for y in middles]
    for dtype, limit in TOLERANCE.items():
        x = place(limit)
        parts.append(line(x, x, ROW, bottom, f'class="limit {dtype}" stroke-dasharray="4 3"'))
        parts.append(f'<use class="limit {dtype}" href="#{dtype}" x="{x:.2f}%" y="{bottom + ROW / 2}"/>')
    for result, y in zip(results, middles):
        parts += marks(result, y)
    title = f"{chapter}: largest relative error of each case in each dtype, on a log scale, and the limit of each dtype"
    names = "".join(f'<li title="{escape(variant(result))}">{escape(variant(result))}</li>' for result in results)
    return f"""<section><h3>{escape(chapter)}</h3>
<div class="plot"><ul>{names}</ul><svg height="{bottom + ROW}" role="img"><title>{escape(title)}</title>
{"".join(parts)}</svg></div></section>
"""


def marks(result, y):
    if result["verdict"] in ("raised", "not measured"):
        kind = "bad" if result["raised"] else "soft"
        yield f'<text class="{kind}" x="{LEFT}%" y="{y + 4}">{result["verdict"]}</text>'
    exact = 0
    for dtype in [dtype for dtype in MARKS if dtype in result["errors"]]:
        error = result["errors"][dtype]
        x = 2.2 + 3.5 * exact if error == 0 else place(error)  # exact ones stand beside each other
        exact += error == 0
        if not within(dtype, error):
            yield f'<circle class="ring" cx="{x:.2f}%" cy="{y}" r="8"/>'
        if not math.isfinite(error):
            yield f'<text class="bad" x="{x - 2:.2f}%" dx="-8" y="{y + 4}" text-anchor="end">{error}</text>'
        words = f"{variant(result)}, {dtype}: {in_words(error)} (limit {TOLERANCE[dtype]:.0e})"
        yield f'<use class="{dtype}" href="#{dtype}" x="{x:.2f}%" y="{y}"><title>{escape(words)}</title></use>'


def place(error):
    """Where an error stands on the log axis, in percent; beyond either end, at that end."""
    power = MOST if not math.isfinite(error) else min(max(math.log10(error), LEAST), MOST)
    return LEFT + (RIGHT - LEFT) * (power - LEAST) / (MOST - LEAST)


def tick(x, text):
    return f'<text x="{x:.2f}%" y="14" text-anchor="middle">{text}</text>'


def line(x1, x2, y1, y2, style=""):
    return f'<line x1="{x1:.2f}%" x2="{x2:.2f}%" y1="{y1}" y2="{y2}" {style}/>'
