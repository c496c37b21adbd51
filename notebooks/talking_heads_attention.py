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
# # Talking-heads attention
#
# Before the softmax, each head gets a mixture of all heads' scores; after it, a mixture of all heads' weights. Two small trained matrices say how much of each.
#
# Paper: [Shazeer et al., 2020, section 4](https://arxiv.org/abs/2003.02436) · NumPy: [`reference/talking_heads_attention.py`](../reference/talking_heads_attention.py) · Layer:
# [`layers/talking_heads_attention.py`](../layers/talking_heads_attention.py) · 30 minutes · You should know: [attention](attention.ipynb), and the rank of a matrix

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from crosscheck.cases.talking_heads_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from crosscheck.weights import weights_of
from experiments import talking_heads_attention as experiment
from experiments.common import novel
from experiments.common.results import stored
from layers.talking_heads_attention import TalkingHeadsAttention
from reference import attention as plain
from reference import talking_heads_attention as ref
from reference.common.projection import into_heads
from reference.masked_softmax import masked_softmax

figures.use_style()
rng = np.random.default_rng(0)
results = stored("talking_heads_attention")

# %% [markdown]
# ## The question
#
# More heads can read more places. But at a fixed cost, $h$ heads of $d$ numbers with $h \cdot d$ fixed, each head gets smaller, and its scores, products of queries and keys with $d$ numbers, form a matrix of rank at most $d$.
# How small may a head be? Head 2 of layer 0 of MiniLM (a small trained BERT, see [attention](attention.ipynb)) has 32 numbers and reads the token before. We keep its scores on a sentence, but only at rank 8, 2
# and 1: the nearest matrices that so small a head could have made.

# %%
model = minilm.load()
minilm_weights = minilm.attention_weights(model, layer=0)
sentences = [s.replace("\n", " ").strip() for s in novel.TEXT.split(".")[200:1000] if 60 < len(s) < 140][:40]


# %%
def real_scores(sentence):
    """The scores `(h, t, s)` of layer 0, each row less its mean, which no softmax sees."""
    x = minilm.embed(model, minilm.wordpieces(model, sentence))
    q, k = (into_heads(x, projection)[0] for projection in minilm_weights[:2])
    scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(q.shape[-1])
    return scores - scores.mean(axis=-1, keepdims=True)


def at_rank(scores, r):
    """The matrices of rank r that are nearest to scores `(h, t, s)`."""
    u, sizes, v = np.linalg.svd(scores, full_matrices=False)
    return np.einsum("htr,hr,hrs->hts", u[..., :r], sizes[:, :r], v[:, :r])


# %%
scores = real_scores(sentences[0])
panels = [masked_softmax(at_rank(scores, r)[2]) for r in (32, 8, 2, 1)]
figures.maps(panels, ("32 numbers", "8: the same", "2: blurred", "1: lost"), "weight", size=(9.5, 2.7))
figures.show()

# %%
before = [np.mean(np.diagonal(weights, offset=-1)) for weights in panels]
print("mean weight on the token before, at rank 32, 8, 2, 1:", np.round(before, 2))
assert before[1] > 1 / 2 > before[2] > before[3]  # more, or less, than all other tokens together

# %% [markdown]
# A head of 8 numbers could do the same; a head of one could not. Talking heads is an answer for such small heads: **let them share their scores**.
#
# ## The picture

# %%
boxes = {"q": Box("Q", 0, 0, "data"), "k": Box("K", 1, 0, "data"), "v": Box("V", 2, 0, "data")}
boxes |= {"scores": Box("$QK^\\top/\\sqrt{d}$", 0.5, 1), "pre": Box("mix: $P^l$", 0.5, 2, "map")}
boxes |= {"mask": Box("mask", -0.7, 3, "data"), "softmax": Box("softmax over s", 0.5, 3)}
boxes |= {"post": Box("mix: $P^w$", 0.5, 4, "map"), "values": Box("mix values", 1.25, 5)}
boxes |= {"o": Box("$W^O$", 1.25, 6, "map"), "output": Box("output", 1.25, 7, "data")}

# %%
arrows = [("q", "scores", "(b, t, h, d)"), ("k", "scores", "(b, s, h, d)"), ("scores", "pre", "J (b, h, t, s)")]
arrows += [("pre", "softmax", "L (b, h, t, s)"), ("mask", "softmax", ""), ("softmax", "post", "A (b, h, t, s)")]
arrows += [("post", "values", "U (b, h, t, s)"), ("v", "values", "(b, s, h, e)"), ("values", "o", "(b, t, h, e)")]
diagram(boxes, [*arrows, ("o", "output", "(b, t, m)")])
figures.show()

# %% [markdown]
# New are the two mixings, each with a trained matrix `(h, h)`. Nothing else differs from attention.
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
# | $P^l$ | the first mixing, before the softmax | `pre_softmax_weight` | `(h, h)` |
# | $A, U$ | softmaxes, and weights: softmaxes mixed | `softmax`, `weights` | `(b, h, t, s)` |
# | $P^w$ | the second mixing, after the softmax | `post_softmax_weight` | `(h, h)` |
#
# Rows of both matrices are heads before the mixing, columns are heads after it.
#
# ## By hand
#
# Head 0 scores two keys $\ln 3$ and $0$; head 1 scores both $0$. Both matrices are $\begin{pmatrix} 1 & 1 \\ 0 & 1 \end{pmatrix}$: column 0 says that the new head 0 is the old one; column 1, that the new head 1 is the sum of both.
#
# Before the softmax, head 1 gets the scores $\ln 3$ and $0$ too, so both softmaxes are $\tfrac34, \tfrac14$. After it, head 1 adds head 0's weights to its own: $\tfrac32, \tfrac12$. The
# values 8 and 4 come out as 7 in head 0, and as 14 in head 1.

# %%
q, k = np.array([[1.0], [0.0]]), np.array([[[np.log(3)], [0.0]], [[0.0], [0.0]]])
v = np.array([[[8.0], [8.0]], [[4.0], [4.0]]])
matrix, everything = np.array([[1.0, 1.0], [0.0, 1.0]]), np.ones((2, 2), bool)
for name, p in (("as it is", matrix), ("transposed", matrix.T)):
    print(f"{name:12}", ref.attend_one(q, k, v, p, p, everything).ravel().round(6))
assert np.allclose(ref.attend_one(q, k, v, matrix, matrix, everything).ravel(), [7, 14])

# %% [markdown]
# The matrices are square, so a transposed one fits, runs, and is wrong. A test needs a matrix that is not symmetric.
#
# ## In NumPy
#
# **Scores of all heads**, for one example, and **the first mixing**, written as the sum that it is.

# %%
q, k, v = rng.normal(size=(3, 4, 7)), rng.normal(size=(5, 4, 7)), rng.normal(size=(5, 4, 6))
pre, post = rng.normal(size=(2, 4, 4))
scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(7)
logits = np.stack([sum(scores[h] * pre[h, g] for h in range(4)) for g in range(4)])
print("scores", scores.shape, "logits", logits.shape)
assert np.allclose(logits, np.einsum("hts,hg->gts", scores, pre))

# %% [markdown]
# **A softmax in each head**, over the keys that may be seen; then **the second mixing**, the same sum again.

# %%
mask = rng.random((4, 3, 5)) < 0.7
softmax = masked_softmax(logits, mask)
weights = np.einsum("hts,hg->gts", softmax, post)
print("rows of the softmaxes of query 0 sum to", softmax.sum(axis=-1)[:, 0].round(2))
print("rows of the weights of query 0 sum to  ", weights.sum(axis=-1)[:, 0].round(2))

# %%
mixture = np.einsum("hts,she->the", weights, v)
assert all(np.allclose(mixture[t], ref.attend_one(q[t], k, v, pre, post, mask[:, t])) for t in range(3))

# %% [markdown]
# **With a batch axis** it is the reference.

# %%
print(inspect.getsource(ref.mix))
print(inspect.getsource(ref.attend))

# %%
batched = [array[None] for array in (q, k, v)]
assert np.allclose(ref.attend(*batched, pre, post, mask[None])[0][0], mixture)
identity = np.eye(4)
assert np.allclose(ref.attend(*batched, identity, identity, mask[None])[0], plain.attend(*batched, mask[None])[0])

# %% [markdown]
# The last line is a useful limit: with two identity matrices, nothing is mixed, and it is attention.
#
# ## What it does
#
# **What does the first mixing add?** Rank. Eight heads of two numbers score 32 tokens. Each head's scores have rank 2; a mixture of eight such matrices has rank 16.

# %%
n, h, d = 32, 8, 2
scores = np.einsum("bthd,bshd->bhts", rng.normal(size=(1, n, h, d)), rng.normal(size=(1, n, h, d))) / np.sqrt(d)
pictures = {"alone": scores, "mixed": ref.mix(scores, rng.normal(size=(h, h)) / np.sqrt(h))}
ranks = {name: {int(np.linalg.matrix_rank(head)) for head in logits[0]} for name, logits in pictures.items()}
print("rank of each head's logits:", ranks)
assert ranks == {"alone": {d}, "mixed": {h * d}}

# %% [markdown]
# **How much rank do real heads need?** All twelve heads of MiniLM's layer 0, on forty sentences of a novel, as in the first figure: what is lost is the Kullback–Leibler divergence from the head's own
# weights. The ceiling is what equal weights lose. The null is scores of random queries and keys, also of 32 numbers, scaled to the size of the real ones in each sentence and head.


# %%
def lost(scores, r=None):
    """Mean divergence `(h,)` from the softmax of the scores to that at rank r; to equal weights, unless r is given."""
    wanted = masked_softmax(scores)
    found = masked_softmax(at_rank(scores, r)) if r else 1 / scores.shape[-1]
    return np.sum(wanted * np.log(wanted / found), axis=-1).mean(axis=-1)


def random_scores(scores):
    q, k = rng.normal(size=(2, *scores.shape[:2], 32))
    drawn = np.einsum("htd,hsd->hts", q, k)
    drawn -= drawn.mean(axis=-1, keepdims=True)
    return drawn * (scores.std(axis=(1, 2)) / drawn.std(axis=(1, 2)))[:, None, None]


# %%
numbers = (1, 2, 4, 8, 16)
all_scores = [real_scores(sentence) for sentence in sentences]
real = np.array([[lost(scores, r) for r in numbers] for scores in all_scores])  # (sentences, ranks, heads)
null = np.array([[lost(random_scores(scores), r) for r in numbers] for scores in all_scores])
ceiling = np.mean([lost(scores) for scores in all_scores], axis=0)

# %%
fig, ax = plt.subplots()
curves = {
    "random vectors": (null, 2, (5, 5)),
    "all heads": (real, 1, (5, 5)),
    "without head 2": (np.delete(real, 2, 2), 0, (3, -26)),
}
for name, (values, place, shift) in curves.items():
    (line,) = ax.plot(numbers, values.mean((0, 2)))
    at = numbers[place], values[:, place].mean()
    ax.annotate(name, at, shift, textcoords="offset points", color=line.get_color())
ax.axhline(ceiling.mean(), color="black", linestyle=":", marker="none")
ax.annotate("equal weights", (16, ceiling.mean()), (0, 3), textcoords="offset points", ha="right")
ax.set_xscale("log", base=2)
ax.set_xticks(numbers, numbers)
ax.set(xlabel="rank left to each head (of 32)", ylabel="nats lost a row", ylim=(0, 0.85))
ax.set_title("real heads of MiniLM need about 8 of their 32 numbers")
figures.show()

# %%
print("nats lost at rank", numbers)
print("all heads     ", real.mean((0, 2)).round(2), " equal weights", ceiling.mean().round(2))
print("random vectors", null.mean((0, 2)).round(2))
print("head 2 alone  ", real[..., 2].mean(0).round(2), " equal weights", ceiling[2].round(2))
at_8 = real[:, 3].mean(-1) / null[:, 3].mean(-1)
print(f"real over random at rank 8: largest of {len(at_8)} sentences {at_8.max():.2f}")
assert at_8.max() < 1 and real[:, 0, 2].mean() > real[:, 0].mean()

# %% [markdown]
# Real heads need far less rank than random vectors do, and more than one or two. The head that reads **one place** needs it most: cut to rank 1, head 2 loses more than equal weights would (the nearest scores are not the best ones that a small head could learn, so read the curves as an
# upper limit). Heads with soft weights lose little. So what small heads should find hard is to pick one place out of many.
#
# **Does a layer learn to pick?** The paper's introduction says that heads which are too many and too small become counterproductive (it points to the first part of Table 1), and suspects that products of short queries and keys no longer
# tell keys apart. In miniature: of sixteen random tokens, each position must report the token at another place, by a permutation that stays the same. Chance is a sixteenth. All start as multi-head attention,
# with identity matrices, and differ in which matrix may be trained. [The experiment](../experiments/talking_heads_attention.py) gives each arm the best of three learning rates, and three seeds.


# %%
def show_arms(arms, title):
    _, ax = plt.subplots(figsize=(6.5, 0.9 + 0.36 * len(arms)))
    for row, arm in enumerate(arms):
        found = fetch.values("accuracy", arm)
        ax.plot(found, [row] * len(found), "o", color=figures.COLORS[0], linestyle="none", clip_on=False)
        ax.annotate(f"{np.median(found):.2f}", (1.03, row), va="center", annotation_clip=False)
    ax.axvline(1 / 16, color="black", linestyle=":", marker="none")
    ax.annotate("chance", (1 / 16, -0.7), (3, 0), textcoords="offset points", fontsize="small", va="center")
    ax.set_yticks(range(len(arms)), arms)
    ax.set(xlabel="accuracy on new examples, three seeds (right: median)", xlim=(0, 1), ylim=(len(arms) - 0.5, -1), title=title)


# %%
fetch = results["fetch"]
arms = list(experiment.FETCHERS)
show_arms(arms[:6], "sixteen heads of one number fail alone; either mixing helps")
figures.show()

# %%
for arm in arms:
    low, middle, high = fetch.spread("accuracy", arm)
    end = np.ptp(fetch.curves("loss", arm)[1][:, -10:], axis=1).max()
    print(f"{arm:42} best rate {fetch.best_rate(arm):<6g} {low:.2f} to {high:.2f}   loss in the last fifth: within {end:.2f}")
alone = fetch.values("accuracy", arms[1]).max()
together = min(fetch.worst("accuracy", arm) for arm in (arms[0], *arms[2:5]))
print(f"the widest range of three seeds: {experiment.widest(fetch):.2f}")
assert together - alone > experiment.widest(fetch)

# %% [markdown]
# The paper's ordering is there, at an exaggerated size: one head of sixteen numbers finds the token, sixteen heads of one number lose much of it, and 256 numbers of either mixing give it back. The first mixing need not even be trained: drawn at random and fixed, it
# does as well. (All is after 400 steps. The arms that find every token are done by then; the loss of the others still falls a little.)
#
# **Is it for the paper's reason?** Heads of one number are short twice: in queries and keys, and in **values**. One number cannot carry one of sixteen tokens. So we give each head a value of sixteen numbers and
# mix nothing. Then we take four such heads. A softmax of $q_t k_s$, with one number each, can prefer only the largest or the smallest key. Four heads have eight such ends, for sixteen places.

# %%
show_arms((arms[1], *arms[6:]), "with long values, four heads still need the first mixing")
figures.show()

# %%
long_values = fetch.worst("accuracy", arms[6])
four = {arm: fetch.values("accuracy", arm) for arm in arms[7:]}
print(f"gap between mixed before and the other two: {four[arms[8]].min() - max(four[arms[7]].max(), four[arms[9]].max()):.2f}")
assert long_values > alone
assert four[arms[8]].min() - max(four[arms[7]].max(), four[arms[9]].max()) > experiment.widest(fetch)

# %% [markdown]
# So the paper's reason holds here for four heads and not for sixteen. Sixteen heads lacked **values**: with long ones they find nearly every token without any mixing. (Mixing lets many heads put their one number on the same place, which
# does as well.) Four heads with long values lack **keys**, as the paper suspects. There the first mixing, which lifts the rank from 1 to 4, gives everything back. The second gives nothing back: it adds up softmaxes that prefer eight places, and the sum
# prefers no ninth.
#
# One of these runs, live. Where is the model right?

# %%
arm = "4 heads of 1, values of 16, mixed after"
rate = fetch.experiment.rates[1]
live = experiment.train_fetcher(arm, rate, seed=0, keep=True)
print(f"accuracy, trained just now: {live['accuracy']:.2f}")
assert fetch.contains(live["accuracy"], "accuracy", arm, rate)

# %%
ids = rng.integers(0, experiment.T, (200, experiment.T)).astype("int32")
order = np.random.default_rng(0).permutation(experiment.T)  # as the run with seed 0 drew it
weights = weights_of(live["model"].attention, ref.TalkingHeadsWeights)
x = ops.convert_to_numpy(live["model"].embed(ids)).astype("float64")
output, mixed, softmax = ref.talking_heads_attention(x, x, weights)
right = ops.convert_to_numpy(live["model"].logits(output.astype("float32"))).argmax(-1) == ids[:, order]
keys = into_heads(x, weights.key)[..., 0]  # (b, s, h)

# %%
is_end = ((keys == keys.max(1, keepdims=True)) | (keys == keys.min(1, keepdims=True))).any(-1)[:, order]
by_end = np.argsort(-is_end.mean(axis=0))
fig, ax = plt.subplots()
ax.bar(range(16), right.mean(axis=0)[by_end], color=[figures.COLORS[int(end < 0.5)] for end in is_end.mean(0)[by_end]])
ax.annotate("wanted key is an end\nof some head", (3.5, 1.04), ha="center", color=figures.COLORS[0], annotation_clip=False)
ax.annotate("wanted key is not", (11.5, 1.04), ha="center", annotation_clip=False)
ax.axhline(1 / 16, color="black", linestyle=":", marker="none")
ax.set(xlabel="query, those first whose wanted key is an end (dotted: chance)", ylabel="accuracy", ylim=(0, 1.2))
ax.set_title("four heads of one number have eight favorites, and find those")
figures.show()

# %%
print(
    f"wanted key is an end for {is_end.mean():.2f} of the queries; right there {right[is_end].mean():.2f}, elsewhere {right[~is_end].mean():.2f}"
)
assert is_end.mean() <= 8 / 16 and right[is_end].mean() > live["accuracy"] > right[~is_end].mean() > 1 / 16

# %% [markdown]
# The layer has put eight places at the ends, as many as there are, and finds their tokens nearly always. The others are no head's favorite and are found less often, though far more often than by chance.
#
# **Is it only that mixing adds parameters?** Take wanted attention weights with no structure: each head, each of 32 queries gets random, rather peaked weights over 32 keys. Queries and keys are trained
# until their softmaxes come near, with $h \cdot d = 16$ numbers in all. The mixing of 16 heads adds 256 parameters. The last arm spends the 256 on longer queries and keys in four of the heads instead.

# %%
fit = results["fit"]
print(f"{'':24}best rate   nats left a row: best to worst of 3 seeds   last tenth of the steps took")
for arm in experiment.FITS:
    low, _, high = fit.spread("left", arm)
    print(f"{arm:24}{fit.best_rate(arm):<12g}{low:.2f} to {high:.2f}{'':33}{fit.values('still', arm).max():.3f} at most")
print(f"equal weights leave at least {fit.values('even', arm).min():.2f}")

# %%
gains = {h: fit.values("left", f"{h} heads, alone") - fit.values("left", f"{h} heads, mixed") for h in (4, 8, 16)}
for h, gain in gains.items():
    print(f"{h:2} heads: mixing takes off {gain.min():.2f} to {gain.max():.2f}")
more = fit.values("left", "16 heads, alone") - fit.values("left", "16 heads, more numbers")
print(f"16 heads: as many parameters elsewhere take off {more.min():.2f} to {more.max():.2f}")
assert more.max() < gains[16].min()

# %% [markdown]
# Mixing takes off more the more heads there are, and with each seed more than the same number of parameters elsewhere. But most of what small heads miss stays missing: sixteen heads whose wanted weights have nothing in common
# still share sixteen numbers. In the task above, where all heads may read the same place, mixing gave everything back.
#
# **What does the layer return, if you ask for its scores?** What the values are multiplied by: $U$, after the second mixing. Here from a layer as it is initialized, on a real sentence.

# %%
layer = TalkingHeadsAttention(num_heads=4, key_dim=8, seed=0)
x = minilm.embed(model, minilm.wordpieces(model, sentences[0])).astype("float32")
_, returned = layer(x, x, return_attention_scores=True)
_, mixed, softmax = ref.talking_heads_attention(
    x.astype("float64"), x.astype("float64"), weights_of(layer, ref.TalkingHeadsWeights)
)
assert np.allclose(returned, mixed, atol=1e-5)

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
head = np.abs((mixed[0] < 0).mean(axis=(1, 2)) - 0.5).argmin()
largest = np.abs([softmax[0, head], mixed[0, head]]).max()
for ax, weights, title in zip(axes, (softmax, mixed), ("softmax: none below 0", "returned: signed")):
    image = ax.imshow(weights[0, head], vmin=-largest, vmax=largest, cmap="RdBu_r", aspect="auto")
    ax.set(title=title, xlabel="key s")
    ax.grid(False)
axes[0].set_ylabel("query t")
fig.colorbar(image, ax=axes, label="weight")
figures.show()

# %%
columns = weights_of(layer, ref.TalkingHeadsWeights).post_softmax_weight.sum(axis=0)
print("rows of the softmaxes sum to", softmax.sum(axis=-1)[0, :, 0].round(2))
print("rows of what is returned    ", mixed.sum(axis=-1)[0, :, 0].round(2), " columns of the second matrix", columns.round(2))
assert softmax.min() >= 0 > mixed.min() and np.allclose(mixed.sum(axis=-1), columns[:, None])

# %% [markdown]
# Each row of $A_h$ sums to 1, so each row of $U_g$ sums to column $g$ of $P^w$, $\sum_h P^w_{hg}$, whatever that is. The weights are no distribution: do not draw them as one, nor take their entropy.
#
# ## Where it breaks
#
# **A mask before the first mixing.** In attention, $-10^9$ may be added to the scores at any point before the softmax. Here it would be mixed like any score: through a negative number of $P^l$, "forbidden" reaches another head
# as "look nowhere else". Two heads, three keys, the last one forbidden:

# %%
scores, allowed = np.zeros((1, 2, 1, 3)), np.array([True, True, False])
pre = np.array([[1.0, 0.5], [0.5, -1.0]])
before = masked_softmax(ref.mix(np.where(allowed, scores, -1e9), pre))
after = masked_softmax(ref.mix(scores, pre), allowed)
for name, softmax in (("mask, then mix:", before), ("mix, then mask:", after)):
    print(name, softmax[0, :, 0].tolist())
assert before[0, 1, 0].tolist() == [0, 0, 1] and not after[..., 2].any()

# %% [markdown]
# Nothing fails, and the second head reads padding only. Masked after the mixing, a key forbidden to **all** heads stays at exactly 0, since the second mixing adds zeros. A key forbidden to **one** head may come back with it,
# from a head that may see it:

# %%
q, k, v = rng.normal(size=(2, 3, 4, 7)), rng.normal(size=(2, 5, 4, 7)), rng.normal(size=(2, 5, 4, 6))
for_all, for_one = np.ones((1, 4, 1, 5), bool), np.ones((1, 4, 1, 5), bool)
for_all[..., 2], for_one[:, 1, :, 2] = False, False
weights = [ref.attend(q, k, v, identity + 0.5, identity + 0.5, mask)[1] for mask in (for_all, for_one)]
print(
    "largest weight of head 1 on key 2, forbidden to all heads",
    weights[0][:, 1, :, 2].max(),
    "to head 1",
    weights[1][:, 1, :, 2].max().round(2),
)
assert not weights[0][..., 2].any() and (weights[1][:, 1, :, 2] > 0).all()

# %% [markdown]
# **Differs from the paper.** There the numbers of heads before, between and after the mixings may differ, scores are not divided by $\sqrt d$ (the query's weights can do that), and the algorithm has no mask. The mixing matrices start
# as `kernel_initializer` says; to start as attention, as in the experiment, assign `np.eye(h)` to both.
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
costs = {"projections": np.full(11, 4 * n * m * m), "scores and mixture": np.full(11, 2 * n**2 * m)}
costs["two mixings"] = 2 * heads**2 * n**2

# %%
fig, ax = plt.subplots()
for name, values in costs.items():
    (line,) = ax.loglog(heads, values, base=2)
    place, shift = (0, (0, 6)) if name == "projections" else (0, (0, -15)) if values[0] > values[-1] / 2 else (3, (8, -8))
    ax.annotate(name, (heads[place], values[place]), shift, textcoords="offset points", color=line.get_color())
ax.axvline(32, color="black", linestyle=":", marker="none")
ax.annotate("h = d", (32, heads[2] ** 2 * n**2), (4, 0), textcoords="offset points")
ax.set(xlabel="heads h, of size d = 1024 / h", ylabel="multiply-adds", title="n = m = 1024: mixing is cheap up to h = d")
figures.show()
assert 2 * 32**2 * n**2 == 2 * n**2 * m

# %% [markdown]
# Up to $h = d$ mixing costs less than attending; beyond it, the square of the heads takes over. All of it grows with $n^2$. And it needs the scores of all heads at once, `(b, h, t, s)`, which fast kernels for attention avoid.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# Language models did not take it up: FlashAttention ([Dao et al., 2022](https://arxiv.org/abs/2205.14135)) works on one head at a time and never stores the scores that would be mixed. Vision transformers did: CaiT
# ([Touvron et al., 2021](https://arxiv.org/abs/2103.17239)). The idea comes back in new forms: mixings that depend on the input ([Xiao et al., 2024](https://arxiv.org/abs/2405.08553)), attention weights that
# are one softmax minus another ([Ye et al., 2024](https://arxiv.org/abs/2410.05258)), and mixing over heads and neighboring tokens together ([Golovneva et al., 2025](https://arxiv.org/abs/2504.00927)).
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
# - The first mixing lifts the rank of each head's logits from $d$ to $h \cdot d$. Either mixing lets several heads put their short values on one place. Small heads can lack rank, or values, or both.
# - The mask belongs between the two mixings. What the layer returns is what multiplies the values: signed, and not summing to 1.
# - It costs $2 h^2 n^2$ multiply-adds and $2 h^2$ numbers: little, while there are fewer heads than numbers in each.
#
# **Further reading.** [Shazeer et al., 2020](https://arxiv.org/abs/2003.02436): the paper, with each mixing tried alone on large models. [Bhojanapalli et al., 2020](https://arxiv.org/abs/2002.07028): why a
# head smaller than the sequence is a bottleneck. [Touvron et al., 2021](https://arxiv.org/abs/2103.17239): deep vision transformers whose heads talk.
