"""BERT's tokenizer: what another of the same name makes of a text, what a model makes of that, and what failure links save."""

from functools import cache, partial
from unicodedata import category, normalize

import numpy as np

from crosscheck.cases.bert_tokenizer import real_vocabulary
from crosscheck.models import minilm
from crosscheck.tree import as_lists
from experiments.common import novel
from experiments.common.experiment import Experiment
from experiments.common.reader import LAYERS, after_attention, weights_of_attention
from experiments.common.table import Claim
from layers.bert_tokenizer import BertTokenizer
from reference.attention import multi_head_attention
from reference.bert_tokenizer import split_words, wordpieces
from reference.bert_tokenizer.linear_wordpiece import build_trie, linear_wordpieces

LAST = 0x3000
"""Code points below it are tried: those of all alphabets and of most signs, but not ideographs."""

NEIGHBORS = (("a", "b"), ("th", "e"), ("x ", "y"), ("1", "2"), ("The ", "s"))
"""What stands before and after a code point, seed by seed."""


@cache
def vocabulary():
    pieces = real_vocabulary().read_text(encoding="utf-8").splitlines()
    return {piece: i for i, piece in enumerate(pieces)}


@cache
def trie():
    return build_trie(vocabulary())


@cache
def tokenizer(name):
    """Ours, or that of TensorFlow's text library."""
    if name == "ours":
        return BertTokenizer(real_vocabulary(), lower_case=True)
    import tensorflow as tf
    import tensorflow_text

    return tensorflow_text.BertTokenizer(str(real_vocabulary()), lower_case=True, token_out_type=tf.int32).tokenize


def tokenize(name, texts):
    """The pieces of each text."""
    pieces = list(vocabulary())
    rows = as_lists(tokenizer(name)(np.array(texts, object)))
    return [[pieces[i] for word in row for i in word] for row in rows]


def pieces_of(text, lower_case=True):
    """The same by the reference."""
    return [piece for word in split_words(text, lower_case) for piece in wordpieces(word, vocabulary())]


def folded(text):
    """The case folding of Unicode that also replaces compatibility characters: ² becomes 2, and ß becomes ss."""
    text = normalize("NFKC", normalize("NFD", text).casefold())
    return normalize("NFKC", text.casefold())


def spaced(text):
    """Control characters become spaces; BERT drops them."""
    return "".join(" " if category(c) == "Cc" else c for c in text)


READINGS = {
    "as they are": lambda text: text,
    "folded": folded,
    "folded, without control characters": lambda text: folded(spaced(text)),
}
"""What is done to texts before our tokenizer reads them."""

CODE_POINTS = [c for c in map(chr, range(LAST)) if category(c) != "Cn"]
KINDS = "LNSPMCZ"
"""The first letters of Unicode's categories: letters, numbers, symbols, punctuation, marks, control, separators."""


def differ(arm, rate, seed):
    """Nothing is trained: every code point stands between other characters, and both tokenizers read it.

    Returns how many get other pieces from TensorFlow's library: "count" of all; "kinds"; "ascii", of its letters and digits.
    """
    before, after = NEIGHBORS[seed]
    texts = [before + c + after for c in CODE_POINTS]
    ours, theirs = tokenize("ours", list(map(READINGS[arm], texts))), tokenize("theirs", texts)
    other = [c for c, pieces, others in zip(CODE_POINTS, ours, theirs) if pieces != others]
    kinds = [sum(category(c)[0] == kind for c in other) for kind in KINDS]
    return {"count": len(other), "kinds": kinds, "ascii": sum(c.isascii() and c.isalnum() for c in other)}


MEANINGS = {"km²": "square kilometers", "m²": "square meters", "m³": "cubic meters", "Straße": "street", "½": "half"}
MEANINGS |= {"¼": "quarter", "¾": "three quarters", "⅓": "third", "CO₂": "carbon dioxide", "H₂O": "water", "™": "trademark"}
MEANINGS["№"] = "number"
"""Words that the two tokenizers cut differently, in English."""

SENTENCES = ("{}", "This is {}.", "It says {} on the sign.", "They wrote {} in the book.", "What does {} mean?")


def understand(arm, rate, seed):
    """Nothing is trained: MiniLM reads each of the words in a sentence, and each of the meanings in the same sentence.

    Returns {"right": the share of words whose own meaning is nearest, "cosine": with it, "others": with all other meanings}.
    """
    texts = [SENTENCES[seed].format(word) for word in MEANINGS]
    if arm == "no lower case":
        pieces = [pieces_of(text, lower_case=False) for text in texts]
    else:
        pieces = tokenize("ours" if arm == "BERT's rules" else "theirs", texts)
    words = np.array(list(map(vector, pieces)))
    meanings = np.array([vector(pieces_of(SENTENCES[seed].format(meaning))) for meaning in MEANINGS.values()])
    cosines, own = words @ meanings.T, np.eye(len(words), dtype=bool)
    right = (cosines.argmax(axis=1) == np.arange(len(words))).mean()
    return {"right": right, "cosine": cosines[own], "others": cosines[~own].mean()}


def vector(pieces):
    """What MiniLM makes of a text: the mean of its last layer's outputs, of length 1."""
    x = minilm.embed(minilm.load(), ["[CLS]", *pieces, "[SEP]"])
    for layer in range(LAYERS):
        y, _ = multi_head_attention(x, x, weights_of_attention(layer))
        x = after_attention(layer, x, y)
    mean = x[0].mean(axis=0)
    return mean / np.linalg.norm(mean)


class Counting(dict):
    """A vocabulary that counts how often a piece was looked up in it, and the letters of what was looked up."""

    looked = letters = 0

    def __contains__(self, piece):
        self.looked += 1
        self.letters += len(piece)
        return super().__contains__(piece)


def words_of(arm, seed, parts=10):
    """The words of one of the parts of the novel; with no spaces, in words of 200 letters."""
    length = len(novel.TEXT) // parts
    words = [word for word in split_words(novel.TEXT[length * seed :][:length], True) if word.isalpha()]
    if arm == "no spaces":
        run = "".join(words)
        return [run[i : i + 200] for i in range(0, len(run), 200)]
    return [word for word in words if arm == "all words" or word not in vocabulary()]


def count(arm, rate, seed):
    """Nothing is trained: words are cut by greedy longest match, and along failure links.

    Returns:
        For each letter of all words: "greedy", the look-ups of a piece; "read", the letters of what was looked up; "links", the
        steps along links; and "most", the steps in the word with the most for each letter.
    """
    words, counting, links = words_of(arm, seed), Counting(vocabulary()), []
    for word in words:
        found, steps = linear_wordpieces(word, trie())
        if found != wordpieces(word, counting):
            raise AssertionError(f"the links cut {word!r} into {found}")
        links.append((steps, len(word)))
    steps, letters = np.array(links).T
    whole = letters.sum()
    looked, read = counting.looked / whole, counting.letters / whole
    return {"greedy": looked, "read": read, "links": steps.sum() / whole, "most": (steps / letters).max()}


WORDS = ("all words", "words of several pieces", "no spaces")
READERS = ("BERT's rules", "tensorflow-text", "no lower case")
EXPERIMENTS = [
    Experiment("code points", differ, tuple(READINGS), (0.0,), "count", lower_is_better=True, elsewhere="as they are"),
    Experiment("meanings", understand, READERS, (0.0,), "right"),
    Experiment("links", count, WORDS, (0.0,), "links", lower_is_better=True),
]


# ---- What the lesson says of it ------------------------------------------------------------------------------------------------


def other_pieces(found):
    """How many code points get other pieces, and how many still do when our rules are changed."""
    counts = {arm: found.values("count", arm) for arm in READINGS}
    most, ascii_ones = counts["as they are"], found.values("ascii", "as they are").max()
    ours = f"{most.min()} to {most.max()} of {len(CODE_POINTS)}; letters and digits of ASCII {ascii_ones}"
    ours += "".join(f"; {arm} {counts[arm].min()} to {counts[arm].max()}" for arm in list(READINGS)[1:])
    explained = all(counts["folded"] < most / 2)
    return ours, "yes" if explained and most.min() > 0 == ascii_ones else "no"


def meaning(found):
    """The share of words whose meaning is nearest, and whether it is larger with BERT's pieces in each sentence."""
    right = {arm: found.values("right", arm) for arm in READERS}
    ours = ", ".join(f"{arm} {shares.min():.2f} to {shares.max():.2f}" for arm, shares in right.items())
    return ours, "yes" if right["BERT's rules"].min() > max(right[arm].max() for arm in READERS[1:]) else "no"


def saved(what, found):
    """For each letter, what greedy search needs, and steps along links."""
    pairs = {arm: (found.values(what, arm), found.values("links", arm)) for arm in WORDS}
    ours = ", ".join(f"{arm} {np.median(greedy):.2f} and {np.median(links):.2f}" for arm, (greedy, links) in pairs.items())
    fewer = [arm for arm, (greedy, links) in pairs.items() if links.max() < greedy.min()]
    if not fewer or max(found.values("most", arm).max() for arm in WORDS) > 2:
        return ours, "no"
    return ours, "yes" if len(fewer) == len(WORDS) else f"only in {', '.join(fewer)}"


CLAIMS = [
    Claim(
        "TensorFlow's BertTokenizer makes other ids than BERT's rules of hundreds of characters, most because it folds case",
        "code points",
        other_pieces,
        bound="the same rules: 0",
        ablation="the difference in folding, then that in control characters: our rules read what the library makes of the text",
        paper="none",
    ),
    Claim(
        "MiniLM finds the meaning of twelve words, eleven of them pieces of its own, more often by the rules it was trained with",
        "meanings",
        meaning,
        bound=f"chance 1/{len(MEANINGS)} = {1 / len(MEANINGS):.2f}; all right 1",
        ablation="the pieces: those of TensorFlow's library, and those without lower case",
        paper="none",
    ),
    Claim(
        "On a novel in English, failure links take fewer steps than greedy search takes look-ups",
        "links",
        partial(saved, "greedy"),
        bound="links at most 2 a letter; greedy at least 1 a word, at most n (n + 1) / 2",
        ablation="long searches: words that are pieces end with the first look-up",
        paper="2012.15524, abstract: 5.1 times as fast as TensorFlow Text (a program's time, not its steps)",
    ),
    Claim(
        "On a novel in English, greedy search reads more letters than there are steps along links",
        "links",
        partial(saved, "read"),
        bound="links at most 2 a letter; greedy reads each letter at least once",
        ablation="repeated reading: words that are pieces are read once",
        paper="2012.15524, abstract: O(n) in place of O(n²)",
    ),
]
