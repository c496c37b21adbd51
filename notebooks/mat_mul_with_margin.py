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

# %%
import inspect
import math
from functools import cache

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.mat_mul_with_margin import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.lesson.training import fit
from layers.mat_mul_with_margin import MatMulWithMargin
from reference import mat_mul_with_margin as ref

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# Two "languages" say the same things: each is its own bent view of hidden meanings, with some noise. Meanings come in groups of four that are nearly alike. We train an encoder for each language so that, of 128 candidates, the
# translation has the largest cosine. **How safely does it win, on meanings that were not in the training?**

# %%
views = [rng.normal(size=(16, 48)) / 2 for _ in range(2)]


def speak(groups):
    """Both languages' words for four meanings of each group."""
    meanings = rng.normal(size=(groups, 1, 16)) + 0.6 * rng.normal(size=(groups, 4, 16))
    return [
        (np.tanh(meanings.reshape(-1, 16) @ view) + 0.1 * rng.normal(size=(4 * groups, 48))).astype("float32") for view in views
    ]


training, test = speak(200), speak(200)
steps, batch = 300, 128
order = np.concatenate([rng.choice(800, batch, replace=False) for _ in range(steps)])
answers = np.tile(np.arange(batch), steps)


# %%
def tower():
    layers = keras.layers.Dense(64, "tanh"), keras.layers.Dense(32), keras.layers.UnitNormalization()
    return keras.Sequential([keras.Input((48,)), *layers])


@cache
def train(scale, margin, seed=0):
    """Two encoders, trained with the loss in both directions."""
    keras.utils.set_random_seed(seed)
    towers, words = [tower(), tower()], [keras.Input((48,)), keras.Input((48,))]
    model = keras.Model(words, MatMulWithMargin(scale, margin)(*(encode(x) for encode, x in zip(towers, words))))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), [loss, loss], jit_compile=False)
    fit(model, [x[order] for x in training], [answers, answers], batch_size=batch, shuffle=False)
    return towers


def gaps(towers):
    """By how much each test pair's cosine beats the best wrong one."""
    cosines = np.asarray(towers[0](test[0])) @ np.asarray(towers[1](test[1])).T
    return np.diagonal(cosines) - np.where(np.eye(len(cosines)), -1, cosines).max(axis=1)


plain = gaps(train(50.0, 0.0))

# %%
fig, ax = plt.subplots()
ax.hist(plain, bins=40, color=figures.COLORS[0])
ax.axvline(0, color="black", linestyle=":")
ax.set(xlabel="cosine of the right pair − best wrong cosine", ylabel="pairs")
plt.show()

# %% [markdown]
# Left of the line another meaning wins. Many pairs win by next to nothing, and more often than not it is one of the other three of their group that is close behind.

# %%
close = (abs(plain) < 0.05).mean()
print("right: over 8 in 10:", bool((plain > 0).mean() > 0.8), " won or lost by less than 0.05: over 2 in 10:", bool(close > 0.2))
assert 0.8 < (plain > 0).mean() < 0.96 and close > 0.2
left, right = (np.asarray(encode(x)) for encode, x in zip(train(50.0, 0.0), test))
rival = (left @ right.T - 3 * np.eye(800)).argmax(axis=1)
assert (rival // 4 == np.arange(800) // 4)[abs(plain) < 0.05].mean() > 0.5

# %% [markdown]
# ## The equation
#
# $$\varphi(x, y) = x \cdot y \tag{1}$$
#
# $$\mathrm{logits}_{ij} = \mathrm{scale}\,(\varphi(x_i, y_j) - \mathrm{margin}\,[i = j]) \tag{2}$$
#
# $$L(x, y) = -\tfrac{1}{N} \textstyle\sum_i \log \mathrm{softmax}(\mathrm{logits}_i)_i \tag{3}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $x_i$ | left vectors, of length 1 | `left` | `(b, m)` |
# | $y_j$ | right vectors; the first $b$ are the partners | `right` | `(c, m)` |
# | $\mathrm{logits}$ | from left to right; and its transpose | `mat_mul_with_margin(...)` | `(b, c)`, `(b, b)` |
#
# The paper adds the losses of both directions (4). In logits, the right pair must win by scale · margin.
#
# ## By hand
#
# Two left vectors $(1, 0)$ and $(0, 1)$; three right ones $(1, 0)$, $(3, 1)$ and $(2, 0)$, of which the last has no partner. The products are $(1, 3, 2)$ and $(0, 1, 0)$. A margin of ½ comes off the first of the first and the second of the second;
# a scale of 2 doubles all.

# %%
left, right = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [3.0, 1.0], [2.0, 0.0]])
print(ref.score_one(left[0], 0, right, 2.0, 0.5), ref.score_one(left[1], 1, right, 2.0, 0.5))
assert ref.score_one(left[0], 0, right, 2.0, 0.5).tolist() == [1, 6, 4]
assert ref.score_one(left[1], 1, right, 2.0, 0.5).tolist() == [0, 1, 0]

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.score_one))
print(inspect.getsource(ref.mat_mul_with_margin))

# %%
forth, back = ref.mat_mul_with_margin(left, right, 2.0, 0.5)
assert np.array_equal(forth, [ref.score_one(x, i, right, 2.0, 0.5) for i, x in enumerate(left)])
assert np.array_equal(back, [ref.score_one(y, i, left, 2.0, 0.5) for i, y in enumerate(right[:2])])
print("row by row and all at once agree, in both directions")

# %% [markdown]
# ## What it does
#
# **What does a margin change?** Less than one might think. Let a row's competition be $A = \sum_{j \neq i} e^{\mathrm{scale}(\varphi_{ij} - \varphi_{ii})}$. Its loss is $\log(1 + A e^{\mathrm{scale} \cdot \mathrm{margin}})$, and the margin does
# one thing to its gradient: it multiplies it by
#
# $$\frac{A + 1}{A + e^{-\mathrm{scale} \cdot \mathrm{margin}}}. \tag{5}$$
#
# A margin is a weight for each pair: 1 for one that is hopeless ($A$ large), up to $e^{\mathrm{scale} \cdot \mathrm{margin}}$ for one that is solved. We draw it for 127 wrong candidates, all equally far behind.

# %%
gap = np.linspace(-0.5, 2, 101)
fig, ax = plt.subplots()
for scale in (1, 5, 20):
    ratio = [ref.pull_ratio(127 * math.exp(-scale * g), scale, 0.3) for g in gap]
    ax.semilogy(gap, ratio, markevery=20, label=f"scale {scale}")
ax.set(xlabel="right cosine − wrong cosines", ylabel="gradient with margin / without", title="margin 0.3")
ax.legend()
plt.show()

# %% [markdown]
# **At a scale of 1 a margin is a no-op**, and (5) says how exactly. No two cosines differ by more than 2, so with 127 wrong candidates $A \ge 127\,e^{-2}$: no row's gradient grows by more than one and a half percent, whatever the vectors.
# The loss changes too, but by a number that no vector can do anything about, up to 0.015. At 20 a solved pair pulls hundreds of times as hard as it would.

# %%
least, small = 127 * math.exp(-2), 127 * math.exp(-40)
bounds = {1: ref.pull_ratio(least, 1, 0.3), 20: ref.pull_ratio(small, 20, 0.3)}
print({scale: round(bound, 3) for scale, bound in bounds.items()})
assert bounds[1] < 1.015 and bounds[20] > 400
losses_at_1 = [np.log1p(a * math.exp(0.3)) - np.log1p(a) for a in (least, 127.0, 127 * math.exp(2))]
assert max(losses_at_1) - min(losses_at_1) < 0.015 and abs(max(losses_at_1) - 0.3) < 0.001

# %% [markdown]
# **Does the margin do what the paper says?** It wants right pairs closer than the hardest wrong ones, and reports P@1, the fraction of sentences whose nearest neighbor is the translation, of 86 percent or more on the United Nations corpus.
# We measure P@1 among 800 candidates, and the mean gap, for three margins and three scales.

# %%
margins = (0.0, 0.15, 0.3)
found = {scale: [gaps(train(scale, margin)) for margin in margins] for scale in (1.0, 20.0, 50.0)}

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3.2))
for scale, runs in found.items():
    axes[0].plot(margins, [(run > 0).mean() for run in runs], label=f"scale {scale:.0f}")
    axes[1].plot(margins, [run.mean() for run in runs])
axes[0].set(xlabel="margin", ylabel="P@1")
axes[1].set(xlabel="margin", ylabel="mean gap", ylim=(0, None))
axes[0].legend()
plt.show()

# %% [markdown]
# At a scale of 50 the margin does what it is for: more translations are found, and won by more. A softmax at that scale is content once a training pair wins by a little; the margin asks for more. At 20 it is content later, and the margin adds
# less. At 1 it never is, and nothing moves; on a task as small as ours that finds as many as any other, without any margin.

# %%
precision = {scale: [(run > 0).mean() for run in runs] for scale, runs in found.items()}
mean_gap = {scale: [run.mean() for run in runs] for scale, runs in found.items()}
assert precision[50.0][2] > precision[50.0][0] + 0.02 and mean_gap[50.0][2] > 1.2 * mean_gap[50.0][0]
assert 1 < mean_gap[20.0][2] / mean_gap[20.0][0] < mean_gap[50.0][2] / mean_gap[50.0][0]
assert precision[1.0][0] > max(precision[20.0] + precision[50.0]) - 0.01
assert np.ptp(precision[1.0]) < 0.01 and np.ptp(mean_gap[1.0]) < 0.01
again = [gaps(train(50.0, margin, seed=1)) for margin in (0.0, 0.3)]
assert (again[1] > 0).mean() > (again[0] > 0).mean() + 0.01 and again[1].mean() > 1.2 * again[0].mean()
print("and so with another seed")

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
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
# An encoder without normalization makes its vectors longer and is rid of the margin. Normalize before the layer, as `tower` does.
#
# **The margin is there at inference too.** The layer has no flag for it: whoever counts right answers from its logits counts too few.

# %%
vectors = [np.asarray(encode(x), "float64") for encode, x in zip(train(50.0, 0.3), test)]
counted = {
    margin: (ref.mat_mul_with_margin(*vectors, 50.0, margin)[0].argmax(axis=1) == np.arange(800)).mean() for margin in (0.0, 0.3)
}
print(f"P@1 without the margin above 0.8: {bool(counted[0.0] > 0.8)}; with it below 0.2: {bool(counted[0.3] < 0.2)}")
assert counted[0.0] > 0.8 and counted[0.3] < 0.2

# %% [markdown]
# **Differs from the paper.** The scale is an argument, and there may be more right vectors than left ones, such as hard negatives. From right to left these do not ask, for no left vector answers.
#
# ## What it costs
#
# No weights. $b\,c\,m$ multiply-adds and $b\,c$ logits: with the partners alone, the square of the batch.

# %%
with multiply_adds() as count:
    logits, _ = ref.mat_mul_with_margin(rng.normal(size=(6, 32)), rng.normal(size=(9, 32)))
print(sum(count), "multiply-adds,", logits.nbytes, "bytes")
assert sum(count) == 6 * 9 * 32 and logits.nbytes == 8 * 6 * 9
assert MatMulWithMargin().weights == []

# %%
batches = 2 ** np.arange(4, 15)
fig, ax = plt.subplots()
ax.loglog(batches, batches**2 * 32, base=2, label="all pairs, m = 32")
ax.loglog(batches, 2 * batches * (48 * 64 + 64 * 32), base=2, label="our two encoders")
ax.set(xlabel="batch b", ylabel="multiply-adds")
ax.legend()
plt.show()
assert 320**2 * 32 == 2 * 320 * (48 * 64 + 64 * 32)

# %% [markdown]
# For encoders as small as ours the pairs cost more from a batch of 320 on; for a BERT that is never the question.
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
# - A margin multiplies each pair's gradient: by 1 if it is hopeless, by up to $e^{\mathrm{scale} \cdot \mathrm{margin}}$ if it is solved.
# - It needs vectors of length 1 and a scale at which the softmax is content too soon; at a scale of 1 it does nothing.
# - There it found more translations, and won them by more. The logits keep it at inference.
#
# **Further reading.** [Yang et al., 2019](https://arxiv.org/abs/1902.08564): the paper. [Wang et al., 2018](https://arxiv.org/abs/1801.05599): the additive margin, for faces. [Feng et al., 2020](https://arxiv.org/abs/2007.01852):
# LaBSE, the same loss for 109 languages.
