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
# # Multi-head attention: ask everyone, mix the answers
#
# Every position asks all others a question, and takes a mixture of their answers, weighted by how well each fits the question.
#
# Paper: [Vaswani et al., 2017, section 3.2](https://arxiv.org/abs/1706.03762) · NumPy: [`reference/attention.py`](../reference/attention.py) · Layer:
# [`layers/attention.py`](../layers/attention.py) · 30 minutes · You should know: matrix products, and [masked softmax](masked_softmax.ipynb)

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.lesson.training import fit
from crosscheck.models import minilm
from crosscheck.weights import weights_of
from layers.attention import MultiHeadAttention
from reference import attention as ref
from reference.common.projection import into_heads
from reference.masked_softmax import masked_softmax

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# Twelve queries each need what stands beside one of twelve keys, another one in every example. A convolution or a linear layer mixes positions with weights that are **the same for every
# example**. How far does it get? Its best weights, in the mean square, are the average over examples of the weights that were wanted.

# %%
wanted = np.eye(12)[rng.permutation(12)]
fixed = np.mean([np.eye(12)[rng.permutation(12)] for _ in range(2000)], axis=0)
keys = rng.normal(size=(12, 64))
queries = wanted @ keys + 0.3 * rng.normal(size=(12, 64))
_, found = ref.attend(queries[None, :, None], keys[None, :, None], keys[None, :, None])

fig, axes = plt.subplots(1, 3, figsize=(8, 2.8), sharey=True)
for ax, weights, title in zip(axes, (wanted, fixed, found[0, 0]), ("wanted", "fixed weights", "attention")):
    figures.attention_map(ax, weights, title=title, largest=1)
    ax.label_outer()
plt.show()
assert np.abs(fixed - 1 / 12).max() < 0.03
assert (found[0, 0].argmax(axis=-1) == wanted.argmax(axis=-1)).all() and (found * wanted).sum(axis=-1).min() > 0.9
print("every query finds its key, with more than 0.9 of its weight")

# %% [markdown]
# Fixed weights give each key its twelfth, which says nothing. Attention computes its weights **from the example itself**, and finds every key.
#
# ## The equation
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt d}\right) V \tag{1}$$
#
# $$\mathrm{MultiHead}(Q, K, V) = \mathrm{Concat}(\mathrm{head}_1, \dots, \mathrm{head}_h)\, W^O, \qquad \mathrm{head}_i = \mathrm{Attention}(Q W_i^Q, K W_i^K, V W_i^V) \tag{2}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $Q, K, V$ | questions, labels, answers | `q`, `k`, `v` | `(b, t, h, d)`, `(b, s, h, d)`, `(b, s, h, e)` |
# | $W_i^Q, W_i^K$ | what head $i$ asks, what it answers to | `weights.query`, `weights.key` | `(m, h, d)` |
# | $W_i^V$ | what head $i$ answers | `weights.value` | `(m, h, e)` |
# | $W^O$ | what becomes of the answers | `weights.attention_output` | `(h, e, m)` |
#
# The heads are an axis of the weights, not a loop.
#
# ## By hand
#
# Let $d = 4$, so that scores are halved. Two keys with $q \cdot k = 2 \ln 3$ and $0$ have scores $\ln 3$ and $0$, so they weigh 3 to 1. Values 8 and 4 mix to $\tfrac34 \cdot 8 + \tfrac14 \cdot 4 = 7$.
# A query twice as long asks more sharply: $2 \ln 3$ and $0$ weigh 9 to 1, and mix to $7.6$.

# %%
q = np.array([2 * np.log(3), 0, 0, 0])
k, v = np.eye(4)[:2], np.array([[8.0], [4.0]])
print("mixed:", ref.attend_one(q, k, v).round(3), " asked twice as loudly:", ref.attend_one(2 * q, k, v).round(3))
assert np.isclose(ref.attend_one(q, k, v).item(), 7)
assert np.isclose(ref.attend_one(2 * q, k, v).item(), 7.6)

# %% [markdown]
# ## In NumPy

# %%
print(inspect.getsource(ref.attend))
print(inspect.getsource(ref.multi_head_attention))

q, k, v = rng.normal(size=(2, 3, 4, 7)), rng.normal(size=(2, 5, 4, 7)), rng.normal(size=(2, 5, 4, 6))
output, _ = ref.attend(q, k, v)
assert all(np.allclose(output[b, t, h], ref.attend_one(q[b, t, h], k[b, :, h], v[b, :, h])) for b, t, h in np.ndindex(2, 3, 4))
print("all queries of all heads at once and one by one agree")

# %% [markdown]
# ## What it does
#
# **Why divide by $\sqrt d$?** Products of $d$ random numbers add up to a variance of $d$. What does a softmax make of that? Two measures: the entropy of the weights (1 is uniform, 0 is one key
# alone) and the size of the softmax's Jacobian, through which every gradient has to pass.


# %%
def spread(q, k):
    """Normalized entropy of the weights, and norm of the Jacobian ∂weights/∂scores, averaged over queries."""
    _, p = ref.attend(q, k, k)
    entropy = -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1) / np.log(p.shape[-1])
    jacobian = p[..., :, None] * (np.eye(p.shape[-1]) - p[..., None, :])
    return entropy.mean(), np.sqrt((jacobian**2).sum(axis=(-2, -1))).mean()


sizes = (4, 16, 64, 256, 1024)
drawn = [(rng.normal(size=(200, 10, 1, d)), rng.normal(size=(200, 32, 1, d))) for d in sizes]
variances = [np.einsum("bthd,bshd->bhts", q, k).var() / d for d, (q, k) in zip(sizes, drawn)]
scaled = np.array([spread(q, k) for q, k in drawn])
unscaled = np.array([spread(q * np.sqrt(d), k) for d, (q, k) in zip(sizes, drawn)])
print("variance of q·k over d:", np.round(variances, 1))
assert 0.9 < min(variances) and max(variances) < 1.1

# %%
fig, axes = plt.subplots(1, 2, figsize=(7.5, 2.9))
for ax, column, name in zip(axes, (0, 1), ("normalized entropy", "norm of the Jacobian")):
    ax.semilogx(sizes, scaled[:, column], base=2, label=r"divided by $\sqrt{d}$")
    ax.semilogx(sizes, unscaled[:, column], base=2, label="not divided")
    ax.set(xlabel="key size d", ylabel=name, ylim=(0, None))
axes[0].legend()
plt.show()

# %% [markdown]
# Undivided, a wide head starts with nearly all weight on one key and passes little gradient: it cannot learn to look elsewhere. Divided, it starts the same at every width.

# %%
assert np.ptp(scaled[1:], axis=0).max() < 0.02 and (scaled[1:, 0] > 0.85).all()
assert unscaled[-1, 0] < 0.05 and unscaled[-1, 1] < scaled[-1, 1] / 3

# %% [markdown]
# **Why several heads?** In the paper's Table 3, row (A), one head of full width translates worse than eight narrow ones of the same total cost: 24.9 BLEU against 25.8. A small task shows
# why: from one attention layer, each position must report **two** tokens, the one before it and the one three after it.

# %%
n, m = 16, 64


class Copier(keras.Model):
    def __init__(self, heads):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.token, self.place = (keras.layers.Embedding(n, m, embeddings_initializer=normal) for _ in range(2))
        self.attention = MultiHeadAttention(num_heads=heads, key_dim=m // heads)
        self.logits = keras.layers.Dense(2 * n)

    def call(self, ids, return_attention_scores=False):
        x = self.token(ids) + self.place(keras.ops.arange(n))
        heads, scores = self.attention(x, x, return_attention_scores=True)
        logits = keras.ops.reshape(self.logits(heads), (-1, n, 2, n))
        return (logits, scores) if return_attention_scores else logits


# %%
ids = rng.integers(0, n, (19_200 + 512, n))
answers = np.stack([np.roll(ids, 1, axis=1), np.roll(ids, -3, axis=1)], axis=-1)
accuracy, maps, parameters = {}, {}, set()
for heads in (1, 2, 8):
    keras.utils.set_random_seed(0)
    model = Copier(heads)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fit(model, ids[:-512], answers[:-512], batch_size=64)
    logits, scores = model(ids[-512:], return_attention_scores=True)
    accuracy[heads] = np.mean(np.argmax(logits, axis=-1) == answers[-512:])
    maps[heads] = np.mean(scores, axis=0)
    parameters.add(model.count_params())

print(f"{parameters.pop()} parameters each; accuracy:", {heads: round(float(a), 1) for heads, a in accuracy.items()})
assert not parameters and accuracy[1] < 0.65 and min(accuracy[2], accuracy[8]) > 0.97

# %%
fig, axes = plt.subplots(1, 3, figsize=(8.5, 2.9), sharey=True)
pictures = (maps[1][0], maps[2][0], maps[2][1])
for ax, picture, title in zip(axes, pictures, ("the only head", "two heads: the first", "two heads: the second")):
    figures.attention_map(ax, picture, title=title, largest=1)
    ax.label_outer()
plt.show()

# %% [markdown]
# One softmax is one distribution. A lone head has to put two tokens into one average, which does not say which was which: a guess is right half the time, and always when both are equal, so
# $\tfrac12 \cdot \tfrac{15}{16} + \tfrac1{16} = \tfrac{17}{32}$. Two heads look at one place each.

# %%
offsets = [np.eye(n)[(np.arange(n) + shift) % n] for shift in (-1, 3)]
assert abs(accuracy[1] - 17 / 32) < 0.02
assert sorted(max(range(2), key=lambda i: (head * offsets[i]).sum()) for head in maps[2]) == [0, 1]
assert all(max((head * offset).sum(axis=-1).mean() for offset in offsets) > 0.9 for head in maps[2])

# %% [markdown]
# **What do the heads of a real model ask?** Layer 0 of MiniLM, a small BERT that was trained on a billion pairs of sentences, reads a sentence with repeated words. For each of its twelve heads: how much
# weight do queries give, on average, to the token before, to themselves, and so on?

# %%
real = minilm.load()
weights = minilm.attention_weights(real, layer=0)


def look(pieces):
    """The weights `(h, t, s)`, and for each head its average weight on six kinds of keys."""
    x, n = minilm.embed(real, pieces), len(pieces)
    attention = ref.multi_head_attention(x, x, weights)[1][0]
    kinds = {"previous": np.eye(n, k=-1), "itself": np.eye(n), "next": np.eye(n, k=1)}
    kinds |= {"[CLS]": np.tile(np.eye(n)[0], (n, 1)), "[SEP]": np.tile(np.eye(n)[-1], (n, 1))}
    kinds["same word\nelsewhere"] = np.equal.outer(pieces, pieces) & ~np.eye(n, dtype=bool)
    rows = {kind: keys.any(axis=-1) for kind, keys in kinds.items()}  # queries that have such a key
    return attention, {kind: (attention * keys).sum(-1)[:, rows[kind]].mean(-1) for kind, keys in kinds.items()}


pieces = minilm.wordpieces(real, "the cat saw the dog and the dog saw the cat .")
attention, share = look(pieces)

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.6), width_ratios=(1, 1.2, 1.2))
table = np.stack(list(share.values()), axis=-1)
figures.attention_map(axes[0], table, range(12), list(share), "weight by kind of key\n(brightest: 0.5 and more)", largest=0.5)
axes[0].set_ylabel("head h")
for ax, head in zip(axes[1:], (2, 8)):
    title = f"head {head}: query t, key s\n(brightest: {attention[head].max():.1f})"
    figures.attention_map(ax, attention[head], pieces, pieces, title)
plt.show()

# %% [markdown]
# Head 2 gives the previous token practically everything. Head 8 looks for the same word elsewhere, and from "cat" just as much for "dog". Head 9 rests on `[CLS]`. No head of this layer looks mostly at itself or at `[SEP]`; most
# spread widely.

# %%
kinds = {name.split("\n")[0]: values for name, values in share.items()}
assert attention[2][np.arange(1, len(pieces)), np.arange(len(pieces) - 1)].min() > 0.99
assert kinds["same word"].argmax() == 8 and kinds["same word"][8] > 3 * np.delete(kinds["same word"], 8).max()
cat, dog = (np.array(pieces) == animal for animal in ("cat", "dog"))
assert attention[8][cat][:, dog].mean() > 0.9 * attention[8][cat][:, cat].mean()
assert kinds["[CLS]"].argmax() == 9 and max(kinds["itself"].max(), kinds["[SEP]"].max()) < 0.2

# %% [markdown]
# Which of them reads **places**, and which reads **words**? Shuffle the sentence. Head 2 still looks at the previous token, whatever it is; head 8 finds its words wherever they went. Head 2 can do so
# only because positions were *added* to the words: attention itself has no sense of order, and gives shuffled input the same outputs, shuffled.

# %%
order = [0, *rng.permutation(np.arange(1, len(pieces) - 1)), len(pieces) - 1]
again, share_again = look([pieces[i] for i in order])
assert again[2].diagonal(-1).min() > 0.99 and share_again["same word\nelsewhere"].argmax() == 8

x = minilm.embed(real, pieces)
output, _ = ref.multi_head_attention(x, x, weights)
assert np.allclose(ref.multi_head_attention(x[:, order], x[:, order], weights)[0], output[:, order])

# %% [markdown]
# ## Does the layer agree?
#
# The last row is that real layer, with its own weights, on two real sentences.

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **A flag that changes the numbers.** You want to see the weights, so you ask `keras.layers.MultiHeadAttention` for them. Keras then takes another path through its code; and where a query may attend
# to nothing, the two paths disagree about the *output*.

# %%
x = rng.normal(size=(1, 3, 8)).astype("float32")
mask = np.array([[[True, True, False], [True, False, True], [False, False, False]]])
theirs, ours = keras.layers.MultiHeadAttention(num_heads=2, key_dim=4), MultiHeadAttention(num_heads=2, key_dim=4)
for layer in (theirs, ours):
    layer(x, x)
ours.set_weights(theirs.get_weights()[:8])
change = {}
for name, layer in (("Keras", theirs), ("ours", ours)):
    with_scores, _ = layer(x, x, attention_mask=mask, return_attention_scores=True)
    change[name] = np.abs(with_scores - layer(x, x, attention_mask=mask)).max(axis=-1)[0] > 1e-5
    print(f"{name:>5}: asking for scores changes the output of queries", np.flatnonzero(change[name]))

# %% [markdown]
# Without scores, Keras gives that query the mean of all values, padding included; with them, zeros. Ours gives zeros both times.

# %%
assert change["Keras"].tolist() == [False, False, True] and not change["ours"].any()
mean = np.asarray(theirs(x, x, attention_mask=np.zeros((1, 3, 3), bool)))
values = into_heads(x.astype("float64"), weights_of(ours, ref.AttentionWeights).value).mean(axis=1)
expected = np.einsum("bhe,hem->bm", values, weights_of(ours, ref.AttentionWeights).attention_output.kernel)
assert np.allclose(mean, expected[:, None], atol=1e-5) and np.allclose(ours(x, x, attention_mask=mask)[0, 2], 0)

# %% [markdown]
# **Token ids as a mask.** Many implementations add $(1 - \mathrm{mask}) \cdot (-10^9)$ to the scores. A mask with a 2 in it, such as ids or segments passed by mistake, then gives a *bonus* of $10^9$.

# %%
scores, ids_as_mask = np.zeros(3), np.array([2, 1, 0])
added = masked_softmax(scores + (1.0 - ids_as_mask) * -1e9)
print("added:", added, " boolean:", masked_softmax(scores, ids_as_mask != 0))
assert added.tolist() == [1, 0, 0]

# %% [markdown]
# **Differs from the paper.** Projections have biases; a query that may attend to nothing gets zeros, then the output's bias, which the paper leaves open; and attention may run over several axes at once.
#
# ## What it costs
#
# For each example, with $n$ tokens on both sides and $e = d$: four projections of $n\,m\,h\,d$ multiply-adds, and $h\,n^2 d$ twice, for scores and for the mixture. We count what the reference does.

# %%
n, m, h, d = 11, 24, 3, 8
layer, x = MultiHeadAttention(h, d), rng.normal(size=(1, n, m))
layer.build(x.shape, x.shape)
with multiply_adds() as counted:
    _, attention = ref.multi_head_attention(x, x, weights_of(layer, ref.AttentionWeights))

measured = sum(counted), layer.count_params(), attention.nbytes
formula = 4 * n * m * h * d + 2 * h * n**2 * d, 4 * m * h * d + 3 * h * d + m, 8 * h * n**2
assert measured == formula
print(f"multiply-adds, parameters, bytes of attention weights: {measured}")

# %%
m, h, d = 384, 12, 32
lengths = 2 ** np.arange(5, 14)
fig, ax = plt.subplots()
ax.loglog(lengths, 4 * lengths * m * h * d, base=2, label="projections")
ax.loglog(lengths, 2 * h * lengths**2 * d, base=2, label="scores and mixture")
ax.axvline(2 * m, color="black", linestyle=":", marker="none", label="n = 2 m")
ax.set(xlabel="length n", ylabel="multiply-adds", title="one attention layer of MiniLM's size")
ax.legend()
plt.show()
assert 4 * (2 * m) * m * h * d == 2 * h * (2 * m) ** 2 * d

# %% [markdown]
# Up to $n = 2m$ tokens the projections cost more; after that, the square does. Most of the lessons on long sequences are about that line.
#
# ## Exercises
#
# **1** (easy, 10 minutes). Equation (1) for one query that may see only some keys: `q` is `(d,)`, `k` is `(s, d)`, `v` is `(s, e)` and `allowed` `(s,)`. Where no key is allowed, the output is zero. Scores of 1,000 must not overflow.


# %%
def masked_attend_one(q, k, v, allowed):
    return None  # your turn


_ = check("attention/1", masked_attend_one)

# %% [markdown]
# <details><summary>Hint</summary>Scores are <code>k @ q</code>, divided. A forbidden key has no share in the sum of exponentials, whatever its score is.</details>
# <details><summary>Solution</summary><code>masked_softmax(k @ q / np.sqrt(len(q)), allowed) @ v</code></details>
#
# **2** (medium, 10 minutes). Multi-query attention: heads have queries `(b, t, h, d)` of their own, but share keys `(b, s, d)` and values `(b, s, e)`. Return output `(b, t, h, e)` and weights `(b, h, t, s)`, without copying the keys for each head.


# %%
def multi_query(q, k, v):
    return None  # your turn


_ = check("attention/2", multi_query)

# %% [markdown]
# <details><summary>Hint</summary>Leave <code>h</code> out of two terms of <code>attend</code>'s einsums.</details>
# <details><summary>Solution</summary>
#
# ```python
# def multi_query(q, k, v):
#     weights = masked_softmax(np.einsum("bthd,bsd->bhts", q, k) / np.sqrt(q.shape[-1]))
#     return np.einsum("bhts,bse->bthe", weights, v), weights
# ```
# </details>
#
# **3** (hard, 20 minutes). Keys arrive one at a time and there is no room to keep them or their scores: `pairs` is an iterator over `(k_s, v_s)` that can be read once. Return equation (1) for the query `q`, safe for scores of ±1,000.


# %%
def streaming(q, pairs):
    return None  # your turn


_ = check("attention/3", streaming)

# %% [markdown]
# <details><summary>Hint</summary>Keep a running peak, a total and a mixture. When the peak rises from <code>a</code> to <code>b</code>, multiply total and mixture by <code>exp(a - b)</code>.</details>
# <details><summary>Solution</summary>
#
# ```python
# def streaming(q, pairs):
#     peak, total, mixture = -np.inf, 0.0, 0.0
#     for k_s, v_s in pairs:
#         score = q @ k_s / np.sqrt(len(q))
#         higher = max(peak, score)
#         shrink, weight = np.exp(peak - higher), np.exp(score - higher)
#         peak, total, mixture = higher, shrink * total + weight, shrink * mixture + weight * v_s
#     return mixture / total
# ```
# </details>
#
# **To discuss.** With eight heads of 64 numbers each, a model can read eight places. What would be lost with one head of 512, and what with 512 heads of one number? How would you test your answer?
#
# ## Summary
#
# - Attention mixes positions with weights that are computed from the example; dividing by $\sqrt d$ keeps those weights soft enough to learn.
# - One head is one average. Several heads read several places, for the same parameters and the same multiply-adds.
# - It has no sense of order, costs the square of the length, and the output must not depend on whether you ask for the weights.
#
# **Further reading.** [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762): the paper; section 3.2.1 has the $\sqrt d$ in a footnote. [Clark et al., 2019](https://arxiv.org/abs/1906.04341): what
# BERT's heads look at. [Shazeer, 2019](https://arxiv.org/abs/1911.02150): exercise 2, for fast decoding. [Dao et al., 2022](https://arxiv.org/abs/2205.14135): exercise 3, made fast on real hardware.
