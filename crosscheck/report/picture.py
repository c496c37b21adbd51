"""The picture in README, drawn by `python -m crosscheck.report.picture FILE` from what `crosscheck --json FILE` wrote."""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.agreement import largest_error
from crosscheck.case import TOLERANCE
from crosscheck.cases.attention import give_real_weights
from crosscheck.catalogue import chapters
from crosscheck.lesson import figures
from crosscheck.models import minilm
from layers.attention import MultiHeadAttention
from reference import attention as ref
from reference.common.projection import into_heads

FILE = Path(__file__).with_suffix(".svg")
SENTENCE, HEAD = "the cat saw the dog and the dog saw the cat .", 8
LEAST = 1e-18
"""Where an error of 0 is drawn."""


def three_times(x, weights):
    """The attention weights (h, t, s) of tokens `x` (1, t, m): from the definition, from the reference, from the layer."""
    q, k = into_heads(x, weights.query)[0], into_heads(x, weights.key)[0]
    heads = range(q.shape[1])
    by_definition = [[ref.attend_one(q[t, h], k[:, h], np.eye(len(k))) for t in range(len(q))] for h in heads]
    _, by_reference = ref.multi_head_attention(x, x, weights)

    layer = MultiHeadAttention(num_heads=len(heads), key_dim=q.shape[-1], dtype="float64")
    layer(x, x)
    give_real_weights(layer, None)
    _, by_layer = layer(x, x, return_attention_scores=True)
    return np.array(by_definition), by_reference[0], np.array(by_layer)[0]


def draw_one_head(axes, colors):
    """Three pictures of one head of a real model, which are the same."""
    model = minilm.load()
    pieces = minilm.wordpieces(model, SENTENCE)
    found = three_times(minilm.embed(model, pieces), minilm.attention_weights(model, layer=0))
    titles = ("lesson: one query at a time", "reference: NumPy", "layer: Keras 3")
    for ax, weights, title in zip(axes, found, titles):
        image = figures.attention_map(ax, weights[HEAD], pieces, pieces, title)
        ax.label_outer()
    plt.colorbar(image, cax=colors, label="attention weight")
    for ax, weights in zip(axes[1:], found[1:]):
        error = largest_error({"weights": weights}, {"weights": found[0]})
        ax.set_xlabel(f"largest difference from the first: {error:.0e}")


def draw_all_chapters(ax, results):
    """The largest error of each chapter in each dtype, below the line of the dtype's limit."""
    names = [chapter.name for chapter in chapters()]
    shown = ("float64", "float32", "bfloat16")
    for step, dtype in enumerate(shown):
        worst = {}
        for case in results["cases"]:
            name = case["case"].split("/")[0]
            if dtype in case["errors"]:
                worst[name] = max(worst.get(name, LEAST), float(case["errors"][dtype]))
        places = [number for number, name in enumerate(names, 1) if name in worst]
        errors = [worst[names[place - 1]] for place in places]
        ax.plot(places, errors, figures.MARKERS[step], color=figures.COLORS[step], linestyle="none", clip_on=False)
        ax.axhline(TOLERANCE[dtype], color=figures.COLORS[step], linestyle=figures.DASHES[step], marker="none")
        ax.text(len(names) + 1, TOLERANCE[dtype], f" {dtype}'s limit", va="center", color=figures.COLORS[step])
    ax.set(yscale="log", ylim=(LEAST, 1), xlim=(0, len(names) + 1), xticks=range(1, len(names) + 1))
    ax.set_yticks([1, 1e-4, 1e-8, 1e-12, 1e-16, LEAST], ["1", "$10^{-4}$", "$10^{-8}$", "$10^{-12}$", "$10^{-16}$", "exact"])
    ax.set_yticks([], minor=True)
    ax.set(xlabel="chapter", ylabel="largest relative error")
    ax.set_title(f"layer and reference agree in every chapter: {len(results['cases'])} cases, each dtype below its limit")


def draw(results):
    """The whole figure, from what `python -m crosscheck --json` measured."""
    figures.use_style()
    plt.rcParams["svg.fonttype"] = "none"  # text stays text
    plt.rcParams["svg.hashsalt"] = "picture"  # the same picture is the same file
    fig = plt.figure(figsize=(10.5, 7))
    above, below = fig.subfigures(2, 1, height_ratios=(1.25, 1))
    *axes, colors = above.subplots(1, 4, width_ratios=(1, 1, 1, 0.05))
    above.suptitle("attention weights of one head of a real model: three programs, the same numbers")
    draw_one_head(axes, colors)
    draw_all_chapters(below.subplots(), results)
    return fig


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text())).savefig(FILE, metadata={"Date": None})
    print(f"Written: {FILE.name}")
