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
# # Masked language model: both sides of a hidden word
#
# A word is hidden, and the model says what it was. Unlike a model that reads from left to right, it may look at what comes after.
#
# Paper: [Devlin et al., 2018, section 3.1](https://arxiv.org/abs/1810.04805) · NumPy: [`reference/masked_lm.py`](../reference/masked_lm.py) · Layer:
# [`layers/masked_lm/`](../layers/masked_lm/__init__.py) · 30 minutes · You should know: what a [transformer block](transformer_encoder.ipynb) is, [token embedding](on_device_embedding.ipynb); entropy

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.masked_lm import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from experiments import masked_lm as experiment
from experiments.common import novel
from experiments.common.results import stored
from layers.masked_lm import MaskedLM
from layers.on_device_embedding import OnDeviceEmbedding
from reference import masked_lm as ref
from reference.common.activations import linear
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection, dense

figures.use_style()
rng = np.random.default_rng(0)
found = stored("masked_lm")["hidden words"]

# %% [markdown]
# ## The question
#
# In the word "q?een" the letter is easy to tell, and its left neighbor alone is enough. In "?he" it is the right side that tells. **How well can a hidden letter be guessed** from nothing, from the letter to its left, and from both neighbors? We count pairs of letters in a novel
# (Sōseki's *Botchan*): $P_{ij}$ is how often $j$ follows $i$. If letters came by these pairs alone, a Markov chain, the best guess would be known exactly: from the left $P_{ij}$, and from both sides $P_{ij} P_{jk} / \sum_{j'} P_{ij'} P_{j'k}$. No
# model that sees the same can have a lower loss.

# %%
letters = "abcdefghijklmnopqrstuvwxyz "
text = [letters.index(c) for c in " ".join("".join(c if c in letters else " " for c in novel.TEXT.lower()).split())]
chain = np.full((27, 27), 1e-9)
np.add.at(chain, (text[:-1], text[1:]), 1)
chain /= chain.sum(axis=1, keepdims=True)
steady = np.linalg.matrix_power(chain, 10_000)[0]
assert np.allclose(steady @ chain, steady)

# %%
paths = chain[:, :, None] * chain  # [i, j, k]: from i over j to k
both_sides = paths / paths.sum(axis=1, keepdims=True)
floors = {"nothing": -np.sum(steady * np.log(steady)), "the left": -np.sum(steady[:, None] * chain * np.log(chain))}
floors["both sides"] = -np.sum(steady[:, None, None] * paths * np.log(both_sides))

# %%
i, k = letters.index(" "), letters.index("h")
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3), width_ratios=(3, 1))
for step, (name, guess) in enumerate({"nothing": steady, "the left": chain[i], "both sides": both_sides[i, :, k]}.items()):
    axes[0].bar(np.arange(27) + 0.27 * (step - 1), guess, 0.27, color=figures.COLORS[step])
    axes[1].bar(name, floors[name], color=figures.COLORS[step])
    axes[0].annotate(name, (20, 0.6 - 0.09 * step), color=figures.COLORS[step])
axes[0].set_xticks(range(27), [*letters[:-1], "␣"])
axes[0].set(
    xlabel="hidden first letter of a word, before h", ylabel="probability", title="the right neighbor leaves t, w, s and c"
)
axes[1].set(ylabel="least loss (nats)", title="each neighbor helps")
figures.show()

# %%
print({name: round(float(floor), 2) for name, floor in floors.items()})
print("likeliest before h:", {letters[j]: round(float(both_sides[i, j, k]), 2) for j in np.argsort(-both_sides[i, :, k])[:4]})
assert floors["both sides"] < floors["the left"] < floors["nothing"]

# %% [markdown]
# Each neighbor lowers the least loss. A model that reads from left to right has one of them when it predicts; the masked model has both.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {
    "ids": Box("tokens, some hidden", 0, 0, "data"),
    "table": Box("table E", 1.7, 3, "trained"),
    "look": Box("look up", 0, 1),
}
boxes |= {
    "encoder": Box("encoder", 0, 2, "trained"),
    "gather": Box("take positions", 0, 3),
    "at": Box("positions", -1.2, 3, "data"),
}
boxes |= {"dense": Box("W, φ, LN", 0, 4, "map"), "product": Box("times $E^\\top$, + b", 0, 5, "map", width=1.2)}
boxes |= {"softmax": Box("log softmax", 0, 6), "output": Box("log-probabilities", 0, 7, "data")}

# %% tags=["hide-input"] jupyter={"source_hidden": true}
arrows = [
    ("ids", "look", "(b, s)"),
    ("table", "look", "(n, m)"),
    ("look", "encoder", "(b, s, m)"),
    ("encoder", "gather", "(b, s, m)"),
]
arrows += [("at", "gather", "(b, t)"), ("gather", "dense", "(b, t, m)"), ("dense", "product", "(b, t, m)")]
arrows += [("table", "product", "(n, m)"), ("product", "softmax", "(b, t, n)"), ("softmax", "output", "(b, t, n)")]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# One table, in two places: tokens are looked up in it, and outputs are compared with its rows.
#
# ## The equation
#
# $$h_t = \mathrm{LN}(\varphi(x_{p_t} W + b_W)) \tag{1}$$
#
# $$\mathrm{logits}_t = E h_t + b \tag{2}$$
#
# $$\log P(\cdot \mid t) = \log \mathrm{softmax}(\mathrm{logits}_t) \tag{3}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $x$ | the encoder's output | `x` | `(b, s, m)` |
# | $p_t$ | the positions to predict | `positions` | `(b, t)` |
# | $W, b_W$ | a map, activated by $\varphi$, in BERT GELU | `weights.dense` | `(m, m)`, `(m)` |
# | $E$ | the table in which words are looked up, shared | `weights.embeddings` | `(n, m)` |
# | $b$ | a bias for each word | `weights.bias` | `(n)` |
#
# For training, 15 words of a hundred are chosen. Of the chosen ones
#
# $$80\% \to \texttt{[MASK]}, \qquad 10\% \to \text{a random word}, \qquad 10\% \text{ stay}. \tag{4}$$
#
# ## By hand
#
# Let position 1 hold $(1, 3)$; take $W$ for the identity and $\varphi$ for none. LN makes it $(-1, 1)$. The words $(1, 2)$, $(5, 0)$ and $(0, 0)$ score $1$, $-5$ and $0$, and with $b = (0, 1, 2)$: $1$, $-4$, $2$.

# %%
x, norm = np.array([[9.0, 9.5], [1.0, 3.0]]), LayerNorm(np.ones(2), np.zeros(2))
words = np.array([[1.0, 2.0], [5.0, 0.0], [0.0, 0.0]])
weights = ref.MaskedLMWeights(Projection(np.eye(2), np.zeros(2)), norm, np.array([0.0, 1.0, 2.0]), words)
logits = ref.predict_one(x, 1, weights, linear)
print(logits.round(6))
assert np.allclose(logits, [1, -4, 2])

# %% [markdown]
# ## In NumPy
#
# **Take the positions.** Row by row, the encoder's output at the places to predict.

# %%
sequences, positions = rng.normal(size=(2, 5, 2)), np.array([[0, 4, 2], [3, 3, 1]])
taken = np.stack([row[at] for row, at in zip(sequences, positions)])
print("from", sequences.shape, "to", taken.shape)

# %% [markdown]
# **Equations (1) to (3).**

# %%
h = layer_norm(np.maximum(dense(taken, weights.dense), 0), weights.layer_norm, 1e-12)
logits = h @ weights.embeddings.T + weights.bias
log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
print("probabilities of each prediction sum to", np.exp(log_p).sum(axis=-1).round(6).tolist())

# %% [markdown]
# The reference takes all rows at once, and takes care of positions outside the sequence.

# %%
print(inspect.getsource(ref.masked_lm).split('"""')[2])

# %%
found_logits, _ = ref.masked_lm(sequences, positions, weights, phi=lambda x: np.maximum(x, 0))
assert np.allclose(found_logits, logits) and np.allclose(ref.log_softmax(logits), log_p)

# %% [markdown]
# **Hide words for training**, equation (4). Two random numbers decide for each word: whether it is chosen, and what becomes of it.

# %%
print(inspect.getsource(ref.corrupt).split('"""')[2])

# %%
ids = rng.integers(0, 12, (20_000, 8))
read, chosen = ref.corrupt(ids, rng.random(ids.shape), rng.random(ids.shape), rng.integers(0, 12, ids.shape), mask_id=12)
shares = [np.mean(read[chosen] == 12), np.mean(read[chosen] == ids[chosen])]
print(
    f"chosen {chosen.mean():.3f}; of these [MASK] {shares[0]:.3f}, as before {shares[1]:.3f}, another word {1 - sum(shares):.3f}"
)

# %% [markdown]
# ## What it does
#
# **Does a model that sees both sides get below what any left-to-right model can?** Now a language of twelve words that is a Markov chain, so that the least losses are exact; each seed has another language. Two encoders of one block, alike but for their masks. One reads sentences in which (4) has hidden words. The other may
# look at no word to the right, and predicts the next one everywhere. Both heads share the table in which words are looked up. They are tested on a word in the middle of whole sentences. [The experiment](../experiments/masked_lm/__init__.py) gives each three learning rates, three seeds and 500 steps.

# %%
BERT, MASKS, NOISE, LEFT = experiment.ARMS
print(f"{'':16}best rate   loss: three seeds      least for it           least from the left")
for arm in (BERT, LEFT):
    rows = ["{:.3f} {:.3f} {:.3f}".format(*found.values(what, arm)) for what in ("loss", "floor", "left")]
    print(f"{arm:16}{found.best_rate(arm):<12g}" + "".join(f"{row:23}" for row in rows))
assert (found.values("loss", BERT) < found.values("left", BERT)).all()

# %% [markdown]
# The masked model is below the floor of every left-to-right model, in each language. It stays above its own floor. **Why?** In training, a neighbor may itself be hidden or false, so the model cannot trust its neighbors fully. What does that cost? We compute it: the loss of someone who knows the language, and allows for false words as often as
# training has them. And we look at the excess over the floor as training goes on, with and without false words.

# %%
costs = found.values("costs", BERT)
fig, ax = plt.subplots(figsize=(7, 3.2))
arms = {BERT: "80/10/10", MASKS: "", LEFT: "left to right"}
figures.curves(ax, found, "curve", arms, yscale="log", xlabel="step", ylabel="nats above the least loss", xlim=(0, 650))
ax.axhspan(costs.min(), costs.max(), color="black", alpha=0.2)
ax.annotate("false words cost", (648, costs.max()), (0, -4), textcoords="offset points", ha="right", va="top")
ax.annotate("100/0/0", (150, 0.1), color=figures.COLORS[1], ha="right")
ax.set_title("false words cost little; training is not over")
figures.show()

# %%
for arm in (BERT, MASKS):
    steps, values = found.curves("curve", arm)
    at = [np.argmin(abs(steps - part * steps[-1])) for part in (0.25, 0.5, 1)]
    print(
        f"{arm}: above the floor after",
        *(f"{steps[i]:.0f} steps {values[:, i].min():.3f} to {values[:, i].max():.3f};" for i in at),
    )
print(f"allowing for false words costs {costs.min():.3f} to {costs.max():.3f}")
for rate in found.experiment.rates:
    ends = [found.curves("curve", arm, rate)[1][:, -1] for arm in (BERT, MASKS)]
    print(f"at the end, rate {rate:g}: {BERT} {np.round(ends[0], 3)}, {MASKS} {np.round(ends[1], 3)}")
_, end = experiment.halves(found, BERT)
assert (costs < end / 10).all() and experiment.halves(found, MASKS)[1].max() > end.min()

# %% [markdown]
# Allowing for false words costs less than a tenth of what is left, in each language. With the best rate of each, the model that was trained without them ends about as far above its floor. (The two curves have different rates, which is why they lie so far apart in the middle.) And at its best rate the excess of the model with false words still comes down when training stops. The left-to-right model gets near its floor much sooner: it has a loss from every word, the masked model
# from 15 words in a hundred. So what is left is a matter of training, not the price of the corruption.
#
# **What are the 10 and 10 for?** With 100/0/0 the model is never asked about a word that it can see. After pre-training there is no [MASK] any more; all words are to be seen. The paper's Table 8 compares such recipes: fine-tuned, they differ little, but where the encoder stays frozen and its outputs are features (for named entities), masks alone do worst. In
# miniature: replace the middle word of every other sentence by another word. Does a frozen encoder's output at that word tell that it is wrong, read by a **linear map** that we fit on a thousand sentences and test on a thousand others? The ceiling is the best rule: a word is wrong if its neighbors give it less than $1/n$. The null is the same map on an encoder that was not trained.

# %%
table_8 = {BERT: (95.4, 94.9), MASKS: (94.9, 94.0), NOISE: (94.9, 94.6)}  # the paper's F1 for named entities: fine-tuned, frozen
print(f"{'':10}asked for a word it sees, right   fine-tuned and frozen in Table 8")
for arm, paper in table_8.items():
    copied = found.values("copy", arm)
    print(f"{arm:10}{copied.min():.2f} to {copied.max():.2f}{'':22}{paper[0]}, {paper[1]}")

# %%
rates = found.experiment.rates
told = {arm: np.array([found.values("probe", arm, rate) for rate in rates]) for arm in table_8}  # (rates, seeds)
ceiling, null = found.values("ceiling", BERT), found.values("untrained", BERT)
fig, axes = plt.subplots(1, 3, figsize=(9.5, 2.5), sharey=True)
for ax, rate, number in zip(axes, rates, range(3)):
    for row, arm in enumerate(table_8):
        ax.plot(told[arm][number], [row] * 3, "o", color=figures.COLORS[row], linestyle="none", clip_on=False)
    ax.axvspan(null.min(), null.max(), color="black", alpha=0.12)
    ax.axvspan(ceiling.min(), ceiling.max(), color="black", alpha=0.3)
    ax.set(xlabel="wrong words told", xlim=(0.5, 1), ylim=(2.5, -0.5), title=f"learning rate {rate:g}")
axes[0].set_yticks(range(3), table_8)
fig.suptitle(
    "larger rates: a frozen encoder tells more of wrong words after 80/10/10 (light: untrained; dark: best rule)",
    fontsize="medium",
)
figures.show()

# %%
for arm, of in told.items():
    print(f"{arm:10}", *(f"rate {rate:g}: {row.min():.2f} to {row.max():.2f}  " for rate, row in zip(rates, of)))
more = told[BERT] - told[MASKS]
print(f"best rule {ceiling.min():.2f} to {ceiling.max():.2f}; untrained encoder {null.min():.2f} to {null.max():.2f}; chance 1/2")
error = np.sqrt(0.5 / 1000)  # of the difference of two shares of a thousand, at most
print(f"80/10/10 above 100/0/0, every rate and language: {more.min():.3f} to {more.max():.3f}; standard error {error:.3f}")
assert more[1:].min() > error > abs(more[0]).max()

# %% [markdown]
# The model trained with masks alone is often wrong when it is asked about a word that it can see; that is the mismatch. And its frozen output at such a word tells less of whether the word fits, at the two larger rates. At the smallest rate the differences are below one standard error, which is no difference. Random words alone, with which the model learns to ignore the word it is asked
# about, do as well as 80/10/10 at the smallest rate and worse at the others. As in Table 8, the differences between frozen encoders are there, and small. All are far from the best rule: a linear map is a weak reader, and at the largest rate some tell less than an encoder that was never trained.
#
# One of these runs, live. **Has it learned the probabilities, or only the likeliest word?** Each guess beside the exact probability:

# %%
live = experiment.train_reader(BERT, found.best_rate(BERT), seed=0, keep=True)
print(f"above the floor, trained just now: {live['excess']:.3f}")
assert found.contains(live["excess"], "excess", BERT)

# %%
language = experiment.language(0)
test = experiment.hide_middle(experiment.sentences(language, 300, rng))
truth = experiment.exact(language, test, experiment.MIDDLE)
guesses = np.exp(experiment.log_probabilities(live["model"], test, experiment.MIDDLE))[:, : experiment.WORDS]

# %%
fig, ax = plt.subplots(figsize=(4, 3.4))
ax.plot(truth.ravel(), guesses.ravel(), ".", markersize=3, rasterized=True, linestyle="none")
ax.plot([0, 1], [0, 1], color="black", linestyle=":", marker="none")
ax.set(xlabel="exact probability", ylabel="the model's", title="probabilities, not only winners")
figures.show()
print(
    f"correlation {np.corrcoef(truth.ravel(), guesses.ravel())[0, 1]:.2f}; mean difference {np.abs(truth - guesses).mean():.3f}"
)

# %% [markdown]
# ## Where it breaks
#
# **A position outside the sequence.** To look up all sequences at once, they are laid end to end, and position $p$ of row $r$ is at $r s + p$. Position 5 of a sequence of 4 is then position 1 of the next one, and nothing complains; the Model Garden's layer reads it. Ours reads nothing:
# its logits are 0, and every word is as likely as any other.

# %%
sequences, outside = rng.normal(size=(2, 4, 2)), np.array([[5], [-1]])
laid = sequences.reshape(-1, 2)[np.arange(2)[:, None] * 4 + outside]
print("laid end to end, row 0 reads", laid[0, 0].round(2), "and row 1 has at position 1", sequences[1, 1].round(2))
assert (laid[0, 0] == sequences[1, 1]).all() and (laid[1, 0] == sequences[0, 3]).all()

# %%
head = MaskedLM(OnDeviceEmbedding(3, 2), output="predictions")
print("our probabilities:", np.exp(keras.ops.convert_to_numpy(head(sequences, outside)).astype("float64")).round(3).tolist())
assert np.allclose(head(sequences, outside), -np.log(3))

# %% [markdown]
# **Differs from the paper.** The text has a softmax over the vocabulary; the map, norm and bias before it are in the authors' code. Given the embedding layer itself, our head keeps sharing its table after `save` and `load_model`; `clone_model` copies layer by layer, and then there are two tables.
#
# ## What it costs
#
# For each position to predict, $m^2 + m n$ multiply-adds; in parameters, $m^2 + m$ of the map, $2m$ of the norm, $n$ of the bias, and nothing for the table, which is there already.

# %%
m = 6
norm = LayerNorm(np.ones(m), np.zeros(m))
drawn = ref.MaskedLMWeights(Projection(rng.normal(size=(m, m)), np.zeros(m)), norm, np.zeros(9), rng.normal(size=(9, m)))
with multiply_adds() as counted:
    ref.masked_lm(rng.normal(size=(2, 5, m)), np.zeros((2, 3), int), drawn)
own = sum(array.size for array in (*drawn.dense, *drawn.layer_norm, drawn.bias))
print(sum(counted), "multiply-adds,", own, "numbers beside the table")
assert sum(counted) == 2 * 3 * (m * m + m * 9) and own == m * m + m + 2 * m + 9

# %%
s, m, n = 512, 768, 30_522
encoder, whole = 12 * (12 * s * m**2 + 2 * s**2 * m), s * (m**2 + m * n)
print(
    f"BERT-base, {s} tokens: head at every position {whole / encoder:.0%} of the encoder, at 15 in 100 {0.15 * whole / encoder:.0%}"
)
print(f"own parameters of the head: {m**2 + m + 2 * m + n:,}")

# %% [markdown]
# That is what `masked_positions` is for: only the chosen words go through the head.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# Masked language models are still trained where a text is to be understood and not continued: ModernBERT ([Warner et al., 2024](https://arxiv.org/abs/2412.13663)) hides 30 words in 100, and larger rates than 15 were found to do better ([Wettig et al., 2022](https://arxiv.org/abs/2202.08005)). RoBERTa hides other words in each epoch
# ([Liu et al., 2019](https://arxiv.org/abs/1907.11692)). ELECTRA makes the test above the task: tell which words were replaced ([Clark et al., 2020](https://arxiv.org/abs/2003.10555)). With rates drawn from 0 to 1, masked models write texts, as diffusion models ([Nie et al., 2025](https://arxiv.org/abs/2502.09992)).
#
# ## Exercises
#
# **1** (easy, 5 minutes). BERT's corruption of tokens `ids` `(t,)`. Where `chosen` is True, a number `u` from 0 to 1 decides: below 0.8 the token becomes `mask`, from there to below 0.9 it becomes that of `others`, and else it stays. What is not chosen stays too.


# %%
def corrupted(ids, chosen, u, others, mask):
    return None  # your turn


_ = check("masked_lm/1", corrupted)

# %% [markdown]
# <details><summary>Hint</summary>Two <code>np.where</code>, one inside the other.</details>
# <details><summary>Solution</summary><code>np.where(chosen &amp; (u &lt; 0.8), mask, np.where(chosen &amp; (u &lt; 0.9), others, ids))</code></details>
#
# **2** (medium, 10 minutes). What stands at `positions` `(b, t)` of `x` `(b, s, m)`, and zeros for a position outside, below 0 too. No loop over texts.


# %%
def safe_gather(x, positions):
    return None  # your turn


_ = check("masked_lm/2", safe_gather)

# %% [markdown]
# <details><summary>Hint</summary>Read position 0 in its place, then put zeros there.</details>
# <details><summary>Solution</summary>
#
# ```python
# def safe_gather(x, positions):
#     inside = (positions >= 0) & (positions < x.shape[1])
#     found = x[np.arange(len(x))[:, None], np.where(inside, positions, 0)]
#     return np.where(inside[..., None], found, 0)
# ```
# </details>
#
# **3** (hard, 15 minutes). Two neighboring words are hidden, between the words `first` and `last`. Return the exact probabilities of each pair, `(n, n)`, the first of the two words in the rows, given the chain `p` `(n, n)`: `p[i, j]` is the probability that j follows i.


# %%
def two_hidden(p, first, last):
    return None  # your turn


_ = check("masked_lm/3", two_hidden)

# %% [markdown]
# <details><summary>Hint</summary>Three steps of the chain, multiplied; divided by the sum.</details>
# <details><summary>Solution</summary><code>a = p[first][:, None] * p * p[:, last]; return a / a.sum()</code></details>
#
# **To discuss.** BERT predicts each of two hidden words for itself, as if they were independent; that is XLNet's complaint. When does it matter, and why is BERT good at so many tasks all the same?
#
# ## Summary
#
# - What can be known of a hidden word has an exact floor. Both sides together lie far below the left side alone, and a model gets below what the left side allows.
# - What keeps it from its floor is training, not the corruption. Without words that stay or become random ones, it is at a loss about words that it sees.
# - The head compares with the table in which words are looked up: one table, in two places. A position outside the sequence must read nothing, and here does.
#
# **Further reading.** [Devlin et al., 2018](https://arxiv.org/abs/1810.04805): section 5.1 takes both sides away again; appendix C.2 has Table 8. [Press and Wolf, 2016](https://arxiv.org/abs/1608.05859): why the table can be shared.
# [Wang and Cho, 2019](https://arxiv.org/abs/1902.04094): what language a masked model describes. [Yang et al., 2019](https://arxiv.org/abs/1906.08237): XLNet, and words hidden together.
