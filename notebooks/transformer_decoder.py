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
# # The transformer decoder block
#
# To write the next word of a translation, look back at the words that are there already, and across at the text to translate.
#
# Paper: [Vaswani et al., 2017, section 3.1](https://arxiv.org/abs/1706.03762) · NumPy: [`reference/transformer_decoder`](../reference/transformer_decoder/__init__.py) · Layer:
# [`layers/transformer_decoder`](../layers/transformer_decoder/__init__.py) · 35 minutes · You should know: the [encoder block](transformer_encoder.ipynb) and [cached attention](cached_attention.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from crosscheck.cases.transformer_decoder import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.counting import multiply_adds
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.weights import draw_weights, weights_of
from experiments import transformer_decoder as experiment
from experiments.common.results import stored
from experiments.transformer_decoder import translator
from layers.transformer_decoder import TransformerDecoderBlock
from reference import transformer_decoder as ref
from reference.attention import AttentionWeights, attend, multi_head_attention  # noqa: F401 (attend is for the exercises)
from reference.common.normalization import LayerNorm, layer_norm
from reference.common.projection import Projection
from reference.self_attention_mask import causal_mask
from reference.transformer_encoder import feed_forward

figures.use_style()
rng = np.random.default_rng(0)
results = stored("transformer_decoder")

# %% [markdown]
# ## The question
#
# **What may a translator look at while writing word $t$?** All of the source, and its own words up to now. Words that it has not written yet are what it has to find. We push each input of a decoder block a little, and mark the
# outputs that change.


# %%
def block_of(h=2, f=6, m=4):
    """A block with random weights, as the reference takes them."""
    block = TransformerDecoderBlock(h, f, "relu", dtype="float64")
    block.build([(None, None, m), (None, None, m)])
    draw_weights(block, rng)
    return weights_of(block, ref.DecoderWeights)


def changed(x, memory):
    """Which positions of the output differ from those of the unchanged input."""
    return np.abs(ref.transformer_decoder_block(x, memory, weights).output - before).max(axis=-1)[0] > 1e-9


# %%
weights, x, memory = block_of(), rng.normal(size=(1, 8, 4)), rng.normal(size=(1, 10, 4))
before = ref.transformer_decoder_block(x, memory, weights).output
own = np.array([changed(x + np.eye(8)[s][:, None], memory) for s in range(8)]).T
across = np.array([changed(x, memory + np.eye(10)[s][:, None]) for s in range(10)]).T

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3.2))
figures.mask_picture(axes[0], own, "its own words: never a later one", "output t", "word s that is pushed")
figures.mask_picture(axes[1], across, "the source: every word", "output t", "word s that is pushed")
figures.show()
print(f"outputs that change: {own.sum()} of {own.size} for its own words, {across.sum()} of {across.size} for the source")
assert np.array_equal(own, np.tri(8, dtype=bool)) and across.all()

# %% [markdown]
# White means that the output changes.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"x": Box("x: words so far", 0, 0, "data"), "M": Box("M: the source,\nencoded", 2, 3, "data")}
texts = ("causal self-\nattention", "+ LN", "cross-\nattention", "+ LN", "FFN", "+ LN", "o")
kinds = ("map", "op", "map", "op", "map", "op", "data")
boxes |= {
    f"b{row}": Box(text, -0.01 * (kind == "map"), row, kind, width=0.85) for row, (text, kind) in enumerate(zip(texts, kinds), 1)
}
arrows = [("x", "b1", ""), *((f"b{row}", f"b{row + 1}", "(b, t, m)" if row == 6 else "") for row in range(1, 7))]
arrows += [("x", "b2", "(b, t, m)", 1.4), ("b2", "b4", "y", 1.4), ("b4", "b6", "z", 1.4), ("M", "b3", "(b, s, m)")]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# Three sublayers, each added to what was there. The first and the last are those of the encoder block; the first is causal. The second takes its queries from the translation, and its keys and values from the **memory** $M$, the output of an encoder.
#
# ## The equation
#
# The paper normalizes after each sum (1); most models since then normalize before each sublayer (2):
#
# $$y = \mathrm{LN}(x + \mathrm{CausalSelf}(x)), \quad z = \mathrm{LN}(y + \mathrm{MultiHead}(y, M, M)), \quad o = \mathrm{LN}(z + \mathrm{FFN}(z)) \tag{1}$$
#
# $$y = x + \mathrm{CausalSelf}(\mathrm{LN}(x)), \quad z = y + \mathrm{MultiHead}(\mathrm{LN}(y), M, M), \quad o = z + \mathrm{FFN}(\mathrm{LN}(z)) \tag{2}$$
#
# $$\mathrm{CausalSelf}(x)_t = \mathrm{MultiHead}(x_t,\, x_{0 \dots t},\, x_{0 \dots t}) \tag{3}$$
#
# | symbol | name in the code | shape |
# |---|---|---|
# | $x$, the translation so far | `x` | `(b, t, m)` |
# | $M$, what an encoder made of the source | `memory` | `(b, s, m)` |
# | $\mathrm{CausalSelf}$ | `weights.self_attention` | as [attention](attention.ipynb) |
# | $\mathrm{MultiHead}(y, M, M)$ | `weights.encdec_attention` | the same |
# | $\mathrm{FFN}$ | `weights.intermediate`, `weights.output` | `(m, f)`, `(f, m)` |
#
# ## By hand
#
# Let $m = 2$, self-attention and FFN add nothing, and the memory be one token $(4, 0)$ that is its own value. The only token there is gets all the weight, so cross-attention adds $(4, 0)$. Pre-norm,
# $(3, 1)$ becomes $(7, 1)$. Post-norm, $(3, 1)$ is first normalized to $(1, -1)$, plus $(4, 0)$ is $(5, -1)$, which is normalized to $(1, -1)$.

# %%
zero, keep = Projection(np.zeros((2, 1, 2))), Projection(np.eye(2).reshape(2, 1, 2))
cross = AttentionWeights(zero, zero, keep, Projection(np.eye(2).reshape(1, 2, 2)))
quiet = cross._replace(attention_output=Projection(np.zeros((1, 2, 2))))
plain, flat = LayerNorm(np.ones(2), np.zeros(2)), Projection(np.zeros((2, 2)))
worked = ref.DecoderWeights(quiet, plain, cross, plain, flat, flat, plain)

# %%
token, source = np.array([[[3.0, 1.0]]]), np.array([[[4.0, 0.0]]])
pre, post = (ref.transformer_decoder_block(token, source, worked, norm_first=first).output for first in (True, False))
print("pre-norm:", pre.ravel().round(6), " post-norm:", post.ravel().round(6))
assert np.allclose(pre, [7, 1]) and np.allclose(post, [1, -1])

# %% [markdown]
# ## In NumPy
#
# **Look back.** Position $t$ attends to the words up to itself, (3). Doing that for each position is the same as doing it once with a mask that forbids later words.

# %%
x, memory, w = rng.normal(size=(1, 5, 4)), rng.normal(size=(1, 7, 4)), weights
one_by_one = [multi_head_attention(x[:, t : t + 1], x[:, : t + 1], w.self_attention)[0] for t in range(5)]
back, scores = multi_head_attention(x, x, w.self_attention, mask=causal_mask(5, 5)[None, None])
print("weights of the first head:", *scores[0, 0].round(2), sep="\n")
assert np.allclose(np.concatenate(one_by_one, axis=1), back)

# %% [markdown]
# **Look across.** Queries are the results of the first sublayer; keys and values are the memory's. No mask is needed: the whole source is there from the start.

# %%
y = layer_norm(x + back, w.self_attention_layer_norm)
across, scores = multi_head_attention(y, memory, w.encdec_attention)
print("weights", scores.shape, " each row sums to", scores.sum(axis=-1).round(6).min())

# %% [markdown]
# **Work on it**, and the block is done.

# %%
z = layer_norm(y + across, w.encdec_attention_layer_norm)
o = layer_norm(z + feed_forward(z, w.intermediate, w.output), w.output_layer_norm)
assert np.allclose(o, ref.transformer_decoder_block(x, memory, w).output)
assert all(np.allclose(o[0, t], ref.decode_one(x[0], memory[0], t, w)) for t in range(5))

# %% [markdown]
# The reference has the same lines, with norms in either place and a cache for the keys and values of earlier words.

# %%
source = inspect.getsource(ref.transformer_decoder_block)
print(source[source.index("    def before") :])

# %% [markdown]
# ## What it does
#
# **What is each part for?** A small translation task whose best results can be computed. A source has eight different words out of sixteen. The target has the same words in order, but with an **extra word** now and then, as languages
# have words without a counterpart: one time in four where the next word could stand, and never twice in a row.

# %%
source, target = translator.sentences(np.random.default_rng(3), 3)
for words, answer in zip(source, target):
    print("source", words, " target", *("extra" if word == translator.FILLER else word for word in answer))

# %% [markdown]
# Nobody can know whether the extra word comes next. After it, the next word of the source is certain, for a model that looks **back** over the extra word to the last real one, and **across** to see what follows it there.
# The best possible losses follow from the probabilities: for a model that sees everything; without self-attention (it has the last word and its place, so that after an extra word it must guess how many came before); and without
# the source.
#
# [The experiment](../experiments/transformer_decoder/translator.py) trains one pre-norm block with one head, and the same block without each part, with three learning rates and three seeds. The memory holds for each word of the source
# the word and the one before it, as the first layer of an encoder could provide.

# %%
parts, best = results["parts"], experiment.best()
arms = [arm for arm in translator.PARTS if arm != "no causal mask"]
fig, ax = plt.subplots(figsize=(6.5, 2.6))
for row, arm in enumerate(arms):
    nats = parts.values("nats", arm)
    ax.plot(nats, [row] * len(nats), "o", color=figures.COLORS[0], linestyle="none", alpha=0.6)
    ax.plot(best.get(arm, best[arms[0]])[1], row, "|", color="black", markersize=16)
ax.set_yticks(range(len(arms)), arms)
ax.set(xscale="log", xticks=(0.5, 1, 2, 3), xticklabels=(0.5, 1, 2, 3), xlim=(0.4, 3.2), ylim=(3.5, -0.5))
ax.minorticks_off()
ax.set(
    xlabel="loss on new sentences, in nats (bars: the best possible)",
    title="both attentions are needed; here the feed-forward network hardly is",
)
figures.show()

# %%
print(f"{'':22}loss                best   right after an extra word   best")
for arm in arms:
    (low, _, high), (a, _, b) = parts.spread("nats", arm), parts.spread("after extra", arm)
    bound = best.get(f"after extra, {arm}", 1.0)
    print(
        f"{arm:22}{low:.2f} to {high:.2f}        {best.get(arm, best[arms[0]])[1]:.2f}   {a:.2f} to {b:.2f}                {bound:.2f}"
    )
worst = parts.values("nats", arms[0]).max()
assert worst < best["no self-attention"][1] < best["no cross-attention"][1]
assert parts.values("nats", "no feed-forward").min() < worst  # the seeds of both overlap
assert parts.values("nats", "no feed-forward").max() < best["no self-attention"][1]

# %% [markdown]
# Each arm comes near its own bound (after 240 steps the losses still fall a little). Without self-attention the block does no better after an extra word than guesses allow, and without the source it translates nothing. In this
# task the feed-forward network adds little: without it the loss is slightly higher, and its seeds overlap with those of the whole block. Looking back and across is nearly all that there is to do.
#
# One of the runs, live, with the rate that is best for it. Where does it look? The reference takes the trained weights, because it returns the weights of both attentions.

# %%
rate = parts.best_rate(arms[0])
live = translator.train_sentences(arms[0], rate, seed=0)
print(f"loss {live['nats']:.2f} nats, trained just now; right after an extra word {live['after extra']:.2f}")
assert parts.contains(live["nats"], "nats", arms[0])
model = translator.model_of(arms[0])

# %%
source, target = translator.sentences(np.random.default_rng(3), 200)
read = translator.shifted(target, model.start)
x, memory = (ops.convert_to_numpy(array).astype("float64") for array in (model.written(read), model.memory(source)))
alone = TransformerDecoderBlock(1, translator.F, "relu", dtype="float64")
alone.build([x.shape, memory.shape])
alone.set_weights(model.block.get_weights())
decoded = ref.transformer_decoder_block(x, memory, weights_of(alone, ref.DecoderWeights), norm_first=True, epsilon=1e-6)


# %%
def names(ids):
    return ["start" if word == model.start else "extra" if word == translator.FILLER else str(word) for word in ids]


at = ((read == translator.FILLER).sum(axis=1) == 2).argmax()  # the first sentence with two extra words
fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.4))
figures.attention_map(axes[0], decoded.self_scores[at, 0], names(read[at]), names(read[at]), "back: the last real word", 1)
image = figures.attention_map(
    axes[1], decoded.cross_scores[at, 0], names(read[at]), names(source[at]), "across: the word that follows it", 1
)
for ax, label in zip(axes, ("word written", "word of the source")):
    ax.set(xlabel=label, ylabel="last word written, at the query")
fig.colorbar(image, ax=axes, label="weight")
figures.show()

# %%
number = np.cumsum(np.concatenate([np.zeros((200, 1), int), target[:, :-1] != translator.FILLER], axis=1), axis=1)[
    :, : translator.LENGTH
]
needed = np.take_along_axis(decoded.cross_scores[:, 0], number[..., None], axis=-1)[..., 0]
print(
    f"weight on the source's next word: mean {needed.mean():.2f}; after an extra word {needed[read == translator.FILLER].mean():.2f}"
)
print("largest weight on a later word of its own:", np.triu(decoded.self_scores[:, 0], 1).max())
assert needed[read == translator.FILLER].mean() > 1 / 2

# %% [markdown]
# **Does writing step by step give what the parallel pass gives?** In training all positions are computed at once. In use each word that is written is read in the next step, with the keys and values of the earlier ones in a cache.

# %%
written = translator.write(model, source)
parallel = ops.convert_to_numpy(model([source, translator.shifted(written, model.start)]))
print("source ", *names(source[0]), "\nwritten", *names(written[0]))
print("decisions that differ:", (parallel.argmax(axis=-1) != written).sum(), "of", written.size)
print(f"written words that are the source's, in order: {translator.in_order(written, source):.2f}")
assert np.array_equal(parallel.argmax(axis=-1), written)

# %% [markdown]
# The stored runs can be made again with `make experiments NAME=transformer_decoder`.
#
# ## Where it breaks
#
# **A model that copies its answers.** In training the right words stand in the input, one place late. A decoder that may look one place ahead need not translate at all. Our block is causal by itself. In many libraries the mask is
# an argument that can be forgotten; we build that block with a self-attention that ignores its mask.


# %%
def marks(ax, row, arm):
    """Points for the seeds of an arm: with the right words given, and writing alone."""
    side = "right" if row == 0 else "center"
    for what, label, color, up in (("accuracy", "right words given", 0, 8), ("alone", "writing alone", 1, -14)):
        found, color = parts.values(what, arm), figures.COLORS[color]
        ax.plot(found, [row] * len(found), "o" if up > 0 else "s", color=color, linestyle="none", alpha=0.7)
        ax.annotate(label, (np.median(found), row), (0, up), textcoords="offset points", color=color, ha=side)


# %%
fig, ax = plt.subplots(figsize=(6.5, 2.4))
marks(ax, 0, "all three parts")
marks(ax, 1, "no causal mask")
ax.axvline(best[arms[0]][0], color="black", linestyle=":", marker="none")
ax.annotate(
    "best possible, right words given", (best[arms[0]][0], -0.75), (-4, 0), textcoords="offset points", ha="right", va="center"
)
ax.set_yticks((0, 1), ("causal", "no causal mask"))
ax.set(xlim=(0, 1.05), ylim=(1.6, -1), xlabel="share of right words", title="better than possible in training, far worse alone")
figures.show()

# %%
print(f"best possible with the right words given: {best[arms[0]][0]:.3f}")
for arm in ("all three parts", "no causal mask"):
    (a, _, b), (c, _, d) = parts.spread("accuracy", arm), parts.spread("alone", arm)
    print(f"{arm:16} given {a:.2f} to {b:.2f}   alone {c:.2f} to {d:.2f}")
assert parts.values("accuracy", "no causal mask").min() > best[arms[0]][0]
assert parts.values("alone", "no causal mask").max() < parts.values("alone", arms[0]).min()

# %% [markdown]
# The model that peeks predicts extra words that nobody can predict. An accuracy **above the best possible** is the sign. When it writes by itself there is nothing to copy, and many of its words are wrong. (The causal model is better alone
# than with the right words given, because it need not guess extra words that somebody else chose.)
#
# **Differs from the paper.** The activation is an argument, earlier keys and values may come from a cache, and a memory may have channels, such as several documents, mixed by
# [given weights](multi_channel_attention.ipynb).
#
# ## What it costs
#
# For $T$ words and a source of $S$ (both of size $m = h d$), written step by step, in multiply-adds:
#
# | | words | memory | scores and mixtures |
# |---|---|---|---|
# | self-attention | $4\,T m^2$ | | $2\,m\,T(T+1)/2$ |
# | cross-attention | $2\,T m^2$ | $2\,T S m^2$ | $2\,m\,T S$ |
# | feed-forward | $2\,T m f$ | | |

# %%
h, m, f, T, S = 3, 12, 20, 6, 9
weights, x, memory, cache = block_of(h, f, m), rng.normal(size=(1, T, m)), rng.normal(size=(1, S, m)), None
with multiply_adds() as counted:
    for t in range(T):
        cache = ref.transformer_decoder_block(x[:, t : t + 1], memory, weights, cache=cache).cache
own = 4 * T * m**2 + m * T * (T + 1)
across = 2 * T * m**2 + 2 * T * S * m**2 + 2 * m * T * S
print("self-attention", own, " cross-attention", across, " feed-forward", 2 * T * m * f, " counted", sum(counted))
assert sum(counted) == own + across + 2 * T * m * f

# %%
m, T, S = 512, 256, 32
anew, once = (2 * T * m**2 + times * 2 * S * m**2 + 2 * m * T * S for times in (T, 1))
print(f"{T} words, a source of {S}: memory projected once, cross-attention costs 1/{anew / once:.0f}")

# %% [markdown]
# Cross-attention costs most, for one term: the memory is projected anew for each word, though it never changes. Programs that translate project it once, as the second exercise does.
#
# ## Does the layer agree?
#
# Norms in either place, with masks and caches. Other activations, memories with channels and the decoder-only model are in the full table.

# %% tags=["nbval-ignore-output"]
cases = tuple(case for case in CHAPTER.cases if case.name.split("/")[1].startswith(("post", "pre")))
line, agrees = figures.agreement_line(replace(CHAPTER, cases=cases))
assert agrees
line

# %% [markdown]
# ## Today
#
# Translators and speech recognizers still have this block: T5 ([Raffel et al., 2020](https://arxiv.org/abs/1910.10683)) and Whisper ([Radford et al., 2022](https://arxiv.org/abs/2212.04356)). Large language models have no memory to
# look across to: they are stacks of the first and the last sublayer, and the text to translate stands in front of the translation ([Radford et al., 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)).
# Cross-attention came back where the other input is no text, such as images ([Alayrac et al., 2022](https://arxiv.org/abs/2204.14198)).
#
# ## Exercises
#
# **1** (easy, 10 minutes). How many parameters has a block of model size `m` with `h` heads of size `d`, a feed-forward size `f` and a memory of size `s`? Every map has a bias, every norm two vectors.


# %%
def parameters(m, h, d, f, s):
    return None  # your turn


_ = check("transformer_decoder/1", parameters)

# %% [markdown]
# <details><summary>Hint</summary>Eight maps of attention, two of them from the memory; two of the feed-forward network; three norms.</details>
# <details><summary>Solution</summary><code>6 * m * h * d + 2 * s * h * d + 6 * h * d + 2 * m + (m * f + f) + (f * m + m) + 6 * m</code></details>
#
# **2** (medium, 10 minutes). Cross-attention to a memory that is projected already: `x` is `(b, t, m)`, `k` `(b, s, h, d)`, `v` `(b, s, h, e)`, `w_q` `(m, h, d)`, `w_o` `(h, e, m)`, and `mask` `(b, s)` says what there is of the memory. Return what the sublayer adds, without biases; nothing, if there is no memory.


# %%
def cross_step(x, k, v, w_q, w_o, mask):
    return None  # your turn


_ = check("transformer_decoder/2", cross_step)

# %% [markdown]
# <details><summary>Hint</summary>Three steps: queries into heads, attend, out of the heads. The mask needs axes for heads and queries.</details>
# <details><summary>Solution</summary>
#
# ```python
# def cross_step(x, k, v, w_q, w_o, mask):
#     q = np.einsum("btm,mhd->bthd", x, w_q)
#     heads, _ = attend(q, k, v, mask[:, None, None])
#     return np.einsum("bthe,hem->btm", heads, w_o)
# ```
# </details>
#
# **3** (hard, 20 minutes). One step of beam search. `scores` `(b, beams)` are log-probabilities of texts, `log_p` `(b, beams, n)` those of their next tokens. A text that is `done` `(b, beams)` goes on with token 0 at no cost, and with no other. For each row return the `k` best continuations, the best first: the beams they come from, their tokens and their scores, `(b, k)` each.


# %%
def best_beams(scores, log_p, done, k):
    return None  # your turn


_ = check("transformer_decoder/3", best_beams)

# %% [markdown]
# <details><summary>Hint</summary>Put beams and tokens into one axis of length beams · n, sort, and take the places apart with <code>//</code> and <code>%</code>.</details>
# <details><summary>Solution</summary>
#
# ```python
# def best_beams(scores, log_p, done, k):
#     b, beams, n = log_p.shape
#     ended = np.where(np.arange(n) == 0, 0.0, -np.inf)
#     total = (scores[..., None] + np.where(done[..., None], ended, log_p)).reshape(b, beams * n)
#     best = np.argsort(-total, axis=1)[:, :k]
#     return best // n, best % n, np.take_along_axis(total, best, axis=1)
# ```
# </details>
#
# **To discuss.** Beam search finds texts that are more probable than those of greedy decoding, and people often like them less. Why might that be, and how would you find out whether it is so for your model?
#
# ## Summary
#
# - A decoder block looks back at its own words, across at the source, and then works on what it found; each is added to what was there.
# - Trained in parallel and used step by step, it computes the same, because no output depends on a later word.
# - Without the causal mask it copies its answers: an accuracy above the best possible in training, and many wrong words when it writes alone.
#
# **Further reading.** [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762): the paper; the decoder is the right half of its first figure. [Xiong et al., 2020](https://arxiv.org/abs/2002.04745): where to put the
# norm. [Bahdanau et al., 2015](https://arxiv.org/abs/1409.0473): the first translator that looked back at its source.
