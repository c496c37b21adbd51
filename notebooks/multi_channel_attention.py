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
# # Multi-channel attention: let the documents vote
#
# A headline should say what several articles share. Each article is attended to on its own, and the articles vote on how much each of them counts.
#
# Paper: [Gu et al., 2020](https://arxiv.org/abs/2001.09386) · NumPy: [`reference/multi_channel_attention.py`](../reference/multi_channel_attention.py) · Layer:
# [`layers/multi_channel_attention.py`](../layers/multi_channel_attention.py) · 30 minutes · You should know: [attention](attention.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.multi_channel_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from experiments import multi_channel_attention as experiment
from experiments.common import novel
from experiments.common.results import stored
from experiments.multi_channel_attention.voters import stories
from layers.multi_channel_attention import MultiChannelAttention, VotingAttention
from reference import multi_channel_attention as ref
from reference.attention import attend, attend_one
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)
results = stored("multi_channel_attention")

# %% [markdown]
# ## The question
#
# A story is a cluster of five articles. Clustering makes mistakes: four articles report the same event, and the fifth, a stranger, is about something else. The obvious way is to read them one after the other, as one text. What if the stranger's
# vectors are longer than those of the others? We multiply them by a *loudness*, and look at the stranger's weight in three cases: read as one text; as five channels of equal weight; as five channels whose weights come
# from a vote. An article's vote for another is the product of their vectors. The vote is averaged over 500 stories of random vectors; in one text, all articles have the same eight random words, and the query is one of them.


# %%
def vote(articles, factor):
    """The weights of equation (4), where q · k is `factor` times the product of the articles' vectors `(b, a, m)`."""
    m = articles.shape[-1]
    kernel = Projection(np.sqrt(factor) * np.eye(m).reshape(m, 1, m))
    return ref.voting_attention(articles[:, :, None], ref.VotingWeights(kernel, kernel))[0]


def one_text(words, loudness, a=5):
    """The stranger's weight, where all articles have the same words and the query is the third of them."""
    k = np.tile(words, (a, 1, 1))
    k[-1] *= loudness
    _, weights = attend(words[None, 3][None, :, None], *2 * [k.reshape(1, -1, 1, words.shape[-1])])
    return weights.reshape(a, -1).sum(axis=-1)[-1]


# %%
words = rng.normal(size=(8, 16))
words *= 4 / np.linalg.norm(words, axis=-1, keepdims=True)
_, articles = stories(rng, strangers=1, count=500)
loudness = np.array([0.5, 1, 1.5, 2, 3, 4, 6, 8, 10])
louder = [articles * np.r_[1, 1, 1, 1, factor][:, None] for factor in loudness]
found = {"one text": [one_text(words, factor) for factor in loudness], "equal weights": np.full(9, 1 / 5)}
found["vote"] = [vote(story, 1 / 64)[:, -1].mean() for story in louder]

# %%
fig, ax = plt.subplots()
for name, values in found.items():
    (line,) = ax.plot(loudness, values)
    shift = (6, -6 if name == "vote" else 4)
    ax.annotate(name, (loudness[-1], values[-1]), shift, textcoords="offset points", color=line.get_color(), va="center")
ax.set(xlabel="loudness of the stranger", ylabel="weight on the stranger", ylim=(-0.03, 1.05), xlim=(0, 11.9))
ax.set_title("a loud stranger takes over one text at once, a vote slowly")
figures.show()

# %%
by_loudness = dict(zip(loudness, zip(*found.values())))
for factor in (1, 2, 4, 10):
    print(f"loudness {factor:2}: " + ", ".join(f"{name} {weight:.2f}" for name, weight in zip(found, by_loudness[factor])))
extreme = vote(articles * np.r_[1, 1, 1, 1, 1000][:, None], 1 / 64)[:, -1].mean()
print(f"loudness 1000: vote {extreme:.2f}")
assert by_loudness[2][0] > 1 / 2 > 1 / 5 > max(found["vote"]) and found["vote"][-1] > found["vote"][1]

# %% [markdown]
# In one text, the loud article takes the attention. Channels of equal weight take that power away. A vote does better still, but loudness matters there as well: the products with a loud stranger are large, by chance for it or against it, so its weight grows
# (towards one half: with a very loud stranger the vote is a coin toss). In the paper, the vectors that vote come out of an encoder, whose last norm makes them about equally long.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {
    "query": Box("query", 0, 0, "data"),
    "value": Box("documents", 1.5, 0, "data"),
    "first": Box("first vectors", 3.2, 0, "data"),
}
boxes |= {"q": Box("$W^Q$", 0, 1, "map"), "k": Box("$W^K$", 1, 1, "map"), "v": Box("$W^V$", 2, 1, "map")}
boxes |= {"scores": Box("softmax over s", 0.5, 2), "channels": Box("mix values", 1.25, 3), "mix": Box("mix channels", 1.25, 4)}
boxes |= {"own": Box("$e\\,W^Q, e\\,W^K$", 3.2, 1, "map"), "votes": Box("$q_a \\cdot k_{a'}$, sum\nover $a' \\neq a$", 3.2, 2)}
boxes |= {"w": Box("softmax over a", 3.2, 3), "o": Box("$W^O$", 1.25, 5, "map"), "output": Box("output", 1.25, 6, "data")}

arrows = [("query", "q", "(b, t, m)"), ("value", "k", ""), ("value", "v", "(b, a, s, m)"), ("q", "scores", "(b, t, h, d)")]
arrows += [("k", "scores", "(b, a, s, h, d)"), ("scores", "channels", "(b, a, h, t, s)"), ("v", "channels", "(b, a, s, h, e)")]
arrows += [("channels", "mix", "(b, a, t, h, e)"), ("first", "own", "(b, a, m)"), ("own", "votes", "(b, a, h, d)")]
arrows += [("votes", "w", "(b, a)"), ("w", "mix", "w (b, h, t, a)"), ("mix", "o", "(b, t, h, e)"), ("o", "output", "(b, t, m)")]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# On the left, attention with one more axis: each channel has a softmax of its own. On the right, the vote, one number for each document. They are two layers, and the first takes any weights.
#
# ## The equation
#
# $$C_a = \mathrm{softmax}\!\left(\frac{Q K_a^\top}{\sqrt d}\right) V_a \qquad \text{for each channel } a \tag{1}$$
#
# $$\mathrm{MultiChannel}(Q, K, V, w) = \mathrm{Concat}(\mathrm{head}_1, \dots, \mathrm{head}_h)\, W^O, \qquad \mathrm{head}_i = \sum_a w_a\, C_a \tag{2}$$
#
# $$\mathrm{vote}_a = \sum_{a' \ne a} \sum_h q_a \cdot k_{a'}, \qquad q_a = e_a W^Q, \quad k_a = e_a W^K \tag{3}$$
#
# $$w = \mathrm{softmax}(\mathrm{vote}) \tag{4}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $Q$ | queries | `q` | `(b, t, h, d)` |
# | $K_a, V_a$ | keys and values of each channel | `k`, `v` | `(b, a, s, h, d)`, `(b, a, s, h, e)` |
# | $w$ | weights of the channels | `w`, `context_attention_weights` | `(b, h, t, a)` |
# | $e_a$ | first vector of document $a$ | `encoder_outputs[:, :, 0]` | `(b, a, m)` |
#
# A document has no vote on itself.
#
# ## By hand
#
# Let $d = 4$, so that scores are halved. In channel 1 the scores are $\ln 3$ and $0$: the keys weigh 3 to 1, and values 8 and 4 mix to 7. In channel 2 both are 0, and 10 and 30 mix to 20. With $w = (0.9, 0.1)$ that is
# $6.3 + 2 = 8.3$.

# %%
q = np.array([2 * np.log(3), 0, 0, 0])
k = np.stack([np.eye(4)[:2], np.eye(4)[2:]])
v = np.array([[8.0, 4.0], [10.0, 30.0]])[..., None]
answer = ref.attend_channels_one(q, k, v, np.array([0.9, 0.1]))
channels = [attend_one(q, *channel).item() for channel in zip(k, v)]
print("channels:", np.round(channels, 3).tolist(), " mixed:", answer.round(3).item())
assert np.allclose([*channels, answer.item()], [7, 20, 8.3])

# %% [markdown]
# Three documents $(1, 0)$, $(1, 0)$ and $(2, 1)$, with $q = k = e$: the first gets $1 + 2 = 3$ votes, the second as many, the third $2 + 2 = 4$. Its own $(2, 1) \cdot (2, 1) = 5$ does not count.

# %%
e = np.array([[1.0, 0], [1, 0], [2, 1]])[:, None]
votes = ref.votes_by_loops(e, e, np.ones(3, bool))
print("votes:", votes.tolist())
assert votes.tolist() == [3, 3, 4]

# %% [markdown]
# ## In NumPy
#
# **Each channel by itself.** One query, two channels of three keys: two softmaxes.

# %%
q, k, v = rng.normal(size=4), rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 5))
scores = np.einsum("d,asd->as", q, k) / np.sqrt(4)
weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
print("weights of each channel\n", weights.round(2), " sums", weights.sum(axis=-1).round(2))

# %% [markdown]
# **Mix the channels** with weights that come from elsewhere.

# %%
w = np.array([0.9, 0.1])
channels = np.einsum("as,ase->ae", weights, v)
assert np.allclose(w @ channels, ref.attend_channels_one(q, k, v, w))

# %% [markdown]
# **All queries, heads and stories** are further letters in the einsums.

# %%
print(inspect.getsource(ref.attend_channels))

# %%
q, k, v = rng.normal(size=(2, 3, 4, 7)), rng.normal(size=(2, 6, 5, 4, 7)), rng.normal(size=(2, 6, 5, 4, 8))
w = rng.random((2, 4, 3, 6))
heads, _ = ref.attend_channels(q, k, v, w)
for b, t, h in np.ndindex(2, 3, 4):
    assert np.allclose(heads[b, t, h], ref.attend_channels_one(q[b, t, h], k[b, :, :, h], v[b, :, :, h], w[b, h, t]))

# %% [markdown]
# **The vote.** All products of documents with each other, without the diagonal, summed: here for the three documents of above.

# %%
products = np.einsum("ad,cd->ac", e[:, 0], e[:, 0])
np.fill_diagonal(products, 0)
votes = products.sum(axis=-1)
weights = np.exp(votes - votes.max()) / np.exp(votes - votes.max()).sum()
print("products without the diagonal\n", products, "\nvotes", votes, " weights", weights.round(2))
assert votes.tolist() == ref.votes_by_loops(e, e, np.ones(3, bool)).tolist()

# %% [markdown]
# The reference leaves out absent documents too, since stories of a batch have different numbers of them.

# %%
print(inspect.getsource(ref.voting_attention))

# %%
present = np.array([[True, True, False]])
kernel = Projection(np.eye(2).reshape(2, 1, 2))
told, votes = ref.voting_attention(e[None], ref.VotingWeights(kernel, kernel), present)
print("without the third document: votes", votes[0], " weights", told[0].round(2))
assert np.allclose(votes[0], ref.votes_by_loops(e, e, present[0]))

# %% [markdown]
# ## What it does
#
# **What is one text, seen as channels?** Take as weights each channel's share of the exponentials, $w_a = Z_a / \sum_{a'} Z_{a'}$ with $Z_a = \sum_s e^{q \cdot k_{as} / \sqrt d}$: each softmax's denominator cancels, and (2) *is*
# attention over everything at once.

# %%
z = np.exp(np.einsum("bthd,bashd->bhtas", q, k) / np.sqrt(7)).sum(axis=-1)
channels, _ = ref.attend_channels(q, k, v, z / z.sum(axis=-1, keepdims=True))
together, _ = attend(q, k.reshape(2, 30, 4, 7), v.reshape(2, 30, 4, 8))
apart = np.abs(channels - together).max()
print(f"channels weighed by their share, and one text: largest difference, to 12 decimals, {apart:.12f}")
assert apart < 1e-12

# %% [markdown]
# So one text weighs each document by how large its exponentials are. Equation (2) leaves the channels' answers as they are, and replaces those weights.
#
# **Does a vote find the stranger in real text?** We take four passages in a row from a novel (Sōseki's *Botchan*), 60 words each, and a fifth from far away in the same book. A passage's vector is the mean of its words' vectors in MiniLM, a trained
# BERT, less the mean over all passages, at length 1. Nothing else is trained: kernels are multiples of the identity. The null has five passages from anywhere.

# %%
model, size = minilm.load(), 60
table = minilm.tensor(model, "embeddings.word_embeddings.weight", (model.config["vocab_size"], model.config["hidden_size"]))
words = novel.TEXT.split()[:24_000]
passages = [" ".join(words[start : start + size]) for start in range(0, len(words), size)]
ids = [[model.vocabulary[piece] for piece in minilm.wordpieces(model, passage)[1:-1]] for passage in passages]
vectors = np.stack([table[row].mean(axis=0) for row in ids]).astype("float64")
vectors -= vectors.mean(axis=0)
vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)

# %%
n = len(vectors)
starts = np.arange(n - 3)
far = [rng.choice(np.flatnonzero(np.abs(np.arange(n) - start) > 30)) for start in starts]
real = np.concatenate([vectors[starts[:, None] + np.arange(4)], vectors[far][:, None]], axis=1)
null = vectors[np.stack([rng.choice(n, 5, replace=False) for _ in starts])]
factors = np.geomspace(0.3, 100, 11)
on_stranger = {name: [vote(drawn, f)[:, -1] for f in factors] for name, drawn in (("four in a row", real), ("null", null))}

# %%
fig, ax = plt.subplots()
for name, weights in on_stranger.items():
    (line,) = ax.semilogx(factors, np.mean(weights, axis=1))
    label = "null: five from anywhere" if name == "null" else "fifth from far away"
    ax.annotate(label, (factors[5], np.mean(weights[5])), (-20, 12), textcoords="offset points", color=line.get_color())
ax.set(xlabel="factor on the products q · k", ylabel="mean weight of the fifth passage", ylim=(0, 0.27))
ax.set_title("a novel's passages in a row outvote one from elsewhere")
figures.show()

# %%
least = np.mean(vote(real, 10).argmin(axis=-1) == 4)
print(
    f"{len(real)} stories: weight of the fifth at factor 10: {np.mean(on_stranger['four in a row'][6]):.2f}, null {np.mean(on_stranger['null'][6]):.2f}"
)
print(f"it has the least weight of all in {least:.0%}; by chance in {1 / 5:.0%}")
assert least - 1 / 5 > 5 * np.sqrt(0.2 * 0.8 * 4 / len(real))  # each passage is in four stories
assert max(map(np.mean, on_stranger["four in a row"])) < 1 / 5

# %% [markdown]
# Unless the factor is small, the passage from elsewhere keeps little weight, though it is by the same author, and often about the same people. But only in about two stories of three does it have the **least** weight of the five.
#
# **Is a trained reader better for it?** The paper reports that its model is robust to noisy clusters (we had no numbers of its tables at hand). In miniature: five articles each answer eight questions; three of them about the right event, but with a guess in place of the
# answer in 40 % of the cases; two are about other stories. Readers are trained to answer all questions. **Equal weights** and **one text** weigh an answer without asking what else its article says. A **vote** compares whole articles: the products count
# what two of them have in common. For both, Bayes' rule gives the best that is possible, and so it does for a reader that knows the strangers.
#
# [The experiment](../experiments/multi_channel_attention/__init__.py) gives each reader three learning rates and three seeds. The last reader is told who the strangers are.

# %%
readers, bounds = results["readers"], experiment.BEST
print(f"{'':26}best rate   nats: best to worst of 3 seeds   accuracy        weight on strangers")
for arm in experiment.READERS:
    low, _, high = readers.spread("nats", arm)
    right, weight = readers.values("accuracy", arm), readers.values("weight", arm)
    ours = f"{low:.2f} to {high:.2f}{'':22} {right.min():.2f} to {right.max():.2f}"
    print(f"{arm:26}{readers.best_rate(arm):<12g}{ours}    {'–' if arm == 'one text' else f'{weight.mean():.2f}'}")
for name, (right, nats) in bounds.items():
    print(f"best, {name:32}{nats:.2f}{'':30} {right:.2f}")

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.6))
for row, arm in enumerate(experiment.READERS):
    found = readers.values("accuracy", arm)
    ax.plot(found, [row] * len(found), "o", color=figures.COLORS[0], linestyle="none")
for name in ("each question by itself", "strangers known"):
    ax.axvline(bounds[name][0], color="black", linestyle=":", marker="none")
    ax.annotate(name, (bounds[name][0], -0.8), (-3, 0), textcoords="offset points", fontsize="small", va="center", ha="right")
ax.set_yticks(range(4), experiment.READERS)
ax.set(xlabel="accuracy on new stories (each dot: a seed; lines: the best to be expected)", xlim=(0.66, 0.78), ylim=(3.5, -1.2))
ax.set_title("a vote is right more often than any weighing of single answers")
figures.show()

# %%
mixed_up, certain = readers.values("mixed up", "vote"), experiment.beyond_luck()
print(f"nats with the vote's weights on other articles of the same story: {mixed_up.min():.2f} at least")
print(f"best accuracy for each question by itself, and three standard errors: {certain:.3f}; the vote, worst seed:")
worst = {rate: readers.values("accuracy", "vote", rate).min() for rate in readers.experiment.rates}
print(*(f"  rate {rate:g}: {accuracy:.3f}" for rate, accuracy in worst.items()), sep="\n")
assert min(list(worst.values())[:2]) > certain > max(readers.values("accuracy", arm).max() for arm in experiment.READERS[1:3])
assert worst[0.01] < certain
assert mixed_up.min() > readers.values("nats", "channels of equal weight").max() > readers.values("nats", "vote").max()

# %% [markdown]
# The vote is right more often than **any** way of weighing each answer by itself, with every seed and the two lower rates. At the highest rate it fails. In nats it does better than the two readers that weigh single answers, but its worst seed only equals the best
# that is possible for them. What counts is which articles have the weights: give the same weights to other articles of the same story, and the reader does worse than with equal weights. But the vote leaves the two strangers a good part of the
# weight. Comparing articles could bring nearly as much as being told who the strangers are ("articles compared").
#
# ## Where it breaks
#
# **Votes are not scaled.** Equation (3) sums products of long vectors and divides by nothing; the softmax of (4) turns large votes into a choice of one. We train the vote alone to weigh articles of random vectors of 64 numbers (their event plus noise), with none, one or two
# strangers among five, so that the weighted mean comes near the event. Two starts: small kernels as BERT's, with a standard deviation of 0.02, and Keras's Glorot, which has larger ones. The third arm tests the reason: it starts from Glorot, but all votes
# are 64 times smaller. Four learning rates, three seeds.

# %%
voters = results["voters"]
rates = voters.experiment.rates
known, even = (np.mean([of(strangers) for strangers in range(3)]) for of in (experiment.floor, experiment.equal))
print(f"squared error, mean of 0, 1 and 2 strangers: equal weights {even:.3f}, strangers known {known:.3f}")

# %%
fig, ax = plt.subplots(figsize=(7, 3.4))
for number, arm in enumerate(experiment.VOTERS):
    errors, color = np.array([voters.values("square", arm, rate) for rate in rates]), figures.COLORS[number]
    ax.fill_between(rates, errors.min(1), errors.max(1), color=color, alpha=0.2, linewidth=0)
    ax.plot(rates, np.median(errors, axis=1), color=color, marker=figures.MARKERS[number])
    ax.annotate(arm, (rates[-1], np.median(errors[-1])), (6, (10, -8, -11)[number]), textcoords="offset points", color=color)
for bound, name in ((known, "strangers known"), (even, "equal weights")):
    ax.axhline(bound, color="black", linestyle=":", marker="none")
    ax.annotate(name, (8 * rates[-1], bound), (0, 3), textcoords="offset points", fontsize="small", ha="right")
ax.set(
    xscale="log",
    xlim=(rates[0], 8 * rates[-1]),
    ylim=(0, None),
    title="undivided votes fail from a large start, or at a large rate",
)
ax.set(xlabel="learning rate (median and range of 3 seeds)", ylabel="squared error of the event")
figures.show()

# %%
for arm in experiment.VOTERS:
    before, after = voters.values("largest", arm).mean(axis=0)
    stranger = voters.values("weight", arm)[:, 2].max()
    print(
        f"{arm:27} largest weight without strangers: at the start {before:.2f}, trained {after:.2f}; on two strangers at most {stranger:.2f}"
    )

# %%
undivided = {arm: [voters.values("square", arm, rate) for rate in rates] for arm in experiment.VOTERS}
small, glorot, divided = (np.array(of) for of in undivided.values())
print("worst errors by rate: " + "; ".join(f"{arm} {np.max(of, axis=1).round(2)}" for arm, of in undivided.items()))
halfway = (known + even) / 2
assert divided.max() < halfway and glorot.min() > even
assert small[:-1].max() < halfway and small[-1].min() > even  # the largest rate makes the votes large again


# %% [markdown]
# From Glorot's start nearly all weight lies on one article, and after training it still does. At its best rate, training does find the strangers: the chosen article is seldom one of them. But a single article has more noise than the mean of several. A start from 0.02 comes near the best, except at the largest rate, where it ends with one article too. With its votes divided, Glorot's
# start learns at every rate. So the cause is the size of the votes. Start small and train slowly, or divide the votes, which the layer leaves to you. One of the runs, live:

# %%
live = experiment.train_voter("from 0.02", voters.best_rate("from 0.02"), seed=0)
print(f"trained just now: squared error {live['square']:.3f}")
assert voters.contains(live["square"], "square", "from 0.02")

# %% [markdown]
# **A channel with nothing to read adds zeros, and its weight goes nowhere.** Weights are used as they are. With $1/5$ each, and two of five channels masked, three fifths of the answer remain. The vote is told who is there, and shares
# the weight among those.

# %%
layer = MultiChannelAttention(num_heads=2, key_dim=4, use_bias=False)
query, value = rng.normal(size=(1, 3, 8)), np.ones((1, 5, 6, 8))
there = np.array([[True, True, True, False, False]])
equal, told = np.full((1, 1, 1, 5), 1 / 5), VotingAttention(2, 4)(value, there)[:, None, None]
full = np.asarray(layer(query, value, None, equal))
parts = [np.asarray(layer(query, value, None, w, there[:, :, None, None])) for w in (equal, told)]
print("what is left of the answer:", [round(float(np.mean(part / full)), 2) for part in parts])
assert np.allclose(parts[0], 0.6 * full, rtol=1e-5) and np.allclose(parts[1], full, rtol=1e-5)

# %% [markdown]
# The mask of the layer is `(b, a, t, s)`. The Model Garden's docstring promises `(b, t, s)`, which its code does not take.
#
# **Differs from the paper.** Documents may be absent: they neither vote nor weigh, one alone weighs 1, and where there is none all weights are 0. Projections have biases.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# Language models read long contexts as one text, and clusters of documents with them; models for several documents do too, with marks between them ([Xiao et al., 2022](https://arxiv.org/abs/2110.08499)). Reading documents apart lives on in
# retrieval: Fusion-in-Decoder ([Izacard and Grave, 2021](https://arxiv.org/abs/2007.01282)) encodes each passage by itself, and its decoder attends to all at once. In RAG ([Lewis et al., 2020](https://arxiv.org/abs/2005.11401)) each document gives an answer, and the answers are mixed
# by weights, as in equation (2), but these come from the question, not from the other documents. Voting came back for whole answers: a model is sampled several times, and the answer that most samples share is taken
# ([Wang et al., 2023](https://arxiv.org/abs/2203.11171)).
#
# ## Exercises
#
# **1** (easy, 10 minutes). Equations (1) and (2) for one query: `q` is `(d,)`, `k` is `(a, s, d)`, `v` is `(a, s, e)`, `w` is `(a,)`, and `allowed` `(a, s)` says which keys there are. A channel without any adds nothing, and its weight goes to no other. Scores may be 1,000.


# %%
def channels_one(q, k, v, w, allowed):
    return None  # your turn


_ = check("multi_channel_attention/1", channels_one)

# %% [markdown]
# <details><summary>Hint</summary>Each channel has a softmax of its own; then the channels' outputs are added, each times its <code>w</code>.</details>
# <details><summary>Solution</summary>
#
# ```python
# def channels_one(q, k, v, w, allowed):
#     scores = np.where(allowed, k @ q / np.sqrt(len(q)), -1e300)
#     p = np.exp(scores - scores.max(axis=-1, keepdims=True)) * allowed
#     p = p / np.maximum(p.sum(axis=-1, keepdims=True), 1e-300)
#     return np.einsum("a,as,ase->e", w, p, v)
# ```
# </details>
#
# **2** (medium, 15 minutes). What weight does each channel get when they are read as one text? For one query, return $Z_a / \sum Z$, where $Z_a$ is the sum of the exponentials of channel a's scores; safe for scores of ±1,000.


# %%
def shares(q, k):
    return None  # your turn


_ = check("multi_channel_attention/2", shares)

# %% [markdown]
# <details><summary>Hint</summary>Subtract the largest score of <b>all</b> channels before the exponential.</details>
# <details><summary>Solution</summary><code>x = k @ q / np.sqrt(len(q)); z = np.exp(x - x.max()).sum(axis=-1); return z / z.sum()</code></details>
#
# **3** (hard, 15 minutes). Equation (3) looks at all pairs. Compute the votes `(a,)` in time proportional to $a$ and without an array of pairs: `q` and `k` are `(a, h, d)`. A document that is not `present` casts no vote and gets 0.


# %%
def votes_without_pairs(q, k, present):
    return None  # your turn


_ = check("multi_channel_attention/3", votes_without_pairs)

# %% [markdown]
# <details><summary>Hint</summary>A sum of products with the same <code>q</code> is one product with a sum. Which sum leaves out the document's own?</details>
# <details><summary>Solution</summary>
#
# ```python
# def votes_without_pairs(q, k, present):
#     k = k * present[:, None, None]
#     return present * np.einsum("ahd,ahd->a", q, k.sum(axis=0) - k)
# ```
# </details>
#
# **To discuss.** The layer keeps the pairs, although exercise 3 does without: there are few documents. What can go wrong with a sum minus itself when one document's key is a thousand times as long as the others?
#
# ## Summary
#
# - Each channel is attended to on its own; how much it counts is a separate question, and a separate input.
# - Reading everything as one text is the case in which each channel counts as much as its exponentials are large.
# - Documents that vote on each other give little weight to strangers, in real text too, and a trained reader is right more often with it. Votes are not scaled: a large start or a large learning rate makes them a choice of one article.
#
# **Further reading.** [Gu et al., 2020](https://arxiv.org/abs/2001.09386): the paper, with a data set of news stories and their headlines. [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762): the attention inside each channel.
# [Liu and Lapata, 2019](https://arxiv.org/abs/1905.13164): documents that attend to each other in every layer, instead of voting once.
