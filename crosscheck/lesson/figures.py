"""One style for all figures, readable in gray and by color-blind readers."""

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler

from crosscheck.agreement import agreements
from crosscheck.case import TOLERANCE

# Okabe and Ito's palette, ordered so that the grays differ. Every line also has its own marker and dash pattern.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))

STYLE = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 80,
    "figure.figsize": (6.5, 3.2),
    "axes.prop_cycle": cycler(color=COLORS) + cycler(marker=MARKERS) + cycler(linestyle=DASHES),
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
    """Use the project's style for all figures that follow."""
    plt.rcParams.update(STYLE)


def attention_map(ax, weights, queries=None, keys=None, title=None, largest=None):
    """Attention weights `(t, s)` as an image, brighter for larger weights, with tokens as labels if they are given."""
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
    """A boolean mask `(t, s)`: white where attention is allowed, dark where it is not, with crosses if the mask is small."""
    mask = np.asarray(mask, bool)
    ax.imshow(mask, cmap="gray", vmin=-0.6, vmax=1)
    ax.set(title=title, xlabel=keys, ylabel=queries)
    ax.grid(False)
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    if max(mask.shape) <= 32:
        t, s = np.nonzero(~mask)
        ax.plot(s, t, "x", color="white", markersize=4, linestyle="none")
        ax.set_xticks(np.arange(mask.shape[1] + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(mask.shape[0] + 1) - 0.5, minor=True)
        ax.grid(True, which="minor", color="#888888", linewidth=0.5, alpha=1)
        ax.tick_params(which="minor", length=0)


def agreement_plot(chapter):
    """Plot the errors of the chapter's layer against its reference: a point per case and dtype, a line per limit of a dtype.

    Returns:
        {case: {dtype: error}}.
    """
    errors = {case.name: agreements(case) for case in chapter.cases}
    least = 1e-17
    fig, ax = plt.subplots(figsize=(6.5, 1.3 + 0.4 * len(errors)))
    for step, (dtype, limit) in enumerate(TOLERANCE.items()):
        points = [(max(by[dtype], least), row + 0.15 * (step - 1.5)) for row, by in enumerate(errors.values()) if dtype in by]
        if points:
            ax.plot(*zip(*points), MARKERS[step], color=COLORS[step], linestyle="none", label=dtype, clip_on=False)
            ax.axvline(limit, color=COLORS[step], linestyle=DASHES[step], marker="none")
    ax.set(xscale="log", xlim=(least, 1), xlabel="largest relative error (line: limit of the dtype; left edge: exact)")
    ax.set_yticks(range(len(errors)), [name.split("/")[1] for name in errors])
    ax.set_ylim(len(errors) - 0.5, -0.5)
    ax.grid(False, axis="y")
    fig.legend(loc="outside upper center", ncols=len(TOLERANCE), frameon=False)
    plt.show()
    return errors
