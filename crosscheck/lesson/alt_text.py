"""The text of a figure for readers who do not see it: its titles, which are the readings, and the names of axes and series."""

import re

MOST = 700
"""Letters of a figure's text."""

KINDS = (("images", "heat map"), ("containers", "bars"), ("lines", "lines"), ("collections", "points or areas"))
"""What a panel is called that has none of the kinds above it."""


def alt_text(fig):
    """What a figure shows, in one line.

    Args:
        fig: A figure of Matplotlib.

    Returns:
        For each panel its title, kind, axes and the names of its series; then what color bars show. At most `MOST` letters.
    """
    bars = [ax for ax in fig.axes if is_color_bar(ax)]
    panels = [of_panel(ax) for ax in fig.axes if ax not in bars and any((ax.has_data(), ax.texts, ax.patches, ax.get_title()))]
    heading = fig.get_suptitle()
    parts = ([heading] if heading else []) + [f"{len(panels)} panels"] * (len(panels) > 1) + panels
    parts += [f"Color: {label}" for label in dict.fromkeys(filter(None, map(label_of, bars)))]
    parts += [f"Legend: {'; '.join(in_legend(legend))}" for legend in fig.legends]
    return shortened(". ".join(plain(part).rstrip(".") for part in parts if part) + ".")


def is_color_bar(ax):
    return hasattr(ax, "_colorbar")


def label_of(bar):
    return bar.get_ylabel() or bar.get_xlabel()


def of_panel(ax):
    """Title, kind, axes and series of one panel."""
    title = next((found for where in ("center", "left", "right") if (found := ax.get_title(where))), "")
    names = ", ".join(named(ax))
    if not ax.axison:  # a diagram
        return f"{title}. Diagram: {names}" if title else f"Diagram: {names}"
    kind = next((name for attribute, name in KINDS if getattr(ax, attribute)), "drawing")
    axes = " against ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel())))
    what = f"{kind}: {axes}" if axes else kind
    series = f"; with {names}" if names else ""
    return f"{title} ({what}{series})" if title else f"{what}{series}".capitalize()


def named(ax):
    """What has a name in a panel: series, bars or rows, and what is written into it. Numbers alone are left out."""
    legend = ax.get_legend()
    found = in_legend(legend) if legend else []
    found += [text.get_text() for text in ax.texts]
    for axis in (ax.yaxis, ax.xaxis):
        labels = [label.get_text() for label in axis.get_ticklabels()] if ax.axison else []
        found += [label for label in labels if "mathdefault" not in label]  # powers of ten
    return list(dict.fromkeys(plain(name) for name in found if re.search(r"[^\W\d_]", name)))


def in_legend(legend):
    return [text.get_text() for text in legend.get_texts()]


def plain(text):
    """Text in one line, without the dollars of formulas."""
    return " ".join(text.replace("$", "").split())


def shortened(text):
    return text if len(text) <= MOST else text[: MOST - 1].rsplit(" ", 1)[0] + " …"
