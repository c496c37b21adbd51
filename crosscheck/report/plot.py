"""Errors on one logarithmic axis, as SVG: a row for a chapter or a case, all rows of a page with the same axis."""

import math
from html import escape

from crosscheck.case import TOLERANCE
from crosscheck.report.comparison import within

# Around their own middle; `use` brings them to their place.
MARKS = {
    "float64": '<circle r="4"/>',
    "float32": '<rect x="-3.5" y="-3.5" width="7" height="7"/>',
    "bfloat16": '<path d="M0-4.5L4.6 3.5H-4.6z"/>',
    "float16": '<path d="M0-5L5 0 0 5-5 0z"/>',
}
LEAST, MOST = -18, 0  # powers of ten at the ends of the axis
LEFT, RIGHT = 19, 98  # where the ends are, in percent of the width; to their left is the zone of what is exact
CHAPTER, CASE = 28, 20  # heights of rows in pixels


def legend():
    """Which mark is which dtype; the marks are defined here and used in every row."""
    entries = [
        f'<span><svg class="{dtype}" viewBox="-7 -7 14 14" aria-hidden="true"><g id="{dtype}">{shape}</g></svg> {dtype} '
        f'<span class="soft">below {TOLERANCE[dtype]:.0e}</span></span>'
        for dtype, shape in MARKS.items()
    ]
    return (
        f'<p class="legend">{"".join(entries)}<span class="soft">dashed: the limit of each; red ring: beyond its limit</span></p>'
    )


def grids():
    """The grid behind rows of either height, drawn once and used in every row."""
    found = []
    for height in (CHAPTER, CASE):
        parts = [f'<rect class="exact" width="{LEFT - 2}%" height="{height}"/>']
        parts += [line(place(10.0**power), height) for power in range(-16, MOST + 1, 4)]
        for dtype, limit in TOLERANCE.items():
            parts.append(line(place(limit), height, f'class="limit {dtype}" stroke-dasharray="4 3"'))
        found.append(f'<g id="grid{height}">{"".join(parts)}</g>')
    return f'<svg class="grids" aria-hidden="true"><defs>{"".join(found)}</defs></svg>'


def axis(is_foot=False):
    """The powers of ten and, as hollow marks, the limits of the dtypes: above all rows, and once more below them."""
    parts = [tick((LEFT - 2) / 2, "exact")]
    parts += [tick(place(10.0**power), f"1e{power}" if power else "1") for power in range(-16, MOST + 1, 4)]
    for dtype, limit in TOLERANCE.items():
        parts.append(f'<use class="limit {dtype}" href="#{dtype}" x="{place(limit):.2f}%" y="{8 if is_foot else 26}"/>')
    words = "" if is_foot else "cases"
    side = f'<span class="count">{words}</span><span></span>'
    title = (
        '<span class="name soft"><small>largest error relative to the reference</small></span>'
        if not is_foot
        else "<span></span>"
    )
    picture = f'<svg height="34" aria-hidden="true">{"".join(parts)}</svg>'
    return f'<div class="row axis{" foot" if is_foot else ""}">{title}{picture}{side}</div>'


def row(name, errors, verdict, height):
    """One row: {dtype: error} as marks, on the grid. `verdict` is written where there is no error to show."""
    middle = height // 2
    parts = [f'<use href="#grid{height}"/>', *marks(name, errors, middle)]
    if verdict in ("raised", "not measured"):
        kind = "bad" if verdict == "raised" else "soft"
        parts.append(f'<text class="{kind}" x="{LEFT}%" y="{middle + 4}">{verdict}</text>')
    return f'<svg height="{height}" role="img"><title>{escape(described(name, errors, verdict))}</title>{"".join(parts)}</svg>'


def described(name, errors, verdict):
    """What a row shows, for those who cannot see it."""
    return f"{name}: {', '.join(f'{dtype} {in_words(error)}' for dtype, error in errors.items()) or verdict}"


def marks(name, errors, y):
    exact = 0
    for dtype in [dtype for dtype in MARKS if dtype in errors]:
        error = errors[dtype]
        x = 2.2 + 4 * exact if error == 0 else place(error)  # exact ones stand beside each other
        exact += error == 0
        if not within(dtype, error):
            yield f'<circle class="ring" cx="{x:.2f}%" cy="{y}" r="8"/>'
        if not math.isfinite(error):
            yield f'<text class="bad" x="{x - 2:.2f}%" dx="-8" y="{y + 4}" text-anchor="end">{error}</text>'
        words = f"{name}, {dtype}: {in_words(error)} (limit {TOLERANCE[dtype]:.0e})"
        yield f'<use class="{dtype}" href="#{dtype}" x="{x:.2f}%" y="{y}"><title>{escape(words)}</title></use>'


def in_words(error):
    return "exact" if error == 0 else f"{error:.1e}"


def place(error):
    """Where an error stands on the log axis, in percent; beyond either end, at that end."""
    power = MOST if not math.isfinite(error) else min(max(math.log10(error), LEAST), MOST)
    return LEFT + (RIGHT - LEFT) * (power - LEAST) / (MOST - LEAST)


def tick(x, text):
    return f'<text x="{x:.2f}%" y="14" text-anchor="middle">{text}</text>'


def line(x, height, style=""):
    return f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{height}" {style}/>'
