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
# A layer computes anew where each head looks, although the layer below has computed something similar. Here some heads take the weights of the layer below, and have only values and outputs of their own.
#
# Paper: [Bhojanapalli et al., 2021](https://arxiv.org/abs/2110.06821) · NumPy: [`reference/reuse_attention.py`](../reference/reuse_attention.py) · Layer:
# [`layers/reuse_attention/`](../layers/reuse_attention/__init__.py) · 30 minutes · You should know: [multi-head attention](attention.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import linear_sum_assignment

from crosscheck.cases.reuse_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from crosscheck.weights import weights_of
from experiments.common import novel
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
# **Do layers compute the same weights twice?** MiniLM, a small trained model, has six layers of twelve heads. It reads sentences of a novel, with a mark `[CLS]` before each and `[SEP]` after it. We keep the input of each layer, and its weights.

# %%
real = minilm.load()


def part(name, kind):
    kernel, bias = (real.tensors[f"encoder.layer.{name}.{which}"].astype("float64") for which in ("weight", "bias"))
    return kind(kernel.T, bias)


# %%
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


# %% [markdown]
# We take twenty **pairs** of sentences with equally many pieces. The second of each pair will serve as a null: what is alike between layers that read *different* sentences cannot come from what a sentence says.

# %%
by_length = {}
for text in novel.TEXT.split(".")[200:1000]:
    if 60 < len(text) < 140:
        pieces = minilm.wordpieces(real, text.replace("\n", " ").strip())
        by_length.setdefault(len(pieces), []).append(pieces)
pairs = [(found[k], found[k + 1]) for found in by_length.values() for k in range(0, len(found) - 1, 2)][:20]
inputs, maps = zip(*(read(first) for first, _ in pairs))
others = [read(second)[1] for _, second in pairs]

# %% [markdown]
# The similarity of two heads is the overlap of the rows of their weights: 1 if the rows are equal, 0 if they share no place. (This is one minus the total variation distance, which the paper uses.) Of all pairs of heads from layers 1 and 2, these are
# the two that are most alike, on average over the sentences:


# %%
def similarity(a, b):
    """For each two heads of maps `(h, t, s)`: 1 − ½ Σ |difference|, averaged over queries."""
    return 1 - np.abs(a[:, None] - b[None]).sum(axis=-1).mean(axis=-1) / 2


alike = np.mean([similarity(of[1], of[2]) for of in maps], axis=0)
one, two = np.unravel_index(alike.argmax(), alike.shape)

# %%
tokens = pairs[0][0]
titles = (f"layer 1, head {one}", f"layer 2, head {two}: much the same")
figures.maps((maps[0][1][one], maps[0][2][two]), titles, "weight", 0.5, tokens, tokens, size=(8.5, 4.2))
figures.show()
each = [similarity(of[1], of[2])[one, two] for of in maps]
print(f"overlap in {len(each)} sentences: {min(each):.2f} to {max(each):.2f}; any two heads of these layers: {alike.mean():.2f}")
assert min(each) > alike.mean()

# %% [markdown]
# Did the second have to be computed?
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {
    "before": Box("$A'$ of the layer below", 0, 1.5, "data", 1.6),
    "x": Box("input", 1.7, 0, "data"),
    "q": Box("$Q_i, K_i$", 1.2, 1, "map"),
}
boxes |= {
    "v": Box("$V_i$", 2.4, 1, "map"),
    "softmax": Box("softmax", 1.2, 2),
    "join": Box("first K, then new", 0.6, 3, width=1.4),
}
boxes |= {
    "mix": Box("mix values", 1.5, 4),
    "o": Box("$W^O$", 1.5, 5, "map"),
    "output": Box("output", 1.5, 6, "data"),
    "next": Box("$A$ for the layer above", 0, 4.5, "data", 1.6),
}
arrows = [
    ("before", "join", "(b, K, t, s)"),
    ("x", "q", ""),
    ("x", "v", "(b, t, m)"),
    ("q", "softmax", ""),
    ("softmax", "join", "(b, H − K, t, s)"),
]
arrows += [
    ("join", "mix", "(b, H, t, s)"),
    ("join", "next", ""),
    ("v", "mix", "(b, s, H, e)"),
    ("mix", "o", "(b, t, H, e)"),
    ("o", "output", "(b, t, m)"),
]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
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
#
# Step by step: one row of reused weights under a mask; then the heads of a layer, of which the first two are reused.

# %%
reused, allowed = np.array([0.5, 0.25, 0.25]), np.array([True, True, False])
kept = reused * allowed
print("what the mask leaves:", kept, " divided by its sum:", (kept / kept.sum()).round(3))
assert np.allclose(kept / kept.sum(), ref.renormalized_row(reused, allowed))

# %%
print(inspect.getsource(ref.reuse_attention))
print(inspect.getsource(ref.renormalized))

# %%
x, before = rng.normal(size=(2, 5, 24)), masked_softmax(rng.normal(size=(2, 6, 5, 5)))
layer = ReuseMultiHeadAttention(6, 8, reuse_attention=2, dtype="float64")
layer(x, x, reuse_attention_scores=before)
weights, mask = weights_of(layer, ref.ReuseAttentionWeights), rng.random((2, 5, 5)) < 0.7
output, attention = ref.reuse_attention(x, x, weights, before, mask=mask)
one_by_one = [
    [ref.reuse_attention_one(x[b, t], x[b], weights, before[b, :, t], mask[b, t], t)[0] for t in range(5)] for b in (0, 1)
]
assert np.allclose(output, one_by_one)

# %% [markdown]
# ## What it does
#
# **How much of a real model is redundant?** For each head, we take the most similar head of another layer, and average over heads. `[CLS]` and `[SEP]` are left out by equation (3), since heads that have nothing to look for rest there. Against that stand two nulls: any two heads,
# and the best match among the heads of a layer that reads **another sentence** of the same length.


# %%
def words_only(attention):
    """What is left without [CLS] and [SEP], by equation (3)."""
    words = np.arange(attention.shape[-1]) % (attention.shape[-1] - 1) > 0
    return ref.renormalized(attention[None], words[None, None, None])[0][:, 1:-1]


def at_distance(d, of, other):
    """(best match, any two heads, best match of another sentence), averaged over layers that are d apart."""
    same = [similarity(of[i], of[i + d]) for i in range(6 - d)]
    null = [similarity(other[i], of[i + d]) for i in range(6 - d)]
    return np.mean([x.max(0).mean() for x in same]), np.mean([x.mean() for x in same]), np.mean([x.max(0).mean() for x in null])


# %%
words = [[list(map(words_only, found)) for found in pair] for pair in zip(maps, others)]
table = np.array([[at_distance(d, *pair) for d in range(1, 6)] for pair in words])  # (sentences, distances, 3)


# %%
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for column, name in enumerate(("best match", "any two heads", "best match of another sentence")):
    values = table[:, :, column]
    (line,) = ax.plot(range(1, 6), np.median(values, axis=0))
    ax.fill_between(range(1, 6), values.min(0), values.max(0), color=line.get_color(), alpha=0.2, linewidth=0)
    ax.annotate(
        name,
        (5, np.median(values[:, -1])),
        (8, (12, 0, -4)[column]),
        textcoords="offset points",
        color=line.get_color(),
        va="center",
    )
ax.set(xlabel="distance of the two layers", ylabel="overlap of weights on words", ylim=(0, 1), xticks=range(1, 6))
ax.set_title("most of the likeness is also there with another sentence")
figures.show()

# %%
excess = table[:, :, 0] - table[:, :, 2]
for d, of in enumerate(excess.T, 1):
    print(
        f"distance {d}: overlap {np.median(table[:, d - 1, 0]):.2f}, of which the sentence explains {of.min():.2f} to {of.max():.2f}, median {np.median(of):.2f}"
    )
elsewhere = np.median(table[:, 0, 2] / table[:, 0, 0])
print(f"share of the overlap at distance 1 that is there with another sentence, median: {elsewhere:.2f}")
assert excess[:, 0].min() > 0 and (excess[:, 0] > excess[:, 1:].max(axis=1)).all()

# %% [markdown]
# Heads of neighboring layers overlap by 0.6. But nearly nine tenths of that is there as well when the two layers read different sentences: it does not depend on what the sentence says. What the sentence itself explains is small and, as the
# paper reports, largest between **neighboring** layers, in each of these twenty sentences. The paper measures larger models, which may have more of it.
#
# **Can a trained layer simply borrow?** We give MiniLM's layer 2 weights of layer 1 for 2, 4, … of its heads, without training. In the first curve, each head gets the weights of its best match, and the most similar heads
# come first. In the second, head $i$ gets those of head $i$. In the third, the heads of the first curve look everywhere alike.


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


# %%
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
def matches(of):
    """Heads of the layer below and the heads of layer `of` that they match, the most similar first; chosen on other sentences."""
    alike = np.mean([similarity(found[of - 1], found[of]) for found in others], axis=0)
    matched = np.array(linear_sum_assignment(-alike))
    return matched[:, np.argsort(-alike[*matched])]


# %%
(sources, targets), counts = matches(2), (2, 4, 6, 8, 10)
changes = {
    "best matches": [change(2, sources[:k], targets[:k]) for k in counts],
    "head i for head i": [change(2, np.arange(k), np.arange(k)) for k in counts],
    "uniform": [change(2, None, targets[:k]) for k in counts],
}

# %%
fig, ax = plt.subplots()
for name, values in changes.items():
    (line,) = ax.plot(counts, values)
    ax.annotate(name, (counts[-1], values[-1]), (8, 0), textcoords="offset points", color=line.get_color(), va="center")
ax.set(xlabel="reused heads K of 12", ylabel="change of the output / its spread", ylim=(0, None))
ax.set_title("a trained layer cannot simply borrow")
figures.show()

# %%
for k, *row in zip(counts, *changes.values()):
    print(f"{k:2} heads: " + ", ".join(f"{name} {value:.2f}" for name, value in zip(changes, row)))
best, same, uniform = (np.array(values) for values in changes.values())
assert (best < np.minimum(same, uniform)).all() and (np.diff(best) > 0).all()

# %% [markdown]
# In layer 2, the best matches do the least harm. Still, two of them move the output by more than a third of its spread, and six by more than half. The other layers, with six heads:

# %%
six = {}
for of in range(1, 6):
    sources, targets = matches(of)
    six[of] = change(of, sources[:6], targets[:6]), change(of, None, targets[:6])
    print(f"layer {of}, six heads: best matches {six[of][0]:.2f}, uniform {six[of][1]:.2f}")
assert best[0] > 1 / 3 and min(borrowed for borrowed, _ in six.values()) > 1 / 2

# %% [markdown]
# The output moves by more than half of its spread in every layer. In layer 1 the best matches do more harm than uniform weights, and in layer 5 hardly less. Similar is not the same, and a trained model cannot simply drop its scores.
# The paper trains with reuse from the start, so that values and outputs can adapt to the weights that they get: the lesson on the [reuse transformer](reuse_transformer.ipynb) does that.

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
    (line,) = ax.semilogx(lengths, 100 * saved, base=2)
    ax.annotate(
        f"{reusing} of 12 layers reuse",
        (lengths[-1], 100 * saved[-1]),
        (6, 0),
        textcoords="offset points",
        color=line.get_color(),
    )
ax.set(xlabel="length n", ylabel="multiply-adds saved, in %", ylim=(0, None), title="the longer the text, the more is saved")
figures.show()

# %%
at = dict(zip(lengths.tolist(), (100 * 6 / 12 * (2 * m + lengths) / (12 * m + 2 * lengths)).round(1).tolist()))
print(f"6 of 12 layers: {at[512]} % at 512 tokens, {at[4096]} % at 4096")
assert (at[512], at[4096]) == (10.0, 16.2) and round(100 * 6 / 12 * (2 * m + 1e9) / (12 * m + 2e9)) == 25

# %% [markdown]
# If half of the layers reuse: a tenth at 512 tokens, and for ever longer texts a quarter, because mixing the values costs what the scores do. There is also memory: a layer that reuses all heads has no scores of its own to keep for its gradient.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# No large public model reuses attention weights between layers in this way. What is shared today are keys and values: within a layer by groups of heads ([Ainslie et al., 2023](https://arxiv.org/abs/2305.13245)), and between neighboring layers as cross-layer attention
# ([Brandon et al., 2024](https://arxiv.org/abs/2405.12981)), which saves memory while decoding. Sharing whole weights was studied in LazyFormer ([Ying et al., 2021](https://arxiv.org/abs/2102.12702)).
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
# - Heads of neighboring layers look alike in a real model, but for the most part they also do when they read different sentences. Similar is not the same, so reuse has to be trained.
# - Reused weights need this layer's mask, and the order of the returned heads decides which of them live on.
#
# **Further reading.** [Bhojanapalli et al., 2021](https://arxiv.org/abs/2110.06821): the paper. [Clark et al., 2019](https://arxiv.org/abs/1906.04341): heads that rest on `[SEP]`.
# [Xiao et al., 2019](https://arxiv.org/abs/1906.11024): sharing attention weights between layers to translate faster.
