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
# # Talking-heads attention: small heads that listen to each other
#
# Before the softmax every head hears the scores of all heads, and after it their weights: two small matrices, and heads of one number suffice.
#
# Paper: [Shazeer et al., 2020, section 4](https://arxiv.org/abs/2003.02436) · NumPy: [`reference/talking_heads_attention.py`](../reference/talking_heads_attention.py) · Layer:
# [`layers/talking_heads_attention.py`](../layers/talking_heads_attention.py) · 25 minutes · You should know: [attention](attention.ipynb), and the rank of a matrix

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import ops

from crosscheck.case import TOLERANCE
from crosscheck.cases.talking_heads_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.lesson.training import fit
from crosscheck.weights import weights_of
from layers.talking_heads_attention import TalkingHeadsAttention
from reference import attention as plain
from reference import talking_heads_attention as ref

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# More heads read more places, but at a fixed cost $h \cdot d$ each head gets smaller. The scores of one head are products of $n$ queries and $n$ keys of size $d$: a matrix of rank at most $d$. Eight
# heads of size 2 look at 32 tokens. **How much can one of them say, alone, and how much if it hears the scores of the others?**

# %%
n, h, d = 32, 8, 2
scores = np.einsum("bthd,bshd->bhts", rng.normal(size=(1, n, h, d)), rng.normal(size=(1, n, h, d))) / np.sqrt(d)
pictures = {"alone": scores, "hearing the others": ref.mix(scores, rng.normal(size=(h, h)) / np.sqrt(h))}
ranks = {name: {int(np.linalg.matrix_rank(head)) for head in logits[0]} for name, logits in pictures.items()}

fig, ax = plt.subplots()
for name, logits in pictures.items():
    ax.plot(range(1, n + 1), np.linalg.svd(logits[0, 0], compute_uv=False), label=name)
ax.set(xlabel="which singular value", ylabel="singular value", title="logits of the first head, h = 8, d = 2")
ax.legend()
plt.show()
print("rank of each head's logits:", ranks)
assert ranks == {"alone": {d}, "hearing the others": {h * d}}

# %% [markdown]
# Alone, two singular values are not zero; hearing the others, sixteen are not. The sixteen numbers were there all along, but no head could use more than its two.
#
# ## The equation
#
# $$J_h = \frac{Q_h K_h^\top}{\sqrt d} \tag{1}$$
#
# $$L_g = \sum_h J_h P^l_{hg} \tag{2}$$
#
# $$A_g = \mathrm{softmax}(L_g) \tag{3}$$
#
# $$U_g = \sum_h A_h P^w_{hg} \tag{4}$$
#
# $$Y = \mathrm{Concat}(U_1 V_1, \dots, U_h V_h)\, W^O \tag{5}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $J, L$ | scores, and logits: scores mixed | `scores`, `mix(scores, pre)` | `(b, h, t, s)` |
# | $P^l$ | what each head says, and hears, before the softmax | `pre_softmax_weight` | `(h, h)` |
# | $A, U$ | softmaxes, and weights: softmaxes mixed | `softmax`, `weights` | `(b, h, t, s)` |
# | $P^w$ | what each head says, and hears, after the softmax | `post_softmax_weight` | `(h, h)` |
#
# The first axis of both matrices is the head that talks, the second the head that listens.
#
# ## By hand
#
# Head 0 scores two keys $\ln 3$ and $0$; head 1 has no opinion. Both matrices are $\begin{pmatrix} 1 & 1 \\ 0 & 1 \end{pmatrix}$: head 1 hears head 0, and head 0 hears only itself.
#
# Before the softmax, head 1 so gets the scores $\ln 3$ and $0$ as well, and both softmaxes are $\tfrac34, \tfrac14$. After it, head 1 adds head 0's weights to its own: $\tfrac32, \tfrac12$. The
# values 8 and 4 come out as 7 in head 0, and as 14 in head 1.

# %%
q, k = np.array([[1.0], [0.0]]), np.array([[[np.log(3)], [0.0]], [[0.0], [0.0]]])
v = np.array([[[8.0], [8.0]], [[4.0], [4.0]]])
says, everything = np.array([[1.0, 1.0], [0.0, 1.0]]), np.ones((2, 2), bool)
print("head 1 hears head 0:", ref.attend_one(q, k, v, says, says, everything).ravel().round(6))
print("transposed, head 0 hears head 1:", ref.attend_one(q, k, v, says.T, says.T, everything).ravel().round(6))
assert np.allclose(ref.attend_one(q, k, v, says, says, everything).ravel(), [7, 14])
assert np.allclose(ref.attend_one(q, k, v, says.T, says.T, everything).ravel(), [13, 6])

# %% [markdown]
# The matrices are square, so a transposed one fits, runs, and is wrong. Only a matrix that is not symmetric can tell.
#
# ## In NumPy

# %%
print(inspect.getsource(ref.mix))
print(inspect.getsource(ref.attend))

# %%
q, k, v = rng.normal(size=(2, 3, 4, 7)), rng.normal(size=(2, 5, 4, 7)), rng.normal(size=(2, 5, 4, 6))
pre, post, mask = rng.normal(size=(4, 4)), rng.normal(size=(4, 4)), rng.random((2, 4, 3, 5)) < 0.7
output, _, _ = ref.attend(q, k, v, pre, post, mask)
for b, t in np.ndindex(2, 3):
    assert np.allclose(output[b, t], ref.attend_one(q[b, t], k[b], v[b], pre, post, mask[b, :, t]))
print("all queries at once and one by one agree")

# %% [markdown]
# If every head hears itself and nobody else, nothing is new.

# %%
identity = np.eye(4)
assert np.allclose(ref.attend(q, k, v, identity, identity, mask)[0], plain.attend(q, k, v, mask)[0], rtol=1e-12)
print("with two identity matrices it is attention")

# %% [markdown]
# ## What it does
#
# **Is rank what small heads lack?** Let $h$ heads share 16 numbers for each query and key. Each head is given random attention weights of its own, rather peaked ones, over 32 keys; we fit queries and keys to
# them by gradient descent, with heads that mix their scores (equation 2 alone) and with heads that do not. What is left is the Kullback–Leibler divergence from the wanted weights.


# %%
def divergence_left(h, talking, d_total=16, n=32, steps=400):
    """The divergence per row that is left, in three fits at once."""
    rng, d = np.random.default_rng(0), d_total // h
    wanted = rng.dirichlet([0.1] * n, size=(3, h, n)).astype("float32")
    q, k = (keras.Variable(rng.normal(size=(3, n, h, d))) for _ in range(2))
    pre = keras.Variable(np.tile(np.eye(h), (3, 1, 1)))
    trained = [q, k, pre] if talking else [q, k]
    adam = keras.optimizers.Adam(0.05)
    adam.build(trained)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            scores = ops.einsum("bthd,bshd->bhts", q, k) / d**0.5
            found = ops.log_softmax(ops.einsum("bhts,bhg->bgts", scores, pre))
            divergence = ops.sum(wanted * (np.log(np.maximum(wanted, 1e-30)) - found), axis=-1)
            left = ops.mean(divergence, axis=(1, 2))
        adam.apply(tape.gradient(left, [variable.value for variable in trained]), trained)
        return left

    return [step() for _ in range(steps)][-1].numpy()


# %%
heads = (1, 2, 4, 8, 16)
alone, talking = (np.array([divergence_left(h, talks) for h in heads]) for talks in (False, True))
fig, ax = plt.subplots()
for left, name in ((alone, "heads alone"), (talking, "heads that mix their scores")):
    ax.semilogx(heads, left.mean(axis=1), base=2, label=name)
ax.set(xlabel="heads h, of size d = 16 / h", ylabel="divergence left (nats a row)", ylim=(0, None), title="mean of three fits")
ax.legend()
plt.show()

# %% [markdown]
# Smaller heads fit worse, and talking takes back a part of the loss: the more heads, the larger. Most of it stays: sixteen heads with a wish each still share sixteen numbers.

# %%
gain = (alone - talking).mean(axis=1)
print("divergence taken back:", dict(zip(heads, gain.round(1).tolist())))
assert (np.diff(alone.mean(axis=1)) > 0).all() and (np.diff(gain) > 0).all()
assert (talking[-2:] < 0.92 * alone[-2:]).all() and (talking > alone / 2).all()

# %% [markdown]
# **Does a layer learn more with it?** The paper keeps $h \cdot d$ fixed and reports that many small heads harm multi-head attention, and not talking heads. In miniature: of sixteen
# random tokens, each position must report the token at another, by a permutation that is the same for all examples. Sixteen heads have size **one**. All start as multi-head attention, with identity
# matrices; what differs is which of the two may be trained.

# %%
n, m = 16, 64


class Fetcher(keras.Model):
    def __init__(self, heads, pre, post):
        super().__init__()
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self.token, self.place = (keras.layers.Embedding(n, m, embeddings_initializer=normal) for _ in range(2))
        self.attention = TalkingHeadsAttention(num_heads=heads, key_dim=16 // heads)
        self.attention.build((None, n, m), (None, n, m))
        for weight, trained in ((self.attention.pre_softmax_weight, pre), (self.attention.post_softmax_weight, post)):
            weight.assign(np.eye(heads))
            weight.trainable = trained
        self.logits = keras.layers.Dense(n)

    def embed(self, ids):
        return self.token(ids) + self.place(ops.arange(n))

    def call(self, ids):
        x = self.embed(ids)
        return self.logits(self.attention(x, x))


# %% tags=["nbval-ignore-output"]
ids, order = rng.integers(0, n, (19_200 + 512, n)), rng.permutation(n)
runs = {"1 head": (1, False, False), "16 heads, alone": (16, False, False), "mixed before the softmax": (16, True, False)}
runs |= {"mixed after it": (16, False, True), "mixed twice": (16, True, True)}
accuracy, models = {}, {}
for name, options in runs.items():
    keras.utils.set_random_seed(0)
    model = models[name] = Fetcher(*options)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fit(model, ids[:-512], ids[:-512, order], batch_size=64)
    accuracy[name] = float(np.mean(np.argmax(model(ids[-512:]), axis=-1) == ids[-512:, order]))
print({name: round(a, 2) for name, a in accuracy.items()})
few, others = accuracy.pop("16 heads, alone"), min(accuracy.values())
assert few < 0.75 and others > 0.96

# %% [markdown]
# One head of sixteen numbers finds every token. Sixteen heads of one number lose more than a quarter: a softmax of $q_t k_s$ can only prefer the largest or the smallest key. **Either** mixing
# alone repairs this, for 256 numbers: the first by composing logits of rank 16, the second by composing sixteen simple softmaxes.
#
# **What does the layer return, if asked for its scores?** What values are multiplied by: $U$, after the second mixing. We look at the model that may mix only there.

# %%
model = models["mixed after it"]
x = model.embed(ids[-1:])
_, returned = model.attention(x, x, return_attention_scores=True)
weights = weights_of(model.attention, ref.TalkingHeadsWeights)
_, mixed, softmax = ref.talking_heads_attention(np.asarray(x, "float64"), np.asarray(x, "float64"), weights)
assert np.allclose(returned, mixed, atol=1e-3 * np.abs(mixed).max())

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.5, 2.9))
head = mixed[0].min(axis=(-2, -1)).argmin()
for ax, maps, title in zip(axes, (softmax, mixed), (f"softmax A of head {head}", f"returned: U of head {head}")):
    largest = np.abs(maps[0, head]).max()
    image = ax.imshow(maps[0, head], vmin=-largest, vmax=largest, aspect="auto")
    ax.set(title=title, xlabel="key s", ylabel="query t", xticks=range(0, 16, 5), yticks=range(0, 16, 5))
    ax.grid(False)
    fig.colorbar(image)
axes[2].bar(range(16), mixed[0].sum(axis=-1)[:, 0], color=figures.COLORS[0])
axes[2].axhline(1, color="black", linestyle="--", marker="none")
axes[2].set(title="sum of a row of U", xlabel="head h", ylabel="sum (dashed: 1)", xticks=range(0, 16, 5))
plt.show()

# %% [markdown]
# A softmax can only add values; the mixture also **subtracts** some (darker than the gray of 0). Each row of $A_h$ sums to 1, so each row of $U_g$ sums to column $g$ of $P^w$, $\sum_h P^w_{hg}$, which is whatever training made it. They
# are no distribution: do not draw them as one, nor take their entropy.

# %%
assert (softmax >= 0).all() and np.allclose(softmax.sum(axis=-1), 1)
assert mixed.min() < 0 and np.allclose(mixed.sum(axis=-1), weights.post_softmax_weight.sum(axis=0)[:, None])
assert np.abs(mixed.sum(axis=-1) - 1).max() > 0.1
print("rows of A sum to 1; rows of U to the columns of the second matrix")

# %% [markdown]
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **A mask before the first mixing.** In attention it is all the same where $-10^9$ is added to the scores. Here it is mixed like any score: through a negative number of $P^l$, "forbidden" reaches another head
# as "look nowhere else". Two heads, three keys, the last one forbidden:

# %%
scores, allowed = np.zeros((1, 2, 1, 3)), np.array([True, True, False])
pre = np.array([[1.0, 0.5], [0.5, -1.0]])
before = ref.masked_softmax(ref.mix(np.where(allowed, scores, -1e9), pre))
after = ref.masked_softmax(ref.mix(scores, pre), allowed)
for name, softmax in (("mask, then mix:", before), ("mix, then mask:", after)):
    print(name, softmax[0, :, 0].tolist())
assert before[0, 1, 0].tolist() == [0, 0, 1] and not after[..., 2].any()

# %% [markdown]
# Masked after the mixing, a key forbidden to all heads stays at exactly 0: the second mixing adds zeros. A key forbidden to **one** head may come back with it, from a head that may see it.

# %%
v = rng.normal(size=(2, 5, 4, 6))
for_all, for_one = np.ones((1, 4, 1, 5), bool), np.ones((1, 4, 1, 5), bool)
for_all[..., 2], for_one[:, 1, :, 2] = False, False
_, weights, _ = ref.attend(q, k, v, identity + 0.5, identity + 0.5, for_all)
_, leaking, softmax = ref.attend(q, k, v, identity + 0.5, identity + 0.5, for_one)
assert not weights[..., 2].any()
assert not softmax[:, 1, :, 2].any() and (leaking[:, 1, :, 2] > 0).all()
print("forbidden to all: weight 0; forbidden to head 1: it hears of it from the others")

# %% [markdown]
# **As many tokens as heads of size one.** That was our experiment above. There Keras, on TensorFlow, adds the biases `(h, 1)` of the heads to the *tokens*, which are as many. Our layers do not use that path. With
# kernels of zero, every token should get the biases 0, 1, 2, 3 in its four heads:

# %%
theirs = keras.layers.EinsumDense("btm,mhd->bthd", (None, 4, 1), bias_axes="hd", kernel_initializer="zeros")
ours = TalkingHeadsAttention(num_heads=4, key_dim=1, kernel_initializer="zeros")
x = np.ones((1, 4, 3), "float32")
ours(x, x)
theirs.build(x.shape)
first = {}
for name, dense in (("Keras", theirs), ("ours", ours.query_dense)):
    dense.bias.assign(np.arange(4.0)[:, None])
    first[name] = np.asarray(dense(x))[0, 1, :, 0].tolist()
print("the four heads of token 1:", first)
assert first == {"Keras": [1, 1, 1, 1], "ours": [0, 1, 2, 3]}

# %% [markdown]
# **An initializer for other matrices.** Mixing weights start as `kernel_initializer` says, as in the Model Garden; its default has variance $1/h$, so mixing keeps the size of things. BERT draws its kernels with a deviation of
# 0.02. What do heads hear then?

# %%
h, scores = 8, rng.normal(size=(1, 8, 100, 32))
strength = {}
for name, deviation in (("1/√h", h**-0.5), ("0.02", 0.02)):
    pre, post = deviation * rng.normal(size=(2, h, h))
    logits = ref.mix(scores, pre)
    strength[name] = logits.std().round(1), np.abs(ref.mix(ref.masked_softmax(logits), post).sum(axis=-1)).mean().round(1)
print("deviation: (size of logits, size of a row's sum)", {name: tuple(map(float, pair)) for name, pair in strength.items()})
assert min(strength["1/√h"]) > 0.5 and max(strength["0.02"]) <= 0.1

# %% [markdown]
# Nearly even attention of nearly no weight. Then assign `np.eye(h)` to both, as we did above: the layer starts as multi-head attention.
#
# **Differs from the paper.** There the numbers of heads before, between and after the mixings may differ, scores are not divided by $\sqrt d$ (the query's weights can do that), and the algorithm has no mask.
#
# ## What it costs
#
# Attention, and for each example two mixings of $h^2 n^2$ multiply-adds and two matrices of $h^2$ numbers.

# %%
n, m, h, d = 11, 24, 3, 8
layer, x = TalkingHeadsAttention(h, d), rng.normal(size=(1, n, m))
layer.build(x.shape, x.shape)
with multiply_adds() as counted:
    _, mixed, _ = ref.talking_heads_attention(x, x, weights_of(layer, ref.TalkingHeadsWeights))

measured = sum(counted), layer.count_params(), mixed.nbytes
formula = 4 * n * m * h * d + 2 * h * n**2 * d + 2 * h**2 * n**2, 4 * m * h * d + 3 * h * d + m + 2 * h**2, 8 * h * n**2
assert measured == formula
print(f"multiply-adds, parameters, bytes of returned weights: {measured}")

# %%
n = m = 1024
heads = 2 ** np.arange(11)
fig, ax = plt.subplots()
ax.loglog(heads, np.full(11, 4 * n * m * m), base=2, label="projections")
ax.loglog(heads, np.full(11, 2 * n**2 * m), base=2, label="scores and mixture")
ax.loglog(heads, 2 * heads**2 * n**2, base=2, label="two mixings of heads")
ax.axvline(32, color="black", linestyle=":", marker="none", label="h = d")
ax.set(xlabel="heads h, of size d = 1024 / h", ylabel="multiply-adds", title="n = m = 1024")
ax.legend()
plt.show()
assert 2 * 32**2 * n**2 == 2 * n**2 * m

# %% [markdown]
# Up to $h = d$ talking costs less than attending; beyond it, the square of the heads takes over. All of it grows with $n^2$: it does not shrink for long sequences, as the share of the projections does.
#
# ## Exercises
#
# **1** (easy, 10 minutes). Equations (2) and (3): mix `scores` `(b, h, t, s)` over heads by `pre` `(h, g)`, which need not be square, and take the softmax over the keys that `mask` `(b, 1, t, s)` allows. A query that may see no key gets zeros.


# %%
def mixed_softmax(scores, pre, mask):
    return None  # your turn


_ = check("talking_heads_attention/1", mixed_softmax)

# %% [markdown]
# <details><summary>Hint</summary>First the mixing, an einsum of two arrays, then the mask. What would a mixing make of −∞?</details>
# <details><summary>Solution</summary><code>ref.masked_softmax(np.einsum("bhts,hg-&gt;bgts", scores, pre), mask)</code></details>
#
# **2** (medium, 10 minutes). The layer returned `weights` `(b, h, t, s)`, and you know `post_softmax_weight`, `(h, h)`. You want to draw distributions: get the softmaxes back. Solve equations; do not invert the matrix.


# %%
def softmaxes(weights, post):
    return None  # your turn


_ = check("talking_heads_attention/2", softmaxes)

# %% [markdown]
# <details><summary>Hint</summary>Mixing is a matrix product along the heads: each column of weights is <code>post.T</code> times a column of softmaxes. <code>np.linalg.solve</code> takes many columns at once.</details>
# <details><summary>Solution</summary>
#
# ```python
# def softmaxes(weights, post):
#     b, h, t, s = weights.shape
#     columns = weights.transpose(1, 0, 2, 3).reshape(h, b * t * s)
#     return np.linalg.solve(post.T, columns).reshape(h, b, t, s).transpose(1, 0, 2, 3)
# ```
# </details>
#
# **3** (hard, 15 minutes). Why the rank is $h \cdot d$: the first mixing is the same as heads with long queries that all share one long key, `k.reshape(b, s, h * d)`. From `q` `(b, t, h, d)` and `pre` `(h, g)` make those queries, `(b, t, g, h * d)`: their products with the long key are the mixed scores. No loop over heads.


# %%
def long_queries(q, pre):
    return None  # your turn


_ = check("talking_heads_attention/3", long_queries)

# %% [markdown]
# <details><summary>Hint</summary>Part h of head g's query is <code>q[:, :, h]</code> times <code>pre[h, g]</code>: an einsum that sums nothing, and a reshape.</details>
# <details><summary>Solution</summary><code>return np.einsum("bthd,hg-&gt;btghd", q, pre).reshape(*q.shape[:2], pre.shape[1], -1)</code></details>
#
# **To discuss.** If heads of one number each can be as good as large ones once they talk, why not always use as many heads as there are numbers? Think of cost, of the mask, and of what a head can be read for.
#
# ## Summary
#
# - Mixing scores lifts the rank of each head's logits from $d$ to $h \cdot d$; heads may be as small as one number.
# - The mask belongs between the two mixings. What the layer returns is what multiplies the values: signed, and not summing to 1.
# - It costs $2 h^2 n^2$ multiply-adds and $2 h^2$ numbers: little, while there are fewer heads than numbers in each.
#
# **Further reading.** [Shazeer et al., 2020](https://arxiv.org/abs/2003.02436): the paper, with each mixing tried alone on large models. [Bhojanapalli et al., 2020](https://arxiv.org/abs/2002.07028): why a
# head smaller than the sequence is a bottleneck. [Touvron et al., 2021](https://arxiv.org/abs/2103.17239): deep vision transformers whose heads talk.
