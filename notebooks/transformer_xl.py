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
# # Transformer-XL: read on, and remember
#
# A long text is read in segments. Every layer keeps what it was given for the segment before, and attends to that too.
#
# Papers: [Dai et al., 2019, section 3](https://arxiv.org/abs/1901.02860), [Yang et al., 2019, section 2](https://arxiv.org/abs/1906.08237) · NumPy:
# [`reference/transformer_xl.py`](../reference/transformer_xl.py) · Layer: [`layers/transformer_xl/`](../layers/transformer_xl/__init__.py) · 40 minutes · You should know:
# [relative attention](relative_attention.ipynb), [the encoder block](transformer_encoder.ipynb)

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect
from dataclasses import replace

import keras
import matplotlib.pyplot as plt
import numpy as np

from crosscheck.backends import differentiate
from crosscheck.cases.transformer_xl import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.weights import draw_weights, weights_of
from experiments import transformer_xl as experiment
from experiments.common import novel
from experiments.common.results import stored
from layers.transformer_xl import TransformerXL
from reference import transformer_xl as ref
from reference.common.normalization import layer_norm
from reference.common.projection import into_heads, out_of_heads
from reference.masked_softmax import masked_softmax
from reference.relative_attention import Terms, relative_position_encoding, sinusoid
from reference.transformer_encoder import feed_forward

figures.use_style()
rng = np.random.default_rng(0)
results = stored("transformer_xl")

# %% [markdown]
# ## The question
#
# Sixteen tokens are read by two layers in segments of four. **Which tokens can an output know of?** We change one token after the other and see which outputs change: first with segments on their own, then with a memory of four positions.


# %%
def make_weights(layers, m=16, h=2, f=32):
    """Random weights of a stack, in the form that the reference takes."""
    stack = TransformerXL(100, layers, m, h, m // h, f, 0.0, 0.0, "glorot_uniform", dtype="float64")
    stack.build((1, 4, m), (1, 8, m))
    draw_weights(stack, rng)
    return weights_of(stack, ref.XLWeights)


def encode(t, s, m=16):
    """Encodings of distances that look back."""
    return relative_position_encoding(t, s, m, causal=True)


# %%
def dependency(x, weights, memory_length):
    """Which outputs change with which tokens, in segments of four."""
    changed = [x, *(x + np.eye(16)[None, :, [s]] for s in range(16))]
    before, *after = (ref.by_segments(each, weights, encode, 4, memory_length)[0] for each in changed)
    return np.stack([np.abs(output - before).max(axis=-1) > 1e-9 for output in after], axis=-1)


weights, x = make_weights(layers=2), rng.normal(size=(1, 16, 16))
known = {"alone, a segment starts from nothing": None, "a memory of 4: it knows 8 more tokens": 4}
known = {title: dependency(x, weights, memory_length) for title, memory_length in known.items()}

# %%
fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.8), sharey=True)
for ax, (title, picture) in zip(axes, known.items()):
    figures.mask_picture(ax, picture, title=title, queries="output t", keys="token s (white: the output depends on it)")
    ax.label_outer()
figures.show()

# %%
start = np.arange(16) // 4 * 4
reach = [int((start - picture.argmax(axis=1)).max()) for picture in known.values()]
print("tokens known from before the segment, at most:", reach)
assert reach == [0, 2 * 4] and not any(np.triu(picture, 1).any() for picture in known.values())

# %% [markdown]
# On its own, a segment begins without any context: token 4 is read as if nothing had come before. With a memory, two layers reach two segments back: the second layer remembers outputs of the first, and those were computed with a memory too. Each layer adds the
# memory's length $M$, so $N$ layers can reach $N \cdot M$ tokens.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"memory": Box("memory", 0, 0, "data"), "h": Box("h", 1.3, 0, "data"), "both": Box("join along\npositions", 0, 1)}
boxes |= {"cut": Box("last M, SG", -0.6, 2), "next": Box("memory′", -0.6, 3, "data"), "R": Box("R, distances", 2.4, 1, "data")}
boxes |= {"attention": Box("relative attention", 1.3, 2, "trained", 1.3), "add": Box("add h, LN", 1.3, 3)}
boxes |= {"ffn": Box("FFN", 1.3, 4, "map"), "add_y": Box("add y, LN", 1.3, 5), "z": Box("z", 1.3, 6, "data")}

arrows = [("memory", "both", "(b, M, m)"), ("h", "both", "(b, t, m)"), ("both", "cut", "(b, s, m)"), ("cut", "next", "(b, M, m)")]
arrows += [
    ("both", "attention", "keys, values (b, s, m)"),
    ("h", "attention", "queries (b, t, m)"),
    ("R", "attention", "(1, l, m)"),
]
arrows += [
    ("attention", "add", "(b, t, m)"),
    ("add", "ffn", "y (b, t, m)"),
    ("ffn", "add_y", "(b, t, m)"),
    ("add_y", "z", "(b, t, m)"),
]
diagram(boxes, arrows)
figures.show()

# %% [markdown]
# This is one block. Each block of the stack has a memory of its own, which it hands to itself for the next segment.
#
# ## The equation
#
# $$\tilde h = [\mathrm{memory} \circ h] \tag{1}$$
#
# $$y = \mathrm{LN}\big(h + \mathrm{Attention}(h, \tilde h, \tilde h)\big), \qquad z = \mathrm{LN}\big(y + \mathrm{FFN}(y)\big) \tag{2}$$
#
# $$\mathrm{memory}' = \mathrm{SG}\big(\text{the last } M \text{ of } [\mathrm{memory} \circ h]\big) \tag{3}$$
#
# $$g\text{, a second stream:} \qquad y_g = \mathrm{LN}\big(g + \mathrm{Attention}(g, \tilde h, \tilde h)\big), \qquad z_g = \mathrm{LN}\big(y_g + \mathrm{FFN}(y_g)\big) \tag{4}$$
#
# | symbol | what it is | name in the code | shape |
# |---|---|---|---|
# | $h$ | the block's input for this segment | `content` | `(b, t, m)` |
# | $\circ$ | one after the other, along positions | `after_memory` | `(b, s, m)` |
# | $M$ | how many positions are kept | `memory_length` | |
# | SG | as it is, but no gradient goes back through it | `remember` | `(b, M, m)` |
# | Attention | with [distances](relative_attention.ipynb) in its scores | `weights.layer[i].self_attention` | |
# | $g$ | predicts tokens that it must not see (XLNet) | `query` | `(b, t, m)` |
#
# Queries come from $h$ alone; only keys and values come from $\tilde h$.
#
# ## By hand
#
# The memory holds tokens 1 and 2, the segment tokens 3 to 6. With $M = 4$ the next memory is 3, 4, 5, 6. XLNet predicts the end of a segment and keeps only its beginning: if two tokens are reused, 1, 2, 3, 4 remain.

# %%
tokens = np.arange(1.0, 7).reshape(1, 6, 1)
for reuse_length in (None, 2):
    print("reuse", reuse_length, "→", ref.remember(tokens[:, :2], tokens[:, 2:], 4, reuse_length).ravel())
assert ref.remember(tokens[:, :2], tokens[:, 2:], 4).ravel().tolist() == [3, 4, 5, 6]
assert ref.remember(tokens[:, :2], tokens[:, 2:], 4, 2).ravel().tolist() == [1, 2, 3, 4]

# %% [markdown]
# ## In NumPy
#
# **One token of a segment.** It sees the memory and the segment up to itself; what counts is how far back each of them is. Here the third token of a segment of four, with a memory of three.

# %%
block, (u, v) = weights.layer[0], rng.normal(size=(2, 2, 8))
memory, h, i = rng.normal(size=(3, 16)), rng.normal(size=(4, 16)), 2
seen = np.concatenate([memory, h])[: len(memory) + i + 1]  # equation (1)
distances = len(seen) - 1 - np.arange(len(seen))
print("distances of the memory", distances[:3], "and of the segment", distances[3:])

# %% [markdown]
# **Attention** compares the query with each key and with the encoding of its distance, as in the lesson on relative attention.

# %%
attention = block.self_attention
q = into_heads(h[i], attention.query)
k, values = into_heads(seen, attention.key), into_heads(seen, attention.value)
r = into_heads(sinusoid(distances, 16), attention.encoding)
scores = (np.einsum("hd,shd->hs", q + u, k) + np.einsum("hd,shd->hs", q + v, r)) / np.sqrt(8)
attended = out_of_heads(np.einsum("hs,shd->hd", masked_softmax(scores), values), attention.attention_output)

# %%
y = layer_norm(h[i] + attended, block.self_attention_layer_norm)  # equation (2)
z = layer_norm(y + feed_forward(y, block.intermediate, block.output), block.output_layer_norm)
assert np.allclose(z, ref.block_at(h, i, memory, block, encode(4, 7)[0], u, v))

# %% [markdown]
# **All tokens at once.** There are $s + 1$ encodings, for the distances $s$ to 0. A key after the query has none, and is not attended to.

# %%
all_z, _ = ref.transformer_xl_block(h[None], block, encode(4, 7), Terms(u, v), memory[None])
print("encodings", encode(4, 7).shape, " output", all_z.shape)
assert np.allclose(all_z[0, i], z)

# %% [markdown]
# **The memory** after each segment, traced for twelve tokens in segments of four with $M = 6$:

# %%
print(inspect.getsource(ref.remember))

# %%
tokens, memory = np.arange(1.0, 13).reshape(1, 12, 1), None
for start in range(0, 12, 4):
    memory = ref.remember(memory, tokens[:, start : start + 4], memory_length=6)
    print(f"after tokens {start + 1:2} to {start + 4:2}:", memory.ravel().astype(int))

# %% [markdown]
# **The stack** is a loop over blocks. Each remembers its own input, before it is replaced by the output.

# %%
print(inspect.getsource(ref.transformer_xl).split('"""')[2])

# %% [markdown]
# ## What it does
#
# **Is anything lost by reading in segments?** With a memory that holds all that came before, nothing: segments of any length give the numbers of one long pass, in which no token sees a later one.

# %%
x = rng.normal(size=(2, 24, 16))
whole = ref.transformer_xl(x, weights, encode(24, 24)).content
for length in (1, 5, 8):
    apart = np.abs(ref.by_segments(x, weights, encode, length, memory_length=24) - whole).max()
    print(f"segments of {length}: largest difference from one pass over 24 tokens, to 12 decimals, {apart:.12f}")
    assert apart < 1e-12

# %% [markdown]
# **Does a model learn to use it?** The paper's Table 6 says so: on WikiText-103, perplexity 27.02 with the memory and 29.59 without. In miniature, here are texts that only a memory can predict. There are 16 symbols.
# With probability 0.95, the next token repeats the one that stands twelve before the current token; otherwise it is drawn at random. Segments have 8 tokens, so the answer is never in the segment. A reader who knows the token twelve back has a perplexity of 1.37, one who knows nothing 16.
#
# [The experiment](../experiments/transformer_xl/__init__.py) trains one block with a memory of 12, and the same block without a memory; each with three learning rates and three seeds. Texts have three segments, and the last one is predicted. As in
# the paper, gradients stop at each memory. Then we try other lengths of memory at test.

# %%
copy = results["copy"]
with_memory, without, absolute = experiment.COPIERS
print(
    f"the floor is {experiment.FLOOR:.2f}, chance is {experiment.SYMBOLS}. Perplexity with the memory of training, best to worst seed:"
)
for arm in experiment.COPIERS:
    low, _, high = np.exp(copy.spread("nats", arm))
    print(
        f"{arm:30} {low:5.2f} to {high:5.2f}   accuracy at most {copy.values('accuracy', arm).max():.2f}   best rate {copy.best_rate(arm):g}"
    )

# %%
fig, ax = plt.subplots()
for arm, color, label in ((with_memory, 0, "trained with a memory"), (without, 1, "trained without")):
    perplexities = np.exp(copy.values("tested", arm))
    for values in perplexities:
        ax.plot(experiment.TESTED, values, color=figures.COLORS[color], marker=figures.MARKERS[color])
    ax.annotate(label, (0, perplexities[:, 0].max()), (4, 6), textcoords="offset points", color=figures.COLORS[color])
for bound, name in ((experiment.SYMBOLS, "chance"), (experiment.FLOOR, "floor")):
    ax.axhline(bound, color="black", linestyle=":", marker="none")
    ax.annotate(name, (14, bound), (0, 4), textcoords="offset points", ha="center")
ax.set_yscale("log", base=2)
ax.set_yticks((1, 4, 16, 64, 256), (1, 4, 16, 64, 256))
ax.set(xlabel="memory length M at test (each line: a seed)", ylabel="perplexity", xticks=experiment.TESTED, ylim=(1, 600))
ax.set_title("a model can use a memory only if it was trained with one")
figures.show()

# %%
chance_to_floor = (np.log(experiment.FLOOR) + np.log(experiment.SYMBOLS)) / 2
nats = {arm: copy.values("nats", arm) for arm in experiment.COPIERS}
longer = np.exp(copy.values("tested", with_memory)[:, -1]).max()
print(f"with a longer memory at test than in training, 16: perplexity at most {longer:.2f}")
paper, ours = (27.02, 29.59), [np.exp(np.median(nats[arm])) for arm in (with_memory, without)]
for name, perplexities in (("the paper's, Table 6", paper), ("ours", ours)):
    print(f"perplexity with and without a memory, {name}: " + ", ".join(f"{value:.2f}" for value in perplexities))
assert nats[with_memory].max() < chance_to_floor < nats[without].min() and np.log(longer) < chance_to_floor

# %% [markdown]
# The order is the paper's; the size is not, because here nothing but the memory helps. Take the memory away from a model that was trained with one, and it is worse than chance: it reads what is not the answer, and is sure of it. A model that was trained without one
# has never learned to look back, so a memory at test does not help it. One of these runs, live:

# %%
live = experiment.train_copier(with_memory, copy.best_rate(with_memory), seed=0)
print(f"trained just now, with a memory: perplexity {np.exp(live['nats']):.2f}")
assert copy.contains(live["nats"], "nats", with_memory)

# %% [markdown]
# **Why distances?** Give each token its place in the segment instead, as the Transformer does, and the memory's tokens have the same places as the segment's. The answer stands twelve back, and another token with the same place stands four
# back; nothing tells one from the other. An even mixture of the two is right when both are equal, and otherwise half the time. Section 3.3 of the paper argues so; its Table 6 has absolute positions only without memory.

# %%
accuracies = {arm: copy.values("accuracy", arm) for arm in (with_memory, absolute)}
allowed = experiment.accuracy_of_two(), experiment.RIGHT
for (arm, values), bound in zip(accuracies.items(), allowed[::-1]):
    print(f"{arm:30} accuracy {values.min():.2f} to {values.max():.2f}; to be expected at best {bound:.2f}")
assert accuracies[absolute].max() < np.mean(allowed) < accuracies[with_memory].min()

# %% [markdown]
# **Do two layers learn to reach further than one?** What an output *can* know is one thing, what training teaches is another. With a memory of 8 the first four places of a segment find their answer, twelve back, in no memory of their own layer. The second layer would need
# a memory in which the first one has put it. But no gradient flows into that memory, so what the next segment needs does not reward putting it there. The third arm tests that reason: its gradients flow through the memory. The fourth gets 2,400 steps, the others 600.

# %%
hops, places = results["hops"], np.arange(experiment.LENGTH)
beyond = experiment.beyond_one_memory(hops)

# %%
fig, ax = plt.subplots()
ax.axvspan(-0.5, (~experiment.in_reach(experiment.LENGTH)).sum() - 0.5, color="#eeeeee")
ax.annotate("out of reach for one layer", (1.5, 1.06), ha="center")
beside = ((0, 8), (10, 10), (30, -16), (170, -8))
for number, arm in enumerate(experiment.HOPPERS):
    right = hops.values("right", arm)
    style = {"color": figures.COLORS[number], "marker": figures.MARKERS[number]}
    ax.fill_between(places, right.min(0), right.max(0), color=figures.COLORS[number], alpha=0.2, linewidth=0)
    ax.plot(places, np.median(right, axis=0), **style)
    ax.annotate(arm, (0, np.median(right[:, 0])), beside[number], textcoords="offset points", color=style["color"])
ax.axhline(1 / experiment.SYMBOLS, color="black", linestyle=":", marker="none")
ax.set(
    xlabel="place in the segment (median and range of 3 seeds, dotted: chance)",
    ylabel="accuracy",
    ylim=(0, 1.15),
    title="with gradients through the memory, two layers learn to reach further",
)
figures.show()

# %%
ends = {arm: hops.curves("loss", arm)[1] for arm in experiment.HOPPERS}
for arm, right in beyond.items():
    fell = ends[arm][:, -11] - ends[arm][:, -1]
    print(
        f"{arm:32} accuracy there {right.round(2)}, rate {hops.best_rate(arm):g}; in the last fifth of the steps the loss fell by {fell.round(2)}"
    )
one, two, through, longer = beyond.values()
halfway_up = (1 / experiment.SYMBOLS + experiment.RIGHT) / 2
assert max(one.max(), np.median(two), np.median(longer)) < halfway_up < through.min()
assert max(two.max(), longer.max()) < through.min()

# %% [markdown]
# One layer finds nothing there, as it must. After 600 steps, two layers find about half of it with one seed, and nothing with another. The same two layers find all or most of it with every seed once gradients flow through the memory. So the reach of $N \cdot M$ is what a stack can know;
# with the paper's stop of gradients, this training does not teach it reliably, not even in four times the steps. (That it is learned at all may come from sharing: the first layer has the same weights everywhere, so whatever it fetches for the tokens of its own segment is in the memory too. We did not test that.)
#
# How far do the gradients of an output go back, and how far does its dependence? The stack of random weights reads three segments of eight with a memory of 8. We add up the squared gradients of the last segment's output for each token.


# %%
def with_memory_of(stack, x, segment=8):
    """The output of the last segment."""
    state = None
    for start in range(0, x.shape[1], segment):
        s = segment + (state[0].shape[1] if state else 0)
        output, state = stack(x[:, start : start + segment], encode(segment, s).astype("float32"), state=state)
    return output


stack = TransformerXL(100, 2, 16, 2, 8, 32, 0.0, 0.0, "glorot_uniform", memory_length=8)
tokens = keras.ops.convert_to_tensor(rng.normal(size=(1, 24, 16)).astype("float32"))
stack.build((1, 8, 16), (1, 17, 16))

# %%
output = np.asarray(with_memory_of(stack, tokens))
cotangent = {"output": rng.normal(size=output.shape).astype("float32")}
_, _, slopes = differentiate(with_memory_of, stack, {"x": tokens}, cotangent)
reached = np.square(np.asarray(slopes["x"])).sum(axis=(0, 2)) > 0
changed = np.asarray(with_memory_of(stack, tokens + np.eye(24, dtype="float32")[:, :, None]))  # an example for each token
moved = np.abs(changed - output).max(axis=(1, 2)) > 1e-5
for name, which in (("have a gradient", reached), ("change the output", moved)):
    print(f"tokens that {name}: {which.argmax()} to {which.nonzero()[0][-1]}")
assert reached.nonzero()[0].tolist() == list(range(16, 24)) and moved.all()

# %% [markdown]
# **What does a memory buy on real text?** The paper trains on One Billion Word too (Table 7: perplexity 25.2 with recurrence, 27.1 without), whose sentences are shuffled, so that no long memory can help. What helps there, it says, is that a segment no longer starts from nothing. We let one block
# predict the characters of a novel, in segments of eight, with a memory of 16 and without. The first character of a segment is then predicted from one character alone, and counts of such pairs are the bound. The last row tests the reason: the same trained model gets the memory of another place in the novel.

# %%
of_novel, (own, none) = results["novel"], experiment.NOVEL_READERS
bits = {"no memory": of_novel.values("by_place", none), "memory": of_novel.values("by_place", own)}
bits["memory of another text"] = of_novel.values("other", own)
bound = novel.bits_of_counts(1)
for name, by_place in bits.items():
    first, whole_segment = by_place[:, 0], by_place.mean(axis=1)
    print(
        f"{name:24} first character {first.min():.2f} to {first.max():.2f} bits, all {whole_segment.min():.2f} to {whole_segment.max():.2f}"
    )
print(f"counts after one character: {bound:.2f}")
assert bits["memory"][:, 0].max() < bound < bits["memory of another text"][:, 0].min()
assert bits["memory"].mean(axis=1).max() < bits["no memory"].mean(axis=1).min()

# %%
fig, ax = plt.subplots()
for number, (name, by_place) in enumerate(bits.items()):
    style = {"color": figures.COLORS[number], "marker": figures.MARKERS[number]}
    ax.fill_between(places, by_place.min(0), by_place.max(0), color=figures.COLORS[number], alpha=0.2, linewidth=0)
    ax.plot(places, np.median(by_place, axis=0), **style)
    at, shift = (0, np.median(by_place[:, 0])), (14, -14 if name == "memory" else 2)
    ax.annotate(name, at, shift, textcoords="offset points", color=style["color"])
ax.axhline(bound, color="black", linestyle=":", marker="none")
ax.annotate("counts after one character", (7, bound), (0, 3), textcoords="offset points", ha="right")
ax.set(
    xlabel="place in the segment (median and range of 3 seeds)",
    ylabel="bits a character",
    title="a memory spares the first characters; later ones need it little",
    ylim=(2.6, 4.8),
)
figures.show()

# %%
gain = bits["no memory"] - bits["memory"]
print("bits that the memory spares, median by place:", np.median(gain, axis=0).round(2))
print(f"the first two places have {np.median(gain, axis=0)[:2].sum() / np.median(gain, axis=0).sum():.0%} of it")
assert gain[:, :2].min() > gain[:, 2:].max()

# %% [markdown]
# At the first character the model without a memory has one character to go by, and does no better than counts of pairs; with the memory, the first character is as easy as the others. From the third character on the memory matters little: at this size and after so few steps, the model makes
# little of what is further back. The order is the paper's. It is the text in the memory that helps, not the additional keys: with that of another place, the first character is harder than with none. (All after 300 steps, when both still get slowly better.)
#
# What the two streams of equation (4) buy is [a lesson of its own](two_stream_attention.ipynb).
#
# ## Where it breaks
#
# **Remembering the wrong thing.** A block's memory is its **input** for the segment before: what its keys and values were made of. Keep its output instead, which has the same shape, and nothing complains.

# %%
first, second = x[:, :12], x[:, 12:]
right, wrong, h = [], [], first
for i, block in enumerate(weights.layer):
    z, _ = ref.transformer_xl_block(h, block, encode(12, 12), ref.terms_of_layer(i, weights, None, None))
    right, wrong, h = [*right, h], [*wrong, z], z

# %%
error = {}
for name, state in (("inputs", right), ("outputs", wrong)):
    error[name] = np.abs(ref.transformer_xl(second, weights, encode(12, 24), tuple(state)).content - whole[:, 12:]).max()
    print(f"{name} remembered: largest difference from one long pass, to 6 decimals, {error[name]:.6f}")
assert error["inputs"] < 1e-12 < 1e-3 < error["outputs"]

# %% [markdown]
# **Differs from the paper.** Only the first tokens of a segment may be kept, and each layer may have biases $u$ and $v$ of its own. In the Model Garden, a stack without a `reuse_length` raises a TypeError, and the output of attention is dropped at `attention_dropout_rate`; here, at `dropout_rate`.
#
# ## What it costs
#
# **Reading a text at test.** Without a memory, a model that always sees $L$ tokens has to read $L$ tokens for each one that it predicts. With a memory each token is read once. The paper's Table 9 reports how many times slower its vanilla model is.

# %%
context, paper = np.array([800, 1800, 2800, 3800]), np.array([363, 773, 1409, 1874])
fig, ax = plt.subplots()
ax.plot(context, context, label="tokens read for each prediction")
ax.plot(context, paper, label="times slower, paper's Table 9")
for line, shift, side in zip(ax.lines, ((-8, 4), (8, -12)), ("right", "left")):
    at = context[2], line.get_ydata()[2]
    ax.annotate(line.get_label(), at, shift, textcoords="offset points", ha=side, color=line.get_color())
ax.set(xlabel="attention length L", ylabel="times what a memory needs", title="without a memory, cost grows with the length seen")
figures.show()

# %%
ratio = paper / context
print("paper's slowdown over the count of tokens:", ratio.round(2))
assert np.ptp(ratio) < ratio.mean() / 4  # so both grow alike

# %% [markdown]
# The reported slowdown grows as the count of tokens does, at about half of it.
#
# ## Does the layer agree?

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(replace(CHAPTER, cases=CHAPTER.cases[::2]))  # every other one, to be quick
assert agrees
line

# %% [markdown]
# ## Today
#
# XLNet took over the memory and the relative scores ([Yang et al., 2019](https://arxiv.org/abs/1906.08237)). Large language models are decoded with a cache of keys and values, which is this memory without an end ([cached attention](cached_attention.ipynb)), and their positions are rotations
# ([Su et al., 2021](https://arxiv.org/abs/2104.09864)). The stack that reaches further than each of its layers came back as sliding windows, as in Mistral ([Jiang et al., 2023](https://arxiv.org/abs/2310.06825)). Others give the memory gradients and a fixed size: memory tokens
# that pass from segment to segment ([Bulatov et al., 2022](https://arxiv.org/abs/2207.06881)), or a recurrent state of vectors ([Hutchins et al., 2022](https://arxiv.org/abs/2203.07852)).
#
# ## Exercises
#
# **1** (easy, 10 minutes). The next memory: the last `length` positions of the old one, `memory` `(b, _, m)`, followed by the first `reuse` positions of the block's input `h` `(b, t, m)`. The old memory may have no positions, and `length` may be 0.


# %%
def next_memory(memory, h, length, reuse):
    return None  # your turn


_ = check("transformer_xl/1", next_memory)

# %% [markdown]
# <details><summary>Hint</summary>First cut <code>h</code>, then put it behind, then cut from the end. <code>[-0:]</code> is everything.</details>
# <details><summary>Solution</summary>
#
# ```python
# def next_memory(memory, h, length, reuse):
#     both = np.concatenate([memory, h[:, :reuse]], axis=1)
#     return both[:, max(both.shape[1] - length, 0):]
# ```
# </details>
#
# **2** (medium, 15 minutes). How far back do tokens `t` (an array) see, in segments of `length` tokens with a memory of `m` positions, through `layers` blocks? Return, for each, the first token that its output depends on. The memory may be longer or shorter than a segment. No loop over tokens.


# %%
def first_token(t, length, m, layers):
    return None  # your turn


_ = check("transformer_xl/2", first_token)

# %% [markdown]
# <details><summary>Hint</summary>One layer reaches from the start of a token's segment back by the memory. What it finds there was computed in an earlier segment, with a memory of its own.</details>
# <details><summary>Solution</summary>
#
# ```python
# def first_token(t, length, m, layers):
#     for _ in range(layers):
#         t = np.maximum(0, t // length * length - m)
#     return t
# ```
# </details>
#
# **3** (hard, 25 minutes). XLNet predicts only some of `t` tokens, in the order of `targets`; all others are context, which every token sees. A target also sees the targets before it, and in the content stream itself. In the query stream no token sees itself. Return the masks of content and query stream, `(t, t)` each.


# %%
def partial_masks(t, targets):
    return None  # your turn


_ = check("transformer_xl/3", partial_masks)

# %% [markdown]
# <details><summary>Hint</summary>Give the context rank 0 and the targets 1, 2, … Whoever sees a token has at least its rank.</details>
# <details><summary>Solution</summary>
#
# ```python
# def partial_masks(t, targets):
#     rank = np.zeros(t, int)
#     rank[targets] = np.arange(1, len(targets) + 1)
#     content = rank[None, :] <= rank[:, None]
#     return content, content & ~np.eye(t, dtype=bool)
# ```
# </details>
#
# **To discuss.** Gradients do not flow into the memory. What can a model therefore not learn about the past, although it reads it? How would you test whether that matters?
#
# ## Summary
#
# - Each block remembers its own input for the segment before, without gradients. With a long enough memory, segments are one long pass.
# - $N$ blocks *can* know of $N \cdot M$ earlier tokens. Whether they learn to is another question: with gradients that stop at the memory, they learn it late and not with every seed.
# - On real text the memory helps most where a segment would start from nothing. Distances, not places, keep its segments apart.
# - Two streams predict tokens in any order, so what belongs together is learned together.
#
# **Further reading.** [Dai et al., 2019](https://arxiv.org/abs/1901.02860): how far a model really looks back, in section 4.3. [Yang et al., 2019](https://arxiv.org/abs/1906.08237): "New York" in section 2.6.
# [Rae et al., 2019](https://arxiv.org/abs/1911.05507): memories that are compressed instead of forgotten.
