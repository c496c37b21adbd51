# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Additive margin softmax: winning is not enough
#
# Two encoders learn to give a sentence and its translation the same vector. With a margin a pair must not only beat all other pairs, but beat them by a distance.
#
# Paper: [Yang et al., 2019](https://arxiv.org/abs/1902.08564) · NumPy: [`reference/mat_mul_with_margin.py`](../reference/mat_mul_with_margin.py) · Layer:
# [`layers/mat_mul_with_margin.py`](../layers/mat_mul_with_margin.py) · 25 minutes · You should know: softmax and cross-entropy

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect
import math

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.mat_mul_with_margin import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from experiments import mat_mul_with_margin as experiment
from experiments.common.results import stored
from reference import mat_mul_with_margin as ref

figures.use_style()
rng = np.random.default_rng(0)
results = stored("mat_mul_with_margin")
languages = results["languages"]

# %% [markdown]
# ## The question
#
# Two made-up languages say the same things: each is its own bent view of hidden meanings, with some noise. Meanings come in groups of four that are nearly alike. We train an encoder for each language so that, of 128 candidates, the
# translation has the largest cosine, in a softmax of 50 times the cosines. **How safely does the translation win, among 800 meanings that were not in the training?**

# %%
arm = "scale 50, no margin"
draw = np.random.default_rng(0)
seen, new = experiment.languages(draw)
towers, _ = experiment.fitted(seen, *experiment.LANGUAGES[arm], languages.best_rate(arm), draw, steps=300)
cosines = experiment.cosines(towers, new)
gap = experiment.gaps(cosines)

# %%
fig, ax = plt.subplots()
ax.hist(gap, bins=40, color=figures.COLORS[0])
ax.axvline(0, color="black", linestyle=":", marker="none")
ax.annotate("another wins", (0, 0.95), (-6, 0), xycoords=("data", "axes fraction"), textcoords="offset points", ha="right")
ax.set(
    xlabel="cosine of the right pair − best wrong cosine",
    ylabel="pairs",
    title="many translations win, or lose, by next to nothing",
)
figures.show()

# %% tags=["nbval-ignore-output"]
close = abs(gap) < 0.05
best_wrong = np.where(np.eye(800, dtype=bool), -2, cosines).argmax(axis=1)
same_group = (best_wrong // 4 == np.arange(800) // 4)[close].mean()
print(
    f"right {np.mean(gap > 0):.2f}, won or lost by less than 0.05: {close.mean():.2f}; of these, to its own group {same_group:.2f}"
)
assert languages.contains(np.mean(gap > 0), "found", arm) and same_group > 1 / 2

# %% [markdown]
# Left of the line another meaning wins. Where it is close, the nearest rival is mostly one of the other three of the group; three of 799 wrong candidates are of the same group.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"left": Box("left vectors", 0, 0, "data"), "right": Box("right vectors", 1.2, 0, "data")}
boxes |= {
    "products": Box("all products", 0.6, 1, width=1.1),
    "minus": Box("−", 0.6, 2),
    "margin": Box("margin · I", 1.8, 2, "data"),
}
boxes |= {"times": Box("×", 0.6, 3), "scale": Box("scale", 1.8, 3, "data"), "forth": Box("left logits", 0, 4, "data")}
boxes |= {"back": Box("right logits", 1.2, 4, "data")}
arrows = [
    ("left", "products", "(b, m)"),
    ("right", "products", "(c, m)"),
    ("products", "minus", "(b, c)"),
    ("margin", "minus", ""),
]
arrows += [
    ("minus", "times", "(b, c)"),
    ("scale", "times", ""),
    ("times", "forth", "(b, c)"),
    ("times", "back", "(b, b), transposed"),
]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# Nothing in it is trained.
#
# ## The equation
#
# $$\varphi(x, y) = x \cdot y \tag{1}$$
#
# $$\mathrm{logits}_{ij} = \mathrm{scale}\,(\varphi(x_i, y_j) - \mathrm{margin}\,[i = j]) \tag{2}$$
#
# $$L(x, y) = -\tfrac{1}{N} \textstyle\sum_i \log \mathrm{softmax}(\mathrm{logits}_i)_i \tag{3}$$
#
# $$\bar L = L(x, y) + L(y, x) \tag{4}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $x_i$ | left vectors, of length 1 | `left` | `(b, m)` |
# | $y_j$ | right vectors; the first $b$ are the partners | `right` | `(c, m)` |
# | $\mathrm{logits}$ | from left to right; and its transpose | `mat_mul_with_margin(...)` | `(b, c)`, `(b, b)` |
#
# In logits, the right pair must win by scale · margin. The paper's formula has the margin and no scale; the scale is from [Wang et al., 2018](https://arxiv.org/abs/1801.05599), who have it for faces.
#
# ## By hand
#
# Two left vectors $(1, 0)$ and $(0, 1)$; three right ones $(1, 0)$, $(3, 1)$ and $(2, 0)$, of which the last has no partner. The products are $(1, 3, 2)$ and $(0, 1, 0)$. A margin of ½ comes off the first product of the first row, and the second of the second;
# a scale of 2 doubles all.

# %%
left, right = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [3.0, 1.0], [2.0, 0.0]])
print(ref.score_one(left[0], 0, right, 2.0, 0.5), ref.score_one(left[1], 1, right, 2.0, 0.5))
assert ref.score_one(left[0], 0, right, 2.0, 0.5).tolist() == [1, 6, 4]
assert ref.score_one(left[1], 1, right, 2.0, 0.5).tolist() == [0, 1, 0]

# %% [markdown]
# ## In NumPy
#
# **One left vector**: its products with all right vectors, less the margin at its partner.

# %%
x, i = left[0], 0
row = right @ x
row[i] -= 0.5
print("products", right @ x, " less the margin", row, " scaled", 2 * row)
assert np.array_equal(2 * row, ref.score_one(x, i, right, 2.0, 0.5))

# %% [markdown]
# **All left vectors.** The partners are on the diagonal, so the margin is a multiple of an identity matrix, which may be wider than it is high.

# %%
logits = 2 * (left @ right.T - 0.5 * np.eye(2, 3))
print(logits)
assert np.array_equal(logits, [ref.score_one(x, i, right, 2.0, 0.5) for i, x in enumerate(left)])

# %% [markdown]
# **Back again.** From right to left the rows are the columns. The third right vector has no partner, so it gets no row. This is the reference:

# %%
print(inspect.getsource(ref.mat_mul_with_margin))

# %%
forth, back = ref.mat_mul_with_margin(left, right, 2.0, 0.5)
print(back)
assert np.array_equal(forth, logits) and np.array_equal(back, logits[:, :2].T)

# %% [markdown]
# **The loss** of a row is the cross-entropy of its softmax with its partner. A margin raises it. Taken off *every* product, the margin would change nothing, because a softmax does not see what is added to a whole row.

# %%
unit = left, right / np.linalg.norm(right, axis=1, keepdims=True)
plain, margin = (ref.losses(ref.mat_mul_with_margin(*unit, 2.0, m)[0]) for m in (0.0, 0.5))
everywhere = ref.losses(ref.mat_mul_with_margin(*unit, 2.0, 0.0)[0] - 2.0 * 0.5)
print("no margin", plain.round(3), " margin", margin.round(3), " off every product", everywhere.round(3))
assert (margin > plain).all() and np.allclose(everywhere, plain)

# %% [markdown]
# ## What it does
#
# **What does a margin change?** Less than one might think. Let a row's competition be $A = \sum_{j \neq i} e^{\mathrm{scale}(\varphi_{ij} - \varphi_{ii})}$. Its loss is $\log(1 + A e^{\mathrm{scale} \cdot \mathrm{margin}})$, and the margin does
# one thing to its gradient: it multiplies it by
#
# $$\frac{A + 1}{A + e^{-\mathrm{scale} \cdot \mathrm{margin}}}. \tag{5}$$
#
# So a margin is a weight for each pair: 1 for one that is far from winning ($A$ large), up to $e^{\mathrm{scale} \cdot \mathrm{margin}}$ for one that has won. We check it with finite differences for one row of cosines, in which the right pair leads, and draw it for 127 wrong
# candidates that are all equally far behind.

# %%
phi = rng.uniform(-1, 0.6, size=(1, 128))
phi[0, 0] = 0.9  # the right pair leads, by 0.3 or more
competition = np.exp(20 * (phi[0, 1:] - phi[0, 0])).sum()


def slope(margin):
    """∂L/∂φ of the row."""
    both = [ref.losses(20 * (phi + sign * 1e-6 * np.eye(1, 128) - margin * np.eye(1, 128)))[0] for sign in (1, -1)]
    return (both[0] - both[1]) / 2e-6


print(f"measured {slope(0.3) / slope(0.0):.6f}, by (5) {ref.pull_ratio(competition, 20, 0.3):.6f}")
assert np.isclose(slope(0.3) / slope(0.0), ref.pull_ratio(competition, 20, 0.3), rtol=1e-5)

# %%
ahead = np.linspace(-0.5, 2, 101)
fig, ax = plt.subplots()
for scale in (1, 5, 20):
    ratio = [ref.pull_ratio(127 * math.exp(-scale * lead), scale, 0.3) for lead in ahead]
    (curve,) = ax.semilogy(ahead, ratio, marker="none")
    ax.annotate(f"scale {scale}", (2, ratio[-1]), (4, 0), textcoords="offset points", color=curve.get_color(), va="center")
ax.set(
    xlabel="right cosine − wrong cosines",
    ylabel="gradient with margin 0.3 / without",
    title="a margin makes pairs that have won pull on",
)
figures.show()

# %% [markdown]
# **At a scale of 1 a margin does nothing**, and (5) says how exactly. No two cosines differ by more than 2, so with $c - 1$ wrong candidates $A \ge (c - 1)\,e^{-2}$, whatever the vectors. With 127 of them, no row's gradient grows by more
# than one and a half percent; with more candidates, by less.

# %%
most = {count: ref.pull_ratio((count - 1) * math.exp(-2), 1, 0.3) - 1 for count in (128, 1024, 8192)}
print("scale 1: a gradient grows at most by", {count: f"{share:.2%}" for count, share in most.items()})
print(
    f"scale 20, a pair that has won: by a factor of {ref.pull_ratio(127 * math.exp(-40), 20, 0.3):.0f}; e^(20 · 0.3) = {math.exp(6):.0f}"
)
assert 0.014 < most[128] < 0.015 and math.isclose(ref.pull_ratio(127 * math.exp(-40), 20, 0.3), math.exp(6), rel_tol=1e-3)

# %% [markdown]
# **What does that mean for the paper?** Its formula has a margin and no scale. With vectors of length 1, (5) shows that such a margin could not have changed the training. So either the vectors were longer, which is a scale too (with lengths $r$ the products
# grow by $r^2$), or a scale was used and not written down. A program that normalizes and leaves the scale at this layer's default of 1 has a margin in name only.
#
# **Does a margin find more translations?** In its abstract the paper reports P@1, the share of sentences whose nearest neighbor is the translation, of 86% or more on the United Nations corpus, in all languages tested. We measure P@1 among 800 new meanings, and the mean gap,
# without a margin and with 0.3, at four scales. [The experiment](../experiments/mat_mul_with_margin.py) gives each arm three learning rates and three seeds, which draw languages and weights anew. A model that finds the group, and guesses in it, gets a quarter.

# %%
print(f"{'':23}best rate  P@1: worst, median, best   mean gap: worst, median, best")
for arm in experiment.LANGUAGES:
    columns = ["  ".join(f"{value:.3f}" for value in languages.spread(what, arm)) for what in ("found", "gap")]
    print(f"{arm:23}{languages.best_rate(arm):<11g}{columns[0]:28}{columns[1]}")

# %%
scales = (1, 5, 20, 50)
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.2))
for name, color, marker, shift in (("no margin", figures.COLORS[1], "s", 0.95), ("margin 0.3", figures.COLORS[0], "o", 1.05)):
    for ax, what in zip(axes, ("found", "gap")):
        values = np.array([languages.values(what, f"scale {scale}, {name}") for scale in scales])
        ax.plot(np.array(scales) * shift, values, marker, color=color, alpha=0.5, markersize=4)
        ax.plot(np.array(scales) * shift, np.median(values, axis=1), color=color, marker="none")
        ax.annotate(name, (60, np.median(values[-1])), color=color, va="center")
        ax.set(xscale="log", xlim=(0.8, 220), xlabel="scale")
        ax.set_xticks(scales, scales)
        ax.set_xticks([], minor=True)
axes[0].set(ylabel="P@1", title="a margin helps if the scale is too large")
axes[1].set(ylabel="mean gap", title="and widens the gaps there")
figures.show()


# %%
def differences(what, arm, other):
    """Seed by seed, each arm at its best rate."""
    return languages.values(what, arm) - languages.values(what, other)


for scale in scales:
    won = differences("found", f"scale {scale}, margin 0.3", f"scale {scale}, no margin")
    wider = differences("gap", f"scale {scale}, margin 0.3", f"scale {scale}, no margin")
    print(
        f"scale {scale:2}: the margin adds {won.min():+.3f} to {won.max():+.3f} to P@1, {wider.min():+.3f} to {wider.max():+.3f} to the mean gap"
    )
    if scale == 50:
        assert wider.min() > 0 and np.median(won) > 0
print(f"standard error of a P@1 of 0.95 among 800: {np.sqrt(0.95 * 0.05 / 800):.3f}")

# %% [markdown]
# At a scale of 50 the margin does what it is for: in every seed, pairs win by more, about a quarter of the mean gap. More of them are found in the median seed; in the worst, the difference is less than the standard error of one P@1. At 20 a margin adds a little to the gap; at 5 and at 1 nothing. So a margin
# helps **where the softmax stops pulling too soon**: at a large scale a pair that wins by little has almost no gradient left. But each arm had its own best rate. What does the margin add at a scale of 50 if both have the same one?

# %%
for rate in languages.experiment.rates:
    both = [
        [languages.values(what, f"scale 50, {name}", rate) for name in ("margin 0.3", "no margin")] for what in ("found", "gap")
    ]
    in_found, in_gap = (with_margin - without for with_margin, without in both)
    print(
        f"rate {rate:<5g}: adds {in_found.min():+.3f} to {in_found.max():+.3f} to P@1, {in_gap.min():+.3f} to {in_gap.max():+.3f} to the mean gap"
    )
    assert in_gap.min() > 0

# %% [markdown]
# Most of it is speed. Without a margin the model learns slowly, and a larger rate makes up for that: at the largest rate the margin finds no more translations, and what is left is the wider gap. All of this is after 300 steps. What if one trains on, with four times as many steps?

# %%
longer = results["longer"]
for rate in longer.experiment.rates:
    for arm in experiment.LONGER:
        found, wins = (longer.values(what, arm, rate) for what in ("found", "gap"))
        print(
            f"1,200 steps, rate {rate:g}, {arm:21} P@1 {found.min():.2f} to {found.max():.2f}, gap {wins.min():.3f} to {wins.max():.3f}"
        )
without, with_it = ({rate: longer.values("found", arm, rate) for rate in longer.experiment.rates} for arm in experiment.LONGER)
assert with_it[0.001].min() > without[0.001].max() and all(with_it[rate].max() < without[rate].min() for rate in (0.003, 0.01))

# %% [markdown]
# Now the margin helps at the smallest rate alone, and costs translations at the other two. By (5) it goes on pulling at training pairs that have won; here that goes with worse results on new pairs. So with a margin the number of steps has to fit the rate.
#
# Then a smaller scale should do the same without any margin. Does it?

# %%
rival = differences("found", "scale 5, no margin", "scale 50, margin 0.3")
at_20 = differences("found", "scale 5, no margin", "scale 20, margin 0.3")
nothing = np.abs([differences(what, "scale 1, margin 0.3", "scale 1, no margin") for what in ("found", "gap")]).max()
print(
    f"scale 5 without a margin, less scale 50 with one: {rival.min():+.3f} to {rival.max():+.3f}; less scale 20 with one: {at_20.min():+.3f} to {at_20.max():+.3f}"
)
print(
    f"scale 1: the margin changes P@1 and gap by at most {nothing:.4f}; between seeds P@1 differs by {np.ptp(languages.values('found', 'scale 1, no margin')):.3f}"
)
assert min(rival.min(), at_20.min()) > -np.sqrt(0.95 * 0.05 / 800) and nothing < np.ptp(
    languages.values("found", "scale 1, no margin")
)
assert min(languages.worst("found", arm) for arm in experiment.LANGUAGES) > 1 / 4  # finding the group, and guessing in it

# %% [markdown]
# It does. On this task a scale of 5 without a margin finds at least as many as 20 or 50 with one, within a standard error in every seed. So nothing here shows that a margin is better than a well chosen scale; it makes up for part of what a large scale costs. (All is after 300 steps, with each arm's best of three rates.) At a scale of 1 a margin changes nothing that can be measured, as (5) says; and which scale is best differs between tasks.
#
# ## Where it breaks
#
# **The layer does not normalize.** Let all vectors have length $r$. The products grow with $r^2$ and the margin does not, so the cosine need only win by margin$/r^2$. We look for the difference of cosines at which the right pair just
# draws level.

# %%
for length in (1, 3, 10):
    tie = 0.3 / length**2
    right = np.array([[0.8, 0.6], [0.8 - tie, math.sqrt(1 - (0.8 - tie) ** 2)]])
    logits, _ = ref.mat_mul_with_margin(length * np.array([[1.0, 0.0]]), length * right, 20.0, 0.3)
    print(f"length {length}: a difference of {tie:.3f} draws level")
    assert abs(logits[0, 0] - logits[0, 1]) < 1e-9

# %% [markdown]
# An encoder without normalization can make its vectors longer and the margin small. Normalize before the layer, as the experiment's encoders do.
#
# **The margin is there at inference too.** The layer has no flag for it, so right answers that are counted from its logits are too few. The encoders of the first figure:

# %% tags=["nbval-ignore-output"]
vectors = [np.asarray(encode(x), "float64") for encode, x in zip(towers, new)]
counted = {m: (ref.mat_mul_with_margin(*vectors, 50.0, m)[0].argmax(axis=1) == np.arange(800)).mean() for m in (0.0, 0.3)}
print("P@1 counted from logits without and with the margin:", {m: round(float(share), 3) for m, share in counted.items()})
assert np.isclose(counted[0.0], np.mean(gap > 0), atol=0.01) and np.isclose(counted[0.3], np.mean(gap > 0.3), atol=0.01)

# %% [markdown]
# **Differs from the paper.** The scale is an argument, and there may be more right vectors than left ones, such as hard negatives. From right to left these have no row, for they have no partner.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# LaBSE trained this loss for 109 languages ([Feng et al., 2020](https://arxiv.org/abs/2007.01852)). Most encoders of today use the softmax over a batch **without** a margin and choose the scale with care: SimCSE has 20 ([Gao et al., 2021](https://arxiv.org/abs/2104.08821)), E5 has 100
# ([Wang et al., 2022](https://arxiv.org/abs/2212.03533)), and CLIP trains it ([Radford et al., 2021](https://arxiv.org/abs/2103.00020)). Its inverse is called the temperature. For faces the margin moved from the cosine to the angle
# ([Deng et al., 2018](https://arxiv.org/abs/1801.07698)).
#
# ## Exercises
#
# **1** (easy, 5 minutes). The logits of (2) for `left` `(b, m)` and `right` `(c, m)`, where `right` has the partners first and perhaps more rows behind.


# %%
def scores(left, right, scale, margin):
    return None  # your turn


_ = check("mat_mul_with_margin/1", scores)

# %% [markdown]
# <details><summary>Hint</summary>The pairs are on the diagonal.</details>
# <details><summary>Solution</summary><code>scale * (left @ right.T - margin * np.eye(len(left), len(right)))</code></details>
#
# **2** (medium, 10 minutes). The loss of both directions, the sum of two means, for the same arguments; from right to left only the partners ask, and the margin counts there too. The scale may be 1,000.


# %%
def both_directions(left, right, scale, margin):
    return None  # your turn


_ = check("mat_mul_with_margin/2", both_directions)

# %% [markdown]
# <details><summary>Hint</summary>From right to left only the first rows ask; <code>np.logaddexp.reduce</code> does not overflow.</details>
# <details><summary>Solution</summary>
#
# ```python
# def both_directions(left, right, scale, margin):
#     b = len(left)
#     forth = scale * (left @ right.T - margin * np.eye(b, len(right)))
#     each = [np.logaddexp.reduce(part, axis=1) - np.diagonal(part) for part in (forth, forth[:, :b].T)]
#     return each[0].mean() + each[1].mean()
# ```
# </details>
#
# **3** (hard, 15 minutes). How hard each row pulls at its right pair: $-\partial L_i / \partial \varphi_{ii}$ of each row's loss $L_i$, given the cosines $\varphi$ `(b, c)`. The scale may be 1,000.


# %%
def pull(phi, scale, margin):
    return None  # your turn


_ = check("mat_mul_with_margin/3", pull)

# %% [markdown]
# <details><summary>Hint</summary>scale (1 − p), with p the right pair's probability, margin included. Subtract the largest score of a row first.</details>
# <details><summary>Solution</summary>
#
# ```python
# def pull(phi, scale, margin):
#     z = scale * (phi - margin * np.eye(*phi.shape))
#     log_p = np.diagonal(z) - np.logaddexp.reduce(z, axis=1)
#     return scale * (1 - np.exp(log_p))
# ```
# </details>
#
# **To discuss.** Two sentences of a batch may by chance be translations of the same one. What does the loss do to them, and what would you change in data or loss?
#
# ## Summary
#
# - A margin multiplies each pair's gradient: by 1 if the pair is far from winning, by up to $e^{\mathrm{scale} \cdot \mathrm{margin}}$ if it has won.
# - With vectors of length 1 and a scale of 1 it does nothing. At a scale that is too large, translations win by more with a margin, and if each has its best rate, more are found in most seeds; on our task a smaller scale does as well without a margin.
# - Normalize before the layer, and leave the margin out when you count.
#
# **Further reading.** [Yang et al., 2019](https://arxiv.org/abs/1902.08564): the paper. [Wang et al., 2018](https://arxiv.org/abs/1801.05599): the additive margin, for faces. [Feng et al., 2020](https://arxiv.org/abs/2007.01852):
# LaBSE, the same loss for 109 languages.
