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
# # Masked softmax
#
# Softmax turns scores into weights. A mask must make some of them zero; how that is done decides what happens when a row has nothing left.
#
# Paper: [Vaswani et al., 2017, section 3.2.1](https://arxiv.org/abs/1706.03762) · NumPy: [`reference/masked_softmax.py`](../reference/masked_softmax.py) · Layer:
# [`layers/masked_softmax.py`](../layers/masked_softmax.py) · 20 minutes · You should know: [masks](self_attention_mask.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.masked_softmax import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from experiments.common import novel
from layers.masked_softmax import MaskedSoftmax
from reference.common.projection import into_heads
from reference.masked_softmax import masked_softmax, masked_softmax_row

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# Sentences in a batch are padded to one length, and no weight should fall on the padding. A common recipe adds a large negative number to the scores that are forbidden: $-10^9$, or $-\infty$ as the paper has
# it. **What does each make of a row in which everything is forbidden**, such as that of an empty sentence?


# %%
def softmax(x):
    exp = np.exp(x - x.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


# %%
scores = np.array([2.0, 1.0, 0.0, -1.0], "float32")
with np.errstate(invalid="ignore"):
    rows = {
        "add −10⁹: an average": softmax(scores + np.float32(-1e9)),
        "set to −∞: no numbers": softmax(np.full_like(scores, -np.inf)),
        "ours: nothing": masked_softmax(scores, np.zeros(4, bool)),
    }

# %%
fig, axes = plt.subplots(1, 3, figsize=(8, 2.4), sharey=True)
for ax, (name, row) in zip(axes, rows.items()):
    ax.bar(range(4), np.nan_to_num(row), color=figures.COLORS[0])
    ax.text(1.5, 0.18, "all NaN" if np.isnan(row).any() else "" if row.any() else "all 0", ha="center", fontsize=16)
    ax.set(title=name, xlabel="position", ylim=(0, 0.4))
axes[0].set_ylabel("weight")
figures.show()

# %%
for name, row in rows.items():
    print(f"{name:24}", row)
assert all(np.allclose(row, wanted, equal_nan=True) for row, wanted in zip(rows.values(), (1 / 4, np.nan, 0)))

# %% [markdown]
# The first attends evenly to everything it was told to ignore. The second is not a number and will spread to every layer above. The third attends to nothing.
#
# ## The picture

# %%
boxes = {"x": Box("scores x", 0, 0, "data"), "mask": Box("mask", -1.2, 1, "data"), "where": Box("forbidden: −∞", 0, 1)}
boxes |= {"peak": Box("largest allowed", 1.3, 1, width=1.15), "minus": Box("−", 0, 2), "exp": Box("exp", 0, 3)}
boxes |= {"sum": Box("sum", 1.3, 3), "over": Box("÷", 0, 4), "p": Box("weights p", 0, 5, "data")}
arrows = [
    ("x", "where", "(…, s)"),
    ("mask", "where", ""),
    ("where", "minus", "(…, s)"),
    ("where", "peak", ""),
    ("peak", "minus", "(…, 1)"),
]
arrows += [
    ("minus", "exp", "none above 0"),
    ("exp", "over", "(…, s)"),
    ("exp", "sum", ""),
    ("sum", "over", "(…, 1)"),
    ("over", "p", "(…, s)"),
]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# There are no weights to train. Where the sum is 0, nothing is divided and the row stays 0.
#
# ## The equation
#
# $$p_i = \frac{e^{x_i}}{\sum_{j\ \text{allowed}} e^{x_j}} \text{ where } i \text{ is allowed}, \qquad p_i = 0 \text{ where it is not} \tag{1}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $x$ | scores | `x` | any |
# | allowed | where the mask is true | `mask` | broadcasts to `x` |
# | $p$ | weights; those that share a sum lie along `axes` | | that of `x` |
#
# A row with nothing allowed has an empty sum. The second half of (1) already says what its weights are: zero, every one.
#
# ## By hand
#
# Scores $\ln 3$, $0$ and $7$, the last forbidden: the weights are $3/4$, $1/4$ and $0$, and the 7 does not matter.

# %%
weights = masked_softmax_row(np.array([np.log(3), 0, 7]), np.array([True, True, False]))
print(weights.round(6))
assert np.allclose(weights, [3 / 4, 1 / 4, 0], rtol=1e-15)

# %% [markdown]
# ## In NumPy
#
# **As the equation is written**, it fails for large scores: $e^{800}$ is too large for any float. Subtracting the largest score changes nothing in (1), since it divides the numerator and the sum by the same number.

# %%
x = np.array([800.0, 799.0])
with np.errstate(all="ignore"):
    print("as written:", np.exp(x) / np.exp(x).sum())
shifted = np.exp(x - x.max())
print("shifted:   ", (shifted / shifted.sum()).round(4))
assert np.allclose(shifted / shifted.sum(), masked_softmax(x - 800))

# %% [markdown]
# **The mask comes first.** If the largest score is taken before the mask acts, a large forbidden score pushes all allowed ones down to $e^{-2000} = 0$.

# %%
x, allowed = np.array([-1000.0, -1001.0, 1000.0]), np.array([True, True, False])
late = np.exp(x - x.max()) * allowed
hidden = np.where(allowed, x, -np.inf)
early = np.exp(hidden - hidden.max())
print("mask after the peak ", late, " sum", late.sum())
print("mask before the peak", early.round(3), " sum", early.sum().round(3))
assert late.sum() == 0 and np.allclose(early / early.sum(), masked_softmax_row(x + 1000, allowed))

# %% [markdown]
# **A row with nothing allowed** has the peak $-\infty$, and $-\infty - (-\infty)$ is no number. So there the peak is replaced by 0, all exponentials are 0, and the division is left out. This is the reference.

# %%
print(inspect.getsource(masked_softmax))

# %%
x, mask = rng.normal(size=(200, 5)), rng.random((200, 5)) < 0.5
rows = [masked_softmax_row(row, allowed) for row, allowed in zip(x, mask)]
print("rows with nothing allowed:", np.sum(~mask.any(axis=-1)), "of", len(x))
assert np.allclose(masked_softmax(x, mask), rows, rtol=1e-14) and not masked_softmax(x, mask)[~mask.any(axis=-1)].any()

# %% [markdown]
# ## What it does
#
# **What does padding do in a real model if nobody masks it?** MiniLM is a small trained model of sentences. [Attention](attention.ipynb), the next step, gives each word $t$ a row of scores, one for every word $s$ that it may
# read, and does so twelve times, in twelve *heads*. Here we take these scores as they come from the model's first layer. The model was trained with masks; we pad forty sentences of a novel, of 60 to 140 characters, with its `[PAD]` token,
# leave out the mask, and measure how much weight falls on the padding. The null is equal weights.

# %%
model = minilm.load()
projections = minilm.attention_weights(model, layer=0)
sentences = [s.replace("\n", " ").strip() for s in novel.TEXT.split(".")[200:1000] if 60 < len(s) < 140][:40]


# %%
def real_scores(sentence, padding=0):
    """The scores `(h, t, s)` of the first layer for a sentence and so many [PAD], and which words are real `(s,)`."""
    pieces = minilm.wordpieces(model, sentence)
    x = minilm.embed(model, pieces + padding * ["[PAD]"])
    q, k = (into_heads(x, projection)[0] for projection in projections[:2])
    return np.einsum("thd,shd->hts", q, k) / np.sqrt(q.shape[-1]), np.arange(len(x[0])) < len(pieces)


def on_padding(sentence, padding):
    """The weight of real words on padding: not masked, with equal weights, masked; averaged over words and heads."""
    scores, real = real_scores(sentence, padding)
    weights = [masked_softmax(scores)[:, real], masked_softmax(scores, real)[:, real]]
    unmasked, masked = (part[..., ~real].sum(axis=-1).mean() for part in weights)
    return unmasked, np.mean(~real), masked


# %%
paddings = (0, 8, 24, 64)
shares = np.array([[on_padding(sentence, padding) for sentence in sentences] for padding in paddings])

# %%
fig, ax = plt.subplots()
for column, name in enumerate(("not masked", "equal weights", "masked")):
    values = shares[..., column]
    (line,) = ax.plot(paddings, np.median(values, axis=1))
    ax.fill_between(paddings, values.min(axis=1), values.max(axis=1), color=line.get_color(), alpha=0.15, linewidth=0)
    ax.annotate(name, (64, np.median(values[-1])), (6, 0), textcoords="offset points", color=line.get_color(), va="center")
ax.set(xlabel="[PAD] tokens after the sentence", ylabel="weight on padding", ylim=(-0.03, 1))
ax.set_title("without a mask, words read padding (40 sentences: median, range)")
figures.show()

# %%
for padding, by_sentence in zip(paddings, shares):
    print(
        f"{padding:2} [PAD]: not masked {np.median(by_sentence[:, 0]):.2f}, equal weights {np.median(by_sentence[:, 1]):.2f}, masked {by_sentence[:, 2].max():.2f}"
    )
medians = np.median(shares, axis=1)
assert not shares[..., 2].any() and (np.diff(medians[:, 0]) > 0).all() and (medians[1:, 0] < medians[1:, 1]).all()

# %% [markdown]
# Without a mask, padding takes a large share of the weight, though less than equal weights would give it. The longer the batch's longest sentence, the larger that share. So a sentence's result would depend on what else is in the batch.
#
# **Which recipes keep a forbidden position out entirely?** Three allowed scores, and one forbidden score that grows. We look at how much the weights of the allowed ones differ from what they should be.

# %%
allowed = np.array([True, True, True, False])
recipes = {
    "add −10⁹": lambda x: softmax(x + np.where(allowed, 0, -1e9)),
    "zero the weights after": lambda x: softmax(x) * allowed,
    "ours": lambda x: masked_softmax(x, allowed),
}
wanted = masked_softmax(np.array([1.0, 2.0, 3.0]))
for forbidden in (0.0, 5.0, 1e3, 1e9, 1e30, np.inf):
    with np.errstate(all="ignore"):
        wrong = {name: np.abs(f(np.array([1, 2, 3, forbidden]))[:3] - wanted).max() for name, f in recipes.items()}
    print(f"forbidden score {forbidden:6g}:", ", ".join(f"{name} off by {error:.3f}" for name, error in wrong.items()))
    assert wrong["ours"] == 0

# %% [markdown]
# Setting weights to zero *after* the softmax leaves too little weight on the others, whatever the forbidden score. Adding $-10^9$ is right until a score is as large. Selecting, as ours does, gives the same bits whatever stands there.
#
# **How does the size of the scores decide how many positions share the weight?** MiniLM's real scores, in twelve heads and for twenty sentences, multiplied by a factor. The entropy of the weights is divided by its largest
# value: 1 means that all positions weigh the same, 0 that one takes all.

# %%
factors = np.geomspace(0.02, 50, 25)
all_scores = [real_scores(sentence)[0] for sentence in sentences[:20]]


# %%
def entropy(scores):
    """Of the weights, between 0 and 1, averaged over rows: `(h,)`."""
    weights = masked_softmax(scores)
    return -(weights * np.log(np.maximum(weights, 1e-300))).sum(-1).mean(-1) / np.log(scores.shape[-1])


# %%
entropies = np.array([np.mean([entropy(factor * scores) for scores in all_scores], axis=0) for factor in factors])  # (factors, h)
as_trained = np.mean([entropy(scores) for scores in all_scores], axis=0)

# %%
fig, ax = plt.subplots()
ax.semilogx(factors, np.delete(entropies, 2, 1), color=figures.COLORS[0], linestyle="-", marker="none", alpha=0.5)
ax.semilogx(factors, entropies[:, 2], color=figures.COLORS[1], linestyle="--", marker="none")
ax.axvline(1, color="black", linestyle=":", marker="none")
ax.annotate("as trained", (1, 0.03), (4, 0), textcoords="offset points")
ax.annotate("head 2", (0.25, 0.45), color=figures.COLORS[1])
ax.annotate("the other heads", (3, 0.75), color=figures.COLORS[0])
ax.set(xlabel="factor on the scores", ylabel="entropy / log s", title="from an average to a choice")
figures.show()

# %%
print(
    f"entropy as trained: head 2 {as_trained[2]:.2f}, the others {np.delete(as_trained, 2).min():.2f} to {np.delete(as_trained, 2).max():.2f}"
)
before = np.mean([masked_softmax(scores)[2].diagonal(-1).mean() for scores in all_scores])
print(f"head 2, weight on the token before: {before:.2f}")
print(f"with the smallest factor at least {entropies[0].min():.2f}, with the largest at most {entropies[-1].max():.2f}")
assert (np.diff(entropies, axis=0) < 0).all() and as_trained.argmin() == 2

# %% [markdown]
# Small scores give an average, large ones a choice. As trained, most heads are near the average; head 2, which reads the token before, makes a choice. So the scale of the scores matters, and attention divides them by $\sqrt d$.
#
# **Can one softmax run over two axes?** An image patch may want one distribution over rows and columns together. It is that of the flattened picture.

# %%
picture = rng.normal(size=(4, 6))
both = masked_softmax(picture, axes=(0, 1))
print("sum over both axes:", both.sum().round(12), " over rows alone:", both.sum(axis=0).round(2))
assert np.allclose(both.ravel(), masked_softmax(picture.ravel()))

# %% [markdown]
# ## Where it breaks
#
# **A large number in a small format.** float16 ends at −65504, so recipes add that. Where a score is −16 or lower, the sum is rounded to $-\infty$, and a whole row of those is NaN. Where it does fit, the scores vanish in it, because
# near a large number, neighboring floats are far apart. What is a wholly forbidden row, in each format?

# %%
with np.errstate(all="ignore"):
    sums = {score: np.float16(score) + np.float16(-65504) for score in (-1, -15, -16, -20)}
print("float16, −65504 added to", {score: float(total) for score, total in sums.items()})
assert [bool(np.isinf(total)) for total in sums.values()] == [False, False, True, True]

# %%
scores = np.array([[-20, -25, -30]])
lines = [f"{'format':10}{'lowest':10}{'step there':12}{'recipe, scores −20, −25, −30':30}the layer"]
recipe, ours = {}, {}
for dtype, lowest in (("float16", -65504.0), ("float32", -1e9), ("float64", -1e9)):
    with np.errstate(all="ignore"):
        recipe[dtype] = softmax(scores.astype(dtype) + np.dtype(dtype).type(lowest))[0]
    ours[dtype] = np.asarray(MaskedSoftmax(dtype=dtype)(scores.astype(dtype), np.zeros((1, 3))))[0]
    step = np.nextafter(np.dtype(dtype).type(lowest), np.dtype(dtype).type(0)) - np.dtype(dtype).type(lowest)
    lines.append(f"{dtype:10}{lowest:<10g}{float(step):<12.2g}{recipe[dtype].round(3)!s:30}{ours[dtype]}")
print("\n".join(lines))

# %%
assert np.isnan(recipe["float16"]).all() and np.allclose(recipe["float32"], 1 / 3) and recipe["float64"][0] > 0.99
assert not any(row.any() for row in ours.values())

# %% [markdown]
# For these scores, three formats give three results: NaN, an average, and a softmax that ignores the mask. Keep masks boolean and select. Some recipes add $(1 - m) \cdot (-10^9)$: then a 2 in the mask is a bonus of a
# billion. Token ids that are passed as a mask do that:

# %%
ids = np.array([[2, 1, 0]])
print("recipe:", softmax((1 - ids) * -1e9), " layer:", np.asarray(MaskedSoftmax()(np.zeros((1, 3), "float32"), ids)))

# %% [markdown]
# **Differs from the paper.** The paper's $-\infty$ is equation (1) while a row has something allowed. For a row that has nothing the paper says nothing, and we chose zeros.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# Fast kernels never hold a whole row: they keep a running peak and a running sum ([Milakov and Gimelshein, 2018](https://arxiv.org/abs/1805.02867); exercise 3), as FlashAttention does
# ([Dao et al., 2022](https://arxiv.org/abs/2205.14135)). A softmax must give its weight to something, so trained heads with nothing to read put it on the first token, an *attention sink*
# ([Xiao et al., 2023](https://arxiv.org/abs/2309.17453)). Some models add a trained number to the sum in (1), so that the weights may sum to less than 1, with every key allowed
# ([OpenAI, 2025](https://arxiv.org/abs/2508.10925)).
#
# ## Exercises
#
# **1** (easy, 5 minutes). The logarithm of the softmax of a vector `x`, safe for scores of ±1,000.


# %%
def log_softmax(x):
    return None  # your turn


_ = check("masked_softmax/1", log_softmax)

# %% [markdown]
# <details><summary>Hint</summary>The logarithm of a quotient is a difference; shift first.</details>
# <details><summary>Solution</summary><code>x - x.max() - np.log(np.exp(x - x.max()).sum())</code></details>
#
# **2** (medium, 10 minutes). The gradient of $c \cdot \mathrm{softmax}(x)$ with respect to $x$, for one row in which only some positions are `allowed`. Where nothing is allowed, it is zero.


# %%
def gradient(x, allowed, c):
    return None  # your turn


_ = check("masked_softmax/2", gradient)

# %% [markdown]
# <details><summary>Hint</summary>∂pᵢ/∂xⱼ = pᵢ([i = j] − pⱼ), and a forbidden position has p = 0.</details>
# <details><summary>Solution</summary><code>p = masked_softmax(x, allowed); return p * (c - p @ c)</code></details>
#
# **3** (hard, 15 minutes). Scores arrive in pieces. `pieces` is an iterator over arrays, which can be read once, and there is no room to keep them. Return the logarithm of the sum of all exponentials, safe for scores of ±1,000.


# %%
def log_total(pieces):
    return None  # your turn


_ = check("masked_softmax/3", log_total)

# %% [markdown]
# <details><summary>Hint</summary>Keep the largest score so far, and the sum of exponentials below it. When the largest rises from a to b, the sum shrinks by exp(a − b).</details>
# <details><summary>Solution</summary>
#
# ```python
# def log_total(pieces):
#     peak, total = -np.inf, 0.0
#     for piece in pieces:
#         higher = max(peak, piece.max())
#         total = total * np.exp(peak - higher) + np.exp(piece - higher).sum()
#         peak = higher
#     return peak + np.log(total)
# ```
# </details>
#
# **To discuss.** For a row with nothing allowed, one library returns zeros, one the average of all values, and one NaN. Which would you rather find in a model that people use, and how would you notice each?
#
# ## Summary
#
# - Forbidden positions weigh exactly 0, and a row with nothing allowed is zeros: no average of padding, no NaN.
# - Select, and do it before the peak is taken. Adding a large number may give another result in each format.
# - The scale of the scores decides between averaging and choosing.
#
# **Further reading.** [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762): the softmax in attention. [Milakov and Gimelshein, 2018](https://arxiv.org/abs/1805.02867): the merge of
# exercise 3, over a stream of scores.
