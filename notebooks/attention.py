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
# # Multi-head attention
#
# Every position asks all others a question, and gets a mixture of their answers, weighted by how well each fits.
#
# Paper: [Vaswani et al., 2017, section 3.2](https://arxiv.org/abs/1706.03762) · NumPy: [`reference/attention.py`](../reference/attention.py) · Layer:
# [`layers/attention.py`](../layers/attention.py) · 30 minutes · You should know: [masks](self_attention_mask.ipynb), [masked softmax](masked_softmax.ipynb)

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck import figures, pretrained
from crosscheck.case import TOLERANCE
from crosscheck.cases.attention import CHAPTER
from crosscheck.exercises import check
from layers.attention import MultiHeadAttention
from reference import attention as ref
from reference.masked_softmax import masked_softmax

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# In *the cat sat on the mat because it was warm*, what does *it* mean? A convolution or a recurrent network has to carry *mat* over four words to get there. **How far apart may two words be, if the
# distance is to cost nothing?** Here are the scores of one query against keys at every distance: it matches the key 25 places back.

# %%
keys = rng.normal(size=(1, 32, 1, 16))
query = 3 * keys[:, 6:7]
_, weights = ref.attend(query, keys, keys)
fig, ax = plt.subplots(figsize=(6.5, 2.2))
ax.bar(range(32), weights[0, 0, 0], color=figures.COLOURS[0])
ax.set(xlabel="key s", ylabel="weight", title="a query at position 31 that asks for what stands at 6")
plt.show()

# %% [markdown]
# One step reaches the key that fits, wherever it stands.

# %%
assert weights[0, 0, 0].argmax() == 6 and weights[0, 0, 0, 6] > 0.9

# %% [markdown]
# ## The equation
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\Big(\frac{QK^\top}{\sqrt d}\Big)V \tag{1}$$
# $$\mathrm{MultiHead}(Q, K, V) = \mathrm{Concat}(\mathrm{head}_1, \dots, \mathrm{head}_h)\,W^O, \quad \mathrm{head}_i = \mathrm{Attention}(QW_i^Q, KW_i^K, VW_i^V) \tag{2}$$
#
# | symbol | name in the code | shape |
# |---|---|---|
# | $Q W^Q$, $K W^K$, $V W^V$ | `q`, `k`, `v` | `(b, t, h, d)`, `(b, s, h, d)`, `(b, s, h, e)` |
# | softmax(…) | `weights` | `(b, h, t, s)` |
# | $W^Q$, $W^O$ | `weights.query.kernel`, `weights.attention_output.kernel` | `(m, h, d)`, `(h, e, m)` |

# %% [markdown]
# ## By hand
#
# $d = 4$, so scores are halved. One query, two keys with $q \cdot k = 2\ln 3$ and $0$: the weights are $3/4$ and $1/4$. With values 8 and 4 the answer is 7.

# %%
q, k, v = np.array([2 * np.log(3), 0, 0, 0]), np.eye(4)[:2], np.array([[8.0], [4.0]])
answer = ref.attend_one(q, k, v)
print(answer.round(6).tolist())
assert np.allclose(answer, 7, rtol=1e-15)

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.attend))

# %%
q, k, v = (rng.normal(size=shape) for shape in ((2, 3, 4, 7), (2, 5, 4, 7), (2, 5, 4, 13)))
output, _ = ref.attend(q, k, v)
for b, t, h in np.ndindex(2, 3, 4):
    assert np.allclose(output[b, t, h], ref.attend_one(q[b, t, h], k[b, :, h], v[b, :, h]), rtol=1e-13)
print("one query at a time and all at once agree")

# %% [markdown]
# ## What it does
#
# **Why divide by $\sqrt d$?** Queries and keys of independent unit-variance numbers: their product has variance $d$. Measure how evenly 32 keys share the weight, and how much gradient passes.


# %%
def entropy_and_slope(scores):
    p = masked_softmax(scores)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(-1).mean() / np.log(scores.shape[-1])
    squares = (p**2).sum(-1)  # ‖diag(p) − p pᵀ‖², the softmax's Jacobian, is Σp² − 2Σp³ + (Σp²)²
    return entropy, np.sqrt(np.maximum(squares - 2 * (p**3).sum(-1) + squares**2, 0)).mean()


sizes, measured = (4, 16, 64, 256, 1024), []
for d in sizes:
    products = np.einsum("td,tsd->ts", rng.normal(size=(1000, d)), rng.normal(size=(1000, 32, d)))
    measured.append((*entropy_and_slope(products), *entropy_and_slope(products / np.sqrt(d)), products.var() / d))
e_raw, s_raw, e_scaled, s_scaled, variance = np.transpose(measured)

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 2.8))
for ax, raw, scaled, name in zip(axes, (e_raw, s_raw), (e_scaled, s_scaled), ("entropy / log s", "size of the Jacobian")):
    ax.semilogx(sizes, raw, label="q·k")
    ax.semilogx(sizes, scaled, label="q·k / √d")
    ax.set(xlabel="key size d", ylabel=name, ylim=(0, None))
    ax.legend()
plt.show()

# %% [markdown]
# Unscaled, wide heads become one-hot at the start and pass almost no gradient; divided by $\sqrt d$ they behave the same at every size.

# %%
print(
    "variance / d:",
    variance.round(1).tolist(),
    " entropy unscaled:",
    e_raw.round(1).tolist(),
    " scaled:",
    e_scaled.round(1).tolist(),
)
assert np.allclose(variance, 1, atol=0.05)
assert e_raw[-1] < 0.1 and s_raw[-1] < 0.1 and np.ptp(e_scaled) < 0.1 and np.ptp(s_scaled) < 0.1

# %% [markdown]
# **Why more than one head?** The paper's Table 3 (A) compares head counts at equal size: 1 head 24.9 BLEU, 8 heads 25.8. In miniature: each position must copy the token *before* it and the token *three after*
# it. One softmax makes one mixture; two places need two. The number of parameters is the same for every head count.

# %%
V, T, M = 16, 16, 64


class CopyTwo(keras.Model):
    def __init__(self, heads):
        super().__init__()
        start = keras.initializers.RandomNormal(stddev=1.0, seed=1)
        self.tokens, self.positions = (keras.layers.Embedding(V, M, embeddings_initializer=start) for _ in range(2))
        self.attention = MultiHeadAttention(heads, M // heads, use_bias=False)
        self.logits = keras.layers.Dense(2 * V)

    def call(self, ids):
        x = self.tokens(ids) + self.positions(keras.ops.arange(T))
        return keras.ops.reshape(self.logits(self.attention(x, x)), (-1, T, 2, V))


def targets(ids):
    return np.stack([np.roll(ids, 1, axis=1), np.roll(ids, -3, axis=1)], axis=-1)


# %%
def train(heads, steps=300):
    keras.utils.set_random_seed(0)
    model, ids = CopyTwo(heads), rng.integers(0, V, (64 * steps, T))
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(ids, targets(ids), batch_size=64, verbose=0)
    test = rng.integers(0, V, (256, T))
    return (model.predict(test, verbose=0).argmax(-1) == targets(test)).mean(), model.count_params()


heads = (1, 2, 8)
accuracy, parameters = np.transpose([train(h) for h in heads])

# %%
fig, ax = plt.subplots(figsize=(5, 2.6))
ax.bar([str(h) for h in heads], accuracy, color=figures.COLOURS[0])
ax.axhline(1 / V, color="black", linestyle="--", marker="none", label="guessing")
ax.set(xlabel="heads h", ylabel="accuracy", ylim=(0, 1.05))
ax.legend()
plt.show()

# %% [markdown]
# One head gets about half right, however long it trains; two are enough, and eight do as well.

# %%
print("heads that copy both tokens:", [h for h, a in zip(heads, accuracy) if a > 0.97], " same size:", len(set(parameters)) == 1)
assert accuracy[0] < 0.65 and (accuracy[1:] > 0.97).all() and len(set(parameters)) == 1

# %% [markdown]
# **What do real heads do?** Layer 0 of all-MiniLM-L6-v2, a model with 12 heads trained on a billion sentence pairs, on the sentence from above.

# %%
model = pretrained.load()
pieces = pretrained.wordpieces(model, "the cat sat on the mat because it was warm .")
x = pretrained.embed(model, pieces)
_, weights = ref.multi_head_attention(x, x, pretrained.attention_weights(model, layer=0))
real = weights[0]
looks = {
    "the token before": np.array([np.diagonal(head, -1).mean() for head in real]),
    "itself": np.array([np.diagonal(head).mean() for head in real]),
    "[SEP]": real[:, :, -1].mean(axis=1),
}

# %%
fig, axes = plt.subplots(1, 3, figsize=(10, 3.6))
for ax, (what, by_head) in zip(axes, looks.items()):
    head = by_head.argmax()
    figures.attention_map(ax, real[head], pieces, pieces, f"head {head}: {what}")
plt.show()

# %% [markdown]
# Head 2 reads the token before, and nothing else: a copy head, as in the miniature. Head 8 is the one that looks most at its own token, well over twice an even share; and head 0 rests on `[SEP]` with
# twice an even share. These two are tendencies, not rules.

# %%
even = 1 / len(pieces)
best = {what: int(by_head.argmax()) for what, by_head in looks.items()}
print(best)
assert best == {"the token before": 2, "itself": 8, "[SEP]": 0}
assert looks["the token before"][2] > 0.99 and looks["itself"][8] > 2.5 * even and looks["[SEP]"][0] > 2 * even

# %% [markdown]
# ## Does the layer agree?
#
# The last case is layer 0 of the real model, on two real sentences.

# %%
errors = figures.agreement_plot(CHAPTER)

# %%
assert all(error < TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **A flag that changes the numbers.** Ask Keras's own layer for its scores, in order to plot them, and a query that may attend to nothing gets another output: without scores the mean of the values, with
# scores zero. (Its two paths treat such a row differently.)

# %%
x, nothing = rng.normal(size=(1, 3, 8)).astype("float32"), np.zeros((1, 3, 3), bool)


def change_by_asking(layer):
    plain, (asked, _) = layer(x, x, attention_mask=nothing), layer(x, x, attention_mask=nothing, return_attention_scores=True)
    return np.abs(np.asarray(plain) - np.asarray(asked)).max()


keras.utils.set_random_seed(0)
theirs, ours = (change_by_asking(kind(num_heads=2, key_dim=4)) for kind in (keras.layers.MultiHeadAttention, MultiHeadAttention))
print("Keras changes its output:", theirs > 1e-3, " ours:", ours > 0)
assert theirs > 1e-3 and ours == 0

# %% [markdown]
# **Differs from the paper.** Ours gives zeros either way, which the paper leaves open; projections may have biases.
#
# ## What it costs
#
# Projections take $t\,m\,h\,d$ multiply-adds each, four of them; scores and mixture $t\,s\,h\,d$ each. Here $s = t$ and $h\,d = m$.


# %%
def multiply_adds(t, m):
    """Four projections, scores, mixture: by formula."""
    return 4 * t * m * m, 2 * t * t * m


def counted(t, h, d):
    """The same, from the sizes of what the reference multiplies: outputs times the axis that is summed away."""
    m, scores, heads = h * d, h * t * t, t * h * d
    return 3 * heads * m + t * m * (h * d), scores * d + heads * t


assert all(sum(multiply_adds(t, 8 * 64)) == sum(counted(t, 8, 64)) for t in (16, 512, 4096))
layer = MultiHeadAttention(num_heads=8, key_dim=64)
layer.build((1, 1, 512), (1, 1, 512))
assert layer.count_params() == 4 * 512 * 512 + 4 * 512
print("parameters, 8 heads of 64:", layer.count_params())

# %%
lengths = 2 ** np.arange(6, 14)
fig, ax = plt.subplots()
ax.loglog(lengths, [multiply_adds(t, 512)[0] for t in lengths], label="projections")
ax.loglog(lengths, [multiply_adds(t, 512)[1] for t in lengths], label="scores and mixture")
ax.set(xlabel="length t", ylabel="multiply-adds", title="m = 512: they meet at t = 2 m")
ax.legend()
plt.show()
assert multiply_adds(1024, 512)[0] == multiply_adds(1024, 512)[1]

# %% [markdown]
# ## Exercises
#
# **1** (easy, 10 minutes). Attention of one query without any loop.


# %%
def attend_one(q, k, v):
    return None  # your turn


_ = check(ref.attend_one, attend_one, {"q": (7,), "k": (5, 7), "v": (5, 13)})

# %% [markdown]
# <details><summary>Hint</summary>k @ q are all scores at once.</details>
# <details><summary>Solution</summary><code>masked_softmax(k @ q / np.sqrt(len(q))) @ v</code></details>
#
# **2** (medium, 10 minutes). Show that shuffled keys change nothing: return the output for keys and values in the order `order`.


# %%
def shuffled(q, k, v, order):
    return None  # your turn


_ = check(
    lambda q, k, v, order: ref.attend(q, k, v)[0],
    shuffled,
    {"q": (1, 3, 2, 4), "k": (1, 5, 2, 4), "v": (1, 5, 2, 6), "order": [4, 2, 0, 1, 3]},
)

# %% [markdown]
# <details><summary>Hint</summary>Both k and v have to be indexed along s.</details>
# <details><summary>Solution</summary><code>ref.attend(q, k[:, order], v[:, order])[0]</code></details>
#
# **3** (harder, 15 minutes). Fold the output projection into the values: equation (2) is a sum over heads. Return the output from `heads` of shape (b, t, h, e) and the kernel (h, e, m), by a loop over heads.


# %%
def sum_over_heads(heads, kernel):
    return None  # your turn


_ = check(
    lambda heads, kernel: np.einsum("bthe,hem->btm", heads, kernel), sum_over_heads, {"heads": (2, 3, 4, 5), "kernel": (4, 5, 7)}
)

# %% [markdown]
# <details><summary>Hint</summary>Concatenation followed by one matrix is a sum of smaller products.</details>
# <details><summary>Solution</summary><code>sum(heads[:, :, h] @ kernel[h] for h in range(len(kernel)))</code></details>
#
# ## Summary
#
# - One query weighs all keys by how well they fit and mixes their values; distance costs nothing.
# - $\sqrt d$ keeps the softmax from choosing before it has learned; a head is one mixture, so two places need two heads.
# - A query that may attend to nothing gets zeros, and asking for scores changes nothing.
#
# **Further reading.** [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762): Table 3 for heads and sizes. [Clark et al., 2019](https://arxiv.org/abs/1906.04341): what BERT's heads look at.
# [Michel et al., 2019](https://arxiv.org/abs/1905.10650): how many of them are needed.
