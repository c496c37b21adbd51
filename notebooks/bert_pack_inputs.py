# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Packed inputs: texts of any length, rows of one
#
# A model wants rows of equal length; texts come as they are. Packing says where each text ends, and what to drop when they are too long.
#
# Paper: [Devlin et al., 2018, section 3](https://arxiv.org/abs/1810.04805) · NumPy: [`reference/bert_pack_inputs.py`](../reference/bert_pack_inputs.py) · Layer:
# [`layers/bert_pack_inputs.py`](../layers/bert_pack_inputs.py) · 25 minutes · You should know: how a [tokenizer](bert_tokenizer.ipynb) makes ids of a text

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect
import itertools
from collections import Counter
from math import comb

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from matplotlib.colors import ListedColormap

from crosscheck.cases.bert_pack_inputs import CHAPTER
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from experiments import bert_pack_inputs as experiment
from experiments.common.results import stored
from layers.bert_pack_inputs import BertPackInputs
from reference import bert_pack_inputs as ref

figures.use_style()
rng = np.random.default_rng(0)
CLS, SEP, PAD = experiment.CLS, experiment.SEP, experiment.PAD
results = stored("bert_pack_inputs")

# %% [markdown]
# ## The question
#
# Here are eight pairs of neighboring texts from a novel, each of one to eight sentences, as BERT's wordpieces. They are to become rows of 96 places. Most pairs are longer. **What should be cut?** There are two ways: a *waterfall*, which keeps as much of the first text as fits, and *round robin*, which lets the texts take turns.

# %%
texts = experiment.texts_of(seed=3, count=9)
pairs, length = [texts[:-1], texts[1:]], 96
ways = {"waterfall": ref.waterfall, "round robin": ref.round_robin}
titles = {"waterfall": "waterfall: a long first text takes all", "round robin": "round robin: both texts stay"}
kinds = ListedColormap(("black", *figures.COLORS[:2], "#DDDDDD"))

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True)
for ax, (name, way) in zip(axes, ways.items()):
    packed = ref.bert_pack_inputs(pairs, length, CLS, SEP, PAD, way)
    special = np.isin(packed.input_word_ids, (CLS, SEP))
    kind = np.where(packed.input_mask == 0, 3, np.where(special, 0, 1 + packed.input_type_ids))
    image = ax.imshow(kind, aspect="auto", vmin=-0.5, vmax=3.5, cmap=kinds, interpolation="none")
    ax.set(title=titles[name], xlabel="position t")
    ax.grid(False)
axes[0].set_ylabel("row b")
bar = fig.colorbar(image, ax=axes, ticks=range(4))
bar.ax.set_yticklabels(["special", "first text", "second text", "padding"])
figures.show()

# %%
sizes, room = np.array([[len(row) for row in rows] for rows in pairs]).T, ref.room_for_tokens(length, 2)
kept = {name: way(sizes, room) for name, way in ways.items()}
print("tokens of each pair:", sizes.tolist())
for name, tokens in kept.items():
    print(f"{name:11} keeps {tokens.sum()} tokens; least of a text: {tokens.min()}; texts without a token: {(tokens == 0).sum()}")
assert kept["round robin"].sum() == kept["waterfall"].sum()
assert (kept["waterfall"] == 0).any() and (kept["round robin"] >= np.minimum(sizes, room // 2)).all()

# %% [markdown]
# Both keep equally many tokens. The waterfall gives the second text what the first leaves, which may be nothing.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"a": Box("A", 0, 0, "data"), "b": Box("B", 1, 0, "data"), "sizes": Box("sizes", 2.4, 1, "data")}
boxes |= {
    "cut": Box("(4) room, (5) or (6)", 2.4, 2, width=1.25),
    "pack": Box("cut, join with [CLS], [SEP], [PAD]", 0.5, 3, width=2.1),
}
boxes |= {
    "ids": Box("(1) ids", -0.6, 4, "data"),
    "types": Box("(2) types", 0.5, 4, "data"),
    "mask": Box("(3) mask", 1.6, 4, "data"),
}
steps = [
    ("a", "pack", "(b, any)"),
    ("b", "pack", "(b, any)"),
    ("a", "sizes", ""),
    ("b", "sizes", ""),
    ("sizes", "cut", "(b, segments)"),
]
steps += [
    ("cut", "pack", "kept (b, segments)"),
    ("pack", "ids", "(b, t)"),
    ("pack", "types", "(b, t)"),
    ("pack", "mask", "(b, t)"),
]
diagram(boxes, steps)
figures.show()

# %% [markdown]
# Nothing in it has weights. Texts of any length come in; three arrays of one shape come out.
#
# ## The equation
#
# $$\text{ids} = \mathrm{[CLS]}\; A\; \mathrm{[SEP]}\; B\; \mathrm{[SEP]}\; \mathrm{[PAD]} \cdots \mathrm{[PAD]} \tag{1}$$
#
# $$\text{type} = \text{the number of the segment, from 0, at its tokens and its [SEP]};\quad 0 \text{ at [CLS] and [PAD]} \tag{2}$$
#
# $$\text{mask} = 1 \text{ up to the last [SEP]};\quad 0 \text{ at [PAD]} \tag{3}$$
#
# $$\text{room} = \text{length} - 1 - \text{segments} \tag{4}$$
#
# If there are more tokens than room, then
#
# $$\text{round robin:}\quad \text{each segment in turn keeps one token more, if it has one, until the room is full} \tag{5}$$
#
# $$\text{waterfall:}\quad \text{kept}_i = \min\big(\text{size}_i,\ \text{room} - \textstyle\sum_{j<i} \text{kept}_j\big) \tag{6}$$
#
# | what it is | name in the code | shape |
# |---|---|---|
# | ids of tokens, special ones and padding | `input_word_ids` | `(b, t)` |
# | 1 where there is a token | `input_mask` | `(b, t)` |
# | the segment's number | `input_type_ids` | `(b, t)` |
# | tokens of each segment, and how many stay | `sizes`, `kept` | `(b, segments)` |
#
# ## By hand
#
# Six tokens and four, in eight places. Three are special, so the room is 5. In turn: A, B, A, B, A. That is 3 and 2. The waterfall: 5 and 0; even so, the empty B has its [SEP].

# %%
a, b = [11, 12, 13, 14, 15, 16], [21, 22, 23, 24]
for cut in (ref.round_robin_one, ref.waterfall_one):
    packed = ref.pack_one([a, b], 8, CLS, SEP, PAD, cut)
    print(cut([6, 4], 5), packed.input_word_ids.tolist(), packed.input_type_ids.tolist())
assert ref.round_robin_one([6, 4], 5) == [3, 2] and ref.waterfall_one([6, 4], 5) == [5, 0]
assert packed.input_word_ids.tolist() == [101, 11, 12, 13, 14, 15, 102, 102] and packed.input_type_ids[-1] == 1

# %% [markdown]
# ## In NumPy
#
# **Dealing, one token at a time.** Three segments of 6, 2 and 9 tokens, and room for 13:

# %%
dealt, own = [0, 0, 0], [6, 2, 9]
for turn in itertools.count(1):
    for i, size in enumerate(own):
        dealt[i] += dealt[i] < size and sum(dealt) < 13
    print(f"after turn {turn}: {dealt}")
    if sum(dealt) == min(13, sum(own)):
        break
assert dealt == ref.round_robin_one(own, 13)

# %%
print(inspect.getsource(ref.round_robin_one))

# %% [markdown]
# **One row**, as it is written in (1) to (3):

# %%
ids, types = [CLS], [0]
for i, (tokens, count) in enumerate(zip([a, b], [3, 2])):
    ids += [*tokens[:count], SEP]
    types += [i] * (count + 1)
missing = 10 - len(ids)
row = ids + [PAD] * missing, [1] * len(ids) + [0] * missing, types + [0] * missing
print(*row, sep="\n")
assert [x.tolist() for x in ref.pack_one([a[:3], b[:2]], 10, CLS, SEP, PAD)] == list(row)

# %% [markdown]
# **All rows at once** need a formula for dealing, which takes a loop for each row. Each segment ends up at its size or at a common *level*, whichever is lower, and what is then left of the room goes to the first segments above the level. The level is the highest $x$ with $\sum_i \min(\text{size}_i, x) \le \text{room}$. That sum is
# the *least* of the lines "the $j$ shortest in full, and $x$ for each of the others". So it is within the room as soon as one of these lines is:

# %%
ordered = np.sort(own)
for j in range(3):
    level = (13 - ordered[:j].sum()) // (3 - j)
    print(f"the {j} shortest in full ({ordered[:j].sum()}), {level} for each of {3 - j}: level {level}")
levels = [(13 - ordered[:j].sum()) // (3 - j) for j in range(3)]
kept_at_level = np.minimum(own, max(levels))
print("highest level", max(levels), "keeps", kept_at_level.tolist(), "and leaves", 13 - kept_at_level.sum())
assert kept_at_level.sum() <= 13 < np.minimum(own, max(levels) + 1).sum()

# %%
print(inspect.getsource(ref.round_robin))
every = np.array(list(itertools.product(range(7), repeat=3)))
for room in range(20):
    assert ref.round_robin(every, room).tolist() == [ref.round_robin_one(row.tolist(), room) for row in every]
print(len(every) * 20, "cases: the formula is the loop")

# %% [markdown]
# ## What it does
#
# **How often is a text lost?** We pack two hundred pairs of the novel, with the layer, in rows of several lengths, and count pairs of which a text has no token left. If it is the order that matters to the waterfall, then the same must happen with the second text first.

# %%
found = results["cuts"]
live = experiment.cut("round robin", 0.0, seed=0)
assert found.contains(live["lost"], "lost", "round robin")
fig, ax = plt.subplots()
kinds = {"waterfall": "waterfall", "waterfall, second first": "", "round robin": "round robin"}
figures.curves(ax, found, "none", kinds, title="the waterfall loses whole texts, in either order")
ax.set(xscale="log", xticks=experiment.LENGTHS, xticklabels=experiment.LENGTHS, xlim=(30, 1100))
ax.set(xlabel="length of a row", ylabel="pairs without a token of a text (share)", ylim=(-0.05, 1))
ax.texts[0].xy = (64, np.median(found.values("none", "waterfall")[:, 1, 1]))  # beside the line, not at its end
figures.show()

# %%
none = {arm: found.curves("none", arm)[1] for arm in experiment.CUTS}
for arm, values in none.items():
    print(f"{arm:24}", {n: f"{share.min():.2f} to {share.max():.2f}" for n, share in zip(experiment.LENGTHS, values.T)})
kept = [found.curves("kept", arm)[1] for arm in experiment.CUTS]
assert none["round robin"].max() == 0 < none["waterfall"][:, 0].min() and all(np.array_equal(kept[0], tokens) for tokens in kept)

# %% [markdown]
# In rows of 512 nothing is lost either way, since nearly all pairs fit. The shorter the rows, the more the waterfall loses, and in either order. Round robin leaves each of the two texts half of the room, rounded down, or all
# of it.
#
# **Is round robin what BERT's published code does?** For fine-tuning (`run_classifier.py`) that code pops the last token off the longer text until both fit, off the second at a tie. For pre-training (`create_pretraining_data.py`) it pops off the longer one too, but a coin decides for each token whether it is the last or the
# first, "to add more randomness and avoid biases", as a comment says. We write both, for any number of texts:


# %%
def pop_the_longest(sizes, room, coin=None):
    """How many tokens are dropped in front of each text, and how many stay."""
    kept, in_front = list(sizes), [0] * len(sizes)
    while sum(kept) > room:
        longest = max(range(len(kept)), key=lambda i: (kept[i], i))
        kept[longest] -= 1
        in_front[longest] += coin is not None and coin.random() < 0.5
    return in_front, kept


# %%
cases = [rng.integers(0, 30, segments).tolist() for segments in (2, 3, 4) for _ in range(200)]
for coin in (None, rng):
    assert all(pop_the_longest(sizes, 29, coin)[1] == ref.round_robin_one(sizes, 29) for sizes in cases)
print(f"{len(cases)} cases: both keep as many tokens of each text as round robin")
for coin in (None, rng, rng):
    print("of 60 and 40 tokens in room for 60: dropped in front, kept", pop_the_longest([60, 40], 60, coin))

# %% [markdown]
# So (5) says how many tokens stay in both programs; *which* tokens stay differs. **Does the coin avoid a bias?** With $c$ tokens to drop, the number dropped in front is binomial: near $c/2$, give or take $\sqrt{c}/2$. So we know how often each token of a text is kept. A rival draws once for each text, any number from 0 to $c$ being equally likely.

# %%
size, c = 60, 20
place, drop = np.arange(size), np.arange(c + 1)
inside = (place >= drop[:, None]) & (place < drop[:, None] + size - c)
chances = {
    "from the end": drop == 0,
    "a coin for each token": [comb(c, n) / 2**c for n in drop],
    "one draw for each text": [1 / (c + 1)] * (c + 1),
}
exact = {arm: np.array(chance, float) @ inside for arm, chance in chances.items()}
print(
    {arm: [round(float(curve[i]), 4) for i in (0, size // 2, size - 1)] for arm, curve in exact.items()},
    "first, middle, last token",
)
assert all(np.isclose(curve.sum(), size - c) for curve in exact.values())

# %%
found = results["seen"]
live = experiment.see("a coin for each token", 0.0, seed=0)
assert found.contains(live["never"], "never", "a coin for each token")
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3), sharey=True)
for number, (arm, curve) in enumerate(exact.items()):
    axes[0].plot((place + 0.5) / size, curve, marker="none", color=figures.COLORS[number], linestyle=figures.DASHES[number])
    axes[0].annotate(arm, (0.44, 0.45 - 0.13 * number), ha="center", color=figures.COLORS[number])
figures.curves(axes[1], found, "profile", dict.fromkeys(exact, ""), title="cut pairs of the novel: the same, milder")
axes[0].set(title="60 tokens, 20 dropped: the coin keeps the middle", ylabel="chance to be kept", ylim=(0, 1.05))
for ax in axes:
    ax.set(xlabel="place in the text (share of its length)", xlim=(0, 1))
figures.show()

# %%
for arm in experiment.SEEN:
    never, cut = found.values("never", arm), found.values("cut", arm)
    print(
        f"{arm:24} loses {cut.min():.0%} to {cut.max():.0%} of the tokens in a copy, {never.min():.1%} to {never.max():.1%} in all of {experiment.COPIES} copies"
    )
end, coin, one = (found.values("never", arm) for arm in experiment.SEEN)
assert np.allclose(end, found.values("cut", "from the end")) and one.max() < coin.min() <= coin.max() < end.min()

# %% [markdown]
# The right panel has pairs of the novel: sentences until the room of 125 is full, divided between two of them, and ten copies of each pair. The second text always follows the first; in BERT's paper it does so in half of the pairs (section 3.1). The coin removes the bias against the end only in part. Tossed for every token, it averages out: both ends are lost, the middle is always
# kept, and nearly two thirds as many tokens are missing from all ten copies as without it. With one draw for each text, which is as simple, about a fifth as many are missing as with the coin.
#
# These are copies of the *same* pairs. BERT's program also goes ten times through the text (its default), but divides it anew each time, so what was cut off once may be in the middle the next time. How much is then missing?


# %%
def missing(arm, seed, copies, room=125):
    """The share of the novel's tokens that no copy keeps, if each copy divides the sentences anew."""
    rng = np.random.default_rng(seed)
    seen = np.zeros(sum(map(len, experiment.sentences())), bool)
    for _ in range(copies):
        place = 0
        for sizes in experiment.instances(rng, room):
            for size, stay in zip(sizes, ref.round_robin_one(sizes, room)):
                start = place + experiment.first_kept(arm, size - stay, rng)
                seen[start : start + stay] = True
                place += size
    return 1 - seen[:place].mean()


# %%
anew = {arm: [[missing(arm, seed, copies) for seed in range(3)] for copies in (1, 10)] for arm in experiment.SEEN}
for arm, (once, ten) in anew.items():
    print(f"{arm:24} missing from one copy {min(once):.0%} to {max(once):.0%}, from all of ten {min(ten):.2%} to {max(ten):.2%}")
end, coin, one = (ten for _, ten in anew.values())
assert max(one) < min(coin) <= max(coin) < min(end) < min(anew["from the end"][0]) / 10

# %% [markdown]
# The order of the three stays. But the new division alone brings back nearly all of what is cut at the end, and the coin matters little beside it.
#
# **The paper's claim.** Its section 3 wants an input that can "unambiguously represent both a single sentence and a pair of sentences". A hard test: *all* texts of up to three tokens that are a word, the token [SEP] or the token [PAD], alone and in pairs. For how many
# of them is there another that makes the same row, if one looks at some of the three arrays?

# %%
short = [list(text) for size in range(4) for text in itertools.product((7, SEP, PAD), repeat=size)]
inputs = [[text] for text in short] + [list(pair) for pair in itertools.product(short, repeat=2)]
rows = [ref.pack_one(segments, 9, CLS, SEP, PAD) for segments in inputs]
views = {"ids": [0], "ids and mask": [0, 1], "ids and types": [0, 2], "all three": [0, 1, 2]}
confused = {}
for name, view in views.items():
    seen = Counter(tuple(np.concatenate([row[i] for i in view])) for row in rows)
    confused[name] = sum(count for count in seen.values() if count > 1)
print(f"of {len(inputs)} inputs, mistaken for another by:", confused)

# %% [markdown]
# The types make the claim true. The mask adds nothing to it: wherever padding starts, the last [SEP] stands before it. And so there is a way back, whatever the texts hold:

# %%
assert len(inputs) == 40 + 40**2 and confused["ids and types"] == confused["all three"] == 0
assert confused["ids"] == confused["ids and mask"] > 0
assert all(ref.unpack_one(row) == segments for row, segments in zip(rows, inputs))
print(inspect.getsource(ref.unpack_one))

# %% [markdown]
# Real texts hold no [SEP], if the tokenizer keeps it out. Then the types, too, say nothing that the ids do not; they say it at every token, where a sum of embeddings can use it.
#
# ## Where it breaks
#
# **A mask made from ids.** "Not equal to the padding's id" looks like the mask, until a text holds that id: a vocabulary whose word 0 is a word, or text that was padded before. Those tokens would be invisible.

# %%
row = ref.pack_one([[7, PAD, 8], [PAD, PAD]], 10, CLS, SEP, PAD)
print("from lengths:", row.input_mask.tolist())
print("from ids:    ", (row.input_word_ids != PAD).astype(int).tolist())
assert row.input_mask.sum() == 8 and (row.input_word_ids != PAD).sum() == 5

# %% [markdown]
# The opposite mistake: a *dense* tensor that is padded already. The layer cannot know, and takes every entry for a token. Take the padding out first.

# %%
pack = BertPackInputs(9, start_of_sequence_id=CLS, end_of_segment_id=SEP, padding_id=PAD)
dense = tf.constant([[7, 8, PAD, PAD]])
careless, careful = pack(dense), pack(tf.ragged.boolean_mask(dense, dense != PAD))
print(careless["input_mask"].numpy().tolist(), careful["input_mask"].numpy().tolist())
assert careless["input_mask"].numpy().sum() == 6 and careful["input_mask"].numpy().sum() == 4

# %% [markdown]
# **An error that is returned.** Where an id is missing, the Model Garden's layer *returns* the error instead of raising it, and so is made, and fails later, elsewhere. Ours says at once which id is missing. And if a row has no room for the special tokens of its segments, the error says how long it must be:

# %%
words = tf.ragged.constant([[[11, 12], [13]], [[14]], []])
told = []
for attempt in (lambda: BertPackInputs(9, special_tokens_dict={"padding_id": PAD}), lambda: pack([words] * 9)):
    try:
        attempt()
    except ValueError as error:
        lines = str(error).replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()  # Keras puts lines and bold type around it
        told.append(next(line for line in lines if " must be " in line))
        print(told[-1])
assert "start_of_sequence_id" in told[0] and "at least 10" in told[1] and "seq_length=9" in told[1]

# %% [markdown]
# **Differs from the paper.** The paper samples texts that fit. More than two segments are packed too, with types 2, 3 and so on; but the paper's model has a vector for two.
#
# ## What it costs
#
# No parameters and no multiply-adds; three numbers of four bytes for each place. The price is paid later: attention computes every place, padded or not, and nothing brings back what was cut. **How long should rows be?** Here are 512 pairs of the novel.

# %%
texts = experiment.texts_of(seed=0, count=513)
sizes = np.array([[len(x), len(y)] for x, y in itertools.pairwise(texts)])
lengths = np.arange(16, 513, 16)
kept = np.array([ref.round_robin(sizes, n - 3).sum(axis=1) for n in lengths])
lost, padding = 1 - kept.sum(axis=1) / sizes.sum(), 1 - (kept + 3).sum(axis=1) / (len(sizes) * lengths)

# %%
fig, ax = plt.subplots()
for values, label, place in ((lost, "tokens that are cut", 4), (padding, "places that are padding", 22)):
    (line,) = ax.plot(lengths, values, marker="none")
    ax.annotate(
        label,
        (lengths[place], values[place]),
        (10, -4),
        textcoords="offset points",
        color=line.get_color(),
        va="top" if place > 9 else "center",
    )
ax.set(xlabel="length of a row", ylabel="share", ylim=(-0.02, 1), title="no single row length suits all pairs")
figures.show()
at = int(np.argmax(lost < 0.05))
print(f"rows of {lengths[at]}: {lost[at]:.0%} of the tokens are cut, {padding[at]:.0%} of the places are padding")
assert (np.diff(lost) <= 0).all() and (np.diff(padding) >= -1e-12).all()

# %% [markdown]
# So batches get lengths of their own. We pad each of 16 batches of 32 rows to its longest row; sort the rows by length first; or put several pairs into a row, as many as fit, longest first ([Krell et al., 2021](https://arxiv.org/abs/2107.02027)).

# %%
found = results["padding"]
live = experiment.batches("sorted, to the batch's longest", 0.0, seed=0)
assert found.contains(live["padding"], "padding", "sorted, to the batch's longest")

# %%
fig, ax = plt.subplots(figsize=(7, 2.6))
labels = {"padding": "places", "scores": "attention scores"}
for (what, label), color, marker in zip(labels.items(), figures.COLORS, figures.MARKERS):
    for row, arm in enumerate(experiment.PADDED):
        values = found.values(what, arm)
        ax.plot(values, [row] * len(values), marker, color=color, linestyle="none", alpha=0.6)
    ax.annotate(label, (np.median(values), row), (0, 10), textcoords="offset points", ha="center", color=color)
ax.set(yticks=range(len(experiment.PADDED)), yticklabels=experiment.PADDED, ylim=(-0.5, 3.7), xlim=(-0.05, 1))
ax.set(xlabel="share that is spent on padding, or on other pairs", title="rows of 512: sorting spares most of the padding")
figures.show()

# %%
shares = {arm: found.curves("rows", arm)[1] for arm in experiment.PADDED}
for arm, values in shares.items():
    print(
        f"{arm:31}", {rows: f"{low:.2f} to {high:.2f}" for rows, low, high in zip(experiment.ROWS, values.min(0), values.max(0))}
    )
_, own, ordered, several = shares.values()
less = [rows for rows, few, more in zip(experiment.ROWS, several.T, ordered.T) if few.max() < more.min()]
half = 2 * np.median(sizes.sum(axis=1) + 3)
print(f"several in a row leave less padding than sorting does in rows of {less}; two median pairs take {half:.0f} places")
assert (ordered.max(axis=0) < own.min(axis=0) / 2).all() and less == [rows for rows in experiment.ROWS if rows >= half]

# %% [markdown]
# That is the share of padding for rows of at most 256, 512 and 1,024 places, over five draws of texts. Without sorting, a batch's longest row is nearly the longest of all: it is the order that helps, and it spares more than half at every length. Several pairs in a row leave less padding *if two of them fit into a row*; where one pair
# fills most of a row, as with 256 places, sorting is better. And in rows of 512 half of the scores are then between one pair and another: they must be masked, and are only spared by a program that skips them.
#
# Krell et al. report that up to 50% of all tokens can be padding in common corpora. That depends on lengths alone, and ours are drawn, so the number cannot be compared; what carries over is that rows of one length are largely padding.
#
# ## Does the layer agree?
#
# The layer is made of TensorFlow's graph operations, so that it can stand in a data pipeline. It takes ragged tensors: tokens, or words of pieces as tokenizers return them.

# %%
data = tf.data.Dataset.from_tensor_slices((words, words)).batch(2).map(lambda first, second: pack([first, second]))
batches = [batch["input_word_ids"].tolist() for batch in data.as_numpy_iterator()]
print(batches)
lists = words.to_list()
assert np.concatenate(batches).tolist() == ref.bert_pack_inputs([lists, lists], 9, CLS, SEP, PAD).input_word_ids.tolist()

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# Rows of this form are still what BERT and its descendants read. In Hugging Face's tokenizers `truncation=True` cuts the longer text, as round robin does; `only_second` cuts a long passage and never the question about it. RoBERTa was trained without pairs and types, on rows filled with whole sentences
# ([Liu et al., 2019](https://arxiv.org/abs/1907.11692)). Large models are trained on rows with several texts; ModernBERT removes padding before the first layer and runs all texts of a batch one behind the other ([Warner et al., 2024](https://arxiv.org/abs/2412.13663)).
#
# ## Exercises
#
# **1** (easy, 5 minutes). A cut that keeps both ends: of the list `tokens`, the first $\lceil n/2 \rceil$ and the last $\lfloor n/2 \rfloor$, if `n` may stay; all, if there are no more. `n` may be 0.


# %%
def both_ends(tokens, n):
    return None  # your turn


_ = check("bert_pack_inputs/1", both_ends)

# %% [markdown]
# <details><summary>Hint</summary>A slice that begins at <code>-0</code> is a whole list, not an empty one.</details>
# <details><summary>Solution</summary><code>h = n // 2; return tokens if n &gt;= len(tokens) else tokens[: n - h] + tokens[len(tokens) - h :]</code></details>
#
# **2** (medium, 10 minutes). What the waterfall keeps, for all rows at once: from `sizes` `(b, segments)` and the room, which may be 0. No loop over rows or segments.


# %%
def waterfall(sizes, room):
    return None  # your turn


_ = check("bert_pack_inputs/2", waterfall)

# %% [markdown]
# <details><summary>Hint</summary>All segments before the i-th are either whole, or the room is full.</details>
# <details><summary>Solution</summary><code>return np.clip(room - (np.cumsum(sizes, axis=1) - sizes), 0, sizes)</code></details>
#
# **3** (hard, 15 minutes). Rows of [CLS], then each segment's tokens and its [SEP], then padding: from `kept` `(b, segments)`, the tokens of each segment, make mask and type ids, `(b, seq_length)` each. [CLS] has type 0, a [SEP] that of its segment, padding 0. No loop over rows.


# %%
def mask_and_types(kept, seq_length):
    return None  # your turn


_ = check("bert_pack_inputs/3", mask_and_types)

# %% [markdown]
# <details><summary>Hint</summary>The place after each segment's [SEP] is a running sum. A token's type is how many segments have ended before it.</details>
# <details><summary>Solution</summary>
#
# ```python
# def mask_and_types(kept, seq_length):
#     place = np.arange(seq_length)
#     behind = 1 + np.cumsum(kept + 1, axis=1)
#     mask = place < behind[:, -1:]
#     types = (place >= behind[..., None]).sum(axis=1)
#     return mask.astype(int), np.where(mask, types, 0)
# ```
# </details>
#
# **To discuss.** Long documents have to be cut for a model of 512 tokens: at the end, at both ends, or into windows whose answers are combined. Which would you try first for reviews, for contracts and for news?
#
# ## Summary
#
# - A row is its ids, its mask and its types. Ids and types say what was packed; the mask says where to look.
# - Round robin is how many tokens BERT's programs keep of each text: the longest loses. The waterfall keeps the first text, and may keep nothing of the second. A coin for each token keeps the middle; dividing the text anew for each copy helps more.
# - The mask comes from lengths, never from ids.
#
# **Further reading.** [Devlin et al., 2018](https://arxiv.org/abs/1810.04805), appendix A.2: how pairs are sampled so that they fit. [Liu et al., 2019](https://arxiv.org/abs/1907.11692): rows filled with whole sentences, and no pairs. [Krell et al., 2021](https://arxiv.org/abs/2107.02027): several texts in one row, and no
# padding.
