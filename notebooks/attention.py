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
# # Multi-head attention
#
# Every position compares its query with the keys of all positions, and takes a mixture of their values, weighted by how well query and key fit.
#
# Paper: [Vaswani et al., 2017, section 3.2](https://arxiv.org/abs/1706.03762) · NumPy: [`reference/attention.py`](../reference/attention.py) · Layer:
# [`layers/attention.py`](../layers/attention.py) · 40 minutes · You should know: matrix products, and [masked softmax](masked_softmax.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.attention import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.models import minilm
from crosscheck.weights import weights_of
from experiments import attention as experiment
from experiments.common import novel
from experiments.common.results import stored
from layers.attention import MultiHeadAttention
from reference import attention as ref
from reference.common.projection import into_heads
from reference.masked_softmax import masked_softmax  # noqa: F401 (for exercise 2)

figures.use_style()
rng = np.random.default_rng(0)
results = stored("attention")

# %% [markdown]
# ## The question
#
# Each of twelve queries needs the value of one of twelve keys; which key that is changes from example to example. A convolution or a linear layer mixes positions with weights that are **the same in
# every example**. The best such weights, in the mean square, are the average of the wanted ones over the examples.

# %%
wanted = np.eye(12)[rng.permutation(12)]
fixed = np.mean([np.eye(12)[rng.permutation(12)] for _ in range(2000)], axis=0)
keys = rng.normal(size=(12, 64))
queries = wanted @ keys + 0.3 * rng.normal(size=(12, 64))  # each is a noisy copy of the key that it needs
_, found = ref.attend(queries[None, :, None], keys[None, :, None], keys[None, :, None])


# %%
titles = ("this example wants", "fixed weights: 1/12 each", "attention finds the key")
figures.maps((wanted, fixed, found[0, 0]), titles, "weight")
figures.show()

# %%
right = (found[0, 0] * wanted).sum(axis=-1)
print(f"weight on the key that is wanted: fixed {(fixed * wanted).sum() / 12:.2f}, attention at least {right.min():.2f}")
assert np.abs(fixed - 1 / 12).max() < 0.03 and right.min() > 1 / 2  # more than all other keys together

# %% [markdown]
# Fixed weights give every key a twelfth. Attention computes its weights **from the example itself**.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"x": Box("query", 0, 0, "data"), "y": Box("key", 1, 0, "data"), "z": Box("value", 2, 0, "data")}
boxes |= {"q": Box("$W^Q$", 0, 1, "map"), "k": Box("$W^K$", 1, 1, "map"), "v": Box("$W^V$", 2, 1, "map")}
boxes |= {
    "scores": Box("$QK^\\top/\\sqrt{d}$", 0.5, 2),
    "softmax": Box("softmax over s", 0.5, 3),
    "mix": Box("mix values", 1.25, 4),
}
boxes |= {"o": Box("$W^O$", 1.25, 5, "map"), "output": Box("output", 1.25, 6, "data")}

arrows = [("x", "q", "(b, t, m)"), ("y", "k", "(b, s, m)"), ("z", "v", "(b, s, m)"), ("q", "scores", "(b, t, h, d)")]
arrows += [("k", "scores", "(b, s, h, d)"), ("scores", "softmax", "(b, h, t, s)"), ("softmax", "mix", "(b, h, t, s)")]
arrows += [("v", "mix", "(b, s, h, e)"), ("mix", "o", "(b, t, h, e)"), ("o", "output", "(b, t, m)")]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# Blue boxes have trained weights. In self-attention, query, key and value are the same array.
#
# ## The equation
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt d}\right) V \tag{1}$$
#
# $$\mathrm{MultiHead}(Q, K, V) = \mathrm{Concat}(\mathrm{head}_1, \dots, \mathrm{head}_h)\, W^O, \qquad \mathrm{head}_i = \mathrm{Attention}(Q W_i^Q, K W_i^K, V W_i^V) \tag{2}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $Q, K, V$ | queries, keys, values | `q`, `k`, `v` | `(b, t, h, d)`, `(b, s, h, d)`, `(b, s, h, e)` |
# | $W_i^Q, W_i^K$ | makes the queries and keys of head $i$ | `weights.query`, `weights.key` | `(m, h, d)` |
# | $W_i^V$ | makes the values of head $i$ | `weights.value` | `(m, h, e)` |
# | $W^O$ | combines the heads | `weights.attention_output` | `(h, e, m)` |
#
# ## By hand
#
# Let $d = 4$, so that scores are halved. Two keys with $q \cdot k = 2 \ln 3$ and $0$ have scores $\ln 3$ and $0$, so their weights are as 3 to 1. Values 8 and 4 mix to $\tfrac34 \cdot 8 + \tfrac14 \cdot 4 = 7$.
# With a query twice as long, the weights are as 9 to 1, and the mixture is $7.6$.

# %%
q = np.array([2 * np.log(3), 0, 0, 0])
k, v = np.eye(4)[:2], np.array([[8.0], [4.0]])
print("mixture:", ref.attend_one(q, k, v).round(3), " with twice the query:", ref.attend_one(2 * q, k, v).round(3))
assert np.isclose(ref.attend_one(q, k, v).item(), 7) and np.isclose(ref.attend_one(2 * q, k, v).item(), 7.6)

# %% [markdown]
# ## In NumPy
#
# **One query.** Its scores are its products with all keys; a softmax makes them weights; the weights mix the values.

# %%
q, k, v = rng.normal(size=4), rng.normal(size=(3, 4)), rng.normal(size=(3, 2))
scores = k @ q / np.sqrt(len(q))
weights = np.exp(scores) / np.exp(scores).sum()
mixture = weights @ v
print("scores ", scores.round(2), "\nweights", weights.round(2), "\nmixture", mixture.round(2))
assert np.allclose(mixture, ref.attend_one(q, k, v))

# %% [markdown]
# **All queries.** The scores become a matrix, one row for each query. A softmax works on each row separately.

# %%
q = rng.normal(size=(5, 4))
scores = q @ k.T / np.sqrt(4)
weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
print("weights", weights.shape, "rows sum to", weights.sum(axis=-1).round(2))
assert all(np.allclose(row @ v, ref.attend_one(q_t, k, v)) for row, q_t in zip(weights, q))

# %% [markdown]
# **All heads of all examples** are two more axes, `b` and `h`, over which nothing is summed. With `einsum` they are two more letters; this is the reference.

# %%
print(inspect.getsource(ref.attend))

# %%
q, k, v = rng.normal(size=(2, 3, 4, 7)), rng.normal(size=(2, 5, 4, 7)), rng.normal(size=(2, 5, 4, 6))
output, _ = ref.attend(q, k, v)
assert all(np.allclose(output[b, t, h], ref.attend_one(q[b, t, h], k[b, :, h], v[b, :, h])) for b, t, h in np.ndindex(2, 3, 4))

# %% [markdown]
# **The projections** make the heads out of one array, and one array out of the heads.

# %%
print(inspect.getsource(ref.multi_head_attention))

# %%
layer, x = MultiHeadAttention(num_heads=2, key_dim=3), rng.normal(size=(1, 4, 8)).astype("float32")
layer(x, x)
weights = weights_of(layer, ref.AttentionWeights)

# %%
one_by_one = sum(
    np.einsum(
        "bte,em->btm", ref.attend(*(into_heads(x, w)[:, :, i : i + 1] for w in weights[:3]))[0][:, :, 0], weights[3].kernel[i]
    )
    for i in range(2)
)
assert np.allclose(ref.multi_head_attention(x, x, weights)[0], one_by_one + weights[3].bias, atol=1e-6)

# %% [markdown]
# Concatenating the heads and multiplying by $W^O$ is the same as multiplying each head by its own slice of $W^O$ and adding up, as the last cell does. The reference needs no concatenation.
#
# ## What it does
#
# **Why several heads?** In the paper's Table 3, rows (A), one head of full width is worse than eight narrow ones that cost the same. A small task shows one reason. From one attention layer, each
# position must report **two** tokens: the one before it, and the one three after it. A linear map makes both answers from the layer's output. One head has only one mixture of values, and an even mixture of two tokens does not
# say which was which. The best guess is then right half the time, and always when both are equal: $\tfrac12 \cdot \tfrac{15}{16} + \tfrac1{16} = \tfrac{17}{32}$. (Uneven mixtures come below.)
#
# [The experiment](../experiments/attention.py) trains each number of heads with three learning rates and five seeds; each gets its best rate. All have the same number of parameters.

# %%
heads = results["heads"]
paper = {"1 head": (5.29, 24.9), "8 heads": (4.92, 25.8)}
print(
    f"an even mixture allows {experiment.FLOOR:.3f}\n{'':20}rate   accuracy: worst to best of 5 seeds   paper: perplexity, BLEU"
)
for arm in experiment.COPIERS:
    low, _, high = heads.spread("accuracy", arm)
    print(f"{arm:20}{heads.best_rate(arm):<7.3g}{low:.2f} to {high:.2f}{'':26}{', '.join(map(str, paper.get(arm, ('–',))))}")

# %%
several = min(heads.worst("accuracy", arm) for arm in ("2 heads", "8 heads", "1 head, one answer"))
one_head = heads.values("accuracy", "1 head")
assert one_head.max() < (1 + experiment.FLOOR) / 2 < several  # on different sides of halfway

# %% [markdown]
# The paper's difference is small. Its model has 18 attention layers, with feed-forward layers between them; here there is one, and in the first four rows only a linear map after it. With a single answer to give, one head is enough. Where do
# the heads look?

# %%
one, two = (heads.values("maps", arm)[0] for arm in ("1 head", "2 heads"))
figures.maps((one[0], *two), ("the only head: two places", "first of two: one place", "second of two: the other"), "mean weight")
figures.show()

# %%
offsets = [np.eye(16)[(np.arange(16) + shift) % 16] for shift in (-1, 3)]
shares = np.array(
    [[[(head * offset).sum(-1).mean() for offset in offsets] for head in maps] for maps in heads.values("maps", "2 heads")]
)
print("weight of each of two heads on its own place, worst seed:", shares.max(axis=-1).min().round(2))
assert shares.max(axis=-1).min() > 1 / 2 and (np.sort(shares.argmax(axis=-1)) == [0, 1]).all()

# %% [markdown]
# An **uneven** mixture, say 60% of one token and 40% of the other, does tell which was which. Can one head report two places that way? In the last arm, a hidden layer with a ReLU stands between the head and the
# answers, as a transformer has a feed-forward layer after its attention.

# %%
low, middle, high = heads.spread("accuracy", "1 head, hidden layer")
print(f"one head and a hidden layer: {low:.2f} to {high:.2f} (five seeds); without it {one_head.max():.2f} at best")
assert low > (1 + experiment.FLOOR) / 2 > one_head.max()

# %% [markdown]
# With the hidden layer, one head reports both tokens nearly always. So one head *can* report two places, but a linear map cannot read them from its one mixture. With two heads, a linear map is enough.
#
# The stored runs can be made again with `make experiments NAME=attention`. One of them, live:

# %%
live = experiment.train_copier("2 heads", heads.best_rate("2 heads"), seed=0)
print(f"accuracy of two heads, trained just now: {live['accuracy']:.2f}")
assert heads.contains(live["accuracy"], "accuracy", "2 heads")

# %% [markdown]
# **Why divide by $\sqrt d$?** The paper suspects that large products push the softmax where its gradient is small. Products of $d$ random numbers have variance $d$. Two measures of what a softmax makes of
# them: the entropy of the weights (1 is uniform, 0 is one key alone), and the norm of the softmax's Jacobian, through which every gradient passes.


# %%
def spread(q, k):
    """Normalized entropy of the weights, and norm of the Jacobian ∂weights/∂scores, averaged over queries."""
    _, p = ref.attend(q, k, k)
    entropy = -np.sum(p * np.log(np.maximum(p, 1e-300)), axis=-1) / np.log(p.shape[-1])
    jacobian = p[..., :, None] * (np.eye(p.shape[-1]) - p[..., None, :])
    return entropy.mean(), np.sqrt((jacobian**2).sum(axis=(-2, -1))).mean()


# %%
sizes = (4, 16, 64, 256, 1024)
drawn = [(rng.normal(size=(200, 10, 1, d)), rng.normal(size=(200, 32, 1, d))) for d in sizes]
scaled = np.array([spread(q, k) for q, k in drawn])
unscaled = np.array([spread(q * np.sqrt(d), k) for d, (q, k) in zip(sizes, drawn)])

# %%
print("entropy divided", scaled[:, 0].round(2), "not divided", unscaled[:, 0].round(2))
assert np.ptp(scaled[1:], axis=0).max() < 0.02 and unscaled[-1, 0] < 0.05 and unscaled[-1, 1] < scaled[-1, 1] / 3

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3))
for ax, column, name in zip(axes, (0, 1), ("normalized entropy of the weights", "norm of the softmax's Jacobian")):
    for values, label in ((scaled, "divided by √d"), (unscaled, "not divided")):
        (line,) = ax.semilogx(sizes, values[:, column], base=2)
        ax.annotate(label, (sizes[3], values[3, column]), (0, 8), textcoords="offset points", ha="center", color=line.get_color())
    ax.set(xlabel="key size d", ylabel=name, ylim=(0, 1.2 * scaled[:, column].max()))
axes[0].set_title("not divided, wide heads start with one key")
axes[1].set_title("and pass little gradient")
figures.show()

# %% [markdown]
# Does that keep a wide head from **learning**? We train one head that has to find the token before its own, with and without the division; each with three learning rates and three seeds.

# %%
scaling = results["scaling"]
for d in experiment.WIDTHS:
    for name in ("divided", "not divided"):
        arm = f"{name}, d = {d}"
        by_rate = {rate: scaling.values("accuracy", arm, rate) for rate in scaling.experiment.rates}
        print(f"{arm:22}", *(f"rate {rate:g}: {found.min():.2f} to {found.max():.2f}  " for rate, found in by_rate.items()))

# %%
of = {
    name: [scaling.values("accuracy", f"{name}, d = 256", rate) for rate in scaling.experiment.rates]
    for name in experiment.DIVISIONS
}
whole, parts = np.array(of["divided"]), np.array(of["not divided"])  # (rates, seeds)
assert (parts[1:].max(axis=1) < parts[:-1].min(axis=1)).all()  # each rate worse than the smaller one, whatever the seeds
assert whole.min() > parts[1:].max() and parts[-1].max() < (1 + 1 / 16) / 2 < parts[:-1].min()  # halfway from chance to all right

# %% [markdown]
# Divided, the head learns within these 600 steps with each rate and seed, at both sizes. Not divided, the wide head does worse with each larger rate, and with the largest it does not come halfway from chance to all right. With the
# other two it does, in every seed. So it is not true that it *cannot* learn: the division makes learning safe over a wider range of rates.
#
# **What does attention buy on real text?** A model with one attention layer predicts the next character of a novel (Sōseki's *Botchan*) from the last 32. Its rivals have the same parameters, but one gives **equal
# weights** to all earlier characters, and one sees **only the last** character. The bounds are what counting achieves: how often each character follows the last one, or the last two or three, mixed as in [Witten and Bell, 1991](https://doi.org/10.1109/18.87000).

# %%
characters = results["characters"]
bounds = {f"counts after {order}": novel.bits_of_counts(order) for order in (1, 2, 3)}

# %%
fig, ax = plt.subplots(figsize=(6.5, 3))
for row, arm in enumerate(experiment.READERS):
    bits = characters.values("bits", arm)
    ax.plot(bits, [row] * len(bits), "o", color=figures.COLORS[0], linestyle="none", clip_on=False)
for name, bits in bounds.items():
    ax.axvline(bits, color="black", linestyle=":", marker="none")
    ax.annotate(name, (bits, -0.75), (3, 0), textcoords="offset points", fontsize="small", va="center")
ax.set_yticks(range(3), experiment.READERS)
ax.set(
    xlabel="bits a character, on the held-out tenth (lower is better)",
    ylim=(2.5, -1),
    title="attention does better than what counts of the last two allow",
)
figures.show()

# %%
for arm in experiment.READERS:
    print(
        f"{arm:14} rate {characters.best_rate(arm):g}:", "{:.2f}, median {:.2f}, {:.2f}".format(*characters.spread("bits", arm))
    )
assert characters.worst("bits", "attention") < min(characters.values("bits", "equal weights").min(), bounds["counts after 2"])

# %% [markdown]
# Choosing which characters to read saves more than half a bit a character beside an equal mixture of them all; the equal mixture saves much less beside the last character alone. Counts of two characters lie between. How do the heads come to choose? The weights of two of the four heads on a sentence,
# while they are trained:

# %%
first = characters.found["tensorflow", "attention", characters.best_rate("attention"), 0]["maps"]
steps = list(first)
letters = list(experiment.SENTENCE.replace(" ", "·"))
for head in range(2):
    panels = [np.array(first[step])[head] for step in steps]
    figures.maps(panels, [f"head {head}, step {step}" for step in steps], "weight", 0.5, letters, letters, size=(10.5, 3))
    figures.show()

# %% [markdown]
# **What do heads of a trained model read?** MiniLM is a small BERT: six layers of twelve heads, trained on a billion pairs of sentences so that sentences which mean the same get similar vectors. It puts a mark before each
# sentence, `[CLS]`, and one after it, `[SEP]`. We give layer 0 forty sentences of the novel, and ask how much weight each head puts on the token before, on the token itself, and so on.

# %%
real = minilm.load()
weights = minilm.attention_weights(real, layer=0)
sentences = [s.replace("\n", " ").strip() for s in novel.TEXT.split(".")[200:1000] if 60 < len(s) < 140][:40]


# %%
def look(pieces):
    """The weights `(h, t, s)` of layer 0."""
    x = minilm.embed(real, pieces)
    return ref.multi_head_attention(x, x, weights)[1][0]


# %%
def kinds(pieces):
    """{kind of key: (t, s), where the query has such a key}."""
    n = len(pieces)
    places = {"token before": np.eye(n, k=-1), "itself": np.eye(n), "token after": np.eye(n, k=1)}
    places |= {"[CLS]": np.tile(np.eye(n)[0], (n, 1)), "[SEP]": np.tile(np.eye(n)[-1], (n, 1))}
    return places | {"same token elsewhere": np.equal.outer(pieces, pieces) & ~np.eye(n, dtype=bool)}


# %%
def shares(pieces):
    """{kind: (h,)}: the mean weight on it, of the queries that have such a key."""
    attention = look(pieces)
    return {kind: (attention * keys).sum(-1)[:, keys.any(-1)].mean(-1) for kind, keys in kinds(pieces).items() if keys.any()}


# %%
read = [shares(minilm.wordpieces(real, sentence)) for sentence in sentences]

# %%
table = {kind: np.array([found[kind] for found in read if kind in found]) for kind in read[0] | {"same token elsewhere": 0}}
fig, ax = plt.subplots(figsize=(6.5, 4))
names = [kind.replace(" ", "\n") for kind in table]
image = figures.attention_map(ax, np.stack([np.median(table[kind], axis=0) for kind in table], -1), range(12), names, None, 1)
ax.tick_params(axis="x", rotation=0)
fig.colorbar(image, label="median weight over the sentences")
ax.set(ylabel="head h", title="one head of twelve reads the token before, and nothing else")
figures.show()

# %%
before = table["token before"]
print(
    f"weight on the token before, in {len(before)} sentences: head 2 at least {before[:, 2].min():.2f}, others at most {np.delete(before, 2, 1).max():.2f}"
)
assert before[:, 2].min() > 1 / 2 > np.delete(before, 2, 1).max()  # more than all other tokens together

# %% [markdown]
# **Beware of the sentence that you make up.** On "the cat saw the dog and the dog saw the cat" head 8 seems to look for the same word elsewhere. Does it in real sentences which repeat a word of at least four letters?


# %%
def repeats(sentence):
    """The weight `(h,)` of repeated words on their other places, and what equal weights would give; None without such words."""
    pieces = minilm.wordpieces(real, sentence)
    same = np.equal.outer(pieces, pieces) & ~np.eye(len(pieces), dtype=bool)
    same &= np.array([piece.isalpha() and len(piece) > 3 for piece in pieces])[:, None]
    return ((look(pieces) * same).sum(-1)[:, same.any(-1)].mean(-1), same[same.any(-1)].mean()) if same.any() else None


# %%
pieces = minilm.wordpieces(real, "the cat saw the dog and the dog saw the cat.")
made_up, same = shares(pieces)["same token elsewhere"], kinds(pieces)["same token elsewhere"]
found = [pair for pair in map(repeats, novel.TEXT.replace("\n", " ").split(".")[200:700]) if pair][:40]
weight, even = (np.array(part) for part in zip(*found))
print(f"head 8, made up: {made_up[8]:.2f}, equal weights {same[same.any(-1)].mean():.2f}")
print(f"real, median of {len(weight)} sentences: {np.median(weight[:, 8]):.2f}, equal weights {np.median(even):.2f}")
print(f"it is the head with most such weight in {np.mean(weight.argmax(axis=1) == 8):.0%} of them, by chance in {1 / 12:.0%}")
assert made_up.argmax() == 8 and np.median(weight[:, 8]) < made_up[8] / 2
assert np.mean(weight.argmax(axis=1) == 8) > 0.25  # by chance, that happens once in a thousand times

# %% [markdown]
# There is something to it: of all heads, it is most often the one. But on the made-up sentence, where nearly every word comes again, equal weights too would put 0.13 there. In real sentences head 8 puts
# about twice as much on such words as equal weights would, and most of its weight is elsewhere. One sentence tells little about what a head does; head 2 does the same in all forty.
#
# **Places or words?** Shuffle the tokens of each sentence. Head 2 still looks at the token before, whatever it is now. It can do so only because positions were *added* to the words: attention itself has no sense of
# order, and gives shuffled input the same outputs, shuffled.

# %%
mixed = []
for sentence in sentences:
    pieces = minilm.wordpieces(real, sentence)
    mixed.append(shares([pieces[i] for i in (0, *rng.permutation(np.arange(1, len(pieces) - 1)), len(pieces) - 1)]))
before = np.array([found["token before"] for found in mixed])
print(f"shuffled: head 2 on the token before, at least {before[:, 2].min():.2f}")
assert before[:, 2].min() > 1 / 2

# %%
x, order = minilm.embed(real, pieces), rng.permutation(len(pieces))
shuffled, _ = ref.multi_head_attention(x[:, order], x[:, order], weights)
assert np.allclose(shuffled, ref.multi_head_attention(x, x, weights)[0][:, order])

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

# %%
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
figures.show()
assert 4 * (2 * m) * m * h * d == 2 * h * (2 * m) ** 2 * d

# %% [markdown]
# Up to $n = 2m$ tokens the projections cost more; after that, the square does. Most of the lessons on long sequences are about that line.
#
# %% [markdown]
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# Every large language model uses this layer, with three changes. Keys and values are shared by groups of heads ([Ainslie et al., 2023](https://arxiv.org/abs/2305.13245); exercise 2), so that less has to be kept while
# decoding. Positions are no longer added to the words: queries and keys are rotated ([Su et al., 2021](https://arxiv.org/abs/2104.09864)). And nobody stores the weights `(b, h, t, s)`: FlashAttention
# ([Dao et al., 2022](https://arxiv.org/abs/2205.14135); exercise 3) goes through the keys in blocks. Some models normalize queries and keys, which bounds the scores better than $\sqrt d$ does
# ([Henry et al., 2020](https://arxiv.org/abs/2010.04245)).
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
# - Attention mixes positions with weights that are computed from the example. Dividing by $\sqrt d$ lets a wide head learn with each of the rates tried.
# - One head is one average, from which a linear map cannot read two places. Several heads read several places, for the same parameters and the same multiply-adds.
# - It has no sense of order, costs the square of the length, and the output must not depend on whether you ask for the weights.
#
# **Further reading.** [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762): the paper; a footnote in section 3.2.1 gives the reason for $\sqrt d$. [Clark et al., 2019](https://arxiv.org/abs/1906.04341): what
# BERT's heads look at. [Shazeer, 2019](https://arxiv.org/abs/1911.02150): exercise 2, for fast decoding. [Dao et al., 2022](https://arxiv.org/abs/2205.14135): exercise 3, made fast on real hardware.
