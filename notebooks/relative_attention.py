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
# # Relative attention: not where, but how far
#
# Scores are computed from the distance of two tokens in place of their positions. So nothing changes if a text moves, and keys of earlier segments can be kept.
#
# Paper: [Dai et al., 2019, section 3.3](https://arxiv.org/abs/1901.02860) · NumPy: [`reference/relative_attention.py`](../reference/relative_attention.py) · Layer: [`layers/relative_attention.py`](../layers/relative_attention.py) · 35 minutes · You
# should know: [attention](attention.ipynb), and sinusoids from [positions](positional_embedding.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect
import re

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.relative_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from experiments import relative_attention as experiment
from experiments.common import novel
from experiments.common.results import stored
from layers.relative_attention import MultiHeadRelativeAttention
from reference import attention
from reference import relative_attention as ref
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)
results = stored("relative_attention")


def draw_weights(m, h, d):
    """Random projections without biases, for model size m, h heads and size d."""
    shapes = [(m, h, d)] * 3 + [(h, d, m), (m, h, d)]
    return ref.RelativeAttentionWeights(*(Projection(rng.normal(size=shape) / np.sqrt(m)) for shape in shapes))


# %% [markdown]
# ## The question
#
# A long text is read in segments of eight tokens, and the keys of the last segment are kept as memory. If positions are counted from 0 in every segment, **which of two keys is nearer?** For each query, here is the part of the score that comes from positions alone:
# the products of sinusoids of two positions, and the sinusoid of their distance.

# %%
t, s, m = 8, 16, 32
here = ref.sinusoid(np.arange(t), m)
absolute = here @ np.concatenate([here, here]).T
q = np.broadcast_to(ref.sinusoid(np.array([0]), m), (t, m))
encoding = ref.relative_position_encoding(t, s, m)
relative = ref.position_scores(q[None, :, None], encoding[:, :, None], s)[0, 0]

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
titles = ("positions: every key has a double", "distances: one nearest key, itself")
for ax, scores, title in zip(axes, (absolute, relative), titles):
    image = ax.imshow(scores, vmin=min(absolute.min(), relative.min()), vmax=m / 2, aspect="auto")
    ax.set(title=title, xlabel="key s (0 to 7: memory)")
    ax.grid(False)
axes[0].set_ylabel("query t")
fig.colorbar(image, ax=axes, label="score")
figures.show()

# %%
print("largest difference of a key in memory and its double:", np.abs(absolute[:, :8] - absolute[:, 8:]).max())
print("nearest key by distance:", relative.argmax(axis=-1))
assert np.array_equal(absolute[:, :8], absolute[:, 8:]) and relative.argmax(axis=-1).tolist() == list(range(8, 16))

# %% [markdown]
# With positions, each key of the memory looks exactly like the one eight tokens later. With distances, the picture is the same along every diagonal, and nothing has a double.
#
# ## The picture

# %%
boxes = {
    "x": Box("query", 1.4, 0, "data"),
    "y": Box("memory and key", 0, 0, "data"),
    "r": Box("distances\ns … 1 − t", 2.8, 0, "data"),
}
boxes |= {"q": Box("$W^Q$", 1.4, 1, "map"), "k": Box("$W^K$", 0, 1, "map"), "w": Box("$W R$", 2.8, 1, "map")}
boxes |= {"content": Box("$(q + u)^\\top k$", 0.7, 2, width=1.1), "place": Box("$(q + v)^\\top W R$", 2.1, 2, width=1.2)}
boxes |= {"shift": Box("relative shift", 2.1, 3), "add": Box("+", 0.7, 3), "softmax": Box("÷ √d, softmax", 0.7, 4)}

# %%
arrows = [("x", "q", "(b, t, m)"), ("y", "k", "(b, s, m)"), ("r", "w", "(1, l, m)"), ("q", "content", "(b, t, h, d)")]
arrows += [("k", "content", "(b, s, h, d)"), ("q", "place", "(b, t, h, d)"), ("w", "place", "(1, l, h, d)")]
arrows += [("content", "add", "(b, h, t, s)"), ("place", "shift", "(b, h, t, l)"), ("shift", "add", "(b, h, t, s)")]
diagram(boxes, [*arrows, ("add", "softmax", "(b, h, t, s)")])
figures.show()

# %% [markdown]
# Then the weights mix the values as in attention. There are $l = t + s$ distances. Values know nothing of positions.
#
# ## The equation
#
# $$A_{ij} = \frac{(q_i + u)^\top k_j + (q_i + v)^\top W R_{i-j} + (q_i + b)^\top s_{ij}}{\sqrt d} \tag{1}$$
#
# $$\mathrm{output}_i = \sum_j \mathrm{softmax}_j(A_{ij})\, v_j \tag{2}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $q_i, k_j, v_j$ | as in attention | `q`, `k`, `v` | `(b, t, h, d)`, `(b, s, h, d)`, `(b, s, h, e)` |
# | $R_{i-j}$ | the sinusoid of the distance | `encoding` | `(1, l, m)` |
# | $W$ | makes it comparable with queries | `weights.encoding` | `(m, h, d)` |
# | $u, v, b$ | what every query has in common | `terms.u`, `terms.v`, `terms.b` | `(h, d)` |
# | $s_{ij}$ | one vector for the same segment, one for another | `terms.segment_encoding` | `(2, h, d)` |
#
# The last query stands at the last key. With a memory of $s - t$ keys, query $i$ is at position $i + s - t$. Row $r$ of the encodings is distance $s - r$: rows run from $s$, far behind, to $1 - t$, ahead. So query $i$ and key $j$ need the row
#
# $$r = j + t - i \tag{4}$$
#
# The last term of (1) is XLNet's ([Yang et al., 2019, section 2.5](https://arxiv.org/abs/1906.08237)). Its two streams, equation (3), have [a lesson of their own](two_stream_attention.ipynb).
#
# ## By hand
#
# Let $d = 4$, so that sums are halved, and let $q = u = e_1$, $v = 3 e_1$. One key has $k = \ln 3\, e_1$ and an encoding of zeros: $(1 + 1) \ln 3 / 2 = \ln 3$. The other has no content and the encoding
# $\tfrac12 \ln 3\, e_1$: $(1 + 3) \cdot \tfrac12 \ln 3 / 2 = \ln 3$. One key is chosen for its content, the other for its place, and both get the same weight.

# %%
one, nothing = np.eye(4)[0], np.zeros(4)
by_content = ref.score(one, np.log(3) * one, nothing, one, 3 * one)
by_place = ref.score(one, nothing, np.log(3) / 2 * one, one, 3 * one)
print("score by content:", by_content.round(4), " by place:", by_place.round(4))
assert np.allclose([by_content, by_place], np.log(3))

# %% [markdown]
# ## In NumPy
#
# **One pair.** Equation (1) without segments.

# %%
print(inspect.getsource(ref.score))

# %% [markdown]
# **All pairs.** A product of $W$ with the encoding of each pair would be $t \cdot s$ products, but there are only $t + s$ distances. So each query is multiplied with all rows first. Here the product with row $r$ is just the number $r$, for three queries and five keys.

# %%
t, s = 3, 5
by_row = np.tile(np.arange(t + s), (t, 1))
wanted = np.array([[j + t - i for j in range(s)] for i in range(t)])  # equation (4)
print("each query with each row:\n", by_row, "\nthe row that query i needs for key j:\n", wanted)

# %% [markdown]
# **The relative shift** takes them there without a loop. Write all numbers in one line; drop the first $t$; cut the line into pieces that are one number shorter than before. Each row then begins one number earlier than the row above.

# %%
line = by_row.ravel()
pieces = line[t:].reshape(t, t + s - 1)
print("in one line:", line, "\nwithout the first", t, "and cut anew:\n", pieces, "\nthe first", s, "columns:\n", pieces[:, :s])
assert np.array_equal(pieces[:, :s], wanted)

# %% [markdown]
# The reference does this with batch and heads in front. Beside it stands the loop that it replaces.

# %%
print(inspect.getsource(ref.relative_shift))
x = rng.normal(size=(2, 4, 3, 8))
assert np.array_equal(ref.relative_shift(x, 5), ref.relative_shift_by_loops(x, 5))

# %%
q, k, r = rng.normal(size=(2, 3, 4, 7)), rng.normal(size=(2, 5, 4, 7)), rng.normal(size=(1, 8, 4, 7))
u, v = rng.normal(size=(2, 4, 7))
scores = (ref.content_scores(q, k, u) + ref.position_scores(q, r, 5, v)) / np.sqrt(7)
assert np.allclose(scores, ref.scores_by_loops(q, k, r, u, v))

# %%
print(inspect.getsource(ref.attend))

# %% [markdown]
# ## What it does
#
# **Does anything change if the text moves?** MiniLM (see [attention](attention.ipynb)) adds a learned row for each position. We take forty sentences of a novel and move each, as if 1, 4, 16, 64 or 256 tokens stood before it that no query may see. How far do the attention weights
# of layer 0 move? The measure is total variation: the share of the weight that goes to other keys. For comparison, the weights of every head with those of the next head.

# %%
model = minilm.load()
weights = minilm.attention_weights(model, layer=0)
name = "embeddings.position_embeddings.weight"
sentences = [s.replace("\n", " ").strip() for s in novel.TEXT.split(".")[200:1000] if 60 < len(s) < 140][:40]


def look(sentence, offset):
    """The weights `(h, t, s)` of layer 0, with the first token at position `offset`."""
    rows = model.tensors[name]
    moved = model._replace(tensors=model.tensors | {name: np.roll(rows, -offset, axis=0)})
    x = minilm.embed(moved, minilm.wordpieces(model, sentence))
    return attention.multi_head_attention(x, x, weights)[1][0]


# %%
offsets = (1, 4, 16, 64, 256)
variation, null = np.zeros((40, len(offsets))), np.zeros(40)
for number, sentence in enumerate(sentences):
    start = look(sentence, 0)
    variation[number] = [np.abs(look(sentence, offset) - start).sum(-1).mean() / 2 for offset in offsets]
    null[number] = np.abs(start - np.roll(start, 1, axis=0)).sum(-1).mean() / 2

# %%
relative_weights, (u, v) = draw_weights(32, 2, 16), rng.normal(size=(2, 2, 16))
x, terms = rng.normal(size=(1, 8, 32)), ref.Terms(u, v)
_, start = ref.relative_attention(x, x, relative_weights, terms, encoding=ref.relative_position_encoding(8, 8, 32))
moves = []
for offset in offsets:
    before, far = rng.normal(size=(1, offset, 32)), ref.relative_position_encoding(8, 8 + offset, 32)
    visible = (np.arange(8 + offset) >= offset)[None, None]
    _, moved = ref.relative_attention(x, x, relative_weights, terms, None, far, before, visible)
    moves.append(np.abs(moved[..., offset:] - start).max())

# %%
fig, ax = plt.subplots()
low, middle, high = np.quantile(variation, (0.1, 0.5, 0.9), axis=0)
ax.errorbar(offsets, middle, (middle - low, high - middle), linestyle="none", capsize=3)
label = "MiniLM: rows of positions (median, and 80 % of the sentences)"
ax.annotate(label, (offsets[2], high[2]), (0, 12), textcoords="offset points", ha="center", color=figures.COLORS[0])
ax.plot(offsets, moves, "s", color=figures.COLORS[1], linestyle="none", clip_on=False)
ax.annotate("relative attention", (offsets[1], 0), (0, 6), textcoords="offset points", ha="center", color=figures.COLORS[1])
ax.axhline(np.median(null), color="black", linestyle=":", marker="none")
ax.annotate("between two heads", (1, np.median(null)), (0, 3), textcoords="offset points")
ax.set_xscale("log", base=2)
ax.set(
    xlabel="places by which the text moves",
    ylabel="share of the weight that moves",
    ylim=(0, 1.2 * np.median(null)),
    title="the same words further on: MiniLM attends differently",
)
figures.show()

# %%
medians = np.median(variation, axis=0)
print("MiniLM, moved by", offsets, "places, medians:", medians.round(2), " between heads:", np.median(null).round(2))
print(f"relative attention, largest change of a weight times 10¹²: {max(moves) * 1e12:.1f}")
assert max(moves) < 1e-12 and variation[:, 0].min() > 1e6 * max(moves)

# %% [markdown]
# MiniLM's first layer attends differently to the same words further on. If these sentences of 60 to 140 characters move by one place, the difference is about a quarter of that between two heads, and it grows as they move further. Relative attention cannot do that: its weights are the same to the last digits.
#
# **So does what was learned at one place hold at others?** One layer has to report the token three places back. It trains on 16 tokens and reads 64, with the last 16 in view. One arm uses distances. The others add rows to the tokens: sinusoids of the position, or random rows of the same size.
# [The experiment](../experiments/relative_attention.py) gives each arm three learning rates and four seeds.

# %%
reach = results["reach"]
places = np.arange(experiment.BACK, experiment.LONG)
fig, axes = plt.subplots(1, 3, figsize=(10.5, 3), sharey=True)
titles = ("distances: no fault anywhere", "sinusoids: some places come back", "random rows: none comes back")
for number, (ax, arm, title) in enumerate(zip(axes, ("distances", "sinusoids added", "random rows added"), titles)):
    ax.plot(places, reach.values("by place", arm).T, color=figures.COLORS[number], marker="none", linestyle="-", linewidth=0.8)
    ax.axvspan(experiment.BACK, experiment.T - 0.5, color="#dddddd", zorder=0)
    ax.axhline(1 / experiment.N, color="black", linestyle=":", marker="none")
    ax.set(xlabel="position t (gray: of training)", ylim=(0, 1.05), title=title)
axes[0].set_ylabel("accuracy, each of four seeds")
axes[0].annotate("chance", (63, 1 / experiment.N), (0, 3), textcoords="offset points", ha="right", fontsize="small")
figures.show()

# %%
print(f"{'':32}best rate  within        beyond        from 20 on    all 64 in view")
for arm in experiment.ARMS:
    cells = [reach.values(what, arm) for what in ("within", "beyond", "far", "all in view")]
    print(f"{arm:32}{reach.best_rate(arm):<9g}", *(f"{cell.min():.2f} to {cell.max():.2f} " for cell in cells))
bag = experiment.from_counts()
print(f"the most frequent token in view is the right one in {bag:.2f} of the cases")

# %%
distances, others = reach.values("beyond", "distances"), reach.values("beyond", "sinusoids added")
random_rows = reach.values("beyond", "random rows added")
at_each_rate = [reach.worst("beyond", "distances", rate) for rate in reach.experiment.rates]
assert min(reach.worst("within", arm) for arm in list(experiment.ARMS)[:4]) > (1 + bag) / 2  # halfway from counting to no fault
assert min(at_each_rate) > others.max() + np.ptp(others) and random_rows.max() < bag < others.min()

# %% [markdown]
# Within the length of training, the first four report without fault. Beyond it, distances go on at every rate and seed that we tried, and with **all** earlier tokens in view too, although 48 of those distances are new. Added sinusoids get about half of the tokens right with their best rate, and fewer with the others. Random rows are
# worse there than counting the tokens in view. Is it luck, which places come back with sinusoids? Two tests: whether the seeds agree on them, more than when one curve is shifted along the places; and whether they are the places whose sinusoids are most like one of training.


# %%
def agreement(shift):
    """Mean correlation of the accuracy by place of two seeds, one of them shifted around."""
    pairs = [(i, j) for i in range(len(curves)) for j in range(len(curves)) if i != j]
    return np.mean([np.corrcoef(curves[i], np.roll(curves[j], shift))[0, 1] for i, j in pairs])


curves = reach.values("by place", "sinusoids added")[:, experiment.T - experiment.BACK :]
shifted = [agreement(shift) for shift in range(4, curves.shape[1] - 3)]
waves = ref.sinusoid(np.arange(experiment.LONG), experiment.M)
likeness = (waves[experiment.T :] @ waves[experiment.BACK : experiment.T].T).max(axis=1)
rho = np.corrcoef(likeness.argsort().argsort(), np.median(curves, axis=0).argsort().argsort())[0, 1]
print(f"correlation of two seeds {agreement(0):.2f}; shifted by four places or more, at most {max(shifted):.2f}")
print(f"rank correlation of accuracy and likeness to a place of training: {rho:.2f}")
assert agreement(0) > max(shifted)

# %% [markdown]
# It is not luck: all seeds come back at much the same places, so the sinusoids decide which. But likeness to a place of training does not tell which ones. We do not know what does.
#
# **Is it because the positions are new?** The last two arms take something away. When the texts of training begin anywhere from 0 to 48, no position is new, and added sinusoids go on too, as long as the view is that of training: with all 64 in view, which are new pairs of positions, they make faults. And relative attention without its distances is left with counting tokens.

# %%
begun, none = (reach.values("beyond", arm) for arm in list(experiment.ARMS)[3:])
begun_all = reach.values("all in view", list(experiment.ARMS)[3])
print(
    f"begun anywhere {begun.min():.2f} to {begun.max():.2f}; without distances {none.min():.2f} to {none.max():.2f}; counting {bag:.2f}"
)
print(f"begun anywhere, all 64 in view: {begun_all.min():.2f} to {begun_all.max():.2f}")
assert begun.min() > others.max() + np.ptp(others) and none.max() < (bag + 1) / 2 and begun_all.max() < begun.min()

# %% [markdown]
# **The paper beside ours.** In Table 6 of Dai et al. (models of WikiText-103 without recurrence), several lengths of attention were tried after training. What carries over is that with distances a model can use a longer view than that of training, and does better. The sizes do not: a layer that copies is no language model.

# %%
paper = {"distances": (260, 29.02), "sinusoids added": (120, 30.97)}
print(f"{'':17}paper: best length, perplexity   ours: beyond, with all {experiment.LONG} in view")
for arm, (length, perplexity) in paper.items():
    found = reach.values("all in view", arm)
    print(f"{arm:17}{length:11}{perplexity:13}{'':15}{found.min():.2f} to {found.max():.2f}")
assert reach.worst("all in view", "distances") > (1 + bag) / 2 > bag

# %% [markdown]
# One arm, live:

# %%
live = experiment.train_reporter("distances", reach.best_rate("distances"), seed=0)
print(f"distances, trained just now: beyond {live['beyond']:.2f}, all in view {live['all in view']:.2f}")
assert reach.contains(live["beyond"], "beyond", "distances") and reach.contains(live["all in view"], "all in view", "distances")

# %% [markdown]
# ## Where it breaks
#
# **A shift without enough rows.** A model that only looks back needs the distances $s, \dots, 0$: $s + 1$ rows. The trick still cuts its line of numbers, and where a key lies ahead it hands out the next query's. Below, the hundreds say whose number it is.

# %%
x = (100 * np.arange(3)[:, None] + np.arange(6)).ravel()
cut = x[3:].reshape(3, 5)
owner, ahead = cut // 100, np.arange(5) + 3 - np.arange(3)[:, None] > 5
print(cut)
assert np.array_equal(owner != np.arange(3)[:, None], ahead)

# %% [markdown]
# The first query's row ends with two numbers of the second. Nothing fails: shapes fit, and a causal mask hides it. Popular code has had the slice off by one. Our layer takes $t + s$ rows, or $s + 1$, with which no key ahead is attended to; any other number is an error.

# %%
x, u, v = rng.normal(size=(1, 3, 8)), np.zeros((2, 4)), np.zeros((2, 4))
layer = MultiHeadRelativeAttention(num_heads=2, key_dim=4)
_, attended = layer(x, x, u, v, relative_position_encoding=np.ones((1, 4, 8)), return_attention_scores=True)
print("with 4 rows, weights on keys ahead:", np.triu(attended[0, 0], 1).max())
try:
    layer(x, x, u, v, relative_position_encoding=np.ones((1, 3, 8)))
except ValueError as error:
    complaint = re.search(r"t \+ s = .*causal", str(error))[0]
print("with 3 rows an error: there must be", complaint)
assert not np.triu(attended[0, 0], 1).any() and "t + s = 6 rows" in complaint

# %% [markdown]
# **Differs from the paper.** The papers print equation (1) without $1/\sqrt d$. Dai et al. only look back; here distances may be negative. A query that may attend to nothing gets zeros.
#
# ## What it costs
#
# For one example with $t$ queries, $s$ keys and $l = t + s$ rows: projections of $(2t + 2s + l)\, m\, h\, d$ multiply-adds, and $h\,t\,(2 s + l)\,d$ for scores and mixture. We count what the reference does.

# %%
t, s, m, h, d = 6, 10, 24, 3, 8
x, y = rng.normal(size=(1, t, m)), rng.normal(size=(1, s, m))
some_weights, encoding = draw_weights(m, h, d), ref.relative_position_encoding(t, s, m)
with multiply_adds() as counted:
    ref.relative_attention(x, y, some_weights, encoding=encoding)
rows = encoding.shape[1]
measured = sum(counted), sum(part.kernel.size for part in some_weights)
assert measured == ((2 * t + 2 * s + rows) * m * h * d + h * t * (2 * s + rows) * d, 5 * m * h * d)
print(f"multiply-adds, parameters: {measured}")

# %%
m, h, d = 512, 8, 64
t = 2 ** np.arange(4, 12)
costs = {
    "W with each pair": 2 * t**2 * m * h * d,
    "W with each distance": 3 * t * m * h * d,
    "queries with rows": 3 * h * t**2 * d,
}
fig, ax = plt.subplots()
places = ((4, (-8, 4), "right"), (7, (0, -24), "right"), (4, (0, -16), "left"))
for (name, cost), (place, shift, side) in zip(costs.items(), places):
    (line,) = ax.loglog(t, cost, base=2)
    at, color = (t[place], cost[place]), line.get_color()
    ax.annotate(name, at, shift, textcoords="offset points", color=color, ha=side)
ax.set(
    xlabel="segment length t (memory as long: s = 2 t)",
    ylabel="multiply-adds of the position term",
    title="the shift saves encoding each pair",
)
figures.show()
assert (costs["W with each pair"] * 3 == costs["W with each distance"] * 2 * t).all()

# %% [markdown]
# A product with $W$ for each pair would cost $\tfrac23 t$ times what one for each distance costs: the reason for the shift, and for appendix B of the paper.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# The four terms did not last, the idea did. DeBERTa ([He et al., 2020](https://arxiv.org/abs/2006.03654)) keeps content and distance apart, with learned rows in place of sinusoids. T5 keeps one number for each distance ([positions](positional_embedding.ipynb)). Most language models of today rotate
# queries and keys ([Su et al., 2021](https://arxiv.org/abs/2104.09864)), which makes scores depend on distances without a second product or a shift. Speech models still use the shift: the Conformer ([Gulati et al., 2020](https://arxiv.org/abs/2005.08100)).
#
# ## Exercises
#
# **1** (easy, 10 minutes). Which row does query `i` of `t` read for key `j` of `s`, and is it among the `rows` that there are? Return both, as arrays `(t, s)`; queries are the last `t` of the keys. No loop.


# %%
def row_of(t, s, rows):
    return None  # your turn


_ = check("relative_attention/1", row_of)

# %% [markdown]
# <details><summary>Hint</summary>The distance is <code>i + (s - t) - j</code>, and row <code>r</code> is distance <code>s - r</code>.</details>
# <details><summary>Solution</summary><code>row = t - np.arange(t)[:, None] + np.arange(s); return row, row &lt; rows</code></details>
#
# **2** (medium, 15 minutes). Shift without a loop: `x` is `(t, l)` with $l = t + s$; return `(t, s)`, whose entry `(i, j)` is `x[i, j + t - i]`.


# %%
def my_shift(x, s):
    return None  # your turn


_ = check("relative_attention/2", my_shift)

# %% [markdown]
# <details><summary>Hint</summary>Write the rows one after the other. Where is number <code>j + t - i</code> of query <code>i</code>, if a piece has one number less?</details>
# <details><summary>Solution</summary><code>return x.ravel()[len(x):].reshape(len(x), -1)[:, :s]</code></details>
#
# **3** (hard, 25 minutes). T5 has only $v^\top R_{i-j}$: one learned number for each head and distance, `bias` of shape `(h, l)` with $l = t + s$, not divided by $\sqrt d$. For `q` `(b, t, h, d)` and `k` `(b, s, h, d)` return the weights `(b, h, t, s)`, without a loop over queries or keys.


# %%
def bias_attention(q, k, bias):
    return None  # your turn


_ = check("relative_attention/3", bias_attention)

# %% [markdown]
# <details><summary>Hint</summary>Give every query the same rows, <code>(1, h, t, l)</code>, and let <code>ref.relative_shift</code> do the rest.</details>
# <details><summary>Solution</summary>
#
# ```python
# def bias_attention(q, k, bias):
#     by_row = np.repeat(bias[None, :, None], q.shape[1], axis=2)
#     scores = ref.content_scores(q, k) / np.sqrt(q.shape[-1]) + ref.relative_shift(by_row, k.shape[1])
#     exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
#     return exp / exp.sum(axis=-1, keepdims=True)
# ```
# </details>
#
# **To discuss.** What can a model with positions of distances alone not know about where a token stands? When would that hurt, and what would you add?
#
# ## Summary
#
# - Scores from distances do not change when the text moves. What was learned at some places held at all others, with every rate and seed that we tried; added sinusoids got at best about half of the new tokens right.
# - Multiply each query with every distance, then shift: $t + s$ encodings in place of $t \cdot s$, and no gather.
# - Added positions hold too, if training has shown them all and the view is no longer than in training.
#
# **Further reading.** [Dai et al., 2019](https://arxiv.org/abs/1901.02860): the four terms, and the shift in appendix B. [Shaw et al., 2018](https://arxiv.org/abs/1803.02155): distances as learned vectors, before that. [Raffel et al., 2019](https://arxiv.org/abs/1910.10683): exercise 3.
# [Two streams](two_stream_attention.ipynb): distances let a token be predicted in any order. [Transformer-XL](transformer_xl.ipynb): a whole model with memory.
