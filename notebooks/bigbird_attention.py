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
# # BigBird: a few well-chosen pairs
#
# Full attention compares every token with every other. BigBird keeps three kinds of pairs, a number that grows linearly with the length, and still brings any two tokens within two steps of each other.
#
# Paper: [Zaheer et al., 2020, section 2 and appendix D](https://arxiv.org/abs/2007.14062) · NumPy: [`reference/bigbird_attention.py`](../reference/bigbird_attention.py) · Layer:
# [`layers/bigbird_attention/`](../layers/bigbird_attention/__init__.py) · 30 minutes · You should know: [multi-head attention](attention.ipynb)

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.bigbird_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from layers.attention import MultiHeadAttention
from layers.bigbird_attention import BigBirdAttention
from reference import attention
from reference import bigbird_attention as ref

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# The cheapest way out of the square is a window: each block of tokens looks at itself and at its two neighbors. A layer hands on what its keys knew already, so news travels. **How far in one, two and four layers?**


# %%
def parts(blocks, num_rand_blocks, rng):
    """One head's graph, taken apart: what is global, what is window, and the random rest."""
    graph = ref.block_graph(blocks, ref.draw(rng, 1, blocks, num_rand_blocks))[0]
    i, j = np.indices(graph.shape)
    ends, window = np.isin(i, (0, blocks - 1)) | np.isin(j, (0, blocks - 1)), abs(i - j) <= 1
    return ends, window, graph & ~ends & ~window


ends, window, random = parts(16, 3, rng)
fig, axes = plt.subplots(1, 3, figsize=(8, 2.9), sharey=True)
for ax, layers in zip(axes, (1, 2, 4)):
    heard = np.linalg.matrix_power(window.astype(int), layers) > 0
    figures.mask_picture(ax, heard, f"window, {layers} layers" if layers > 1 else "window, 1 layer", "block t", "block s")
    ax.label_outer()
plt.show()

# %% [markdown]
# One block further per layer: news needs $n - 1$ layers to cross $n$ blocks. Which few pairs, added to the window, cut that to two layers, whatever the length?

# %%
assert (np.linalg.matrix_power(window.astype(int), 15) > 0).all() and not (
    np.linalg.matrix_power(window.astype(int), 14) > 0
).all()

# %% [markdown]
# ## The equation
#
# $$y_t = \mathrm{softmax}\!\left(\frac{q_t K_{N(t)}^\top}{\sqrt d}\right) V_{N(t)} \tag{1}$$
#
# $$\text{block } i \text{ sees } \quad \underbrace{\{0,\, n - 1\}}_{\text{global}} \;\cup\; \underbrace{\{i - 1,\, i,\, i + 1\}}_{\text{window}} \;\cup\; \underbrace{R_i}_{\text{random}} \tag{2}$$
#
# $$\text{blocks } 0 \text{ and } n - 1 \text{ see all blocks} \tag{3}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $N(t)$ | the keys of the blocks that the block of $t$ sees | `dense_mask` | `(h, t, s)` |
# | $n$ | number of blocks | `blocks` | |
# | $R_i$ | $r$ random blocks, none that (2) has anyway | `random_blocks` | $r$ of them |
# | – | the numbers that choose them | `draws` | `(h, rows, r)` |
#
# ## By hand
#
# Let $n = 9$, blocks of one token, $r = 2$ and draws 6 and 5. Row 4 sees 0, 3, 4, 5, 8 anyway; 1, 2, 6, 7 are left. Draw 6 takes the one in place $6 \bmod 4 = 2$, which is block 6. Of 1, 2, 7, draw 5 takes place
# $5 \bmod 3 = 2$: block 7. With equal scores the output is the mean of what is seen; if token $s$ has value $s$, that is $(0 + 3 + 4 + 5 + 6 + 7 + 8) / 7 = 33/7$.

# %%
draws = np.tile([6, 5], (9, 1))
print("row 4 sees", sorted(ref.seen_blocks(4, 9, draws)))
mixed = ref.attend_by_loops(np.zeros((9, 2)), np.zeros((9, 2)), np.arange(9.0)[:, None], 1, draws)
assert np.isclose(mixed[4].item(), 33 / 7)

# %% [markdown]
# ## In NumPy
#
# The graph first, as (2) and (3) have it. Then the trick: instead of masking a $t \times t$ product, each row of blocks is multiplied with the blocks that it sees.

# %%
for function in (ref.random_blocks, ref.seen_blocks, ref.attend_by_blocks):
    print(inspect.getsource(function))

# %%
draws = ref.draw(rng, heads=4, rows=10, num_rand_blocks=2)
q, k, v = rng.normal(size=(2, 29, 4, 7)), rng.normal(size=(2, 29, 4, 7)), rng.normal(size=(2, 29, 4, 6))
dense, _ = ref.attend(q, k, v, 3, draws)
assert np.allclose(ref.attend_by_blocks(q, k, v, 3, draws), dense, rtol=0, atol=1e-14)
for b, h in np.ndindex(2, 4):
    assert np.allclose(ref.attend_by_loops(q[b, :, h], k[b, :, h], v[b, :, h], 3, draws[h]), dense[b, :, h], rtol=0, atol=1e-14)
print("query by query, under a dense mask and block by block agree")

# %% [markdown]
# ## What it does
#
# **What does each part of the graph look like?** One head, 36 blocks, $r = 3$.

# %%
ends, window, random = parts(36, 3, rng)
fig, axes = plt.subplots(1, 4, figsize=(10.5, 2.9), sharey=True)
pictures = {"global": ends, "window": window, "random": random, "BigBird": ends | window | random}
for ax, (name, graph) in zip(axes, pictures.items()):
    figures.mask_picture(ax, graph, name, "block t", "block s")
    ax.spines[:].set_visible(True)
    ax.label_outer()
plt.show()

# %% [markdown]
# The first and the last block see all and are seen by all; the window is the diagonal; the random blocks fill what is left, three in a row. No block is counted twice, so a row has $2 + 3 + 3 = 8$ blocks, or 7 where the window touches a global one.

# %%
sizes = (ends | window | random).sum(axis=1)
assert sizes[0] == sizes[-1] == 36 and sizes[1] == sizes[-2] == 7 and (sizes[2:-2] == 8).all()
assert (random.sum(axis=1)[1:-1] == 3).all()

# %% [markdown]
# **How many layers lie between two tokens?** That is their distance in the graph. Section 2 of the paper asks for two things: random edges, because random graphs have short paths, and a window, because text is local. Global
# blocks come from the proofs. We measure the mean distance as the sequence grows.


# %%
def mean_distance(graph):
    """A distance is the number of k = 0, 1, … for which k steps are not enough."""
    heard, total = np.eye(len(graph), dtype=bool), 0.0
    while not heard.all():
        total += (~heard).sum()
        heard |= (graph.astype("float32") @ heard.astype("float32")) > 0
    return total / (graph.size - len(graph))


counts = 2 ** np.arange(4, 9)
distance = {"window": [], "window + random": [], "BigBird": []}
for blocks in counts:
    ends, window, random = parts(blocks, 3, rng)
    for name, graph in zip(distance, (window, window | random, window | random | ends)):
        distance[name].append(mean_distance(graph))

# %%
fig, ax = plt.subplots()
for name, values in distance.items():
    ax.loglog(counts, values, base=2, label=name)
ax.set(xlabel="number of blocks n", ylabel="mean distance (layers)")
ax.set_yticks([1, 2, 4, 8, 16, 32, 64], [1, 2, 4, 8, 16, 32, 64])
ax.legend()
plt.show()

# %% [markdown]
# In a window, distance grows like $n/3$. A few random blocks make that a logarithm: each doubling adds about the same. With global blocks it is below 2 at any length, since everything has just been read by block 0.

# %%
window_path, random_path, big_path = map(np.array, distance.values())
assert np.allclose(window_path, (counts + 1) / 3)
assert (np.diff(random_path) < 0.7).all() and random_path[-1] < 4.5
assert (big_path < 2).all()
print("mean distance at 256 blocks:", {name: round(float(values[-1]), 1) for name, values in distance.items()})

# %% [markdown]
# **Does distance decide what a model can learn?** The paper's Table 1 takes the graph apart: masked-token accuracy is 58.3 with the window alone, 60.1 with random blocks alone, 62.7 with both, and 64.2 for BERT with full
# attention. Our miniature has an answer that we can compute: one of 32 tokens is marked, and after two layers **every** position must say which token that was. A position within two steps of the mark can know; any other
# guesses one of 12. So the graph alone predicts the accuracy.

# %%
n, vocabulary, m = 32, 12, 32
ends, window, random = parts(n, 3, np.random.default_rng(1))
more = parts(n, 6, np.random.default_rng(1))[2]
graphs = {"window": window, "random": random, "both": window | random, "both, r = 6": window | more}
graphs |= {"BigBird": window | random | ends, "full": np.ones((n, n), bool)}


def predicted(graph):
    step = (graph | np.eye(n, dtype=bool)).astype(int)  # a residual connection keeps what a token knew
    reached = np.mean(step @ step > 0)
    return reached + (1 - reached) / vocabulary


# %%
class Finder(keras.Model):
    def __init__(self):
        super().__init__()
        self.seen = self.add_weight(shape=(n, n), initializer="ones", trainable=False)
        self.token = keras.layers.Embedding(2 * vocabulary, m)  # the second half is for marked tokens
        self.attention = [MultiHeadAttention(num_heads=2, key_dim=m // 2) for _ in range(2)]
        self.norms = [keras.layers.LayerNormalization() for _ in range(4)]
        self.wide = [keras.layers.Dense(2 * m, activation="relu") for _ in range(2)]
        self.narrow = [keras.layers.Dense(m) for _ in range(2)]
        self.logits = keras.layers.Dense(vocabulary)

    def call(self, ids):
        x = self.token(ids)
        for i, mix in enumerate(self.attention):
            x = self.norms[2 * i](x + mix(x, x, attention_mask=self.seen[None]))
            x = self.norms[2 * i + 1](x + self.narrow[i](self.wide[i](x)))
        return self.logits(x)


# %%
ids = rng.integers(0, vocabulary, (160 * 32 + 512, n))
marked = rng.integers(0, n, len(ids))
answers = np.repeat(ids[np.arange(len(ids)), marked][:, None], n, axis=1)
ids += vocabulary * (np.arange(n) == marked[:, None])

# %%
keras.utils.set_random_seed(0)
model = Finder()
model.compile(keras.optimizers.Adam(6e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model(ids[:1])
model.optimizer.build(model.trainable_variables)
state = [*model.weights, *model.optimizer.variables]
start = [keras.ops.convert_to_numpy(variable) for variable in state]

accuracy = {}
for name, graph in graphs.items():
    for variable, value in zip(state, start):  # each graph from the same weights, in the same program
        variable.assign(value)
    model.seen.assign(graph)
    model.fit(ids[:-512], answers[:-512], batch_size=32, shuffle=False, verbose=0)
    accuracy[name] = np.mean(np.argmax(model(ids[-512:]), axis=-1) == answers[-512:])

# %%
fig, ax = plt.subplots(figsize=(7.5, 3.2))
labels = [f"{name}\n{graph.mean():.0%} of pairs" for name, graph in graphs.items()]
ax.bar(labels, accuracy.values(), color=figures.COLORS[5], label="measured")
ax.plot(labels, [predicted(graph) for graph in graphs.values()], "_", color="black", markersize=34, label="from the graph alone")
ax.axhline(1 / vocabulary, color="black", linestyle=":", marker="none", label="chance")
ax.set(ylabel="accuracy", ylim=(0, 1.05), xlabel="what a block sees")
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# The order is that of Table 1, and every bar ends where its graph says. BigBird equals full attention with under a third of its pairs. It is not just the number: six random blocks in place of three cost as
# much as the global ones, and some positions stay out of reach.

# %%
assert accuracy["window"] + 0.1 < accuracy["random"] < accuracy["both"] - 0.1 < accuracy["BigBird"] - 0.2
assert min(accuracy["BigBird"], accuracy["full"]) > 0.98 and accuracy["both, r = 6"] < 0.97
assert all(abs(accuracy[name] - predicted(graph)) < 0.05 for name, graph in graphs.items())
assert graphs["BigBird"].mean() < 1 / 3 and abs(graphs["both, r = 6"].mean() - graphs["BigBird"].mean()) < 0.03
print("window < random < both < BigBird, which equals full attention")

# %% [markdown]
# Language is not this task: there the neighbors matter more than others, which the window gives and a lone random graph does not.
#
# ## Does the layer agree?

# %%
errors = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in errors.values() for dtype, error in by_dtype.items())
print("layer and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **A key that counts twice.** If $R_i$ is drawn from all inner blocks, it will often hit the window. Gathered, such a block stands in the row twice, and the softmax gives each of its keys two shares. How often would that be, for
# 16 blocks and $r = 3$?

# %%
careless = [np.isin(rng.permutation(14)[:3], (4, 5, 6)).any() for _ in range(20_000)]
exact = 1 - (11 * 10 * 9) / (14 * 13 * 12)
assert abs(np.mean(careless) - exact) < 0.02
q, k, v = np.zeros(2), np.zeros((4, 2)), np.array([[0.0], [0.0], [0.0], [1.0]])
twice = [0, 1, 2, 3, 3]
print(f"rows with a repeated block: {exact:.0%}")
print(
    "one key of four has the weight",
    attention.attend_one(q, k, v).item(),
    "or, counted twice,",
    attention.attend_one(q, k[twice], v[twice]).item(),
)

# %% [markdown]
# In over half of the rows. Ours draws from what is left.
#
# **Padding moves the last block.** Masked keys have no influence, so padding should change nothing. But the last block of (2) is the *batch's*, not the sentence's: pad further, and another block becomes global.

# %%
layer = BigBirdAttention(num_rand_blocks=1, from_block_size=4, to_block_size=4, num_heads=2, key_dim=8, seed=0, dtype="float64")
x = rng.normal(size=(1, 38, 16))
expected = np.asarray(layer(x, x))
changed = {}
for length in (40, 48):
    padded = np.pad(x, ((0, 0), (0, length - 38), (0, 0)))
    output = np.asarray(layer(padded, padded, attention_mask=np.arange(length)[None] < 38))[:, :38]
    changed[length] = np.abs(output - expected).max() > 1e-9
    print(f"38 tokens, padded to {length}: the output", "changes" if changed[length] else "stays")
assert changed == {40: False, 48: True}

# %% [markdown]
# Filling up the last block is harmless; whole blocks of padding are not, and the sentence loses one of its two global blocks. Batch sentences of similar length, or pad training and test alike.
#
# **Differs from the paper.** The global blocks are the first and the last, each head has random blocks of its own, a block is counted once where window and global meet, and up to $5 + r$ blocks get full attention.
#
# ## What it costs
#
# For $n > 5 + r$ blocks of $w$ tokens, a head computes $w^2\,(2n + 2(4 + r) + (n - 4)(5 + r))$ scores: linear in $n$. Each score takes $d$ multiply-adds, and $e$ more in the mixture. Parameters are those of multi-head attention; the draws
# are integers that nothing trains.

# %%
n, w, r, h, d = 12, 3, 2, 4, 7
q = rng.normal(size=(1, n * w, h, d))
with multiply_adds() as counted:
    ref.attend_by_blocks(q, q, q, w, ref.draw(rng, h, n, r))


def scores(n, w, r):
    return w**2 * (2 * n + 2 * (4 + r) + (n - 4) * (5 + r))


assert sum(counted) == h * scores(n, w, r) * 2 * d
layer = BigBirdAttention(num_heads=h, key_dim=d, num_rand_blocks=r, max_rand_mask_length=64 * n)
full = MultiHeadAttention(num_heads=h, key_dim=d)
for each in (layer, full):
    each.build((1, n * w, 11), (1, n * w, 11))
assert layer.count_params() == full.count_params() + h * n * r
print(f"scores of a head: {scores(n, w, r)}, of full attention: {(n * w) ** 2}; multiply-adds counted: {sum(counted)}")

# %%
lengths = 2 ** np.arange(10, 16)
sparse = np.array([scores(t // 64, 64, 3) for t in lengths])
fig, ax = plt.subplots()
ax.loglog(lengths, lengths**2, base=2, label="full attention")
ax.loglog(lengths, sparse, base=2, label="BigBird")
ax.set(xlabel="length t", ylabel="scores of one head", title="blocks of 64, r = 3")
ax.legend()
plt.show()
share = sparse[2] / lengths[2] ** 2
assert 0.15 < share < 0.16 and np.allclose(np.diff(sparse) / np.diff(lengths), 64 * (7 + 3))
print(f"at {lengths[2]} tokens BigBird computes {share:.0%} of the scores")

# %% [markdown]
# Each further token costs $64 \cdot 10$ scores: three blocks of window, three random ones, and the two global ones twice, as columns and as rows. `python -m crosscheck.bench.growth bigbird full` measures time and memory on your machine.
#
# ## Exercises
#
# **1** (easy, 5 minutes). How many pairs of blocks does the graph have? Both cases, short and sparse, without drawing it.


# %%
def pairs(blocks, r):
    return None  # your turn


_ = check("bigbird_attention/1", pairs)

# %% [markdown]
# <details><summary>Hint</summary>Two rows see everything, two see 4 + r blocks, the others 5 + r.</details>
# <details><summary>Solution</summary><code>return blocks**2 if blocks &lt;= 5 + r else 2 * blocks + 2 * (4 + r) + (blocks - 4) * (5 + r)</code></details>
#
# **2** (medium, 10 minutes). Appendix D computes the window without any gather: copies of the keys, rolled by a block. From queries and keys in blocks, `(blocks, w, d)`, return the products of each block with its left neighbor, itself and its right one, `(blocks, w, 3 * w)`. Blocks 0 and $n - 1$ count as neighbors. No loop over blocks.


# %%
def window_scores(q, k):
    return None  # your turn


_ = check("bigbird_attention/2", window_scores)

# %% [markdown]
# <details><summary>Hint</summary><code>np.roll(k, 1, axis=0)</code> puts each block where its right neighbor is.</details>
# <details><summary>Solution</summary><code>return q @ np.concatenate([np.roll(k, 1, axis=0), k, np.roll(k, -1, axis=0)], axis=1).transpose(0, 2, 1)</code></details>
#
# **3** (hard, 20 minutes). A compiled layer has no list of blocks to take from. Choose $R_i$ for an inner row, `0 < i < blocks - 1`, with arithmetic and comparisons: the blocks of `ref.random_blocks`, in its order. Neither a loop nor an array may grow with `blocks`.


# %%
def without_a_list(i, blocks, draws):
    return None  # your turn


_ = check("bigbird_attention/3", without_a_list)

# %% [markdown]
# <details><summary>Hint</summary>Draw k has a place among those left. Going from the last draw to the first, each earlier place that is not above a later one pushes that one up by 1. Then skip block 0 and the window.</details>
# <details><summary>Solution</summary>
#
# ```python
# def without_a_list(i, blocks, draws):
#     start, stop = max(i - 1, 1), min(i + 2, blocks - 1)
#     left = blocks - 2 - (stop - start)
#     place = draws % (left - np.arange(len(draws)))
#     for k in reversed(range(len(draws))):
#         place[k + 1 :] += place[k + 1 :] >= place[k]
#     place = place + 1
#     return place + (stop - start) * (place >= start)
# ```
# </details>
#
# **To discuss.** With global blocks, any two tokens are two steps apart. With random blocks alone they are a few steps apart too. What can a model learn from the first graph in two layers that it cannot learn from the second?
#
# ## Summary
#
# - Window, random and global blocks: linearly many pairs, and any two tokens at most two steps apart.
# - What a sparse model can learn is bounded by what its graph reaches; global blocks reach everything.
# - A sparse row must not count a key twice, and the graph depends on the padded length.
#
# **Further reading.** [Zaheer et al., 2020](https://arxiv.org/abs/2007.14062): the paper, with proofs of what such graphs can compute, and one task for which they need more layers than full attention. [Beltagy et al.,
# 2020](https://arxiv.org/abs/2004.05150): Longformer, windows and global tokens without random ones. [Child et al., 2019](https://arxiv.org/abs/1904.10509): sparse patterns that are fixed. [Tay et al., 2020](https://arxiv.org/abs/2011.04006): long-range tasks, BigBird
# among the models compared.
