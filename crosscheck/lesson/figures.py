"""One style for all figures, readable in gray and by color-blind readers."""

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler

from crosscheck.lesson.alt_text import alt_text

# Okabe and Ito's palette, ordered so that the grays differ. Every line also has its own marker and dash pattern.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))

STYLE = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "figure.facecolor": "white",  # readable on dark pages too
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


def show():
    """Show the figures that are open, if no legend covers data, each with its text for readers who do not see it.

    Raises:
        ValueError: naming the axes whose legend covers data.
    """
    for number in plt.get_fignums():
        fig = plt.figure(number)
        fig.canvas.draw()
        for ax in fig.axes:
            if covers_data(ax):
                raise ValueError(f"a legend must not cover data. Received: the axes {ax.get_title() or ax.get_ylabel()!r}")
    if "inline" not in plt.get_backend():
        plt.show()
        return
    from IPython.display import display

    for number in plt.get_fignums():
        fig = plt.figure(number)
        display(fig, metadata={"image/png": {"alt": alt_text(fig)}})  # as plt.show does, which takes no text
        plt.close(fig)


def covers_data(ax):
    """Whether the legend of the axes lies over a point of a line, a bar or a mark."""
    legend = ax.get_legend()
    if legend is None:
        return False
    box = legend.get_window_extent()
    drawn = [(line, line.get_path().transformed(line.get_transform())) for line in ax.lines if len(line.get_xdata())]
    points = [path.vertices for _, path in drawn]
    paths = [path for line, path in drawn if line.get_linestyle() != "None"]
    points += [collection.get_offset_transform().transform(collection.get_offsets()) for collection in ax.collections]
    return (
        any(path.intersects_bbox(box, filled=False) for path in paths)
        or any(box.overlaps(patch.get_window_extent()) for patch in ax.patches)
        or any(box.contains(x, y) for part in points for x, y in np.asarray(part).reshape(-1, 2))
    )


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


def maps(panels, titles, label, largest=1.0, queries=None, keys=None, size=None):
    """Attention weights side by side, on one scale, with one color bar.

    Args:
        panels: Arrays `(t, s)`.
        titles: What is seen in each.
        label: What the color bar shows.
        largest: The weight at the end of the scale.
        queries, keys: Tokens, as for `attention_map`.
        size: Width and height in inches.

    Returns:
        The figure and the axes of the panels.
    """
    fig, axes = plt.subplots(1, len(panels), figsize=size or (2.6 * len(panels) + 0.7, 2.8), sharey=True, squeeze=False)
    for ax, weights, title in zip(axes[0], panels, titles):
        image = attention_map(ax, weights, queries, keys, title, largest)
        ax.label_outer()
    fig.colorbar(image, ax=axes[0], label=label, extend="max" if max(map(np.max, panels)) > largest * 1.001 else "neither")
    return fig, axes[0]


def curves(ax, results, what, arms, rates=None, **options):
    """For each arm of an experiment, the median of a curve over the seeds, and a band from the lowest to the highest.

    Args:
        ax: Where.
        results: The `Results` of the experiment.
        what: The name of the curve.
        arms: {arm: label}; the label stands at the end of the line.
        rates: {arm: learning rate}; the best of each unless given.
        options: Of `ax.set`.
    """
    for number, (arm, label) in enumerate(arms.items()):
        steps, values = results.curves(what, arm, (rates or {}).get(arm))
        color = COLORS[number % len(COLORS)]
        ax.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)
        ax.plot(steps, np.median(values, axis=0), color=color, linestyle=DASHES[number % len(DASHES)], marker="none")
        ax.annotate(label, (steps[-1], np.median(values[:, -1])), (4, 0), textcoords="offset points", color=color, va="center")
    ax.set(**options)


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


def power_above(error):
    """The next power of ten, as text: the digits of a rounding error differ from machine to machine."""
    return f"{10.0 ** np.ceil(np.log10(error)):.0e}"


def agreement_line(chapter):
    """One line: for each dtype the largest error of the chapter's layer against its reference, beside the limit.

    Returns:
        (the line as Markdown, whether every error is within its limit).
    """
    from IPython.display import Markdown

    from crosscheck.agreement import agreements  # only now: it imports Keras, which a browser does not have
    from crosscheck.case import TOLERANCE

    largest = {}
    for case in chapter.cases:
        for dtype, error in agreements(case).items():
            largest[dtype] = max(largest.get(dtype, 0.0), error)
    parts = [f"{dtype} **{error:.0e}** (limit {TOLERANCE[dtype]:.0e})" for dtype, error in largest.items()]
    cases = f"{len(chapter.cases)} cases" if len(chapter.cases) > 1 else "1 case"
    line = f"Largest relative error over {cases}: {' · '.join(parts)}. Every case: `make compare`, then `build/compare.html`."
    return Markdown(line), all(error <= TOLERANCE[dtype] for dtype, error in largest.items())


def agreement_plot(chapter):
    """Plot the errors of the chapter's layer against its reference: a point per case and dtype, a line per limit of a dtype.

    Returns:
        {case: {dtype: error}}.
    """
    from crosscheck.agreement import agreements
    from crosscheck.case import TOLERANCE

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
