"""The one log axis of the page: where an error stands on it, and what is drawn there."""

import math
from html import escape

from crosscheck.case import TOLERANCE
from crosscheck.report.comparison import within

# Around their own middle; `use` brings them where they belong.
MARKS = {
    "float64": '<circle r="4.5"/>',
    "float32": '<rect x="-4" y="-4" width="8" height="8"/>',
    "bfloat16": '<path d="M0-5L5 4H-5z"/>',
    "float16": '<path d="M0-5.5L5.5 0 0 5.5-5.5 0z"/>',
}
LEAST, MOST = -17, 0
"""Powers of ten at the ends of the axis."""

LEFT, RIGHT = 16, 94
"""Where these ends are, in percent of the width."""

EXACT = 14
"""The zone of what is exact is from 0 to here, in percent."""

BEYOND = {math.inf: "∞"}
"""What stands beside a mark at the right end that belongs further right."""

TICKS = range(-16, MOST + 1, 4)


def place(error):
    """Where an error stands on the log axis, in percent; beyond either end, at that end."""
    power = MOST if not math.isfinite(error) else min(max(math.log10(error), LEAST), MOST)
    return LEFT + (RIGHT - LEFT) * (power - LEAST) / (MOST - LEAST)


def in_words(error):
    return "exact" if error == 0 else f"{error:.1e}"


def definitions():
    """What is drawn again and again by `use`: each mark, and the grid that goes through every row."""
    marks = "".join(f'<g id="{dtype}">{shape}</g>' for dtype, shape in MARKS.items())
    grid = [f'<rect class="exact" width="{EXACT}%" height="100%"/>']
    grid += [line(place(10.0**power), "tick") for power in TICKS]
    grid += [line(place(limit), f"limit {dtype}") for dtype, limit in TOLERANCE.items()]
    return f'<svg width="0" height="0" aria-hidden="true"><defs>{marks}<g id="grid">{"".join(grid)}</g></defs></svg>'


def line(x, style):
    return f'<line class="{style}" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="100%"/>'


def scale(numbers, limits, height):
    """The axis at the head or the foot of the rows: numbers and open marks, `numbers` and `limits` pixels from its top."""
    parts = [text(EXACT / 2, numbers, "exact")]
    parts += [text(place(10.0**power), numbers, f"1e{power}" if power else "1") for power in TICKS]
    for dtype, limit in TOLERANCE.items():
        title = f"<title>{dtype} must be below {limit:.0e}</title>"
        parts.append(f'<use class="open {dtype}" href="#{dtype}" x="{place(limit):.2f}%" y="{limits}">{title}</use>')
    return f'<svg class="scale" height="{height}" aria-hidden="true">{"".join(parts)}</svg>'


def text(x, y, words):
    return f'<text x="{x:.2f}%" y="{y}" text-anchor="middle">{words}</text>'


def strip(errors, label=None):
    """The grid and a mark for each dtype in `errors`; without a label it is for the eye alone."""
    role = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    return f'<svg {role}><use href="#grid"/>{"".join(marks(errors))}</svg>'


def marks(errors):
    """What is exact side by side at the left, the others where they stand, with a ring around those beyond their limit."""
    exact = 0
    for dtype in [dtype for dtype in MARKS if dtype in errors]:
        error = errors[dtype]
        x = 2 + 3.6 * exact if error == 0 else place(error)
        exact += error == 0
        if not within(dtype, error):
            yield f'<circle class="ring" cx="{x:.2f}%" cy="50%" r="9"/>'
        if not error <= 10.0**MOST:
            yield f'<text class="bad" x="{x:.2f}%" y="50%" dx="12" dy="4">{BEYOND.get(error, "&gt;")}</text>'
        title = f"<title>{dtype} {in_words(error)}</title>"
        yield f'<use class="{dtype}" href="#{dtype}" x="{x:.2f}%" y="50%">{title}</use>'
