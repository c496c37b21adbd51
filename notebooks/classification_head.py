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
# # Classification head: one token for the whole sequence
#
# A classifier reads the vector of a single token. The encoder's attention has to carry the rest of the sequence into that vector.
#
# Paper: [Devlin et al., 2018, sections 3 and 4.1](https://arxiv.org/abs/1810.04805) · NumPy: [`reference/classification_head.py`](../reference/classification_head.py) · Layer:
# [`layers/classification_head.py`](../layers/classification_head.py) · 30 minutes · You should know: what a [transformer block](transformer_encoder.ipynb) is

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.classification_head import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from experiments import classification_head as experiment
from experiments.classification_head import encoded, heads
from experiments.common import reader
from experiments.common.results import stored
from layers.classification_head import ClassificationHead
from reference import classification_head as ref
from reference.attention import multi_head_attention
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)
results = stored("classification_head")

# %% [markdown]
# ## The question
#
# A trained encoder, all-MiniLM-L6-v2 (MiniLM in what follows), reads 384 sentences: 96 nouns of four kinds, each in four sentences. BERT puts the token [CLS] in front of every sentence, and a classifier reads its vector. **What does this
# vector hold of the noun, before the first layer and after the last?**

# %%
states = encoded.states()  # before the first layer and after each: (7, b, t, m)
kinds = np.repeat([kind for _, kind in encoded.NOUNS], len(encoded.FRAMES))
print(encoded.SENTENCES[:2], "…", states.shape)


# %%
def plane(vectors):
    """Where [CLS] lies, less the mean of all sentences with the same frame, in the plane where they differ most."""
    vectors = vectors.reshape(96, 4, 384) - vectors.reshape(96, 4, 384).mean(axis=0)
    vectors = vectors.reshape(384, 384)
    points = vectors @ np.linalg.svd(vectors, full_matrices=False)[2][:2].T
    signs = [points[kinds == kind, axis].mean() for axis, kind in enumerate((3, 2))]
    return points * np.where(np.less(signs, 0), -1, 1)  # vehicles to the right, clothing at the top


planes = {layer: plane(states[layer, :, 0]) for layer in (0, 6)}

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
names = {"animal": (0.3, -2.6), "food": (-2.2, 1.0), "clothing": (-1.9, 2.4), "vehicle": (2.2, 1.3)}
for ax, (layer, points) in zip(axes, planes.items()):
    for kind, (name, place) in enumerate(names.items()):
        of, color = points[kinds == kind], figures.COLORS[kind]
        ax.plot(*of.T, linestyle="none", marker=figures.MARKERS[kind], color=color, markersize=4, alpha=0.6)
        if layer:
            ax.annotate(name, place, ha="center", va="center", color=color, weight="bold")
    ax.set(xlabel="first direction", xlim=(-4, 4), ylim=(-4, 4))
axes[0].set(title="before the first layer: one point", ylabel="second direction")
axes[1].set_title("[CLS] after six layers: four kinds")
figures.show()


# %% [markdown]
# Each mark is a sentence. Before the first layer all are one point, because [CLS] is the same token at the same place. After six layers they differ, and nouns of one kind lie together. How far together? We count the sentences that are nearest to the
# mean of their own kind. The null is the same count with the kinds dealt out to the nouns at random, a thousand times.


# %%
def own_nearest(points, kinds):
    means = np.stack([points[kinds == kind].mean(axis=0) for kind in range(4)])
    return (((points[:, None] - means) ** 2).sum(axis=2).argmin(axis=1) == kinds).mean()


found = own_nearest(planes[6], kinds)
null = [own_nearest(planes[6], np.repeat(rng.permutation(kinds[::4]), 4)) for _ in range(1000)]
spread = [np.ptp(states[layer, :, 0], axis=0).max() for layer in (0, 6)]
print(f"[CLS] differs between sentences by at most {spread[0]:.0f} before and {spread[1]:.1f} after")
print(f"nearest to the mean of their own kind: {found:.2f}; kinds dealt at random: at most {max(null):.2f}")
assert spread[0] == 0 and found > max(null)

# %% [markdown]
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"x": Box("features", 0, 0, "data"), "take": Box("take one token", 0, 1, width=1.25)}
boxes |= {"pool": Box("pooler $W_p$, $b_p$", -0.9, 2, "map", width=1.25), "phi": Box("tanh", -0.9, 3)}
boxes |= {"drop": Box("dropout", 0, 4), "w": Box("$W$, $b$", 0, 5, "map"), "logits": Box("logits", 0, 6, "data")}
arrows = [("x", "take", "(b, t, m)"), ("take", "pool", "(b, m)"), ("pool", "phi", "(b, f)"), ("phi", "drop", "C (b, f)")]
arrows += [("take", "drop", "without a pooler: C (b, m)"), ("drop", "w", ""), ("w", "logits", "(b, c)")]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# Blue boxes have trained weights. Everything above "take one token" is done once for a sequence, whatever its length.
#
# ## The equation
#
# $$C = \varphi(x_\mathrm{CLS} W_p + b_p) \tag{1}$$
#
# $$\mathrm{logits} = C W + b \tag{2}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $x$ | the output of the encoder | `features` | `(b, t, m)` |
# | $x_\mathrm{CLS}$ | one token of it | `features[:, cls_token_idx]` | `(b, m)` |
# | $W_p, b_p$ | the pooler | `weights.pooler_dense` | `(m, f)`, `(f)` |
# | $W, b$ | a column for each class | `weights.logits` | `(f, c)`, `(c)` |
# | $\varphi$ | the activation, tanh | `phi` | |
#
# Without a pooler, $C = x_\mathrm{CLS}$, as in the paper's text. **Differs from the paper:** its $C$ has no pooler and its $W$ no bias; its code has both.
#
# ## By hand
#
# Let [CLS] be $(1, 2)$. A pooler with columns $(1, 1)$ and $(1, -1)$ and bias $(-1, 0)$ gives $(2, -1)$, of which $\max(0, \cdot)$ leaves $C = (2, 0)$. With $W$ having rows $(3, -1)$ and $(9, 9)$, and $b = (1, 0)$,
# the logits are $(2 \cdot 3 + 1,\ 2 \cdot (-1)) = (7, -2)$.

# %%
pooler = Projection(np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([-1.0, 0.0]))
logits = Projection(np.array([[3.0, -1.0], [9.0, 9.0]]), np.array([1.0, 0.0]))
weights = ref.ClassificationHeadWeights(pooler, logits)
by_hand = ref.classify_one(np.array([1.0, 2.0]), weights, lambda x: np.maximum(x, 0))
print(by_hand)
assert by_hand.tolist() == [7, -2]

# %% [markdown]
# ## In NumPy
#
# **One token.** The pooler has a column for each of its outputs; tanh keeps these between −1 and 1.

# %%
x = rng.normal(size=(2, 5, 4))  # two sequences of five tokens
pooler, logits = Projection(rng.normal(size=(4, 3)), rng.normal(size=3)), Projection(rng.normal(size=(3, 6)), rng.normal(size=6))
weights = ref.ClassificationHeadWeights(pooler, logits)
pooled = np.tanh([column @ x[0, 0] + b for column, b in zip(pooler.kernel.T, pooler.bias)])
print("C", pooled.round(2))

# %% [markdown]
# **Its logits**: one number for each class, the product of $C$ with the column of the class.

# %%
one = np.array([column @ pooled + b for column, b in zip(logits.kernel.T, logits.bias)])
print("logits", one.round(2))
assert np.allclose(one, ref.classify_one(x[0, 0], weights))

# %% [markdown]
# **All sequences.** One slice takes the token of each; a product with a matrix does all columns at once.

# %%
all_logits = np.tanh(x[:, 0] @ pooler.kernel + pooler.bias) @ logits.kernel + logits.bias
print(all_logits.shape)
assert np.allclose(all_logits[0], one)

# %% [markdown]
# **The reference** leaves the place of the token, the pooler and its activation open.

# %%
print(inspect.getsource(ref.classification_head).split('"""')[0], "…", inspect.getsource(ref.classification_head).split('"""')[2])
assert np.allclose(ref.classification_head(x, weights)[0], all_logits)
assert np.allclose(ref.classification_head(x, weights, cls_token_idx=-1)[0][1], ref.classify_one(x[1, 4], weights))

# %% [markdown]
# ## What it does
#
# **Which token, and after which layer?** We keep MiniLM as it is and train heads without a pooler on its vectors: on twelve nouns of each kind, tested on the twelve others, which no head has seen. Guessing is right in a quarter. [The
# experiment](../experiments/classification_head/__init__.py) gives each arm three learning rates, of which the best one after six layers counts, and five seeds, each with another choice of nouns.

# %%
tokens, after = results["tokens"], np.arange(7)


def draw(ax, arms, title):
    for number, (arm, (label, place, shift, side)) in enumerate(arms.items()):
        values = tokens.values("accuracy", arm)
        style = {"color": figures.COLORS[number], "linestyle": figures.DASHES[number], "marker": figures.MARKERS[number]}
        ax.plot(after, np.median(values, axis=0), **style)
        ax.fill_between(after, values.min(0), values.max(0), color=figures.COLORS[number], alpha=0.2, linewidth=0)
        at = after[place], np.median(values[:, place])
        ax.annotate(label, at, shift, textcoords="offset points", color=figures.COLORS[number], ha=side)
    ax.axhline(1 / 4, color="black", linestyle=":", marker="none")
    ax.annotate("guessing", (0.2, 1 / 4), (0, -12), textcoords="offset points", fontsize="small")
    ax.set(xlabel="layers", xlim=(-0.7, 6.3), ylim=(0, 1.1), title=title)


# %%
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True)
shown = {"[CLS]": ("[CLS]", 4, (0, -20), "center"), "the word after [CLS]": ("word after it", 1, (-8, 4), "right")}
shown["mean of all tokens"] = ("mean of all tokens", 1, (14, 6), "center")
draw(axes[0], shown, "heads learn least from [CLS], until the end")
taken = {"[CLS]": ("[CLS]", 6, (-20, 6), "center"), "[CLS], layers shuffled": ("layers shuffled", 1, (30, 9), "center")}
taken["[CLS], kinds mixed"] = ("kinds mixed", 2, (0, 22), "center")
taken["[CLS], noun hidden"] = ("noun hidden", 5, (0, -20), "center")
draw(axes[1], taken, "layers shuffled: better after one, worse after six")
axes[0].set_ylabel("right, of new nouns")
figures.show()

# %%
for arm in (*heads.TOKENS, *heads.ABLATIONS):
    low, high = (pick(tokens.values("accuracy", arm), axis=0) for pick in (np.min, np.max))
    print(f"{arm:24} best rate {tokens.best_rate(arm):<6g}", *(f"{a:.2f}–{b:.2f}" for a, b in zip(low, high)))

# %%
cls, shuffled = (tokens.values("accuracy", arm) for arm in ("[CLS]", "[CLS], layers shuffled"))
assert (tokens.values("accuracy", "[CLS], noun hidden") == 1 / 4).all() and (cls[:, 0] == 1 / 4).all()
assert cls[:, 6].min() > max((1 + 1 / 4) / 2, shuffled[:, 6].max()) and shuffled[:, 1].min() > cls[:, 1].max()
word, mean = (tokens.values("accuracy", arm) for arm in ("the word after [CLS]", "mean of all tokens"))
assert (mean[:, 1:5].min(axis=0) > cls[:, 1:5].max(axis=0)).all() and (word[:, 1:].min(axis=0) > cls[:, 1:].min(axis=0)).all()

# %% [markdown]
# The bands are all five seeds; the dotted line is guessing. Before the first layer [CLS] holds nothing. After six layers, its vector tells the kind of a noun that no head has seen. If the noun is hidden from all tokens by a mask, nothing is left.
#
# **Is it the training of MiniLM that brings the noun there?** Only in part. With the numbers of every kernel in random order (the embeddings stay), these heads are right more often after one layer than after MiniLM's own first layer: the embedding of "camel"
# says "animal" from the start, and any attention to it carries that to [CLS]. But does MiniLM's first layer bring less of the noun, or the same in smaller numbers? We bring each number of the vectors to the same spread and fit heads by ridge regression,
# which has no learning rate and no steps, on the same five choices of nouns.


# %%
def scaled_head(vectors, seed):
    """Right, of new nouns, by ridge regression on numbers that all have the same spread."""
    of, order = encoded.labels(seed)
    seen = order < encoded.EACH // 2
    x = (vectors - vectors[seen].mean(axis=0)) / np.maximum(vectors[seen].std(axis=0), 1e-6)
    answers = np.eye(encoded.CLASSES)[of[seen]] - 1 / encoded.CLASSES
    solved = np.linalg.solve(x[seen] @ x[seen].T + 100 * np.eye(seen.sum()), answers)
    return ((x[~seen] @ x[seen].T @ solved).argmax(axis=1) == of[~seen]).mean()


def to_noun(weights):
    """The share of the attention of [CLS] that the noun gets in the first layer."""
    maps = multi_head_attention(states[0], states[0], weights)[1]
    return maps[np.arange(len(maps)), :, 0, encoded.PLACES].mean()


# %% tags=["nbval-ignore-output"]
scaled = {}
for arm in ("[CLS]", "the word after [CLS]", "[CLS], layers shuffled"):
    vectors = encoded.vectors_of(arm, 0).astype("float64")
    scaled[arm] = np.array([[scaled_head(vectors[n], seed) for n in range(7)] for seed in tokens.experiment.seeds])
    print(f"{arm:24}", *(f"{low:.2f}–{high:.2f}" for low, high in zip(scaled[arm].min(axis=0), scaled[arm].max(axis=0))))
    print(" " * 12, "spread", *(f"{x.reshape(96, 4, 384).std(axis=0).mean():9.4f}" for x in vectors))
first = minilm.attention_weights(minilm.load(), 0)
mixed = [Projection(rng.permutation(of.kernel.ravel()).reshape(of.kernel.shape), of.bias) for of in first]
print(f"[CLS] attends to the noun: {to_noun(first):.3f}; shuffled {to_noun(type(first)(*mixed)):.3f}; an even share {1 / 9:.3f}")
assert (scaled["[CLS]"][:, 1:5].min(axis=0) > np.median(cls, axis=0)[1:5]).all()
assert scaled["[CLS]"][:, 6].min() > scaled["[CLS], layers shuffled"][:, 6].max()

# %% [markdown]
# "Spread" is the standard deviation between nouns, averaged over the numbers of the vector. In MiniLM's first layer, the noun gets a small part of the attention of [CLS]. So the vector of [CLS] differs between nouns by hundreds of times less than after six layers, and the
# heads above learn little from that in 200 steps. Scaled, they read about as much after MiniLM's first layer as after a shuffled one. After six, the difference is real: further shuffled layers blur the noun, MiniLM's keep it, and the last one makes it large.
#
# **[CLS] is no special place.** From the word behind it, "saw" or "drew", heads learn as much or more after any number of layers, and from the mean of all tokens more after one to four; scaled, [CLS] and the word are close. That is no surprise in *this* model: it was trained by comparing the means of sentences' tokens (a
# billion pairs, [model card](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2)), and nothing in that training reads [CLS]. In the original BERT the two are close: logistic regression on frozen vectors is right in 84.66% with [CLS] and 84.94% with
# the mean, averaged over seven tasks ([Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084), Table 5). Where a model has put the sentence depends on what it was trained for.
#
# One of these runs, live:

# %% tags=["nbval-ignore-output"]
live = heads.train_heads("[CLS]", tokens.best_rate("[CLS]"), seed=0)
print("right after 0 to 6 layers, trained just now:", np.round(live["accuracy"], 2))
assert tokens.contains(live["last"], "last", "[CLS]")

# %% [markdown]
# **Was MiniLM's pooler ever trained?** BERT's pooler is trained with the next-sentence task, and fine-tuning goes on from there. The file of MiniLM has a pooler too. Its biases and the shape of its distribution tell its history: initial kernels are normal, and
# a normal distribution has a kurtosis of 3. The standard error of the kurtosis of $k$ numbers from it is $\sqrt{24 / k}$.


# %%
def kurtosis(x):
    x = x.astype("float64") - x.mean(dtype="float64")
    return (x**4).mean() / (x**2).mean() ** 2


tensors = minilm.load().tensors
kernels = {name: x for name, x in tensors.items() if name.endswith("weight") and x.ndim == 2 and "embeddings" not in name}
away = {name: abs(kurtosis(x) - 3) / np.sqrt(24 / x.size) for name, x in kernels.items()}
biases = {name: np.abs(tensors[name.replace("weight", "bias")]).max() for name in kernels}

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.6))
names = [name for name in kernels if "pooler" not in name]
ax.plot([away[name] for name in names], [biases[name] for name in names], "o", linestyle="none", alpha=0.6)
ax.plot(away["pooler.dense.weight"], biases["pooler.dense.weight"], "*", color=figures.COLORS[1], markersize=14, clip_on=False)
ax.annotate("pooler", (away["pooler.dense.weight"], 0), (0, 10), textcoords="offset points", ha="center", color=figures.COLORS[1])
ax.annotate("the 36 maps of the layers", (400, 1.0), color=figures.COLORS[0])
ax.axvspan(0.1, 2, color="black", alpha=0.1)
ax.annotate("a normal\ndistribution", (0.13, 0.7), fontsize="small")
ax.set(xscale="log", xlabel="standard errors from the kurtosis of a normal distribution", ylabel="largest bias", xlim=(0.1, None))
ax.set_title("MiniLM's pooler looks as it did before training")
figures.show()

# %%
pooler = kernels["pooler.dense.weight"]
print(
    f"pooler: kurtosis {kurtosis(pooler):.2f}, {away['pooler.dense.weight']:.1f} standard errors away, largest bias {biases['pooler.dense.weight']:.0f}"
)
print(
    f"layers: at least {min(away[name] for name in names):.0f} standard errors away, largest bias at least {min(biases[name] for name in names):.4f}"
)
print(
    f"standard deviation of the pooler's kernel {pooler.std():.4f}; config: initializer_range {minilm.load().config['initializer_range']}"
)
assert away["pooler.dense.weight"] < 2 < min(away[name] for name in names) and biases["pooler.dense.weight"] == 0

# %% [markdown]
# Every other map has been changed by training; the pooler has all biases at exactly 0 and a kernel as normal as a random draw. (It is smaller than the config's initial size, which shrinking alone would explain.) So nothing can be learned about BERT's pooler
# from this one. **A pooler that was really pre-trained is not at hand here.** What we can do is pre-train one: with MiniLM frozen, a pooler and a head learn from 1,032 pairs of a novel's sentences whether the second follows the first. Then the pooler
# goes into the head for nouns, frozen or trained on. Its rivals: no pooler, MiniLM's own, two random ones of the same size, and a new one that is trained with the head.

# %%
following, poolers = results["next sentence"], results["poolers"]
for arm in following.experiment.arms:
    for rate in following.experiment.rates:
        low, _, high = following.spread("accuracy", arm, rate)
        seen = following.values("seen", arm, rate).min()
        print(f"{arm:14} rate {rate:g}: right on new pairs {low:.2f} to {high:.2f}, on those of training at least {seen:.2f}")
error = 2 * np.sqrt(1 / 4 / experiment.HELD_OUT)
print(f"two standard errors of {experiment.HELD_OUT} guesses: {error:.2f}")
assert abs(following.values("accuracy", "next sentence") - 1 / 2).max() < error

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3), sharey=True)
for ax, what, count in zip(axes, ("few", "many"), (heads.FEW, encoded.EACH // 2)):
    for row, arm in enumerate(heads.POOLERS):
        found = poolers.values(what, arm)
        ax.plot(found, [row] * len(found), "o", color=figures.COLORS[row >= len(heads.FROZEN)], linestyle="none", clip_on=False)
    ax.axvline(1 / 4, color="black", linestyle=":", marker="none")
    ax.set(xlabel="right, of new nouns", xlim=(0, 1), title=f"{count} nouns of each kind to learn from")
axes[0].set_yticks(range(len(heads.POOLERS)), heads.POOLERS)
axes[0].invert_yaxis()
axes[0].annotate("guessing", (1 / 4, 6.2), (-3, 0), textcoords="offset points", ha="right", fontsize="small")
fig.suptitle("six times the nouns help more than any pooler")
figures.show()

# %%
for arm in heads.POOLERS:
    print(
        f"{arm:26} best rate {poolers.best_rate(arm):<6g}",
        *(f"{what} {np.round(poolers.values(what, arm), 2)}  " for what in ("few", "many")),
    )

# %%
own, one, another, without = (
    poolers.values("both", arm) for arm in ("MiniLM's", "a random one", "another random one", "no pooler")
)
apart, null = own - (one + another) / 2, np.abs(one - another)
most = {arm: (poolers.values("both", arm) - without).max() for arm in heads.POOLERS[1:]}
nouns = poolers.values("many", "no pooler") - poolers.values("few", "no pooler")
print(f"MiniLM's pooler is {apart.mean():+.3f} from random ones on average; two random ones are up to {null.max():.3f} apart")
print(
    f"six times the nouns, without a pooler: {nouns.min():+.2f} to {nouns.max():+.2f}; a pooler at most {max(most.values()):+.2f} ({max(most, key=most.get)})"
)
loss = poolers.values("few", "no pooler") - np.array(
    [poolers.values("few", arm) for arm in ("a random one", "another random one")]
)
print(f"with few nouns, no pooler is better than a random one by {loss.min():+.2f} to {loss.max():+.2f}")
assert abs(apart.mean()) <= null.max() and nouns.min() > max(most.values())

# %% [markdown]
# **Our pre-training taught next to nothing.** On new pairs the pooler, at its best rate, is within two standard errors of chance; at rate 0.001 it reaches 0.61 for one choice of pairs to hold out, and knows the pairs of training by heart. The original had millions of pairs, and trained all layers with them.
# So the question what a pre-trained pooler is worth stays open here. The paper's own ablation: without the next-sentence task, MNLI falls from 84.4 to 83.9, QNLI from 88.4 to 84.9 and MRPC from 86.7 to 86.5 (Table 5, BERT base).
#
# **What stands:** MiniLM's pooler does as random ones do. With two nouns of each kind, a random one is at most slightly better than none, and for some choices of nouns clearly worse. Twelve nouns of each kind in place of two add more than any pooler.
#
# ## Where it breaks
#
# **The last token may be padding.** XLNet puts its token last, and `cls_token_idx=-1` finds it, as long as nothing stands behind it. Twelve sentences of a novel, each alone and padded with one or eight times [PAD], **with** a mask:


# %%
def read(pieces, padding):
    """The first and the last vector, `(2, m)`."""
    inputs = encoded.packed([pieces + ["[PAD]"] * padding])
    inputs["input_mask"][:, len(pieces) :] = 0
    return np.array(encoded.encoder()(inputs)["sequence_output"])[0, [0, -1]]


alone, one, eight = (np.array([read(pieces, n) for pieces in reader.sentences()[:12]]) for n in (0, 1, 8))

# %%
size = np.linalg.norm(alone, axis=-1)
others, moved, further = (np.linalg.norm(found - alone, axis=-1) / size for found in (np.roll(alone, 1, axis=0), one, eight))
for column, token in enumerate((0, -1)):
    print(
        f"cls_token_idx={token:2}: one [PAD] moves it by {moved[:, column].min():.2f} to {moved[:, column].max():.2f}, eight by up to "
        f"{further[:, column].max():.2f}; another sentence is {np.median(others[:, column]):.2f} away"
    )
apart = np.linalg.norm(eight - one, axis=-1)[:, 1] / size[:, 1]
print(f"the last of one [PAD] and the last of eight are {apart.min():.2f} to {apart.max():.2f} apart")
assert max(moved[:, 0].max(), further[:, 0].max()) < 1e-4 and moved[:, 1].min() > np.median(others[:, 1]) / 2

# %% [markdown]
# The mask keeps [CLS] from padding, but the head knows of no mask. Its last token is then a [PAD]. A [PAD] attends to the sentence as any token does, so its vector looks plausible, but it depends on how much padding there is. Pad on the left, as
# XLNet does, or take the last real token yourself (exercise 3). Hugging Face's classifiers on decoders look for it by `pad_token_id`, and refuse a batch if there is none.
#
# **A position that does not exist** is an error that names it; a compiler that clamps indices would have taken the nearest.

# %%
try:
    ClassificationHead(8, 2, cls_token_idx=5)(np.ones((2, 5, 8)))
except ValueError as error:
    print(error)
else:
    raise AssertionError("position 5 of 5 was found")

# %% [markdown]
# **Differs from the Model Garden:** with `inner_dim=0` features may have three axes, and the token is taken from them as with a pooler.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# RoBERTa dropped the next-sentence task and with it the pre-trained pooler; its classifiers begin with a new one ([Liu et al., 2019](https://arxiv.org/abs/1907.11692)). ModernBERT, a BERT of 2024, offers [CLS] and the mean of all tokens as equals
# ([Warner et al., 2024](https://arxiv.org/abs/2412.13663)). Sentence embeddings mostly take the mean ([Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084)). Decoders can only use the last token, which alone has seen the others; reward models
# are such heads with a single logit ([Ouyang et al., 2022](https://arxiv.org/abs/2203.02155)). Vision transformers took [CLS] over from BERT, and do as well with a mean over patches ([Beyer et al., 2022](https://arxiv.org/abs/2205.01580)).
#
# ## Exercises
#
# **1** (easy, 5 minutes). The head with a pooler, for `features` `(b, t, m)`: the first token through `w_p` `(m, f)`, `b_p` and tanh, then through `w` `(f, c)` and `b`.


# %%
def pooled_logits(features, w_p, b_p, w, b):
    return None  # your turn


_ = check("classification_head/1", pooled_logits)

# %% [markdown]
# <details><summary>Hint</summary>One slice, two products.</details>
# <details><summary>Solution</summary><code>np.tanh(features[:, 0] @ w_p + b_p) @ w + b</code></details>
#
# **2** (medium, 10 minutes). A pooler with $\varphi(x) = x$ is no use: return one kernel and one bias with the logits of both maps, `w_p` `(m, f)`, `b_p` `(f)`, `w` `(f, c)`, `b` `(c)`.


# %%
def folded(w_p, b_p, w, b):
    return None  # your turn


_ = check("classification_head/2", folded)

# %% [markdown]
# <details><summary>Hint</summary>$(x W_p + b_p) W + b$, multiplied out.</details>
# <details><summary>Solution</summary><code>return w_p @ w, b_p @ w + b</code></details>
#
# **3** (hard, 15 minutes). The last real token: `features` `(b, t, m)` are padded at the end, `lengths` `(b)` says where each ends. Return the logits of its last token; of a text of length 0, those of a token of zeros. No loop.


# %%
def last_token(features, lengths, w, bias):
    return None  # your turn


_ = check("classification_head/3", last_token)

# %% [markdown]
# <details><summary>Hint</summary>Index with two arrays: which row, and where in it. What does an index of −1 read?</details>
# <details><summary>Solution</summary>
#
# ```python
# def last_token(features, lengths, w, bias):
#     last = features[np.arange(len(features)), np.maximum(lengths - 1, 0)]
#     return np.where((lengths > 0)[:, None], last, 0) @ w + bias
# ```
# </details>
#
# **To discuss.** The first token, the mean of all tokens, the last token: three models, three choices. What does each assume about how the model was trained, and how would you choose for a model that you are given?
#
# ## Summary
#
# - The head reads one vector. Attention brings the sequence into it. In MiniLM's [CLS] a noun can be read after one layer, but in numbers so small that a head learns slowly; after six they are large. Other tokens hold as much.
# - On frozen vectors a linear map is enough. MiniLM's pooler was never trained, and random ones do about the same; six times the examples help more than any pooler.
# - The head sees no mask: a token counted from the end may be padding.
#
# **Further reading.** [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3: [CLS] and how it is pre-trained. [Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084): where the mean of all
# tokens does better than [CLS]. [Alain and Bengio, 2016](https://arxiv.org/abs/1610.01644): linear heads as probes of what each layer holds.
