"""The map of the course: a column for each part, a box for each lesson, and an arrow to it from each lesson that it needs."""

import textwrap
from itertools import combinations, count

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from crosscheck.catalogue import PARTS
from crosscheck.lesson.course import all_needs, direct_needs, lessons
from crosscheck.lesson.diagram import FACES
from crosscheck.lesson.figures import COLORS

WIDTH, HEIGHT = 1.95, 0.62
"""Inches from a column to the next, and from a row to the next."""

BOX = 1.38, 0.36
"""Inches of a box."""

LANE = 0.11
"""Inches between lines that run side by side."""

ASIDE = 0.07
"""Inches by which a line misses the middle of a side."""


def course_map():
    """Draw the map. A need that another need of the lesson asks for already has no arrow.

    Returns:
        The figure.
    """
    arrows = [(need, lesson.name) for lesson in lessons() for need in direct_needs(lesson.name)]
    places = untangled(arrows)
    columns, rows = (max(place[axis] for place in places.values()) + 1 for axis in (0, 1))
    fig, ax = plt.subplots(figsize=(columns * WIDTH, (rows + 1) * HEIGHT))
    fig.set_facecolor("white")  # readable on dark pages too
    ax.set(xlim=(-0.55 * WIDTH, (columns - 0.5) * WIDTH), ylim=((0.5 - rows) * HEIGHT, 1.1 * HEIGHT), aspect="equal")
    ax.axis("off")
    ax.set_title(reading())
    for column, part in enumerate(parts()):
        left, width = (column - 0.4) * WIDTH, 0.8 * WIDTH
        ax.add_patch(
            FancyBboxPatch((left, (0.5 - rows) * HEIGHT), width, rows * HEIGHT, boxstyle="square,pad=0", fc="#F2F2F2", ec="none")
        )
        ax.text(left + width / 2, 0.8 * HEIGHT, textwrap.fill(part, 18), ha="center", va="center", fontsize=10, fontweight="bold")
    for lesson in lessons():
        draw_lesson(ax, lesson, center(places[lesson.name]))
    for path, color in zip(lines(arrows, places), colors(arrows)):
        style = {"arrowstyle": "-|>", "mutation_scale": 9, "color": color, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
        ax.add_patch(FancyArrowPatch(path=path, zorder=1, **style))
    return fig


def parts():
    return [part for part in PARTS if any(lesson.part == part for lesson in lessons())]


def untangled(arrows):
    """{lesson: (column, row)}: a column for each part, in reading order, moved down to where fewest arrows cross something."""
    lengths = [sum(lesson.part == part for lesson in lessons()) for part in parts()]
    free = [[half / 2 for half in range(2 * (max(lengths) - length) + 1)] for length in lengths]
    starts = [0.0] * len(free)
    for column in [*range(len(free))] * 2:
        tried = [[*starts[:column], start, *starts[column + 1 :]] for start in free[column]]
        starts = min(tried, key=lambda starts: tangle(arrows, layout(starts)))
    return layout(starts)


def layout(starts):
    """{lesson: (column, row)}, if each column begins at its row of `starts`."""
    columns = {part: column for column, part in enumerate(parts())}
    rows = {part: count(start) for part, start in zip(parts(), starts)}
    return {lesson.name: (columns[lesson.part], next(rows[lesson.part])) for lesson in lessons()}


def tangle(arrows, places):
    """How often arrows run behind a box, which counts tenfold, or cross each other."""
    paths = lines(arrows, places)
    behind = sum(
        path.intersects_bbox(box_at(center(place)), filled=False)
        for path, ends in zip(paths, arrows)
        for name, place in places.items()
        if name not in ends
    )
    both = combinations(zip(paths, arrows), 2)
    return 10 * behind + sum(path.intersects_path(other, filled=False) for (path, a), (other, b) in both if not set(a) & set(b))


def box_at(at):
    (x, y), (wide, high) = at, BOX
    return Bbox.from_bounds(x - wide / 2, y - high / 2, wide, high)


def reading():
    """What the map shows, in one line."""
    above = sum("attention" in all_needs([lesson.name]) for lesson in lessons()) - 1
    return f"{above} of {len(lessons())} lessons build on multi-head attention; those in green need no other"


def center(place):
    column, row = place
    return column * WIDTH, -row * HEIGHT


def draw_lesson(ax, lesson, at):
    (x, y), (wide, high) = at, BOX
    face = FACES["map" if direct_needs(lesson.name) else "trained"]
    corner = x - wide / 2, y - high / 2
    style = {"boxstyle": "round,pad=0,rounding_size=0.06", "facecolor": face, "edgecolor": "black", "linewidth": 1}
    ax.add_patch(FancyBboxPatch(corner, wide, high, zorder=2, **style))
    ax.text(x, y, textwrap.fill(lesson.title, 20), ha="center", va="center", fontsize=8.5, linespacing=1, zorder=3)


def colors(arrows):
    """For each arrow its color: that of what it comes from, if several do, and gray else."""
    starts = [start for start, _ in arrows]
    hubs = [start for start in dict.fromkeys(starts) if starts.count(start) > 1]
    return [COLORS[hubs.index(start) % len(COLORS)] if start in hubs else "#666666" for start in starts]


def lines(arrows, places):
    """The line of each arrow. Those from one lesson that run beside its column share a lane."""
    lanes, found = {}, []
    for start, end in arrows:
        lane = None
        if places[start][0] == places[end][0] and places[end][1] > places[start][1] + 1:
            of_column = lanes.setdefault(places[start][0], [])
            of_column += [start] * (start not in of_column)
            lane = of_column.index(start)
        found.append(line(box_at(center(places[start])), box_at(center(places[end])), lane))
    return found


def line(here, there, lane):
    """From box to box: in a `lane` beside them, straight down to the next, or in a curve to another column."""
    y, y_of_end = (here.y0 + here.y1) / 2, (there.y0 + there.y1) / 2
    if lane is not None:
        beside = here.x0 - 0.16 - lane * LANE
        return Path([(here.x0, y - ASIDE), (beside, y - ASIDE), (beside, y_of_end - ASIDE), (there.x0, y_of_end - ASIDE)])
    if here.x0 == there.x0:
        middle = (here.x0 + here.x1) / 2
        return Path([(middle, here.y0), (middle, there.y1)])
    along = np.linspace(0, 1, 40)
    rise = (10 - 15 * along + 6 * along**2) * along**3
    return Path(np.stack([here.x1 + (there.x0 - here.x1) * along, y + (y_of_end + ASIDE - y) * rise], axis=1))
