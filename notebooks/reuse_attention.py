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
# # Reuse attention: look where the layer before looked
#
# A layer computes anew where each head looks, although the layer below may just have found out. Here some heads take its answer, and compute only what they make of it.
#
# Paper: [Bhojanapalli et al., 2021](https://arxiv.org/abs/2110.06821) · NumPy: [`reference/reuse_attention.py`](../reference/reuse_attention.py) · Layer:
# [`layers/reuse_attention/`](../layers/reuse_attention/__init__.py) · 25 minutes · You should know: [multi-head attention](attention.ipynb)

# %%
import inspect
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import linear_sum_assignment

from crosscheck.case import TOLERANCE
from crosscheck.cases.reuse_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from crosscheck.weights import weights_of
from layers.reuse_attention import ReuseMultiHeadAttention
from reference import reuse_attention as ref
from reference.attention import multi_head_attention
from reference.common.activations import gelu
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection, dense
from reference.masked_softmax import masked_softmax

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# MiniLM, a small BERT, has six layers of twelve heads. We run it on six sentences and keep what goes into each layer, and where its heads look.

# %%
real = minilm.load()


def part(name, kind):
    kernel, bias = (real.tensors[f"encoder.layer.{name}.{which}"].astype("float64") for which in ("weight", "bias"))
    return kind(kernel.T, bias)


def read(pieces):
    """For each layer its input `(1, t, m)` and its attention weights `(h, t, s)`."""
    x, inputs, maps = minilm.embed(real, pieces), [], []
    for i in range(6):
        inputs.append(x)
        y, attention = multi_head_attention(x, x, minilm.attention_weights(real, i))
        maps.append(attention[0])
        x = layer_norm(x + y, part(f"{i}.attention.output.LayerNorm", LayerNorm))
        y = dense(gelu(dense(x, part(f"{i}.intermediate.dense", Projection))), part(f"{i}.output.dense", Projection))
        x = layer_norm(x + y, part(f"{i}.output.LayerNorm", LayerNorm))
    return inputs, maps


# %%
sentences = (
    "the cat sat on the mat because it was warm .",
    "paris is the capital of france , and berlin is the capital of germany .",
    "she bought a new car last week , but it broke down on the first day .",
    "the book that i read yesterday was written by a famous author .",
    "we went to the market to buy apples , bread and milk for breakfast .",
    "when the rain stopped , the children ran out to play in the garden .",
)
pieces = [minilm.wordpieces(real, sentence) for sentence in sentences]
inputs, maps = zip(*map(read, pieces))

# %% [markdown]
# **Does a layer look where the one below has looked already?** Follow one head of layer 1 upwards, through the heads of layers 2, 3 and 4 that are like it.

# %%
chain = ((1, 2), (2, 10), (3, 10), (4, 1))
fig, axes = plt.subplots(1, 4, figsize=(10.5, 3.4), sharey=True)
for ax, (layer, head) in zip(axes, chain):
    figures.attention_map(ax, maps[0][layer][head], pieces[0], pieces[0], f"layer {layer}, head {head}", largest=0.7)
    ax.set(xlabel="key s", ylabel="query t")
    ax.label_outer()
plt.show()

# %%
heads = [maps[0][layer][head] for layer, head in chain]
assert all(np.minimum(a, b).sum(axis=-1).mean() > 0.6 for a, b in pairwise(heads))
assert all(attention[[2, 6], 0].min() > 0.5 for attention in heads)  # cat and mat, on [CLS]

# %% [markdown]
# Four layers, each with its own queries, keys and $h\,n^2$ scores, have come to much the same weights: "cat" and "mat" rest on `[CLS]`, the other words look about. Neighbors share more than 0.6 of each
# row's weight. Were the last three computations needed?
#
# ## The equation
#
# With $A'$ the weights of the layer before, and $K$ of $H$ heads reused:
#
# $$A_i = \begin{cases} A'_i & i \le K \\ \mathrm{softmax}\!\left(Q_i K_i^\top / \sqrt d + R_i\right) & i > K \end{cases} \tag{1}$$
#
# $$\text{output} = \mathrm{Concat}(A_1 V_1, \dots, A_H V_H)\, W^O \tag{2}$$
#
# and under a mask $M$, a reused row becomes
#
# $$\tilde A_{ts} = \frac{A'_{ts} M_{ts}}{\sum_{s'} A'_{ts'} M_{ts'}} \tag{3}$$
#
# $R_i$, a bias for each distance of key and query (equation 4 of the reference), is there only if asked for; below there is none.
#
# | symbol | name in the code | shape |
# |---|---|---|
# | $A'$ | `reused` | `(b, ≥ K, t, s)` |
# | $Q_i, K_i$, for $i > K$ only | `weights.query`, `weights.key` | `(m, H − K, d)` |
# | $V_i$ | `weights.value_reuse`, `weights.value_new` | `(m, K, e)`, `(m, H − K, e)` |
# | $W^O$ | `weights.attention_output_reuse`, `…_new` | `(K, e, m)`, `(H − K, e, m)` |

# %% [markdown]
# A reused head has values and an output of its own: it may look at the same places and take something else from them. The layer returns its $A$, reused heads first, for the next layer.
#
# ## By hand
#
# One reused head weighs the values 8 and 4 three to one: 7. One new head has no preference: 6. With $W^O = 1$ for both, the output is 13. If the mask forbids the last of
# $\tfrac12, \tfrac14, \tfrac14$, the rest is divided by $\tfrac34$.

# %%
one, none = Projection(np.ones((1, 1, 1))), Projection(np.zeros((1, 1, 4)))
weights = ref.ReuseAttentionWeights(none, none, one, one, one, one, None)
output, _ = ref.reuse_attention(np.ones((1, 1, 1)), np.array([[[8.0], [4.0]]]), weights, np.array([[[[3 / 4, 1 / 4]]]]))
row = ref.renormalized_row(np.array([1 / 2, 1 / 4, 1 / 4]), np.array([True, True, False]))
print("output:", output.item(), " row:", row.round(4).tolist())
assert np.isclose(output.item(), 7 + 6) and np.allclose(row, [2 / 3, 1 / 3, 0])

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.reuse_attention))
print(inspect.getsource(ref.renormalized))

x, before = rng.normal(size=(2, 5, 24)), masked_softmax(rng.normal(size=(2, 6, 5, 5)))
layer = ReuseMultiHeadAttention(6, 8, reuse_attention=2, dtype="float64")
layer(x, x, reuse_attention_scores=before)
weights, mask = weights_of(layer, ref.ReuseAttentionWeights), rng.random((2, 5, 5)) < 0.7
output, attention = ref.reuse_attention(x, x, weights, before, mask=mask)
one_by_one = [
    [ref.reuse_attention_one(x[b, t], x[b], weights, before[b, :, t], mask[b, t], t)[0] for t in range(5)] for b in (0, 1)
]
assert np.allclose(output, one_by_one)
print("head after head and all at once agree")

# %% [markdown]
# ## What it does
#
# **How much of a real model is redundant?** The paper compares two heads by one minus the total variation distance of their rows: 1 if they look at the same places, 0 if they share none. For each head, we take the
# most similar head of another layer, and average over heads.


# %%
def similarity(a, b):
    """For each two heads of maps `(h, t, s)`: 1 − ½ Σ |difference|, averaged over queries."""
    return 1 - np.abs(a[:, None] - b[None]).sum(axis=-1).mean(axis=-1) / 2


def best_matches(maps):
    """For layers i and j: how similar a head of j is, on average, to its best match among the (other) heads of i."""
    table = np.zeros((6, 6))
    for i, j in np.ndindex(6, 6):
        alike = np.mean([similarity(of[i], of[j]) for of in maps], axis=0)
        table[i, j] = np.max(alike - (i == j) * np.eye(12), axis=0).mean()
    return table


def words_only(attention):
    """What is left without [CLS] and [SEP], by equation (3)."""
    words = np.arange(attention.shape[-1]) % (attention.shape[-1] - 1) > 0
    return ref.renormalized(attention[None], words[None, None, None])[0][:, 1:-1]


# %%
shuffled = [[rng.permuted(attention, axis=-1) for attention in of] for of in maps]
tables = {"all keys": best_matches(maps)}
tables["words only"] = best_matches([list(map(words_only, of)) for of in maps])
tables["every row shuffled"] = best_matches(shuffled)
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.1), sharey=True)
for ax, (title, table) in zip(axes, tables.items()):
    image = ax.imshow(table, vmin=0.2, vmax=0.8, origin="lower")
    for i, j in np.ndindex(6, 6):
        ax.text(j, i, f"{table[i, j]:.1f}", ha="center", va="center", fontsize=8, color="white" if table[i, j] < 0.5 else "black")
    ax.set(title=title, xlabel="of a head in layer j")
    ax.grid(False)
axes[0].set_ylabel("best match in layer i")
fig.colorbar(image, ax=axes, label="similarity")
plt.show()

# %% [markdown]
# On the left, the heads of layers 1 to 4 have matches of 0.7 in each other's layers; by chance (right) it would be 0.3. But these layers give more than half of their weight to `[CLS]` and `[SEP]`, where heads rest that have nothing to
# look for. Leave those two out, and 0.6 remains, no higher in neighboring layers than in others.

# %%
middle = tables["all keys"][1:5, 1:5]
resting = [np.mean([of[i][..., [0, -1]].sum(axis=-1).mean() for of in maps]) for i in range(6)]
near, far = (np.mean([tables["words only"].diagonal(k).mean() for k in ks]) for ks in ((1, -1), (2, -2, 3, -3)))
print("weight on [CLS] and [SEP] by layer:", np.round(resting, 1).tolist())
assert middle.min() > 0.64 and tables["every row shuffled"][1:5, 1:5].max() < 0.4 and min(resting[1:5]) > 0.5
assert tables["words only"].mean() < 0.65 and abs(near - far) < 0.05

# %% [markdown]
# So the redundancy is real, and part of it is rest. (The paper measures larger models on more text, and finds neighboring layers most alike.)
#
# **May a trained layer simply borrow?** Give MiniLM's layer 2 weights of layer 1 for 2, 4, … of its heads, without training. Which ones matters: its heads beside their best matches, beginning with the most
# similar; or head $i$ for head $i$. For comparison, heads that look everywhere alike.


# %%
def borrowing(of, targets):
    """MiniLM's layer `of`, with its heads `targets` reused and the others new."""
    weights, rest = minilm.attention_weights(real, of), np.setdiff1d(range(12), targets)
    query, key, value = (Projection(part.kernel[:, rest], part.bias[rest]) for part in weights[:3])
    borrowed = Projection(weights.value.kernel[:, targets], weights.value.bias[targets])
    kernel, bias = weights.attention_output
    return ref.ReuseAttentionWeights(
        query, key, borrowed, value, Projection(kernel[targets], bias), Projection(kernel[rest]), None
    )


def change(of, sources, targets):
    """How far the output moves, relative to how far its tokens are spread; `sources` of None look everywhere alike."""
    moved = spread = 0
    for x, attention in zip(inputs, maps):
        expected, weights = multi_head_attention(x[of], x[of], minilm.attention_weights(real, of))
        before = np.full_like(weights, 1 / weights.shape[-1]) if sources is None else attention[of - 1][None, sources]
        output, _ = ref.reuse_attention(x[of], x[of], borrowing(of, targets), before)
        moved, spread = moved + ((output - expected) ** 2).sum(), spread + ((expected - expected.mean(1)) ** 2).sum()
    return np.sqrt(moved / spread)


# %%
alike = np.mean([similarity(of[1], of[2]) for of in maps], axis=0)
pairs, counts = np.array(linear_sum_assignment(-alike)), (2, 4, 6, 8, 10)
sources, targets = pairs[:, np.argsort(-alike[*pairs])]
changes = {
    "best matches": [change(2, sources[:k], targets[:k]) for k in counts],
    "head i for head i": [change(2, np.arange(k), np.arange(k)) for k in counts],
    "uniform": [change(2, None, targets[:k]) for k in counts],
}

# %%
fig, ax = plt.subplots()
for name, values in changes.items():
    ax.plot(counts, values, label=name)
ax.set(xlabel="reused heads K of 12", ylabel="change of the output / its spread", ylim=(0, None))
ax.legend()
plt.show()

# %% [markdown]
# Well-chosen heads do about half the harm of the others; still, two of them move the output by a quarter of its spread. Similar is not the same, and a trained model cannot simply drop its scores. The paper trains with reuse from the start, where values
# and outputs learn what to make of the weights that they get: the lesson on the [reuse transformer](reuse_transformer.ipynb) does that.

# %%
best, same, uniform = (np.array(values) for values in changes.values())
assert (best[:3] < 0.6 * np.minimum(same, uniform)[:3]).all() and 0.15 < best[0] < 0.4
print("two best matches move the output by", best[0].round(1), "of its spread, six by", best[2].round(1))

# %% [markdown]
# **Which heads are reused all the way up a stack?** The first ones, always the same, because the layer returns reused heads first. If it returned new heads first, the next layer would reuse what was computed last. For each
# head of five layers, the layer that computed its weights:


# %%
def computed_in(new_first):
    """`(layers, h)`, found by looking for each head's weights among all that were returned before."""
    seen, before, found = [], None, []
    for i in range(5):
        layer = ReuseMultiHeadAttention(6, 8, reuse_attention=2 if i else 0, kernel_initializer="random_normal", dtype="float64")
        _, before = layer(x, x, return_attention_scores=True, reuse_attention_scores=before)
        before = np.roll(before, -2, axis=1) if new_first and i else np.asarray(before)
        seen.append(before)
        found.append([next(j for j, past in enumerate(seen) for a in past[0] if np.array_equal(a, head)) for head in before[0]])
    return np.array(found)


ours, theirs = computed_in(new_first=False), computed_in(new_first=True)
print("reused first:", *ours.tolist(), sep="\n")
print("new first:", *theirs.tolist(), sep="\n")
assert (ours[:, :2] == 0).all() and (ours[1:, 2:] == np.arange(1, 5)[:, None]).all()
assert (theirs[2:, 4:] == np.arange(1, 4)[:, None]).all()

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)

# %%
assert all(error < TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **Weights know only the mask they were made under.** Take weights from a layer that sees everything, into one that must not see the future. The Model Garden uses reused weights as they come, and the future leaks through
# them: change the last token, and the outputs of all others change.

# %%
causal, later = np.tril(np.ones((1, 5, 5), bool)), x + np.eye(5)[4, :, None]
source, reusing = (ReuseMultiHeadAttention(6, 8, reuse_attention=k, dtype="float64") for k in (0, -1))
_, everything = source(x, x, return_attention_scores=True)
for name, mask in (("as they come", None), ("equation (3)", causal)):
    before, after = (reusing(y, y, attention_mask=mask, reuse_attention_scores=everything) for y in (x, later))
    changed = (np.asarray(before) != np.asarray(after)).any(axis=(0, 2))
    print(f"{name}: the last token changes outputs", np.flatnonzero(changed))
    assert changed.tolist() == [mask is None] * 4 + [True]

# %% [markdown]
# Equation (3) is more than a repair: it gives exactly what the source would have computed under both masks, since a softmax over fewer keys is the old one divided by what is left.

# %%
scores, first, second = rng.normal(size=(2, 6, 5, 5)), rng.random((2, 1, 5, 5)) < 0.8, rng.random((2, 1, 5, 5)) < 0.6
assert np.allclose(ref.renormalized(masked_softmax(scores, first), second), masked_softmax(scores, first & second))
print("reused under a second mask = computed under both")

# %% [markdown]
# A mistake that no shape reveals: weights of another *input* of the same length. Reuse assumes that both layers see the same tokens.
#
# **Differs from the paper.** All its layers have the same mask, so (3) does not arise; a row with nothing left becomes zeros. Projections have biases. Biases for relative positions, if asked for, are for new heads; a
# reused head has its source's in its weights.
#
# ## What it costs
#
# For $n$ tokens and $e = d$, each reused head saves its query, its key and its scores: $2\,n\,m\,d + n^2 d$ multiply-adds and $2\,(m + 1)\,d$ parameters. Its value, its mixture and its output stay.

# %%
n, m, h, d = 11, 24, 6, 8
x = rng.normal(size=(1, n, m))
before = masked_softmax(rng.normal(size=(1, h, n, n)))
for k in (0, 2, 6):
    layer = ReuseMultiHeadAttention(h, d, reuse_attention=k)
    layer(x, x, reuse_attention_scores=before)
    with multiply_adds() as counted:
        ref.reuse_attention(x, x, weights_of(layer, ref.ReuseAttentionWeights), before)
    measured = sum(counted), layer.count_params()
    formula = 4 * n * m * h * d + 2 * h * n**2 * d, 4 * m * h * d + 3 * h * d + m
    saved = k * (2 * n * m * d + n**2 * d), k * 2 * (m + 1) * d
    assert measured == tuple(full - less for full, less in zip(formula, saved))
    print(f"{k} of {h} heads reused: multiply-adds and parameters {measured}")

# %% [markdown]
# In a whole model the feed-forward layers dilute that. In BERT-base, with $8\,m^2$ of them for each token and layer:

# %%
m, lengths = 768, 2 ** np.arange(7, 15)
fig, ax = plt.subplots()
for reusing in (4, 6, 8):
    saved = reusing * (2 * lengths * m**2 + lengths**2 * m) / (12 * (12 * lengths * m**2 + 2 * lengths**2 * m))
    ax.semilogx(lengths, 100 * saved, base=2, label=f"{reusing} of 12 layers reuse all heads")
ax.set(xlabel="length n", ylabel="multiply-adds saved, in %", ylim=(0, None))
ax.legend()
plt.show()

# %%
at = dict(zip(lengths.tolist(), (100 * 6 / 12 * (2 * m + lengths) / (12 * m + 2 * lengths)).round(1).tolist()))
print(f"6 of 12 layers: {at[512]} % at 512 tokens, {at[4096]} % at 4096")
assert (at[512], at[4096]) == (10.0, 16.2) and round(100 * 6 / 12 * (2 * m + 1e9) / (12 * m + 2e9)) == 25

# %% [markdown]
# If half of the layers reuse: a tenth at 512 tokens, and for ever longer texts a quarter, because mixing the values costs what the scores do. There is also memory: a layer that reuses all heads has no scores of its own to keep for its gradient.
#
# ## Exercises
#
# **1** (easy, 10 minutes). The table above without running anything: layer `i` of a stack reuses its first `reused[i]` heads from the layer before; `reused[0]` is 0. Return `(layers, heads)`, the layer that computed each head's weights.


# %%
def sources_of(reused, heads):
    return None  # your turn


_ = check("reuse_attention/1", sources_of)

# %% [markdown]
# <details><summary>Hint</summary>Each row is the start of the row before it, and then its own number.</details>
# <details><summary>Solution</summary>
#
# ```python
# def sources_of(reused, heads):
#     rows = [[0] * heads]
#     for i, k in enumerate(reused[1:], 1):
#         rows.append(rows[-1][:k] + [i] * (heads - k))
#     return np.array(rows)
# ```
# </details>
#
# **2** (medium, 10 minutes). The reused heads alone: weights `a` `(b, h, t, s)`, of which some are forbidden by `mask`, which broadcasts, and values `v` `(b, s, h, e)`. Return `(b, t, h, e)` by equation (3); zeros where nothing is left.


# %%
def reused_heads(a, mask, v):
    return None  # your turn


_ = check("reuse_attention/2", reused_heads)

# %% [markdown]
# <details><summary>Hint</summary>The sum of a row does not depend on s, so it can wait; its axes then have to become (b, t, h, 1).</details>
# <details><summary>Solution</summary>
#
# ```python
# def reused_heads(a, mask, v):
#     left = a * mask
#     mixed, total = np.einsum("bhts,bshe->bthe", left, v), np.einsum("bhts->bth", left)[..., None]
#     return mixed / np.where(total > 0, total, 1)
# ```
# </details>
#
# **3** (hard, 15 minutes). What reaches the source layer: for one row, the gradient of $c \cdot \tilde A$ with respect to $A$, through equation (3). Where nothing is left, it is zero.


# %%
def gradient(a, allowed, c):
    return None  # your turn


_ = check("reuse_attention/3", gradient)

# %% [markdown]
# <details><summary>Hint</summary>A quotient: both the numerator and the sum below it depend on an allowed weight, and neither on a forbidden one.</details>
# <details><summary>Solution</summary>
#
# ```python
# def gradient(a, allowed, c):
#     left = a * allowed
#     total = left.sum()
#     return allowed * (c - c @ left / total) / total if total > 0 else np.zeros(len(a))
# ```
# </details>
#
# **To discuss.** Two heads of neighboring layers have nearly the same weights. Does that show that the second one is not needed? What experiment would tell, and what would it cost?
#
# ## Summary
#
# - A reused head takes its weights from the layer before and keeps values and output of its own: no query, no key, no scores.
# - Heads of neighboring layers do look alike in a real model, partly because they rest on the same tokens; but similar is not the same, so reuse has to be trained.
# - Reused weights need this layer's mask, and the order of the returned heads decides which of them live on.
#
# **Further reading.** [Bhojanapalli et al., 2021](https://arxiv.org/abs/2110.06821): the paper. [Clark et al., 2019](https://arxiv.org/abs/1906.04341): heads that rest on `[SEP]`.
# [Xiao et al., 2019](https://arxiv.org/abs/1906.11024): sharing attention weights between layers to translate faster.
