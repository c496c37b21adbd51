"""Diagrams of mechanisms: boxes for what is computed, arrows with the shapes of what flows, in one style for all lessons."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.patches import Ellipse, FancyBboxPatch

WIDTH, HEIGHT = 1.5, 0.72
"""Inches of a column and of a row of the grid."""

BOX = 1.12, 0.4
"""Inches of a box."""

FACES = {"map": "#CFE3F2", "op": "#FBE6C3", "data": "white", "trained": "#D9EFE3"}
"""What is filled how: a linear map with weights, an operation without weights, an array, another trained part."""


@dataclass(frozen=True)
class Box:
    """One thing in a diagram.

    Args:
        text: What stands in it.
        column, row: Its place on the grid; rows count upward, as data flows.
        kind: "map", "op", "data" or "trained". An array ("data") has no frame.
        width: How many times as wide as other boxes.
    """

    text: str
    column: float
    row: float
    kind: str = "op"
    width: float = 1.0

    def __post_init__(self):
        if self.kind not in FACES:
            raise ValueError(f"kind must be one of {', '.join(FACES)}. Received: kind={self.kind!r}")

    @property
    def place(self):
        return self.column * WIDTH, self.row * HEIGHT

    @property
    def size(self):
        # What is a sign alone, such as + or ×, is a circle.
        return (0.3, 0.3) if self.is_sign else (BOX[0] * self.width, BOX[1])

    @property
    def is_sign(self):
        return self.kind == "op" and len(self.text) == 1


def diagram(boxes, arrows, title=None):
    """Draw boxes and arrows.

    Args:
        boxes: {name: Box}.
        arrows: (from, to, shape) for each; or (from, to, shape, bend), where bend, from -1 to 1, curves it to one side. A shape
            in the letters of the legend, or "", stands beside the middle of its arrow.
        title: Stands above.

    Returns:
        The figure.
    """
    unknown = {end for arrow in arrows for end in arrow[:2]} - set(boxes)
    if unknown:
        raise ValueError(f"arrows must lead from box to box. Received: {', '.join(sorted(unknown))}")
    columns, rows = zip(*((box.column, box.row) for box in boxes.values()))
    wide, high = (max(columns) - min(columns) + 1.1) * WIDTH, (max(rows) - min(rows) + 1) * HEIGHT
    fig, ax = plt.subplots(figsize=(wide, high + (0.3 if title else 0)))
    fig.set_facecolor("white")  # readable on dark pages too
    ax.set(xlim=((min(columns) - 0.55) * WIDTH, (max(columns) + 0.55) * WIDTH), aspect="equal")
    ax.set_ylim((min(rows) - 0.5) * HEIGHT, (max(rows) + 0.5) * HEIGHT)
    ax.axis("off")
    ax.set_title(title)
    for box in boxes.values():
        draw_box(ax, box)
    ends = spread(boxes, arrows)
    for number, (_, _, shape, *bend) in enumerate(arrows):
        draw_arrow(ax, ends[number, 0], ends[number, 1], shape, *bend)
    return fig


def draw_box(ax, box):
    (x, y), (wide, high) = box.place, box.size
    style = {"facecolor": FACES[box.kind], "edgecolor": "none" if box.kind == "data" else "black", "linewidth": 1, "zorder": 2}
    if box.is_sign:
        ax.add_patch(Ellipse((x, y), wide, high, **style))
    else:
        corner = x - wide / 2, y - high / 2
        ax.add_patch(FancyBboxPatch(corner, wide, high, boxstyle="round,pad=0,rounding_size=0.06", **style))
    ax.text(x, y, box.text, ha="center", va="center", fontsize=9, zorder=3)


def draw_arrow(ax, start, end, shape, bend=0.0):
    (a, b), (x, y) = start, end
    style = {
        "arrowstyle": "-|>",
        "connectionstyle": f"arc3,rad={bend}",
        "color": "black",
        "linewidth": 1,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ax.annotate("", (x, y), (a, b), arrowprops=style, zorder=1)
    # A curve goes through the point half its bend away from the middle.
    middle = (a + x) / 2 + bend * (y - b) / 2, (b + y) / 2 - bend * (x - a) / 2
    label = {"va": "center", "fontsize": 8, "color": "#333333", "zorder": 4}
    if a == x and not bend:
        ax.annotate(shape, middle, (3, 0), textcoords="offset points", ha="left", **label)
    else:
        ax.text(*middle, shape, ha="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}, **label)


def spread(boxes, arrows):
    """{(number of the arrow, 0 at its start or 1 at its end): where}. Ends on one side of a box share it evenly."""
    sides = {}
    for number, (start, end, *_) in enumerate(arrows):
        for which, (here, there) in enumerate(((start, end), (end, start))):
            sides.setdefault((here, facing(boxes[here], boxes[there])), []).append((boxes[there].place, number, which))
    places = {}
    for (name, side), found in sides.items():
        (x, y), (wide, high) = boxes[name].place, boxes[name].size
        for order, (_, number, which) in enumerate(sorted(found)):
            share = 0.0 if boxes[name].is_sign else (order + 1) / (len(found) + 1) - 0.5
            along = {"above": (share * wide, high / 2), "below": (share * wide, -high / 2)}
            along |= {"right": (wide / 2, share * high), "left": (-wide / 2, share * high)}
            places[number, which] = x + along[side][0], y + along[side][1]
    return places


def facing(box, other):
    """The side of a box that another one is on; beside it only if they stand in one row."""
    if box.row != other.row:
        return "above" if other.row > box.row else "below"
    return "right" if other.column > box.column else "left"
