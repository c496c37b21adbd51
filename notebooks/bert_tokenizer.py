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
# # BERT's tokenizer: from any text to ids
#
# A model reads ids. Which ids a text becomes is decided by rules that are easy to get almost right, and the model has seen only those of its own tokenizer.
#
# Papers: [Devlin et al., 2018, section 3](https://arxiv.org/abs/1810.04805), [Song et al., 2021, section 3](https://arxiv.org/abs/2012.15524) · Plain Python: [`reference/bert_tokenizer/`](../reference/bert_tokenizer/__init__.py),
# [`reference/bert_tokenizer/linear_wordpiece.py`](../reference/bert_tokenizer/linear_wordpiece.py) · Layer: [`layers/bert_tokenizer/`](../layers/bert_tokenizer/__init__.py) · 30 minutes · You should know: what Unicode's code points and UTF-8 are

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import inspect
import json
from pathlib import Path
from unicodedata import category, normalize
from unittest.mock import patch

import matplotlib.pyplot as plt
import numpy as np

from crosscheck.cases.bert_tokenizer import CHAPTER, real_vocabulary
from crosscheck.lesson import figures
from crosscheck.lesson.diagram import Box, diagram
from crosscheck.lesson.exercises import check
from crosscheck.lesson.moving import moving
from crosscheck.models.tokenizers import compare_tokens
from crosscheck.tree import as_lists
from experiments import bert_tokenizer as experiment
from experiments.common import novel
from experiments.common.results import stored
from layers.bert_tokenizer import BertTokenizer
from reference import bert_tokenizer as ref
from reference.bert_tokenizer.linear_wordpiece import build_trie, linear_wordpieces

figures.use_style()
results = stored("bert_tokenizer")
vocabulary = experiment.vocabulary()

# %% [markdown]
# ## The question
#
# TensorFlow's text library has a `BertTokenizer`, which many models are served with. **Does it make the ids that BERT was trained on?** We give a sentence to it and to our layer, which follows BERT's own code, with BERT's 30,522 pieces.

# %%
sentence = ["The new Straße is 10 m² larger."]
ours, theirs = experiment.tokenize("ours", sentence)[0], experiment.tokenize("theirs", sentence)[0]
print("ours:  ", *ours, "\ntheirs:", *theirs)
assert {"##raße", "m²"} < set(ours) and {"##ras", "##se", "m2"} < set(theirs)

# %% [markdown]
# It does not. BERT saw ß and m² when it learned; served this way, it reads ss and m2, which are other rows of its embedding table. How much of Unicode is like that? We put every code point below U+3000 between an `a` and a `b`, and repeat it with four other pairs of neighbors.

# %%
found = results["code points"]
live = experiment.differ("as they are", 0.0, seed=0)
counts = found.values("count", "as they are")
print(
    f"other ids: {counts.min()} to {counts.max()} of {len(experiment.CODE_POINTS)} code points, in {len(counts)} pairs of neighbors"
)
print("letters and digits of ASCII among them:", found.values("ascii", "as they are").max())
assert found.contains(live["count"], "count", "as they are") and live["ascii"] == 0

# %%
names = ("letters", "numbers", "symbols", "punctuation", "marks", "control, format", "separators")
other = np.median(found.values("kinds", "as they are"), axis=0).astype(int)
whole = [sum(category(c)[0] == kind for c in experiment.CODE_POINTS) for kind in experiment.KINDS]
fig, ax = plt.subplots()
ax.barh(names, 100 * other / whole, color=figures.COLORS[0])
ax.bar_label(ax.containers[0], [f"{some} of {all_}" for some, all_ in zip(other, whole)], padding=3)
ax.set(xlabel="code points with other ids (percent of their kind)", xlim=(0, 100), title="hundreds of characters, of every kind")
ax.invert_yaxis()
ax.grid(False, axis="y")
figures.show()

# %%
lines = [line for line in novel.TEXT.splitlines() if line]
pairs = zip(experiment.tokenize("ours", lines), experiment.tokenize("theirs", lines))
print(f"lines of an English novel with other ids: {sum(ours != theirs for ours, theirs in pairs)} of {len(lines)}")
print("characters outside ASCII in it:", sum(not c.isascii() for c in novel.TEXT))
for text in ("Wait…", "Acme™"):
    print(text, *(" ".join(experiment.tokenize(name, [text])[0]) for name in ("ours", "theirs")), sep="   ")

# %% [markdown]
# No letter or digit of ASCII is among them, and no line of the novel gets other ids, since all of it is ASCII: a test with such a text does not notice, though one … or ™ in modern English is enough. What is the cause? The library folds case as Unicode defines it for comparisons, which also replaces ² by 2 and ß by ss; BERT calls `str.lower()`. If that is all, then *our* rules must give *their* ids once we fold the text first.

# %%
for arm in experiment.READINGS:
    low, middle, high = found.spread("count", arm)
    print(f"{arm:35} {low:4.0f} to {high:4.0f} code points get other ids")
assert found.values("count", "folded").max() < counts.min() / 2

# %% [markdown]
# Folding explains most of it. What remains is nearly all control characters, which the library turns into spaces and BERT drops.
#
# ## The picture

# %% tags=["hide-input"] jupyter={"source_hidden": true}
boxes = {"text": Box("text", 0, 0, "data"), "clean": Box("(1) clean", 0, 1), "cjk": Box("(2) space CJK", 0, 2)}
boxes |= {
    "lower": Box("(3) lower case", 0, 3),
    "strip": Box("(4) drop accents", 0, 4, width=1.2),
    "split": Box("(5) split words", 0, 5),
}
boxes |= {"pieces": Box("(6) longest pieces", 0, 6, width=1.2), "vocabulary": Box("vocabulary", -1.3, 6, "data")}
boxes |= {"ids": Box("ids, and bytes", 0, 7, "data")}
steps = [
    ("text", "clean", "b strings"),
    ("clean", "cjk", ""),
    ("cjk", "lower", ""),
    ("lower", "strip", ""),
    ("strip", "split", ""),
]
steps += [("split", "pieces", "(b, words)"), ("vocabulary", "pieces", ""), ("pieces", "ids", "(b, words, pieces)")]
diagram(boxes, steps)
figures.show()

# %% [markdown]
# Nothing in it has weights. Words and pieces vary in number, so results are lists of lists of lists, which TensorFlow calls ragged.
#
# ## The equation
#
# Rules (1) to (5) are in the documentation of BERT's code. A word $w$ is then read from the left, $p_k$ being the longest piece of the vocabulary $V$ that starts what is left of it:
#
# $$p_k = \operatorname*{arg\,max}_{p \in V,\ p \,\sqsubseteq\, w_{>k}} |p| \tag{6}$$
#
# | rule | what it does | name in the code |
# |---|---|---|
# | (1) | drop NUL, U+FFFD, control and format characters (Cc, Cf); whitespace becomes a space | `is_dropped`, `is_space` |
# | (2) | a space around each CJK ideograph | `is_cjk` |
# | (3) | lower case, by `str.lower()` | `lower` |
# | (4) | NFD, which takes é apart into e and an accent; then drop nonspacing marks (Mn) | `decompose` |
# | (5) | punctuation, ASCII's symbols too, is a word of its own | `is_punctuation` |
# | (6) | greedy, longest match first; inside a word a piece is written with ## | `wordpieces` |
#
# ## By hand
#
# Let the pieces be `un`, `##aff`, `##able`, `e`, `##te` and [UNK]. *Unaffable* is un, ##aff and ##able, of bytes 0 to 2, 2 to 5 and 5 to 9. *Été* becomes *ete*; its É takes two bytes, so e has bytes 10 to 12, and ##te 12 to 15.
# With *qu* no piece starts, so the whole word is unknown.

# %%
small = {piece: i for i, piece in enumerate(["[UNK]", "un", "##aff", "##able", "e", "##te"])}
tokens = ref.bert_tokenizer(["Unaffable Été qu"], small)
print("ids", tokens.ids[0], " starts", tokens.starts[0], " limits", tokens.limits[0])
assert tokens.ids == [[[1, 2, 3], [4, 5], [0]]]
assert tokens.starts == [[[0, 2, 5], [10, 12], [16]]] and tokens.limits == [[[2, 5, 9], [12, 15], [18]]]

# %% [markdown]
# ## In NumPy
#
# Here in plain Python, since there is nothing to multiply. **Rule by rule**, on a text with a zero-width space, a tab, an ideograph and an accent:

# %%
text = "Caf\u200bÉ,\t中m²"
kept = "".join(" " if ref.is_space(c) else c for c in text if not ref.is_dropped(c))
spaced = "".join(f" {c} " if ref.is_cjk(c) else c for c in kept)
lowered = " ".join(word.lower() for word in spaced.split())
bare = "".join(c for c in normalize("NFD", lowered) if category(c) != "Mn")
words = "".join(f" {c} " if ref.is_punctuation(c) else c for c in bare).split()
for rule, made in enumerate((kept, spaced, lowered, bare, words), 1):
    print(f"({rule}) {made!r}")

# %%
print(inspect.getsource(ref.split_words))
assert ref.split_words(text, lower_case=True) == words

# %% [markdown]
# **Greedy search** for one word tries the whole word, then one letter less, until what it tries is a piece; then it goes on behind that. Here is every look-up for a word and six pieces, the example in Figure 1 of Song et al.:

# %%
example = ["a", "abcdx", "##b", "##c", "##cdy", "##dz"]
word, start, looked = "abcdz", 0, []
while start < len(word):
    for end in range(len(word), start, -1):
        looked.append(tried := "##" * (start > 0) + word[start:end])
        print(tried, end=" ✓\n" if tried in example else "  ")
        if tried in example:
            break
    start = end
print(len(looked), "look-ups for", len(word), "letters; with a d in", sum("d" in tried for tried in looked))

# %%
print(inspect.getsource(ref.wordpieces))
print(ref.wordpieces(word, dict.fromkeys(example)))
assert ref.wordpieces(word, dict.fromkeys(example)) == ["a", "##b", "##c", "##dz"]

# %% [markdown]
# The letter d was read again and again. Song et al. read each letter once. They keep the pieces in a **trie**: a tree whose nodes are beginnings of pieces, with a branch for each letter that may follow. Reading walks down. The interesting moment is when the next letter has no branch: we have
# read `abcd` and come to `z`. Greedy search would cut off `a` and read `bcd` again. But what comes of `bcd` does not depend on the text; it depends on the node alone. So it can be worked out beforehand, for each node $v$:
#
# - the **pops** $F(v)$, pieces that are cut off from what has been read, and
# - the **failure link** $f(v)$, the node of what is left, where reading goes on.
#
# From this definition, with `rest` as what is left:


# %%
def link_of(read, mark, pieces, beginnings):
    """Of what has been read, cut off the longest piece until the rest is the beginning of a piece again."""
    cut, rest = [], read
    while not cut or rest not in beginnings:
        fitting = [mark + rest[:n] for n in range(len(rest), 0, -1) if mark + rest[:n] in pieces]
        if not fitting:
            return (), None  # the word is unknown
        cut, rest, mark = [*cut, fitting[0]], rest[len(fitting[0]) - len(mark) :], "##"
    return tuple(cut), "##" + rest


def beginnings_of(pieces, mark):
    return {piece[len(mark) :][:n] for piece in pieces if piece.startswith(mark) for n in range(len(piece) - len(mark) + 1)}


# %%
print(f"{'read':7} {'F: cut off':18} f: go on at")
for mark in ("", "##"):
    for read in sorted(beginnings_of([p for p in example if mark or p[0] != "#"], mark) - {""}):
        cut, link = link_of(read, mark, example, beginnings_of(example, "##"))
        print(f"{mark + read:7} {' '.join(cut) or '–':18} {link or '– (unknown)'}")

# %% [markdown]
# After `abcd`, for instance, `a` and `##b` are certain, because `##cd` may still become `##cdy`. That table takes a search for each node. The reference gets each link from that of the parent $u$, of which $v$ is the child $\delta(u, c)$ for the letter $c$ (equations (1) to (3) of `linear_wordpiece.py`):
#
# $$f(v) = \text{root of \#\#}, \quad F(v) = [v] \qquad \text{if } v \text{ is a piece} \tag{L1}$$
#
# $$f(v) = \delta(z, c), \quad F(v) = F(u) + Z \qquad \text{else; } z \text{ starts at } f(u);\ \text{while } z \text{ has no child for } c,\ F(z) \text{ is added to } Z \text{ and } z \leftarrow f(z) \tag{L2}$$
#
# $$f(v) = \text{nothing} \qquad \text{at both roots, and where (L2) finds no } z \tag{L3}$$

# %%
trie, spelled = build_trie(example), {0: ("", ""), 1: ("##", "")}
for node, children in enumerate(trie.children):
    mark, read = spelled[node]
    spelled |= {child: (mark, read + letter) for letter, child in children.items()}
compared = 0
for node, (mark, read) in spelled.items():
    if node > 1 and "#" not in read:
        cut, link = link_of(read, mark, example, beginnings_of(example, "##"))
        assert trie.pops[node] == cut
        assert (trie.failure[node] is None) == (link is None) or not cut
        assert link is None or "".join(spelled[trie.failure[node]]) == link
        compared += 1
print(f"{compared} nodes: the link from the parent is the link by definition")

# %% [markdown]
# Now the walk. Each row is one step, down a branch or along a link:


# %%
def walk(word, trie):
    """For each step: the node it leads to, what was done, and the pieces so far."""
    node, pieces, steps = 0, [], [(0, "begin", ())]
    for letter in [*word, None]:
        while letter not in trie.children[node] and trie.failure[node] is not None:
            pieces, node = [*pieces, *trie.pops[node]], trie.failure[node]
            steps.append((node, f"no branch {letter}: link" if letter else "end: link", tuple(pieces)))
        if letter in trie.children[node]:
            node = trie.children[node][letter]
            steps.append((node, f"read {letter}", tuple(pieces)))
    return steps


# %%
frames = walk(word, trie)
for node, done, pieces in frames:
    print(f"{done:18} at {''.join(spelled[node]) or 'root':6} {' '.join(pieces)}")
assert linear_wordpieces(word, trie) == (list(frames[-1][2]), len(frames) - 1)

# %% [markdown]
# The same as a moving picture: branches are black, links are dashed. Pieces that continue a word have a trie of their own, below.

# %% tags=["hide-input"] jupyter={"source_hidden": true}
shown = [node for node, (mark, read) in spelled.items() if "#" not in read]
place = {}


def put(node, column, row):
    """Give a node and those below it their places, with a row for each branch. Returns the last row."""
    place[node] = column, -row
    for i, child in enumerate(child for child in trie.children[node].values() if child in shown):
        row = put(child, column + 1, row + (i > 0))
    return row


last_row = put(1, 0, put(0, 0, 0) + 1)


# %% tags=["hide-input", "nbval-ignore-output"] jupyter={"source_hidden": true}
def draw(fig, step):
    now, done, pieces = frames[step]
    ax = fig.subplots()
    for node in shown:
        for letter, child in trie.children[node].items():
            if child in shown:
                ax.plot(*zip(place[node], place[child]), color="black", linewidth=1, marker="none", linestyle="-", zorder=1)
                middle = np.mean([place[node], place[child]], axis=0)
                ax.annotate(letter, middle, (0, 4), textcoords="offset points", ha="center")
        if trie.failure[node] is not None:
            style = {"arrowstyle": "-|>", "linestyle": "--", "color": figures.COLORS[1], "connectionstyle": "arc3,rad=0.2"}
            ax.annotate("", place[trie.failure[node]], place[node], arrowprops=style | {"shrinkA": 10, "shrinkB": 10})
        name = "".join(spelled[node]) or "root"
        color = figures.COLORS[5] if node == now else "#D9EFE3" if name in example else "white"
        box = {"boxstyle": "round,pad=0.25", "facecolor": color, "edgecolor": "black"}
        ax.text(*place[node], name, ha="center", va="center", fontsize=9, bbox=box, zorder=3)
    ax.set(xlim=(-0.5, 5.5), ylim=(-last_row - 0.5, 0.5), title=f"{done} → pieces: {' '.join(pieces) or 'none yet'}")
    ax.axis("off")


moving(draw, range(len(frames)), size=(6.5, 2.8), dpi=64, seconds=1.5)

# %% [markdown]
# Green are pieces, blue is where we are. No letter is read twice: each step either reads a letter, or follows a link, and a link is followed at most once for each letter that was read. So there are at most $2n$ steps for $n$ letters. This is the walk in the reference, and on real words it finds what greedy search finds:

# %%
print(inspect.getsource(linear_wordpieces).split('"""')[2])
novel_words = sorted(set(ref.split_words(novel.TEXT, lower_case=True)))
walked = [linear_wordpieces(word, experiment.trie())[0] for word in novel_words]
assert walked == [ref.wordpieces(word, vocabulary) for word in novel_words]
print(f"{len(walked)} words of a novel, with BERT's vocabulary: the same pieces")

# %% [markdown]
# ## What it does
#
# **Does a model mind the other pieces?** MiniLM (a small trained BERT that turns a sentence into a vector) learned with BERT's rules. It reads twelve words that the two tokenizers cut differently, and their meanings in plain English. How often is a word's own meaning the nearest of the twelve? Chance is 1 in 12. A third
# reading leaves capitals and accents as they are, a mistake that is easily made with an uncased model.

# %%
found = results["meanings"]
live = experiment.understand("BERT's rules", 0.0, seed=0)
print(f"live: {live['right']:.2f} of the words are nearest to their own meaning")
assert found.contains(live["right"], "right", "BERT's rules")
for word in ("km²", "Straße", "№"):
    print(
        f"{word:6} ours: {' '.join(experiment.tokenize('ours', [word])[0]):12} theirs: {' '.join(experiment.tokenize('theirs', [word])[0])}"
    )

# %%
chance = 1 / len(experiment.MEANINGS)
fig, ax = plt.subplots(figsize=(6.5, 2.6))
for row, arm in enumerate(experiment.READERS):
    shares = found.values("right", arm)
    ax.plot(shares, [row] * len(shares), "o", color=figures.COLORS[row], alpha=0.5)
    ax.annotate(arm, (np.max(shares), row), (8, 0), textcoords="offset points", va="center", color=figures.COLORS[row])
ax.axvline(chance, color="black", linestyle=":", marker="none")
ax.annotate("chance", (chance, 2.4), (4, 0), textcoords="offset points")
ax.set(
    xlim=(0, 1.25),
    ylim=(-0.5, 2.7),
    yticks=[],
    xticks=np.linspace(0, 1, 6),
    xlabel="words that are nearest to their own meaning (share, a point for each sentence)",
)
ax.set_title("words with pieces of their own: BERT's rules find the meaning")
figures.show()

# %%
right = {arm: found.values("right", arm) for arm in experiment.READERS}
print({arm: f"{shares.min():.2f} to {shares.max():.2f}" for arm, shares in right.items()})
assert right["BERT's rules"].min() > max(right[arm].max() for arm in experiment.READERS[1:]) > chance

# %% [markdown]
# In each of five sentences, BERT's own pieces do best: the model knows what `km²` is, and `km ##2` is another word to it. But these are words that BERT learned as one piece, all but one of them. What of words that it did not?

# %%
others = {"cm²": "square centimeters", "cm³": "cubic centimeters", "mi²": "square miles", "groß": "large", "weiß": "white"}
others |= {"Fußball": "football", "ⅱ": "two", "ⅲ": "three", "℃": "degrees celsius", "①": "one"}
for words in (experiment.MEANINGS, others):
    known = [experiment.tokenize("ours", [word])[0] for word in words]
    print(f"{sum(len(pieces) == 1 and pieces != [ref.UNKNOWN] for pieces in known)} of {len(words)} are a piece of their own")
with patch.object(experiment, "MEANINGS", others):
    found_now = {arm: [experiment.understand(arm, 0.0, seed)["right"] for seed in (0, 1)] for arm in experiment.READERS[:2]}
print({arm: [round(float(share), 2) for share in shares] for arm, shares in found_now.items()}, "in two sentences")
assert all(np.less(*found_now.values()))

# %% [markdown]
# Here it is the other way round: *weiss* and *iii* are closer to something that was learned than the rare `##ß` and [UNK]. So folding does harm where the vocabulary has a piece for the word as it is, and may help where it has none. A vocabulary and the rules that made it belong together.
#
# **Can each character be looked up alone?** A layer would like a table with an entry for each code point. We put each code point into lower case at the end of a word and inside of one, and compare with what it becomes alone.

# %%
assigned = [chr(c) for c in range(0x30000) if category(chr(c)) not in ("Cn", "Cs")]
contexts = (("a", "b"), ("a", ""), ("", "b"))
depends = {c for c in assigned for a, b in contexts if (a + c + b).lower() != a + c.lower() + b}
print(f"of {len(assigned):,} code points, those whose lower case depends on their neighbors: {depends}")
by_rule, alone = "ΟΔΟΣ".lower(), "".join(c.lower() for c in "ΟΔΟΣ")
print(ref.wordpieces(by_rule, vocabulary), "and not", ref.wordpieces(alone, vocabulary))
assert depends == {"Σ"} and experiment.tokenize("ours", ["ΟΔΟΣ"])[0] == ref.wordpieces(by_rule, vocabulary)

# %% [markdown]
# Only one: a capital Σ becomes ς at the end of a word and σ elsewhere. The vocabulary has pieces with ς, because BERT's authors put whole words into lower case. So the layer has a table, and one rule beside it.
#
# ## Where it breaks
#
# **An uncased model that gets capitals.** If `lower_case` is not set for a model whose vocabulary has no capitals, nothing fails. Here are the words of the novel *Botchan*, in five parts:

# %%
parts = [novel.TEXT[len(novel.TEXT) * i // 5 : len(novel.TEXT) * (i + 1) // 5] for i in range(5)]
for lower_case in (True, False):
    read = [[ref.wordpieces(word, vocabulary) for word in ref.split_words(part, lower_case)] for part in parts]
    unknown = [np.mean([pieces == [ref.UNKNOWN] for pieces in words]) for words in read]
    print(f"lower_case={lower_case}: {min(unknown):.1%} to {max(unknown):.1%} of the words are [UNK]")
capital = [[any(c.isupper() for c in word) for word in ref.split_words(part, False)] for part in parts]
assert unknown == [np.mean(words) for words in capital]

# %% [markdown]
# These are exactly the words with a capital: every *I*, every name and every first word of a sentence is lost.
#
# **Special tokens are text.** Whoever writes [MASK] into a sentence gets three words, and no mask. Put the id there instead.

# %%
layer = BertTokenizer(real_vocabulary(), lower_case=True, tokenize_with_offsets=True)
print(
    *experiment.tokenize("ours", ["Paris is the [MASK] of France."])[0],
    "| the id of [MASK]:",
    layer.get_special_tokens_dict()["mask_id"],
)
assert ref.split_words("[MASK]", True) == ["[", "mask", "]"]

# %% [markdown]
# **Bytes are not characters.** What a piece stands for is `text.encode()[start:limit]`. An accent that was dropped at the end of a piece is outside; a Hangul syllable, which became three letters, belongs whole to each piece with one of them.

# %%
text, names = "e\u0301t é 각", list(vocabulary)
for ids, starts, limits in zip(*(as_lists(part)[0] for part in layer([text]))):
    print([(names[i], text.encode()[a:b].decode()) for i, a, b in zip(ids, starts, limits)])
starts, limits = (as_lists(part)[0] for part in layer([text])[1:])
assert text.encode()[starts[1][0] : limits[1][0]].decode() == "é"
assert {text.encode()[a:b].decode() for a, b in zip(starts[2], limits[2])} == {"각"}

# %% [markdown]
# **A vocabulary without [UNK]** is refused; the Model Garden's layer gives −1, for which an embedding table has no row. **A word of more than 200 letters** is unknown, though *a* and *##a* would spell it.

# %%
try:
    BertTokenizer(["un", "##able"], lower_case=True)
except ValueError as error:
    print(error)
letters = BertTokenizer(["[UNK]", "a", "##a"], lower_case=True)
assert as_lists(letters(["a" * 200, "a" * 201])) == [[[1] + 199 * [2]], [[0]]]

# %% [markdown]
# **Differs from the paper.** BERT's code returns strings, ours the bytes too; Song et al. put both roots into one trie, we keep two.
#
# ## What it costs
#
# Greedy search takes up to $n(n+1)/2$ look-ups for $n$ letters, and the walk at most $2n$ steps. The worst word is $n$ times the letter a, with the pieces `a`, `##a`, and two that start with more of them and end in b:

# %%
lengths, looks, links = 2 ** np.arange(3, 8), [], []
for n in lengths.tolist():
    worst = experiment.Counting({piece: i for i, piece in enumerate(["a", "##a", "a" * n + "b", "##" + "a" * n + "b"])})
    found, steps = linear_wordpieces("a" * n, build_trie(worst))
    assert found == ref.wordpieces("a" * n, worst)
    looks.append(worst.looked)
    links.append(steps)
print("letters", lengths.tolist(), "\nlook-ups", looks, "\nsteps  ", links)
assert looks == [n * (n + 1) // 2 for n in lengths.tolist()] and links == [2 * n for n in lengths.tolist()]

# %% [markdown]
# Nobody writes such words. What is saved on real text? We take five parts of the novel: all words; those that take several pieces; and the text with its spaces removed, in words of 200 letters, as in a language without spaces. A look-up of a long string is not one operation, since it has to be read. So we count two
# things: look-ups, and letters read.

# %%
found = results["links"]
live = experiment.count("words of several pieces", 0.0, seed=0)
assert all(found.contains(live[what], what, "words of several pieces") for what in ("greedy", "read", "links"))
table = {arm: {what: found.spread(what, arm)[1] for what in ("greedy", "read", "links", "most")} for arm in experiment.WORDS}
for arm, row in table.items():
    print(
        f"{arm:24} a letter: {row['greedy']:5.2f} look-ups, {row['read']:7.2f} letters read, {row['links']:.2f} steps (at most {row['most']:.2f})"
    )

# %%
fig, ax = plt.subplots(figsize=(7, 2.8))
labels = {"links": "steps along links", "greedy": "greedy: look-ups", "read": "greedy: letters read"}
for (what, label), marker, color in zip(labels.items(), figures.MARKERS, figures.COLORS):
    for row, arm in enumerate(experiment.WORDS):
        values = found.values(what, arm)
        ax.plot(values, [row] * len(values), marker, color=color, linestyle="none")
    side = "right" if what == "links" else "center"
    ax.annotate(label, (np.median(values), row), (8, 10), textcoords="offset points", ha=side, color=color)
ax.axvline(2, color="black", linestyle=":", marker="none")
ax.annotate("2 steps", (2, -0.35), (4, 0), textcoords="offset points")
ax.set(
    xscale="log",
    xlabel="for each letter of the text",
    yticks=range(len(table)),
    yticklabels=list(table),
    ylim=(-0.5, 2.6),
    xlim=(0.1, 2e4),
)
ax.set_title("in this novel, links save look-ups only without spaces")
figures.show()

# %%
less = {arm: found.values("links", arm).max() < found.values("greedy", arm).min() for arm in experiment.WORDS}
read = {arm: found.values("links", arm).max() < found.values("read", arm).min() for arm in experiment.WORDS}
print(
    "fewer steps than look-ups:",
    [arm for arm in less if less[arm]],
    "\nfewer than letters read:",
    [arm for arm in read if read[arm]],
)
assert [arm for arm in less if less[arm]] == ["no spaces"] and all(read.values())

# %% [markdown]
# So the claim depends on what is counted, and on the text. English words are mostly pieces of their own, and greedy search finds these with one look-up: counted that way, links save nothing in the novel with its spaces. Counted in letters that are read, links need fewer steps in all three, and more than a thousand times
# fewer without spaces. What of the words that are pieces, and of another language?

# %%
finnish = "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on annettu järki ja omatunto, ja "
finnish += "heidän on toimittava toisiaan kohtaan veljeyden hengessä."  # Universal Declaration of Human Rights, article 1
texts = {"English, words that are pieces": [word for word in experiment.words_of("all words", 0) if word in vocabulary]}
texts["Finnish, all words"] = [word for word in ref.split_words(finnish, True) if word.isalpha()]
for name, words in texts.items():
    with patch.object(experiment, "words_of", lambda arm, seed, words=words: words):
        row = experiment.count("all words", 0.0, 0)
    print(f"{name:31} a letter: {row['greedy']:.2f} look-ups, {row['read']:5.2f} letters read, {row['links']:.2f} steps")
    assert (row["links"] < row["greedy"]) == (row["links"] < row["read"]) == name.startswith("Finnish")

# %% [markdown]
# A word that is a piece costs greedy search one look-up, and the walk one step more than it has letters: there links save nothing by either count. In Finnish, whose words are long and mostly not in this English vocabulary, they save by both, with the spaces. [Song et al.](https://arxiv.org/abs/2012.15524) measure 5.1 times the speed of TensorFlow Text's earlier program on whole texts (abstract); that is the time of two programs, and part of it is that theirs splits words in the same pass.
#
# ## Does the layer agree?
#
# Ids and bytes are equal, or they are not. Beside the cases of the line below there are the hard strings of the tests, with accents, emoji, control characters, right-to-left scripts, marks out of order, long words and code:

# %%
file = Path(ref.__file__).parents[2] / "tests" / "hard_strings.jsonl"
hard = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
strings, compared = compare_tokens(layer, lambda texts: ref.bert_tokenizer(texts, vocabulary), hard)
print(f"{strings} strings, {compared} tokens: the same ids and bytes")

# %% tags=["nbval-ignore-output"]
line, agrees = figures.agreement_line(CHAPTER)
assert agrees
line

# %% [markdown]
# ## Today
#
# BERT's rules and vocabulary are still in use wherever BERT's descendants are: DistilBERT, ELECTRA, MiniLM and many models that turn sentences into vectors. GPT-2 and RoBERTa ([Liu et al., 2019](https://arxiv.org/abs/1907.11692)) went to merges of bytes, which have no unknown words and need no table of
# characters, and so did BERT's successor ModernBERT ([Warner et al., 2024](https://arxiv.org/abs/2412.13663)); merges are in [the next lesson](sentencepiece_tokenizer.ipynb). The walk along failure links is in TensorFlow Text as `FastBertTokenizer`.
#
# ## Exercises
#
# **1** (easy, 5 minutes). Rule (4): a text without its accents. `normalize` and `category` are imported.


# %%
def strip_accents(text):
    return None  # your turn


_ = check("bert_tokenizer/1", strip_accents)

# %% [markdown]
# <details><summary>Hint</summary>Take apart with <code>normalize("NFD", text)</code>, then keep what is not of category "Mn".</details>
# <details><summary>Solution</summary><code>"".join(c for c in normalize("NFD", text) if category(c) != "Mn")</code></details>
#
# **2** (medium, 10 minutes). Rule (6) for one word, as a list of pieces, `["[UNK]"]` if it cannot be cut; an empty word has no pieces. `known` holds the pieces.


# %%
def greedy(word, known):
    return None  # your turn


_ = check("bert_tokenizer/2", greedy)

# %% [markdown]
# <details><summary>Hint</summary>For each start, try the ends from the last one down; behind the first piece put ## in front.</details>
# <details><summary>Solution</summary>
#
# ```python
# def greedy(word, known):
#     found, start = [], 0
#     while start < len(word):
#         tried = [("##" if start else "") + word[start:end] for end in range(len(word), start, -1)]
#         piece = next((piece for piece in tried if piece in known), None)
#         if piece is None:
#             return ["[UNK]"]
#         found.append(piece)
#         start += len(piece) - (2 if start else 0)
#     return found
# ```
# </details>
#
# **3** (hard, 20 minutes). The same from a trie's `children`, `failure` and `pops`, in a single pass: `word` is an iterator over characters that can be read once. Node 0 is the root, node 1 that of ##.


# %%
def one_pass(word, children, failure, pops):
    return None  # your turn


_ = check("bert_tokenizer/3", one_pass)

# %% [markdown]
# <details><summary>Hint</summary>Without a child: add the node's pops and follow its failure link. At the end: the same until there is no link. The word is known if that ends at node 1.</details>
# <details><summary>Solution</summary>
#
# ```python
# def one_pass(word, children, failure, pops):
#     found, node = [], 0
#     for letter in word:
#         while letter not in children[node]:
#             if failure[node] is None:
#                 return ["[UNK]"]
#             found += pops[node]
#             node = failure[node]
#         node = children[node][letter]
#     while failure[node] is not None:
#         found += pops[node]
#         node = failure[node]
#     return found if node == 1 else ["[UNK]"]
# ```
# </details>
#
# **To discuss.** A tokenizer that drops accents was made for English. Which words of a language you know become the same, and would more training data help the model with them?
#
# ## Summary
#
# - The ids of a text are a part of the model: another tokenizer, even one of the same name, gives it other pieces for the same text.
# - Six rules, a table of code points and a trie are all there is; only for a sigma do its neighbors matter.
# - Greedy longest match takes one pass and at most two steps a letter, because a failure link remembers what can be cut off. In English with spaces, that saves little; it saves where words take many pieces.
#
# **Further reading.** [Devlin et al., 2018](https://arxiv.org/abs/1810.04805): what the ids are for. [Wu et al., 2016](https://arxiv.org/abs/1609.08144): where wordpieces come from, section 4.1. [Song et al., 2021](https://arxiv.org/abs/2012.15524): the
# linear-time algorithm, with a proof. [Aho and Corasick, 1975](https://doi.org/10.1145/360825.360855): failure links, for the search of many words at once.
