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
# [`layers/multi_channel_attention.py`](../layers/multi_channel_attention.py) · 25 minutes · You should know: [attention](attention.ipynb)

# %%
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.case import TOLERANCE
from crosscheck.cases.multi_channel_attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.exercises import check
from crosscheck.lesson.training import fit
from crosscheck.weights import weights_of
from layers.multi_channel_attention import MultiChannelAttention, VotingAttention
from reference import multi_channel_attention as ref
from reference.attention import AttentionWeights, attend, attend_one
from reference.common.projection import Projection

figures.use_style()
rng = np.random.default_rng(0)

# %% [markdown]
# ## The question
#
# A story is a cluster of five articles. Clustering errs: four report the same event, the fifth is about something else. The obvious way to read them is to put them one after the other, and attend. **What if the
# stranger uses the word you ask for more emphatically than the others do?** We multiply its keys by a *loudness*, and ask how much of the weight it gets: read as one text; as five channels of equal weight; as five
# channels whose weights come from a vote.


# %%
def stories(outliers, n=500, m=64, a=5):
    """The event that each of `n` stories is about, and one vector for each article; the last `outliers` are about others."""
    event = rng.normal(size=(n, m))
    articles = event[:, None] + 0.5 * rng.normal(size=(n, a, m))
    articles[:, a - outliers :] = rng.normal(size=(n, outliers, m))
    return event, articles


def vote(articles, factor):
    """The weights of equation (4), and the votes, where q · k is `factor` times the product of the articles' vectors."""
    m = articles.shape[-1]
    kernel = Projection(np.sqrt(factor) * np.eye(m).reshape(m, 1, m))
    return ref.voting_attention(articles[:, :, None], ref.VotingWeights(kernel, kernel))


# %%
a, s, d = 5, 8, 16
words = rng.normal(size=(s, d))
words *= np.sqrt(d) / np.linalg.norm(words, axis=-1, keepdims=True)
q = words[None, 3][None, :, None]  # asks for word 3, which all articles have
loudness = np.linspace(0.5, 2, 13)
one_text = []
for factor in loudness:
    k = np.tile(words, (a, 1, 1))
    k[-1] *= factor
    _, weights = attend(q, k.reshape(1, a * s, 1, d), k.reshape(1, a * s, 1, d))
    one_text.append(weights.reshape(a, s).sum(axis=-1)[-1])
voted = vote(stories(1)[1], 1 / 64)[0].mean(axis=0)[-1]

fig, ax = plt.subplots()
ax.plot(loudness, one_text, label="read as one text")
for height, name, step in ((1 / a, "channels of equal weight", 1), (voted, "channels that vote", 2)):
    ax.plot(loudness, np.full(13, height), label=name, marker=figures.MARKERS[step])
ax.set(xlabel="loudness of the stranger's keys", ylabel="weight on the stranger", ylim=(-0.03, 1))
ax.legend()
plt.show()

# %% [markdown]
# In one text, whoever is loudest gets the attention. Channels take that power away: each answers for itself, and how much that counts is decided elsewhere. A vote nearly removes the stranger.

# %%
assert one_text[-1] > 0.9 and np.isclose(np.interp(1, loudness, one_text), 1 / a, atol=0.01) and voted < 0.03
print(f"weight on the stranger at loudness 2: {one_text[-1]:.1f} as one text, {voted:.2f} by vote")

# %% [markdown]
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
# | $Q$ | questions | `q` | `(b, t, h, d)` |
# | $K_a, V_a$ | labels and answers of each channel | `k`, `v` | `(b, a, s, h, d)`, `(b, a, s, h, e)` |
# | $w$ | weights of the channels | `w`, `context_attention_weights` | `(b, h, t, a)` |
# | $e_a$ | first vector of document $a$, as BERT's `[CLS]` | `encoder_outputs[:, :, 0]` | `(b, a, m)` |
#
# Equation (2) takes any $w$; (3) and (4) are one way to come by it. A document has no vote on itself.
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

# %%
print(inspect.getsource(ref.attend_channels))
print(inspect.getsource(ref.voting_attention))

# %%
q, k, v = rng.normal(size=(2, 3, 4, 7)), rng.normal(size=(2, 6, 5, 4, 7)), rng.normal(size=(2, 6, 5, 4, 8))
w = rng.random((2, 4, 3, 6))
heads, _ = ref.attend_channels(q, k, v, w)
for b, t, h in np.ndindex(2, 3, 4):
    assert np.allclose(heads[b, t, h], ref.attend_channels_one(q[b, t, h], k[b, :, :, h], v[b, :, :, h], w[b, h, t]))

_, articles = stories(1, n=3, m=8)
for story, votes in zip(articles, vote(articles, 1)[1]):
    assert np.allclose(votes, ref.votes_by_loops(story[:, None], story[:, None], np.ones(5, bool)))
print("all at once, and one by one, agree")

# %% [markdown]
# ## What it does
#
# **What is one text, seen as channels?** Take as weights each channel's share of the exponentials, $w_a = Z_a / \sum_{a'} Z_{a'}$ with $Z_a = \sum_s e^{q \cdot k_{as} / \sqrt d}$: each softmax's denominator cancels, and (2) *is*
# attention over everything at once.

# %%
z = np.exp(np.einsum("bthd,bashd->bhtas", q, k) / np.sqrt(7)).sum(axis=-1)
channels, _ = ref.attend_channels(q, k, v, z / z.sum(axis=-1, keepdims=True))
together, _ = attend(q, k.reshape(2, 30, 4, 7), v.reshape(2, 30, 4, 8))
print(
    "channels weighed by their share of the exponentials are one text:", np.allclose(channels, together, rtol=1e-12, atol=1e-14)
)
assert np.allclose(channels, together, rtol=1e-12, atol=1e-14)

# %% [markdown]
# So reading one text has always been a vote, in which each document brings its own ballot, as large as it is loud. Equation (2) leaves the answers alone and replaces the ballots. Two more limits: with a one-hot $w$ only one
# channel is read; with $1/a$ the answer is the mean of all.

# %%
each = [attend(q, k[:, a], v[:, a])[0] for a in range(6)]
assert all(np.allclose(ref.attend_channels(q, k, v, np.eye(6)[a][None, None, None])[0], each[a]) for a in range(6))
assert np.allclose(ref.attend_channels(q, k, v, np.full((1, 1, 1, 6), 1 / 6))[0], np.mean(each, axis=0))
print("one-hot weights: one channel; equal weights: the mean")

# %% [markdown]
# **Is a vote robust to strangers?** That is the paper's claim for noisy clusters; here it is in small. Each article is its event plus noise; none, one or two of five are about something else. We estimate the event by the
# weighted mean of the articles. The floor knows who the strangers are, and leaves them out.


# %%
def squared_error(event, articles, weights):
    return np.mean((np.einsum("ba,bam->bm", weights, articles) - event) ** 2)


def floor(outliers):
    return np.broadcast_to(np.arange(5) < 5 - outliers, (500, 5)) / (5 - outliers)


drawn = [stories(outliers) for outliers in range(3)]
voted = [vote(articles, 1 / 64)[0] for _, articles in drawn]
mass = [weights[:, 5 - outliers :].sum(axis=-1).mean() for outliers, weights in enumerate(voted)]
ways = {"equal weights": [np.full((500, 5), 1 / 5)] * 3, "vote": voted, "floor": [floor(outliers) for outliers in range(3)]}
errors = {way: [squared_error(*story, w) for story, w in zip(drawn, weights)] for way, weights in ways.items()}

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3))
axes[0].plot(np.stack([np.arange(3) / 5, mass], axis=-1), label=["equal weights", "vote"])
for way, values in errors.items():
    axes[1].plot(values, label=way)
for ax, name in zip(axes, ("weight on the strangers", "squared error of the event")):
    ax.set(xlabel="strangers among five articles", ylabel=name, xticks=range(3), ylim=(0, None))
    ax.legend()
plt.show()

# %% [markdown]
# With equal weights each stranger costs as much as its fifth; the vote stays by the floor. Where there is no stranger it costs a little: equal weights are best then.

# %%
print("error with 0, 1, 2 strangers:", {way: np.round(values, 2).tolist() for way, values in errors.items()})
assert mass[1] < 0.03 and mass[2] < 0.12
assert all(errors["vote"][i] < 0.6 * errors["equal weights"][i] for i in (1, 2))
assert all(1 < errors["vote"][i] / errors["floor"][i] < 1.15 for i in range(3)) and errors["vote"][0] > errors["equal weights"][0]

# %% [markdown]
# ## Does the layer agree?

# %%
agreement = figures.agreement_plot(CHAPTER)
assert all(error <= TOLERANCE[dtype] for by_dtype in agreement.values() for dtype, error in by_dtype.items())
print("layers and reference agree in", ", ".join(TOLERANCE))

# %% [markdown]
# ## Where it breaks
#
# **Votes are not scaled.** Above, products of 64 numbers were divided by 64. Equation (3) divides by nothing: the kernels have to learn it. How much does that matter, and does training get there? We train the layer on stories with
# none, one and two strangers: once from the usual Glorot start, once from numbers as small as BERT's, 0.02.


# %%
def trained(initializer):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 1, 64))
    layer = VotingAttention(num_heads=1, head_size=64, kernel_initializer=initializer)
    mean = keras.ops.einsum("ba,bam->bm", layer(inputs), inputs[:, :, 0])
    model = keras.Model(inputs, mean)
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    fit(model, x, y, batch_size=64)
    return layer


y, x = (np.concatenate(part) for part in zip(*(stories(outliers, n=6400) for outliers in range(3))))
order = rng.permutation(len(x))
x, y = x[order][:, :, None], y[order]
small = trained(keras.initializers.RandomNormal(stddev=0.02))
glorot = trained("glorot_uniform")

# %%
factors = np.geomspace(1e-4, 1, 25)
curves = [[squared_error(*story, vote(story[1], factor)[0]) for factor in factors] for story in drawn]
found = {layer: [squared_error(*story, np.asarray(layer(story[1][:, :, None]))) for story in drawn] for layer in (small, glorot)}
fig, ax = plt.subplots(figsize=(7, 4))
for strangers, curve in enumerate(curves):
    ax.semilogx(factors, curve, marker="none", color=figures.COLORS[strangers], label=f"{strangers} strangers")
    for layer, marker, place in ((small, "o", 1 / 64), (glorot, "X", 1.4)):
        ax.plot(place, found[layer][strangers], marker, color=figures.COLORS[strangers], markersize=8)
ax.plot([], [], "o", color="gray", label="learned from 0.02 (at 1/64)")
ax.plot([], [], "X", color="gray", label="learned from Glorot (beside 1)")
ax.set(xlabel="factor on the products q · k", ylabel="squared error of the event", ylim=(0, None))
fig.legend(loc="outside upper center", ncols=2)
plt.show()

# %% [markdown]
# On the left, weights are equal; on the right, where nothing is divided, one article takes all, and its noise with it: without strangers that is worse than not voting. From a small start the layer finds the bottom of the valley: its
# product of kernels has become, for the most part, a multiple of the identity. It has learned to compare. From Glorot's start nearly all weight lies on one article, whichever it is, and there it still lies after the same training: a
# saturated softmax passes little gradient. Start small.

# %%
product = np.einsum("mhd,nhd->mn", *(np.asarray(dense.kernel) for dense in (small.query_dense, small.key_dense)))
rest = (product - np.diag(np.diag(product))).std()
assert all(found[small][i] < 1.25 * errors["floor"][i] for i in range(3)) and np.diag(product).mean() > 4 * rest
assert all(found[glorot][i] > 2 * errors["floor"][i] for i in range(3)) and found[glorot][0] > 2 * errors["equal weights"][0]
assert np.max(glorot(drawn[0][1][:, :, None]), axis=-1).mean() > 0.9
assert curves[0][-1] > 2 * errors["equal weights"][0] and 0.5 < 64 * np.diag(product).mean() < 2
print(f"learned factor times 64, about: {64 * np.diag(product).mean():.0f}")

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
# **The mask is `(b, a, t, s)`.** The Model Garden's docstring promises `(b, t, s)`, which its code does not take; ours says so.

# %%
try:
    layer(query, value, None, equal, np.ones((1, 3, 6)))
except ValueError as error:
    complaint = next(line.strip("\x1b[01m") for line in str(error).splitlines() if "must" in line)  # Keras sets it in bold
    print(complaint)
assert "broadcasts to (1, 5, 3, 6)" in complaint

# %% [markdown]
# **Differs from the paper.** Documents may be absent: they neither vote nor weigh, one alone weighs 1, and where there is none all weights are 0. Projections have biases.
#
# ## What it costs
#
# For one story with $t$ queries, $a$ channels of $s$ keys, and $e = d$: as attention over $a\,s$ keys, that is $2\,(t + a s)\,m\,h\,d$ for the projections and $2\,h\,t\,a\,s\,d$ for scores and mixtures; then $h\,t\,a\,d$ to mix the channels. The vote
# needs $2\,a\,m\,h\,d + a^2 h\,d$ more, however long the documents are.

# %%
t, a, s, m, h, d = 3, 5, 7, 24, 2, 8
layer, voter = MultiChannelAttention(h, d), VotingAttention(h, d)
query, value = rng.normal(size=(1, t, m)), rng.normal(size=(1, a, s, m))
voter.build(value.shape)
layer.build(query.shape, value.shape)
with multiply_adds() as attended:
    _, attention = ref.multi_channel_attention(query, value, weights_of(layer, AttentionWeights), np.full((1, 1, 1, a), 1 / a))
with multiply_adds() as counted:
    ref.voting_attention(value, weights_of(voter, ref.VotingWeights))

measured = sum(attended), sum(counted), layer.count_params(), voter.count_params(), attention.nbytes
multiplied = 2 * (t + a * s) * m * h * d + 2 * h * t * a * s * d + h * t * a * d, 2 * a * m * h * d + a**2 * h * d
assert measured == (*multiplied, 4 * m * h * d + 3 * h * d + m, 2 * (m * h * d + h * d), 8 * a * h * t * s)
print("multiply-adds of attention and vote, parameters of each, bytes of attention weights:", measured)

# %%
t, a, m, h, d = 15, 5, 768, 12, 64
lengths = 2 ** np.arange(4, 10)
lines = {"projections": 2 * (t + a * lengths) * m * h * d, "scores and mixtures": 2 * h * t * a * lengths * d}
lines |= {"mixing channels": np.full(6, h * t * a * d), "vote": np.full(6, 2 * a * m * h * d + a**2 * h * d)}
fig, ax = plt.subplots()
for name, values in lines.items():
    ax.loglog(lengths, values, label=name)
ax.set(xscale="log", xlabel="length of each document s", ylabel="multiply-adds", title="15 queries, five documents, BERT's size")
ax.set_xticks(lengths, lengths)
ax.minorticks_off()
fig.legend(loc="outside right center")
plt.show()
share = (lines["vote"] / sum(lines.values()))[lengths == 128].item()
assert share < 0.01

# %% [markdown]
# The vote is below a hundredth of the work once documents have 128 tokens: nearly all goes into projecting them.
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
# - Reading everything as one text is the case in which each channel counts as much as it is loud.
# - Documents that vote on each other find out the stranger, if votes are soft enough to be learned.
#
# **Further reading.** [Gu et al., 2020](https://arxiv.org/abs/2001.09386): the paper, with a data set of news stories and their headlines. [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762): the attention inside each channel.
# [Liu and Lapata, 2019](https://arxiv.org/abs/1905.13164): documents that attend to each other in every layer, instead of voting once.
