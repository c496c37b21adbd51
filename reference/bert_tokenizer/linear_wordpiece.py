r"""The pieces of a word in one pass: greedy longest match without backtracking.

Paper
    Song et al. (2021), "Fast WordPiece Tokenization", section 3. https://arxiv.org/abs/2012.15524

Equations
    A trie holds the pieces; δ(v, c) is the child of v for the character c. If v has no child for the next character, the pieces
    F(v) are cut off from the string of v, and reading continues at the failure link f(v), whose string is the rest, after ##:

    (1)  f(v) = root of ##,  F(v) = [v]                if v is a piece
    (2)  f(v) = δ(z, c),     F(v) = F(u) + Z           else, for v = δ(u, c): z starts at f(u); as long as z has no child
                                                       for c, F(z) is appended to Z and z becomes f(z)
    (3)  f(v) = nothing                                at both roots, and where (2) finds no z: there a word is unknown

Axes
    none: the input is a word, the output a list of pieces

Differs from the paper
    - The pieces that start with ## have their own trie, in addition to the trie of all pieces as they are spelled. In the paper
      the root of ## is a node of a single trie, and the word "##" needs a special rule.
    - A word above BERT's maximal length is unknown without being read.
"""

from collections.abc import Iterable
from typing import NamedTuple

from reference.bert_tokenizer import MAX_CHARACTERS, UNKNOWN

ROOT, SUFFIX_ROOT = 0, 1


class Trie(NamedTuple):
    """For each node: {character: child}, the failure link f, and the pops F."""

    children: list[dict[str, int]]
    failure: list[int | None]
    pops: list[tuple[str, ...]]


def build_trie(vocabulary: Iterable[str]) -> Trie:
    """Equations (1) to (3), level by level from the roots, because a failure link leads to a shorter string."""
    children, piece_at = [{}, {}], {}
    for piece in vocabulary:
        for root, letters in ((ROOT, piece), (SUFFIX_ROOT, piece.removeprefix("##"))):
            if letters and (root == ROOT or letters != piece):
                piece_at[insert(children, root, letters)] = piece
    failure, pops = [None] * len(children), [()] * len(children)
    level = [(u, c, v) for u in (ROOT, SUFFIX_ROOT) for c, v in children[u].items()]
    while level:
        for u, c, v in level:
            if v in piece_at:
                failure[v], pops[v] = SUFFIX_ROOT, (piece_at[v],)
                continue
            z, popped = failure[u], pops[u]
            while z is not None and c not in children[z]:
                popped, z = popped + pops[z], failure[z]
            if z is not None:
                failure[v], pops[v] = children[z][c], popped
        level = [(v, c, w) for _, _, v in level for c, w in children[v].items()]
    return Trie(children, failure, pops)


def insert(children: list[dict[str, int]], node: int, letters: str) -> int:
    """Add the path of `letters` from `node` on, and return its last node."""
    for c in letters:
        if c not in children[node]:
            children[node][c] = len(children)
            children.append({})
        node = children[node][c]
    return node


def linear_wordpieces(word: str, trie: Trie, max_characters: int = MAX_CHARACTERS) -> tuple[list[str], int]:
    """The pieces that `wordpieces` finds, and how many links were followed: at most two for each character.

    At the end the rest is cut off link by link, as before a character that no piece has; what remains must be the root of ##.
    """
    pieces, node, steps = [], ROOT, 0
    for c in word if len(word) <= max_characters else ():
        while c not in trie.children[node]:
            if trie.failure[node] is None:
                return [UNKNOWN], steps
            pieces += trie.pops[node]
            node, steps = trie.failure[node], steps + 1
        node, steps = trie.children[node][c], steps + 1
    while trie.failure[node] is not None:
        pieces += trie.pops[node]
        node, steps = trie.failure[node], steps + 1
    return (pieces, steps) if node == SUFFIX_ROOT else ([UNKNOWN], steps)
