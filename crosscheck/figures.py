"""One look for every figure: told apart without colour, readable in grey and by the colour-blind."""

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler

from crosscheck.agreement import agreements
from crosscheck.case import TOLERANCE

# Okabe and Ito's palette, in an order whose greys differ; every line has a marker and a dash of its own as well.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))

STYLE = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 80,
    "figure.figsize": (6.5, 3.2),
    "axes.prop_cycle": cycler(color=COLOURS) + cycler(marker=MARKERS) + cycler(linestyle=DASHES),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": "medium",
    "grid.alpha": 0.3,
    "lines.markersize": 5,
    "image.cmap": "cividis",
    "font.size": 10,
}


def use_style():
    """Draw what follows in the project's style."""
    plt.rcParams.update(STYLE)


def attention_map(ax, weights, queries=None, keys=None, title=None, largest=None):
    """Attention weights `(t, s)` as a picture, bright where much is attended; tokens as labels if they are given."""
    image = ax.imshow(weights, vmin=0, vmax=largest or np.max(weights), aspect="auto")
    for axis, labels, name in ((ax.yaxis, queries, "query t"), (ax.xaxis, keys, "key s")):
        axis.grid(False)
        if labels is None:
            axis.set_label_text(name)
            axis.get_major_locator().set_params(integer=True)
        else:
            axis.set_ticks(range(len(labels)), labels, rotation=90 if axis is ax.xaxis else 0, fontsize="small")
    ax.set_title(title)
    return image


def mask_picture(ax, mask, title=None, queries="query t", keys="key s"):
    """A boolean mask `(t, s)`: white where attention is allowed, dark with a cross where it is not."""
    ax.imshow(mask, cmap="gray", vmin=-0.6, vmax=1)
    t, s = np.nonzero(~np.asarray(mask))
    ax.plot(s, t, "x", color="white", markersize=4)
    ax.set(title=title, xlabel=keys, ylabel=queries)
    ax.set_xticks(np.arange(mask.shape[1] + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(mask.shape[0] + 1) - 0.5, minor=True)
    ax.grid(False, which="major")
    ax.grid(True, which="minor", color="#888888", linewidth=0.5, alpha=1)
    ax.tick_params(which="minor", length=0)
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)


def agreement_plot(chapter):
    """Draw how far the chapter's layer is from its reference: a point for each case and dtype, a line for each dtype's limit.

    Returns:
        {case: {dtype: error}}.
    """
    errors = {case.name: agreements(case) for case in chapter.cases}
    least = 1e-17
    _, ax = plt.subplots(figsize=(6.5, 1.2 + 0.28 * len(errors)))
    for (dtype, limit), colour, marker, dash in zip(TOLERANCE.items(), COLOURS, MARKERS, DASHES):
        points = [(max(by_dtype[dtype], least), row) for row, by_dtype in enumerate(errors.values()) if dtype in by_dtype]
        ax.plot(*zip(*points), marker, color=colour, linestyle="none", label=dtype)
        ax.axvline(limit, color=colour, linestyle=dash, marker="none")
    ax.set(xscale="log", xlim=(least / 2, 1), xlabel="largest relative error (line: limit of the dtype; left edge: exact)")
    ax.set_yticks(range(len(errors)), [name.split("/")[1] for name in errors])
    ax.invert_yaxis()
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.25), ncols=4, frameon=False)
    plt.show()
    return errors
