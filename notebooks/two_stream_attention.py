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
# # Two streams: predict in any order
#
# XLNet predicts the tokens of a text in a random order, each from those before it in that order. One stream of states knows the content of each token; another predicts it and does not.
#
# Paper: [Yang et al., 2019, section 2.3](https://arxiv.org/abs/1906.08237) · NumPy: [`reference/relative_attention.py`](../reference/relative_attention.py) · Layer: [`layers/relative_attention.py`](../layers/relative_attention.py) · 25 minutes · You should
# know: [relative attention](relative_attention.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.relative_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from experiments import two_stream_attention as experiment
from experiments.common import novel
from experiments.common.results import stored
from reference import relative_attention as ref
from reference.common.projection import Projection
from reference.masked_softmax import masked_softmax

figures.use_style()
rng = np.random.default_rng(0)
results = stored("two_stream_attention")


def draw_weights(m, h, d):
    """Random projections without biases, for model size m, h heads and size d."""
    shapes = [(m, h, d)] * 3 + [(h, d, m), (m, h, d)]
    return ref.RelativeAttentionWeights(*(Projection(rng.normal(size=shape) / np.sqrt(m)) for shape in shapes))


# %% [markdown]
# ## The question
#
# BERT learns from texts in which some tokens are hidden. It predicts each hidden token for itself, as if the others told nothing about it. **How much do two hidden tokens tell about each other?** In the characters of a novel (Sōseki's *Botchan*), we count how often each pair occurs at
# each distance. The mutual information is what is lost, in bits, if both are hidden and each is predicted alone, without other context. The null is the same text, shuffled.

# %%
ids = np.searchsorted(novel.SYMBOLS, list(novel.TEXT))


def mutual_information(x, y):
    """Bits that one character tells about the other."""
    joint = np.zeros((len(novel.SYMBOLS), len(novel.SYMBOLS)))
    np.add.at(joint, (x, y), 1 / len(x))
    alone = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    return np.sum(joint * np.log2(np.maximum(joint, 1e-300) / np.maximum(alone, 1e-300)))


distances = (1, 2, 3, 4, 6, 8, 12, 16, 32)
bits = [mutual_information(ids[:-n], ids[n:]) for n in distances]
null = mutual_information(ids[:-1], rng.permutation(ids[1:]))

# %%
_, ax = plt.subplots(figsize=(6.5, 2.8))
ax.plot(distances, bits)
ax.axhline(null, color="black", linestyle=":", marker="none")
ax.annotate("shuffled text", (32, null), (0, 4), textcoords="offset points", ha="right")
ax.set_xscale("log", base=2)
ax.set_xticks(distances, distances)
ax.set(
    xlabel="distance of two characters",
    ylabel="mutual information, bits",
    title="neighbors tell about each other; far characters hardly do",
)
figures.show()

# %%
print("bits:", dict(zip(distances, np.round(bits, 2))), " shuffled:", round(null, 2))
assert bits[0] > bits[1] > bits[3] > null and bits[0] > 10 * null

# %% [markdown]
# A model that predicts one token **after** the other loses nothing: the second prediction knows the first token. From left to right, though, no prediction knows what follows. XLNet draws a new order for each text. Over many orders, each token is predicted from all sides.
#
# ## The picture

# %%
boxes = {"h": Box("content h", 0, 0, "data"), "g": Box("query g", 2.8, 0, "data"), "q": Box("$W^Q$", 0, 1, "map")}
boxes |= {"kv": Box("$W^K, W^V$", 1.4, 1, "map"), "p": Box("the same $W^Q$", 2.8, 1, "map", 1.1)}
boxes |= {
    "own": Box("attend: keys of\nrank ≤ own", 0.35, 2.2, width=1.2),
    "strict": Box("attend: keys of\nrank < own", 2.45, 2.2, width=1.2),
}
boxes |= {"new_h": Box("content h", 0.35, 3.3, "data"), "new_g": Box("query g", 2.45, 3.3, "data")}

# %%
arrows = [("h", "q", "(b, t, m)"), ("h", "kv", ""), ("g", "p", "(b, t, m)"), ("q", "own", "(b, t, h, d)"), ("kv", "own", "")]
arrows += [("kv", "strict", "(b, t, h, d)"), ("p", "strict", "(b, t, h, d)"), ("own", "new_h", "(b, t, m)")]
diagram(boxes, [*arrows, ("strict", "new_g", "(b, t, m)")])
figures.show()

# %% [markdown]
# Both streams read the content. The content stream sees itself. The query stream does not, and nothing reads it, so that what it knows is what its predictions may know.
#
# ## The equation
#
# For an order $z$ of the positions, the log-likelihood is the sum over the places $t$ of the order of
#
# $$\log p(x_{z_t} \mid x_{z_1}, \dots, x_{z_{t-1}})$$
#
# Two streams compute it, with the same weights:
#
# $$\begin{aligned} h_i &\leftarrow \mathrm{attend}(q \text{ from } h_i;\; k, v \text{ from } h_j \text{ with } \mathrm{rank}(j) \le \mathrm{rank}(i)) \\ g_i &\leftarrow \mathrm{attend}(q \text{ from } g_i;\; k, v \text{ from } h_j \text{ with } \mathrm{rank}(j) < \mathrm{rank}(i)) \end{aligned} \tag{3}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $z$, rank | positions in the order of prediction; the place of a position in it | `order`, `rank` | `(t,)` |
# | $h$ | content: starts as the token | `content_stream` | `(b, t, m)` |
# | $g$ | query: starts as one trained vector, the same everywhere | `query_stream` | `(b, t, m)` |
# | the conditions on ranks | two masks | `permutation_masks(order)` | `(t, t)` |
#
# "Attend" is equations (1) and (2) of [relative attention](relative_attention.ipynb): distances are all that a query starts with.
#
# ## By hand
#
# Four tokens, in the order 3, 0, 2, 1. Token 2 comes third, so its prediction reads tokens 3 and 0. Let their scores be $\ln 3$ and $0$, and their values 8 and 4: the query stream gets $\tfrac34 \cdot 8 + \tfrac14 \cdot 4 = 7$. The content stream reads token 2 as well. With score $\ln 4$ and value
# 0, the weights are as 3 to 1 to 4, and it gets $\tfrac18 (3 \cdot 8 + 4 + 0) = 3.5$.

# %%
content_mask, query_mask = ref.permutation_masks(np.array([3, 0, 2, 1]))
scores, values = np.array([0, 0, np.log(4), np.log(3)]), np.array([4, 0, 0, 8])
found = [masked_softmax(scores, mask[2]) @ values for mask in (query_mask, content_mask)]
print("query stream:", found[0].round(3), " content stream:", found[1].round(3))
assert np.allclose(found, [7, 3.5])

# %% [markdown]
# ## In NumPy
#
# **The masks.** The rank of each position, and two comparisons.

# %%
order = np.array([3, 0, 5, 1, 4, 2])
rank = np.array([list(order).index(position) for position in range(6)])
before = np.array([[rank[j] < rank[i] for j in range(6)] for i in range(6)])
print("ranks of positions 0 to 5:", rank, "\nwhat each prediction may read:\n", before.astype(int))
assert np.array_equal(before, ref.permutation_masks(order)[1]) and np.array_equal(
    before | np.eye(6, dtype=bool), ref.permutation_masks(order)[0]
)

# %% [markdown]
# **Two streams of one head**, without positions. Keys and values come from the content both times.

# %%
h, g = rng.normal(size=(6, 8)), np.tile(rng.normal(size=8), (6, 1))
into_q, into_k, into_v = rng.normal(size=(3, 8, 8)) / np.sqrt(8)
k, v = h @ into_k, h @ into_v
weights = [masked_softmax(x @ into_q @ k.T / np.sqrt(8), mask) for x, mask in ((h, before | np.eye(6, dtype=bool)), (g, before))]
new_h, new_g = (w @ v for w in weights)
print("what the first token in the order gets in the query stream:", new_g[order[0]].round(2))
print("weights of the second:", weights[1][order[1]].round(2))
assert not new_g[order[0]].any() and np.allclose(new_g[order[1]], v[order[0]])

# %% [markdown]
# The first token has nothing to read and gets zeros; the second reads the first, whatever the scores are. All queries $g$ are equal here. With the distances of equation (1) they differ, and only then does a prediction know its own place.

# %%
print(inspect.getsource(ref.permutation_masks))
print(inspect.getsource(ref.two_stream_relative_attention))

# %% [markdown]
# Each token has a prediction, and the early ones in an order know little. XLNet learns from the last sixth of each order: `target_mapping` makes the query stream only as long as there are predictions.
#
# ## What it does
#
# **Does a prediction know what it may know, through several layers?** We change one token after the other, and see which outputs of two layers with random weights change.

# %%
t, m = 6, 32
stack, encoding = [draw_weights(m, 2, 16) for _ in range(2)], ref.relative_position_encoding(t, t, m)
terms = ref.Terms(*rng.normal(size=(2, 2, 16)))
masks = [mask[None] for mask in ref.permutation_masks(order)]


def two_layers(x):
    h, g = x, np.broadcast_to(np.cos(np.arange(m)), x.shape)
    for weights in stack:
        content, query, *_ = ref.two_stream_relative_attention(h, g, weights, encoding, terms, None, None, *masks)
        h, g = h + content, g + query
    return np.stack([h[0], g[0]])


def dependency(outputs, x):
    """For each of the outputs (…, t, m): whether output t changes with token s."""
    changes = [np.abs(outputs(x + np.eye(t)[None, :, [s]]) - outputs(x)).max(axis=-1) > 1e-9 for s in range(t)]
    return np.stack(changes, axis=-1)


# %%
content, query = dependency(two_layers, rng.normal(size=(1, t, m)))
fig, axes = plt.subplots(1, 2, figsize=(7, 3.3), sharey=True)
for ax, found, name in zip(axes, (content, query), ("content: knows itself", "query: does not")):
    figures.mask_picture(ax, found, title=name, queries="output t", keys="token s")
    ax.label_outer()
fig.suptitle("white: the output changes with the token; order 3, 0, 5, 1, 4, 2")
figures.show()

# %%
print("tokens that each prediction knows, in the order:", query.sum(axis=-1)[order])
assert np.array_equal(content, masks[0][0]) and np.array_equal(query, masks[1][0])

# %% [markdown]
# Exactly the masks. Token 3 is predicted from nothing, 0 from token 3, 5 from 3 and 0, and so on.
#
# **Is a pair predicted as a pair?** XLNet's own example is "New York is a city" with both first words hidden: BERT predicts New and York each for itself. In miniature, a text begins with a pair $a, a + 1$, where $a$ is one of eight ids. Two tokens follow that are always the same. Both tokens of the pair must be
# predicted. If each is predicted alone, the best is $2 \ln 8$ nats. If the second is known to follow the first, it is $\ln 8$. [The experiment](../experiments/two_stream_attention.py) gives each arm three learning rates and three seeds.

# %%
pair = results["pair"]
bounds = {"ln 8": experiment.ONE_LN, "ln 8 + ln 2": experiment.ONE_LN + experiment.LOST, "2 ln 8": 2 * experiment.ONE_LN}
fig, ax = plt.subplots(figsize=(7, 3))
for row, arm in enumerate(experiment.PAIRS):
    ax.plot(found := pair.values("nats", arm), [row] * len(found), "o", color=figures.COLORS[0], linestyle="none", clip_on=False)
for name, value in bounds.items():
    ax.axvline(value, color="black", linestyle=":", marker="none")
    ax.annotate(name, (value, -0.75), (3, 0), textcoords="offset points", fontsize="small", va="center")
ax.annotate("has seen the answer", (0, 3), (8, 0), textcoords="offset points", va="center")
ax.set_yticks(range(len(experiment.PAIRS)), experiment.PAIRS)
ax.set(xlabel="nats of both tokens, on new texts, three seeds", xlim=(0, 4.6), ylim=(len(experiment.PAIRS) - 0.5, -1.1))
ax.set_title("in an order, the pair is predicted as one")
figures.show()

# %%
for arm in experiment.PAIRS:
    low, middle, high = pair.spread("nats", arm)
    print(f"{arm:32} best rate {pair.best_rate(arm):<6g} {low:.2f} to {high:.2f}")
print({name: f"{value:.2f}" for name, value in bounds.items()})
order_nats, both = pair.values("nats", "in an order"), pair.values("nats", "both hidden")
known = {"both hidden": "2 ln 8", "in an order": "ln 8", "in an order, without positions": "ln 8 + ln 2", "left to right": "ln 8"}
known["in an order, drawn one by one"] = "2 ln 8"
far = max(np.abs(pair.values("nats", arm) - bounds[name]).max() for arm, name in known.items())
print(f"largest distance of an arm of two streams from its bound: {far:.2f}")
assert order_nats.max() < 1.5 * experiment.ONE_LN < both.min()  # on different sides of halfway between the bounds

# %% [markdown]
# With its best rate, each arm of two streams lands within 0.03 nats of the bound that was known for it. In an order, the pair costs as much as one token. It does so only because one token tells the other: two tokens that are drawn one by one cost twice as much in an order, too. That needs no random order: from left to right does as well. What a random order adds is that tokens behind a place are read too, which this task does not ask for.
#
# **Without positions**, all predictions start alike, and a prediction next to $a$ does not know on which side it is: it may be $a + 1$ or $a - 1$, which costs $\ln 2$. So two streams need distances, or another way to tell places apart.

# %%
unplaced = pair.values("nats", "in an order, without positions")
print(
    f"without positions, above ln 8: {unplaced.min() - experiment.ONE_LN:.2f} to {unplaced.max() - experiment.ONE_LN:.2f}; ln 2 is {np.log(2):.2f}"
)
assert order_nats.max() < experiment.ONE_LN + experiment.LOST / 2 < unplaced.min()

# %% [markdown]
# **The paper beside ours.** In Table 1 of Yang et al., XLNet and BERT have the same size and data. Only the direction carries over: the paper changes the order, relative positions and memory at once, and its tasks are not pairs.

# %%
paper = {"SQuAD 1.1, F1": (92.8, 94.0), "RACE, accuracy": (75.1, 77.4), "MNLI, accuracy": (87.3, 88.4)}
for task, (bert, xlnet) in paper.items():
    print(f"{task:32} BERT {bert}   XLNet {xlnet}")
print(f"{'ours, nats (lower is better)':32} both hidden {np.median(both):.2f}   in an order {np.median(order_nats):.2f}")

# %% [markdown]
# One arm, live:

# %%
live = experiment.train_pair("in an order", pair.best_rate("in an order"), seed=0)
print(f"in an order, trained just now: {live['nats']:.2f} nats")
assert pair.contains(live["nats"], "nats", "in an order")

# %% [markdown]
# ## Where it breaks
#
# **One stream with its diagonal masked.** Why not forbid each token to attend to itself, and keep one stream? The arm "one stream" did that. It needs fewer nats than are possible without seeing the answer.

# %%
strict = masks[1]


def one_stream(x):
    for weights in stack:
        x = ref.relative_attention(x, x, weights, terms, encoding=encoding, mask=strict)[0]
    return x[0]


leak = dependency(one_stream, rng.normal(size=(1, t, m))) & ~strict[0]
one = pair.values("nats", "in an order, one stream")
print("predictions that know their own token:", np.flatnonzero(leak.diagonal()), " of the order", order)
print(f"nats of the pair: at most {one.max():.3f}; without the answer at least {experiment.ONE_LN:.2f}")
assert leak.diagonal().sum() == t - 2 and one.max() < experiment.ONE_LN / 2

# %% [markdown]
# Its query is made from its own content, and so its weights depend on the answer. Only the first two in the order are safe: with no key, or a single one, there is nothing to weigh. In a real block, as in the trained arm, the residual connection hands each token to its own prediction, and none is safe. A loss far below its bound is a leak, not a success.
#
# **Differs from the paper.** The first token of an order, which may attend to nothing, gets zeros. Popular code gives it the mean of all tokens, its own among them.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
both_streams = replace(CHAPTER, cases=tuple(case for case in CHAPTER.cases if "two-streams" in case.name))
line, agrees = figures.agreement_line(both_streams)
assert agrees
line

# %% [markdown]
# ## Today
#
# Encoders went back to hiding tokens: RoBERTa ([Liu et al., 2019](https://arxiv.org/abs/1907.11692)) came close to XLNet, and past it on several tasks, with BERT's own objective, more data and longer training. MPNet ([Song et al., 2020](https://arxiv.org/abs/2004.09297)) joins orders and masks. Orders that are not from left to right came
# back to generate text: autoregressive diffusion ([Hoogeboom et al., 2021](https://arxiv.org/abs/2110.02037)), models with shuffled orders ([Pannatier et al., 2024](https://arxiv.org/abs/2404.09562)), and language models that fill in many hidden tokens at a time
# ([Nie et al., 2025](https://arxiv.org/abs/2502.09992)), where the tokens of one step are again predicted each for itself.
#
# ## Exercises
#
# **1** (easy, 5 minutes). For an `order` of `t` positions, first predicted first: how many tokens does the prediction at each position know? Return `(t,)`. No loop.


# %%
def known(order):
    return None  # your turn


_ = check("two_stream_attention/1", known)

# %% [markdown]
# <details><summary>Hint</summary>A prediction knows all tokens before it in the order, so its rank is the answer. What undoes a permutation?</details>
# <details><summary>Solution</summary><code>np.argsort(order)</code></details>
#
# **2** (medium, 15 minutes). The masks need not come from an order. With `content` and `query`, boolean and `(t, t)`, and `layers` layers with residual connections in both streams: which tokens `s` may the prediction at `t` know? Return `(t, t)`. Without a layer it knows none.


# %%
def reachable(content, query, layers):
    return None  # your turn


_ = check("two_stream_attention/2", reachable)

# %% [markdown]
# <details><summary>Hint</summary>Follow the content first: what a state knows after a layer is what it knew, and what the states that it reads knew. The query stream reads the content of the layer below.</details>
# <details><summary>Solution</summary>
#
# ```python
# def reachable(content, query, layers):
#     reach = np.eye(len(content), dtype=bool)
#     for _ in range(layers - 1):
#         reach = reach | (content @ reach)
#     return query @ reach if layers else np.zeros_like(query)
# ```
# </details>
#
# **3** (hard, 20 minutes). Equation (3) for one head without positions: `q` from the content and `g` from the query stream, `k`, all `(t, d)`, and `v` `(t, e)`. Return the new content and the new queries, `(t, e)` both, for an `order`. Scores are divided by $\sqrt d$; what may attend to nothing gets zeros. No loop over tokens.


# %%
def streams(q, g, k, v, order):
    return None  # your turn


_ = check("two_stream_attention/3", streams)

# %% [markdown]
# <details><summary>Hint</summary>Two masks from the ranks, by broadcasting; or sort everything by the order, mask above the diagonal, and put the results back in their places.</details>
# <details><summary>Solution</summary>
#
# ```python
# def streams(q, g, k, v, order):
#     rank = np.argsort(order)
#     masks = rank[None, :] <= rank[:, None], rank[None, :] < rank[:, None]
#     return tuple(masked_softmax(x @ k.T / np.sqrt(k.shape[1]), mask) @ v for x, mask in zip((q, g), masks))
# ```
# </details>
#
# **To discuss.** To write a text, a model must choose an order. Which orders would you try for a poem, a program, a protein, and why might one be easier to learn than another?
#
# ## Summary
#
# - Hidden tokens that are predicted each for itself lose what they tell about each other; in an order nothing is lost.
# - Two streams with the same weights: others read a token's content, and its own prediction never does.
# - Predictions start alike, so they need positions; and one stream with a masked diagonal leaks the answer.
#
# **Further reading.** [Yang et al., 2019](https://arxiv.org/abs/1906.08237): the paper. [Uria et al., 2014](https://arxiv.org/abs/1310.1757): orders drawn anew for each example, before attention. [Transformer-XL](transformer_xl.ipynb): the model whose memory XLNet keeps.
