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
# Full attention compares every token with every other. BigBird keeps three kinds of pairs, whose number grows linearly with the length, and any two tokens are still at most two steps apart.
#
# Paper: [Zaheer et al., 2020, section 2 and appendix D](https://arxiv.org/abs/2007.14062) · NumPy: [`reference/bigbird_attention.py`](../reference/bigbird_attention.py) · Layer:
# [`layers/bigbird_attention/`](../layers/bigbird_attention/__init__.py) · 35 minutes · You should know: [multi-head attention](attention.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

from crosscheck.cases.bigbird_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from experiments import bigbird_attention as experiment
from experiments.bigbird_attention import graphs
from experiments.common.results import stored
from layers.attention import MultiHeadAttention
from layers.bigbird_attention import BigBirdAttention
from reference import attention
from reference import bigbird_attention as ref

figures.use_style()
rng = np.random.default_rng(0)
results = stored("bigbird_attention")

# %% [markdown]
# ## The question
#
# The cheapest way out of the square is a window: each block of tokens sees itself and its two neighbors. A second layer sees what the neighbors saw in the first one, so information still travels. **How far does it get
# in one, two and four layers?**

# %%
window = graphs.window(3)[:16, :16]
fig, axes = plt.subplots(1, 3, figsize=(8, 2.9), sharey=True)
for ax, layers in zip(axes, (1, 2, 4)):
    reached = np.linalg.matrix_power(window.astype(int), layers) > 0
    figures.mask_picture(ax, reached, f"{layers} layers" if layers > 1 else "1 layer", "block s", "block t")
    ax.set(xlabel="from block s", ylabel="to block t")
    ax.label_outer()
fig.suptitle("in a window, information moves one block a layer (white: reached)", fontsize="medium")
figures.show()

# %%
needed = next(layers for layers in range(1, 99) if (np.linalg.matrix_power(window.astype(int), layers) > 0).all())
print(f"layers until every one of {len(window)} blocks reaches every other: {needed}")
assert needed == len(window) - 1

# %% [markdown]
# It needs $n - 1$ layers to cross $n$ blocks. Which few pairs, added to the window, make that two layers, whatever the length?
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"x": Box("query", 0, 0, "data"), "y": Box("key, value", 1.6, 0, "data"), "graph": Box("graph (2)", 3.0, 2, "data")}
boxes |= {"q": Box("$W^Q$", 0, 1, "map"), "k": Box("$W^K$", 1.1, 1, "map"), "v": Box("$W^V$", 2.1, 1, "map")}
boxes |= {"gather": Box("gather seen blocks", 1.6, 2, "op", 1.5)}
boxes |= {"scores": Box("$QK^\\top/\\sqrt{d}$", 0.5, 3), "softmax": Box("softmax", 0.5, 4), "mix": Box("mix values", 1.25, 5)}
boxes |= {"o": Box("$W^O$", 1.25, 6, "map"), "output": Box("output", 1.25, 7, "data")}

arrows = [("x", "q", "(b, t, m)"), ("y", "k", "(b, s, m)"), ("y", "v", ""), ("k", "gather", ""), ("v", "gather", "")]
arrows += [("graph", "gather", ""), ("q", "scores", "(b, h, n, w, d)"), ("gather", "scores", "(b, h, n, (5 + r)·w, d)")]
arrows += [("scores", "softmax", ""), ("softmax", "mix", ""), ("gather", "mix", "(b, h, n, (5 + r)·w, e)")]
arrows += [("mix", "o", "(b, t, h, e)"), ("o", "output", "(b, t, m)")]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# The sequence is cut into $n$ blocks of $w$ tokens. Each block of queries gets its own few blocks of keys and values, so no array is as large as `(t, s)`. Only the first and the last block (not drawn) meet all keys.
#
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
# **One row of the graph.** Global blocks and window are a set, so a block that is in both counts once. The random blocks come from what is left.

# %%
blocks, i = 9, 4
fixed = {0, blocks - 1} | {i - 1, i, i + 1}
left = [j for j in range(blocks) if j not in fixed]
print("fixed:", sorted(fixed), " left:", left)
assert fixed == ref.fixed_blocks(i, blocks)

# %%
chosen = []
for number in (6, 5):
    chosen.append(left.pop(number % len(left)))
    print(f"draw {number} takes block {chosen[-1]}; left: {left}")
assert chosen == ref.random_blocks(i, blocks, np.array([6, 5]))

# %% [markdown]
# Taking blocks *out of the list* matters. Drawn from all inner blocks, a random block would often be one of the window too. Gathered, it would stand in the row twice, and the softmax would give each of its keys two shares:

# %%
careless = [np.isin(rng.permutation(14)[:3], (4, 5, 6)).any() for _ in range(20_000)]
exact = 1 - (11 * 10 * 9) / (14 * 13 * 12)
q, k, v = np.zeros(2), np.zeros((4, 2)), np.eye(4)[3][:, None]
twice = [0, 1, 2, 3, 3]
print(f"16 blocks, r = 3: rows with a repeated block {exact:.0%}")
print(
    "weight of one key of four, and if it is there twice:",
    attention.attend_one(q, k, v),
    attention.attend_one(q, k[twice], v[twice]),
)
assert abs(np.mean(careless) - exact) < 5 * np.sqrt(exact * (1 - exact) / 20_000)

# %% [markdown]
# **All rows** make a graph, and the graph of blocks a mask of tokens. Ordinary attention under this mask is right, but not cheap.

# %%
draws = ref.draw(rng, heads=1, rows=10, num_rand_blocks=2)
graph = np.array([[j in ref.seen_blocks(i, 10, draws[0]) for j in range(10)] for i in range(10)])
mask = graph.repeat(3, axis=0).repeat(3, axis=1)
q, k, v = rng.normal(size=(30, 7)), rng.normal(size=(30, 7)), rng.normal(size=(30, 6))
dense = attention.attend(*(x[None, :, None] for x in (q, k, v)), mask[None, None])[0][0, :, 0]
print("blocks seen by each row:", graph.sum(axis=1), " scores that the mask throws away:", f"{1 - mask.mean():.0%}")

# %% [markdown]
# **The trick**: for one row, *gather* the blocks that it sees, and multiply with these alone.

# %%
row = 4
in_blocks = [x.reshape(10, 3, -1) for x in (q, k, v)]
keys, values = (x[graph[row]].reshape(-1, x.shape[-1]) for x in in_blocks[1:])
scores = in_blocks[0][row] @ keys.T / np.sqrt(7)
weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
print("scores computed for the row:", scores.shape, " instead of", (3, 30))
assert np.allclose(weights @ values, dense[12:15])

# %% [markdown]
# **For all rows, heads and examples**, with padding, it is the reference.

# %%
print(inspect.getsource(ref.attend_by_blocks))
together = ref.attend_by_blocks(*(x[None, :, None] for x in (q, k, v)), 3, draws)
assert np.allclose(together[0, :, 0], dense, rtol=0, atol=1e-14)

# %% [markdown]
# ## What it does
#
# **What does each part of the graph look like?** One head, 36 blocks, $r = 3$.


# %%
def parts(blocks, num_rand_blocks, rng):
    """One head's graph, taken apart: what is global, what is window, and the random rest."""
    graph = ref.block_graph(blocks, ref.draw(rng, 1, blocks, num_rand_blocks))[0]
    i, j = np.indices(graph.shape)
    ends, window = np.isin(i, (0, blocks - 1)) | np.isin(j, (0, blocks - 1)), abs(i - j) <= 1
    return ends, window, graph & ~ends & ~window


# %%
ends, window, random = parts(36, 3, rng)
fig, axes = plt.subplots(1, 4, figsize=(10.5, 2.9), sharey=True)
pictures = {"global": ends, "window": window, "random": random, "BigBird": ends | window | random}
for ax, (name, graph) in zip(axes, pictures.items()):
    figures.mask_picture(ax, graph, f"{name}: {graph.mean():.0%} of the pairs", "query block", "key block")
    ax.set(xlim=(-2, 37), ylim=(37, -2), facecolor="lightgray")
    ax.label_outer()
figures.show()

# %%
sizes = (ends | window | random).sum(axis=1)
print("blocks in a row:", sizes)
assert sizes[0] == sizes[-1] == 36 and sizes[1] == sizes[-2] == 7 and (sizes[2:-2] == 8).all()

# %% [markdown]
# **How many layers lie between two tokens?** That is their distance in the graph. Section 2 of the paper asks for two things: random edges, because random graphs have short paths, and a window, because text is local. Global
# blocks come from its proofs. We measure the mean distance as the sequence grows.


# %%
def mean_distance(graph):
    """A distance is the number of k = 0, 1, … for which k steps are not enough."""
    reached, total = np.eye(len(graph), dtype=bool), 0.0
    while not reached.all():
        total += (~reached).sum()
        reached |= (graph.astype("float32") @ reached.astype("float32")) > 0
    return total / (graph.size - len(graph))


# %%
counts = 2 ** np.arange(4, 9)
distance = {"window": [], "window + random": [], "window + global": [], "BigBird": []}
for blocks in counts:
    ends, window, random = parts(blocks, 3, rng)
    for name, graph in zip(distance, (window, window | random, window | ends, window | random | ends)):
        distance[name].append(mean_distance(graph))

# %%
fig, ax = plt.subplots()
for name, shift in (("window", -3), ("window + random", 6), ("BigBird", -2)):
    (line,) = ax.loglog(counts, distance[name], base=2)
    style = {"textcoords": "offset points", "color": line.get_color(), "va": "center"}
    ax.annotate(name, (counts[-1], distance[name][-1]), (8, shift), **style)
ax.set(xlabel="number of blocks n", ylabel="mean distance (layers)", xlim=(14, 800))
ax.set_title("with global blocks, the distance stays below 2 at any length")
ax.set_yticks([1, 2, 4, 8, 16, 32, 64], [1, 2, 4, 8, 16, 32, 64])
figures.show()

# %%
for name, values in distance.items():
    print(f"{name:16}", *(f"{value:6.2f}" for value in values), "  at", *counts, "blocks")
assert np.allclose(distance["window"], (counts + 1) / 3)
assert max(distance["window + global"] + distance["BigBird"]) < 2 < min(distance["window + random"][2:])

# %% [markdown]
# In a window, the mean distance is $(n + 1)/3$. With a few random blocks it grows like a logarithm: each doubling adds about the same. With global blocks it stays below 2, because every block is next to block 0; and this is
# so **without** the random blocks too.
#
# **Does distance decide what a model can learn?** In Table 1 of the paper, the share of masked tokens that a model guesses is 58.3 with a window alone, 60.1 with random blocks alone, 62.7 with both, and 64.2 for BERT with full
# attention. Our miniature has an answer that we can compute. One of 32 tokens is marked, and after two layers **every** position must say which of 12 tokens that was. A position within two steps of the mark can know it. Any other
# can only guess, and is right once in twelve times. So the graph alone says what the best possible accuracy is.
#
# [The experiment](../experiments/bigbird_attention/__init__.py) trains each graph with three learning rates and three seeds (each with another random graph), and takes the best rate. The first five are the parts, added up as in Table 1. The next four
# have about as many pairs as BigBird, so that what counts is *which* pairs. The last has a third layer.


# %%
def rows_of(found, what, arms, bounds, ax):
    """A row for each arm: its seeds as points, and its bounds as strokes."""
    for row, arm in enumerate(arms):
        values = found.values(what, arm)
        ax.plot(values, [row] * len(values), "o", color=figures.COLORS[0], linestyle="none", clip_on=False)
        ax.plot(bounds[arm], [row] * len(bounds[arm]), "|", color="black", markersize=16, linestyle="none", clip_on=False)
    names = [f"{arm} ({graphs.graph_of(arm, 0).mean():.0%})" for arm in arms]
    ax.set_yticks(range(len(arms)), names)
    ax.set_ylim(len(arms) - 0.5, -0.5)


# %%
marked, arms = results["marked"], list(experiment.MARKED)
fig, ax = plt.subplots(figsize=(7.5, 3.8))
rows_of(marked, "accuracy", arms, {arm: marked.values("bound", arm) for arm in arms}, ax)
ax.axvline(1 / 12, color="black", linestyle=":", marker="none")
ax.annotate("chance", (1 / 12, 9.3), (3, 0), textcoords="offset points", fontsize="small")
for line in (4.5, 8.5):
    ax.axhline(line, color="gray", linewidth=0.7, marker="none")
ax.set(xlabel="accuracy, three seeds (stroke: what the graph allows)", xlim=(0, 1), ylabel="graph (share of all pairs)")
ax.set_title("a model learns as much as its graph allows")
figures.show()

# %%
paper = {"window": "58.3", "random": "60.1", "window + random": "62.7", "full": "64.2 (BERT)"}
print(f"{'graph':27}{'best rate':11}{'accuracy':16}{'within reach':19}{'beyond':16}paper's Table 1")
for arm in arms:
    accuracy, near = marked.values("accuracy", arm), marked.values("near", arm)
    far, _ = experiment.beyond(marked, arm)
    beyond = f"{far.min():.2f} to {far.max():.2f}" if len(far) else "none"
    found = f"{accuracy.min():.3f} to {accuracy.max():.3f}  at least {near.min():.2f}      {beyond:16}"
    print(f"{arm:27}{marked.best_rate(arm):<11g}{found}{paper.get(arm, '')}")

# %%
ranges = {arm: marked.values("accuracy", arm) for arm in arms}
assert all(ranges[arms[k]].max() < ranges[arms[k + 1]].min() for k in range(3))  # the order of Table 1
assert min(ranges["BigBird"].min(), ranges["full"].min()) > max(ranges[arm].max() for arm in arms[5:8])
assert ranges[arms[9]].min() > (1 + ranges["window + random"].max()) / 2  # a third layer: nearer to all right than to two
for arm in arms:
    assert marked.worst("near", arm) > (1 + 1 / 12) / 2  # nearer to all right than to chance
    far, error = experiment.beyond(marked, arm)
    assert np.all(abs(far - 1 / 12) < 4 * error)  # guesses

# %% [markdown]
# Within reach every answer is right; beyond it, one in twelve, but for luck. The parts come in the order of Table 1, and BigBird does as well as full attention. But look at the rows with **equal numbers of pairs**. Is a window with random blocks
# better than random blocks alone? The graph says what a model learns, so we need not train more of them: we draw 200 graphs.

# %%
for arm in ("more random", "window + more random", "window + random", "window + random, 3 layers"):
    share = [graphs.reached(arm, seed).mean() for seed in range(200)]
    print(f"{arm:26} reaches {np.mean(share):.3f} of all pairs on average, {min(share):.2f} to {max(share):.2f}")
i, j = np.indices((graphs.BLOCKS, graphs.BLOCKS))
strided = (abs(i - j) <= 2) | ((i - j) % 5 == 0)
share = np.mean(np.linalg.matrix_power(strided.astype(int), 2) > 0)
print(f"window of 5 and every fifth block ({strided.mean():.0%} of the pairs) reaches {share:.3f}")
assert share == 1

# %% [markdown]
# - It is *no better*: in this task it came out ahead only because it had more pairs.
# - Of the trained graphs with two layers and as many pairs, only those with global blocks reach every place, and taking the **random blocks away** loses nothing ("window + global"). Global blocks are not the only way: a window with
#   every fifth block, a pattern as in [Child et al., 2019](https://arxiv.org/abs/1904.10509), needs no more pairs and reaches every place too.
# - A third layer makes up for most of what is missing, with a fifth of the pairs. Global blocks matter where a model has few layers for a long text, since the distances above grow.
#
# One of the runs, live:

# %%
arm = "random"
live = experiment.train_finder(arm, marked.best_rate(arm), seed=0)
print(f"accuracy with random blocks, trained just now: {live['accuracy']:.2f}; its graph allows {live['bound']:.2f}")
assert marked.contains(live["accuracy"], "accuracy", arm)

# %% [markdown]
# **And in language?** There, some pairs matter more than others. We take a trained model, MiniLM (a small BERT with full attention, see [attention](attention.ipynb)), let it read passages of a novel, 32 blocks of 4 tokens each, and look where the weight
# of all its layers and heads goes. If each pair had the same weight, a part of the graph would have its share of the pairs.

# %%
cut = results["cut"]
weight = cut.values("weight", "full").mean(axis=0)
fig, ax = plt.subplots(figsize=(4.6, 3.6))
image = ax.imshow(weight, norm=LogNorm(weight.min(), weight.max()))
fig.colorbar(image, label="weight on the block (sum of a row: 1)")
ax.set(xlabel="key block", ylabel="query block", title="MiniLM looks near by, and at block 0")
ax.grid(False)
figures.show()

# %%
i, j = np.indices(weight.shape)
places = {
    "window of 3": abs(i - j) <= 1,
    "block 0, with [CLS]": j == 0,
    "block 31, with [SEP]": j == 31,
    "other blocks": (abs(i - j) > 1) & (j > 0) & (j < 31),
}
for name, pairs in places.items():
    shares = (cut.values("weight", "full") * pairs).sum(axis=(1, 2)) / 32
    print(f"{name:21} {pairs.mean():4.0%} of the pairs have {shares.min():.0%} to {shares.max():.0%} of the weight")
    assert (shares.min() > pairs.mean()) == (name in ("window of 3", "block 0, with [CLS]"))

# %% [markdown]
# Now we cut the model's attention to each graph, **without training it again**, and compare its outputs with those of full attention. That is harder than the paper's test, whose models were trained with their graph. The null
# compares two passages that have nothing to do with each other.

# %%
arms = list(experiment.CUT)
null = cut.values("null", "full").max()
fig, ax = plt.subplots(figsize=(7.5, 4))
rows_of(cut, "cosine", arms, {arm: [] for arm in arms}, ax)
ax.axvline(null, color="black", linestyle=":", marker="none")
ax.annotate("another passage, at most", (null, 10.3), (3, 0), textcoords="offset points", fontsize="small")
ax.axhline(4.5, color="gray", linewidth=0.7, marker="none")
ax.set(xlabel="cosine with the outputs of full attention, nine passages", xlim=(0, 1), ylabel="graph (share of all pairs)")
ax.set_title("a trained model misses block 0 most")
figures.show()

# %%
print(f"null: at most {null:.2f}")
similar = {arm: cut.values("cosine", arm) for arm in arms}
for arm in arms:
    print(f"{arm:26} {similar[arm].min():.2f} to {similar[arm].max():.2f}")
both, alone = similar["window + more random"], np.maximum(similar["wide window"], similar["more random"])
gain = both - alone
error = gain.std(ddof=1) / np.sqrt(len(gain))
print("window and random blocks, above the better of them alone, in each passage:", gain.round(3))
print(f"on average {gain.mean():.3f}, standard error {error:.3f}")

# %%
assert all(similar[few].max() < similar["window + random"].min() for few in ("window", "random"))
assert gain.mean() > 3 * error and similar["BigBird"].min() > both.max()
assert similar["window + global elsewhere"].max() < similar["window + global"].min()
assert similar["window + block 0"].min() > both.max()
assert similar["window"].min() > null

# %% [markdown]
# What the miniature cannot show is here: with **equal numbers of pairs**, window and random blocks together keep a little more of the model than either alone, on average over the passages. Language needs what is near and what is far. (In a single passage, other random blocks can turn that around.
# Which of the two is better alone, as in the paper's 58.3 and 60.1, these passages do not say.) Graphs with global blocks at the ends keep most, with random blocks or without. But *why*? The last rows move the two global blocks away from the ends, and
# their advantage is gone; and give a window nothing but **block 0** as keys, and it is back. So this model does not miss blocks that see all. It misses block 0, where its heads leave much of their weight. It was trained with full attention; a model trained with a sparse graph may use its global blocks otherwise.
#
# ## Where it breaks
#
# **Padding moves the last block.** Masked keys have no influence, so padding should change nothing. But the last block of (2) is the *batch's*, not the sentence's: pad further, and another block becomes global.

# %%
options = {"num_rand_blocks": 1, "from_block_size": 4, "to_block_size": 4, "num_heads": 2, "key_dim": 8, "seed": 0}
layer, x = BigBirdAttention(**options, dtype="float64"), rng.normal(size=(1, 38, 16))
expected, changed = np.asarray(layer(x, x)), {}
for length in (40, 48):
    padded = np.pad(x, ((0, 0), (0, length - 38), (0, 0)))
    output = np.asarray(layer(padded, padded, attention_mask=np.arange(length)[None] < 38))[:, :38]
    changed[length] = np.abs(output - expected).max(axis=-1)[0] > 1e-9
    print(f"38 tokens, padded to {length}: outputs of {changed[length].sum()} tokens change")
assert not changed[40].any() and changed[48].any()

# %% [markdown]
# Filling up the last block is harmless. Whole blocks of padding are not: the sentence loses one of its two global blocks, and other blocks are drawn. Batch sentences of similar length, or pad training and test alike.
#
# **Differs from the paper.** The global blocks are the first and the last, each head has random blocks of its own, a block is counted once where window and global meet, and up to $5 + r$ blocks get full attention.
#
# ## What it costs
#
# For $n > 5 + r$ blocks of $w$ tokens, a head computes $w^2\,(2n + 2(4 + r) + (n - 4)(5 + r))$ scores: linear in $n$. Each score takes $d$ multiply-adds, and $e$ more in the mixture. Parameters are those of multi-head attention; the draws
# are integers that nothing trains.


# %%
def scores(n, w, r):
    return w**2 * (2 * n + 2 * (4 + r) + (n - 4) * (5 + r))


n, w, r, h, d = 12, 3, 2, 4, 7
q = rng.normal(size=(1, n * w, h, d))
with multiply_adds() as counted:
    ref.attend_by_blocks(q, q, q, w, ref.draw(rng, h, n, r))
assert sum(counted) == h * scores(n, w, r) * 2 * d
print(f"scores of a head: {scores(n, w, r)}, of full attention: {(n * w) ** 2}; multiply-adds counted: {sum(counted)}")

# %%
layer = BigBirdAttention(num_heads=h, key_dim=d, num_rand_blocks=r, max_rand_mask_length=64 * n)
full = MultiHeadAttention(num_heads=h, key_dim=d)
for each in (layer, full):
    each.build((1, n * w, 11), (1, n * w, 11))
assert layer.count_params() == full.count_params() + h * n * r

# %%
lengths = 2 ** np.arange(10, 16)
sparse = np.array([scores(t // 64, 64, 3) for t in lengths])
fig, ax = plt.subplots()
for values, name, shift in ((lengths**2, "full attention", -14), (sparse, "BigBird", -12)):
    (line,) = ax.loglog(lengths, values, base=2)
    ax.annotate(name, (lengths[3], values[3]), (8, shift), textcoords="offset points", color=line.get_color())
ax.set(xlabel="length t", ylabel="scores of one head", title="blocks of 64, r = 3: a line in place of a square")
figures.show()

# %%
share = sparse[2] / lengths[2] ** 2
print(
    f"at {lengths[2]} tokens BigBird computes {share:.0%} of the scores, and {np.diff(sparse)[0] // np.diff(lengths)[0]} for each further token"
)
assert np.allclose(np.diff(sparse) / np.diff(lengths), 64 * (7 + 3))

# %% [markdown]
# Each further token costs $64 \cdot 10$ scores: three blocks of window, three random ones, and the two global ones twice, as columns and as rows. `python -m crosscheck.bench.growth bigbird full` measures time and memory on your machine.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# Windows stayed, and global tokens too: Longformer ([Beltagy et al., 2020](https://arxiv.org/abs/2004.05150)) has both without random blocks, Mistral 7B ([Jiang et al., 2023](https://arxiv.org/abs/2310.06825)) a window alone. Random blocks did not stay. That
# models leave weight on their first token, as MiniLM does here, has become a method: a window with a few "sinks" at the start writes on without end ([Xiao et al., 2023](https://arxiv.org/abs/2309.17453)). FlashAttention
# ([Dao et al., 2022](https://arxiv.org/abs/2205.14135)) made full attention cheap enough that many models went back to it. Newer sparse models choose blocks by what is in them ([Yuan et al., 2025](https://arxiv.org/abs/2502.11089)).
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
# - Window, random and global blocks: linearly many pairs, and any two tokens at most two steps apart. The global blocks alone are enough for that.
# - What a sparse model can learn is bounded by what its graph reaches. In the miniature only that counts; in a trained model, near and far pairs both do, and block 0 most.
# - A sparse row must not count a key twice, and the graph depends on the padded length.
#
# **Further reading.** [Zaheer et al., 2020](https://arxiv.org/abs/2007.14062): the paper, with proofs of what such graphs can compute, and one task for which they need more layers than full attention. [Child et al.,
# 2019](https://arxiv.org/abs/1904.10509): sparse patterns that are fixed, two steps from everywhere to everywhere. [Tay et al., 2020](https://arxiv.org/abs/2011.04006): long-range tasks, BigBird among the models compared.
