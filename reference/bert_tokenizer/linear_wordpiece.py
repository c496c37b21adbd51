r"""The pieces of a word in one pass: greedy longest match without going back.

Paper
    Song et al. (2021), "Fast WordPiece Tokenization", section 3. https://arxiv.org/abs/2012.15524

Equations
    A trie holds the pieces; δ(v, c) is the child of v by the character c. Where v has no child by the next character, pieces can
    be cut off what v spells, F(v), and reading goes on at the failure link f(v), which spells the rest behind ##:

    (1)  f(v) = root of ##,  F(v) = [v]                if v is a piece
    (2)  f(v) = δ(z, c),     F(v) = F(u) + Z           else, for v = δ(u, c): z starts at f(u), and as long as z has no child
                                                       by c, Z gains F(z) and z becomes f(z)
    (3)  f(v) = nothing                                at both roots, and where the z of (2) runs out: there a word is unknown

Axes
    none: a word in, a list of pieces out

Differs from the paper
    - The pieces that start with ## have a trie of their own, beside the one of all pieces as they are spelt. In the paper the
      root of ## is a place inside the one trie, and the word "##" needs a rule of its own.
    - A word longer than BERT takes is unknown before it is read.
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
    """Equations (1) to (3), nodes near the roots first: a failure link leads to a node that spells less."""
    children, piece_at = [{}, {}], {}
    for piece in vocabulary:
        for root, spelt in ((ROOT, piece), (SUFFIX_ROOT, piece.removeprefix("##"))):
            if spelt and (root == ROOT or spelt != piece):
                piece_at[insert(children, root, spelt)] = piece
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


def insert(children: list[dict[str, int]], node: int, spelt: str) -> int:
    for c in spelt:
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
