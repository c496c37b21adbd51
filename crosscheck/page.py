"""The report as one page that needs nothing but itself."""

import math
from html import escape
from itertools import groupby

from crosscheck.case import TOLERANCE
from crosscheck.compare import LIMITS, agrees, verdict

STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1b1b1b; --soft: #666; --line: #ddd; --bad: #b00020;
  --float64: #0072b2; --float32: #b06f00; --bfloat16: #007a58; --float16: #a0487c; }
@media (prefers-color-scheme: dark) { :root { --back: #16181c; --ink: #e8e8e8; --soft: #a0a0a0; --line: #3a3d44; --bad: #ff8a80;
  --float64: #6cb8ea; --float32: #f0b64a; --bfloat16: #4cc9a0; --float16: #e39cc4; } }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--back); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: .5rem 0; } .verdict { font-weight: 600; } .bad { color: var(--bad); font-weight: 600; } small, .soft { color: var(--soft); }
a { color: inherit; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; } tbody tr { border-top: 1px solid var(--line); }
tbody th { padding-top: 1rem; font-weight: 600; } tbody th small { font-weight: 400; }
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; } svg text { fill: var(--ink); } svg .soft { fill: var(--soft); }
"""

MARKS = {
    "float64": '<circle cx="{x:.1f}" cy="{y}" r="4"/>',
    "float32": '<rect x="{l:.1f}" y="{t}" width="7" height="7"/>',
    "bfloat16": '<path d="M{x:.1f} {t}l4.5 8h-9z"/>',
    "float16": '<path d="M{x:.1f} {t}l4.5 4.5-4.5 4.5-4.5-4.5z"/>',
}
LEFT, RIGHT, ROW, FIRST = 150, 590, 18, 54  # of the plot, in its own units
LEAST, MOST = -17, 0  # powers of ten


def as_html(report):
    """The whole page."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Layers and references compared</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Layers and references compared</h1>
<p class="verdict{"" if report["agree"] else " bad"}">{escape(verdict(report))}.</p>
<p>Each production layer and its NumPy reference got the same numbers. An error is the largest difference relative to the largest number of the float64 reference;
the gradient is compared with the reference's slope, and what XLA compiled with what ran step by step. <small>{escape(versions)}; seed {report["seed"]}</small></p>
<div class="scroll">{plot(report)}</div>
<div class="scroll">{table(report)}</div>
</body>
</html>
"""


def chapters_of(report):
    return groupby(report["results"], key=lambda result: (result["chapter"], result["paper"], result["link"]))


def table(report):
    limits = "".join(f'<th scope="col">{name}<br><small>{limit:.0e}</small></th>' for name, limit in LIMITS.items())
    rows = []
    for (chapter, paper, link), results in chapters_of(report):
        source = f'<a href="{escape(link)}">{escape(paper)}</a>' if link else escape(paper)
        rows.append(f'<tr><th scope="rowgroup" colspan="{len(LIMITS) + 1}">{escape(chapter)} <small>{source}</small></th></tr>')
        for result in results:
            cells = "".join(f"<td>{cell(result, what)}</td>" for what in LIMITS)
            name = escape(result["case"].split("/")[-1])
            stopped = f'<br><span class="bad">{escape(result["stopped"])}</span>' if result["stopped"] else ""
            rows.append(f"<tr><td>{name}{stopped}</td>{cells}</tr>")
    head = f'<thead><tr><th scope="col">case<br><small>limit</small></th>{limits}</tr></thead>'
    return f"<table>{head}<tbody>{''.join(rows)}</tbody></table>"


def cell(result, what):
    error = result["errors"].get(what)
    if error is None:
        return '<span class="soft">–</span>'
    text = "exact" if error == 0 else f"{error:.1e}"
    return text if agrees(what, error) else f'<span class="bad">✗ {text}</span>'


def plot(report):
    """Error by case and dtype on a log axis; a dashed line is a dtype's limit, the left edge is no error at all."""
    parts, y = [], FIRST
    for (chapter, _, _), results in chapters_of(report):
        parts.append(f'<text x="4" y="{y + 4}" font-weight="600">{escape(chapter)}</text>')
        y += ROW
        for result in results:
            parts.append(f'<text x="12" y="{y + 4}" class="soft">{escape(result["case"].split("/")[-1])}</text>')
            parts.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}" stroke="var(--line)"/>')
            parts += [mark(dtype, x_of(result["errors"][dtype]), y) for dtype in MARKS if dtype in result["errors"]]
            y += ROW
    for power in range(LEAST + 1, MOST + 1, 4):
        parts.append(f'<text x="{x_of(10.0**power):.1f}" y="{y + 12}" text-anchor="middle" class="soft">1e{power}</text>')
    parts.append(f'<text x="{LEFT}" y="{y + 12}" text-anchor="middle" class="soft">exact</text>')
    for i, (dtype, limit) in enumerate(TOLERANCE.items()):
        x, legend = x_of(limit), LEFT + 112 * i
        line = f'x1="{x:.1f}" x2="{x:.1f}" y1="{FIRST - 10}" y2="{y - 4}"'
        parts.append(f'<line {line} stroke="var(--{dtype})" stroke-dasharray="{3 + 2 * i} 3"/>')
        parts.append(f'{mark(dtype, legend, 14)}<text x="{legend + 9}" y="18">{dtype}</text>')
        parts.append(f'<text x="{legend + 9}" y="31" class="soft">limit {limit:.0e}</text>')
    title = "<title>Largest relative error of each case in each dtype, with the limit of the dtype</title>"
    return f'<svg viewBox="0 0 610 {y + 20}" role="img">{title}{"".join(parts)}</svg>'


def mark(dtype, x, y):
    return f'<g fill="var(--{dtype})">{MARKS[dtype].format(x=x, y=y, l=x - 3.5, t=y - 4)}</g>'


def x_of(error):
    """Where an error stands; beyond either end, at that end."""
    power = LEAST if error == 0 else MOST if not math.isfinite(error) else min(max(math.log10(error), LEAST), MOST)
    return LEFT + (RIGHT - LEFT) * (power - LEAST) / (MOST - LEAST)
