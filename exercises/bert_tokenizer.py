"""Exercises of the lesson on BERT's tokenizer."""

from unicodedata import category, normalize

from crosscheck.lesson.constraints import SinglePass
from crosscheck.lesson.exercises import Exercise, edge
from reference import bert_tokenizer as ref
from reference.bert_tokenizer.linear_wordpiece import build_trie


def strip_accents(text):
    return "".join(c for c in normalize("NFD", text) if category(c) != "Mn")


LETTERS = "aeiou éèüñç Ångström cafe\u0301 \u00ef\u1ebf Zürich ÉÀ"


def accented_texts(rng):
    def drawn(count):
        return {"text": "".join(LETTERS[i] for i in rng.integers(len(LETTERS), size=count))}

    return [
        drawn(12),
        drawn(30),
        edge("no text", text=""),
        edge("an accent that is a character of its own", text="cafe\u0301 e\u0301te\u0301"),
        edge("accents alone", text="\u0301\u0308"),
        edge("two accents on a letter", text="\u1ebf \u1ed9 Ti\u1ebfng Vi\u1ec7t"),
        edge("letters that are not taken apart", text="straße, øl, łódź, đ"),
        edge("letters of another script", text="여름 한글 й ё"),
        edge("a sign that takes room", text="हिन्दी"),
        edge("a ligature and a number", text="ﬁne ² Ⅳ"),
    ]


def greedy(word, known):
    found, start = [], 0
    while start < len(word):
        tried = [("##" if start else "") + word[start:end] for end in range(len(word), start, -1)]
        piece = next((piece for piece in tried if piece in known), None)
        if piece is None:
            return ["[UNK]"]
        found.append(piece)
        start += len(piece) - (2 if start else 0)
    return found


def by_recursion(word, known, mark=""):
    if not word:
        return []
    for end in range(len(word), 0, -1):
        if mark + word[:end] in known:
            rest = by_recursion(word[end:], known, "##")
            return rest if rest == ["[UNK]"] else [mark + word[:end], *rest]
    return ["[UNK]"]


def cut(word, known, shortest=False, keep=False):
    """Wrong in taking the shortest piece, or in keeping what was found before an unknown letter."""
    found, start = [], 0
    while start < len(word):
        ends = [end for end in range(len(word), start, -1) if ("##" if start else "") + word[start:end] in known]
        if not ends:
            return [*found, "[UNK]"] if keep else ["[UNK]"]
        end = ends[-1 if shortest else 0]
        found.append(("##" if start else "") + word[start:end])
        start = end
    return found


def silent(word, known):
    """Leaves out what is unknown."""
    return [piece for piece in cut(word, known, keep=True) if piece != "[UNK]"]


def fewest_pieces(word, known):
    """The best cut, not the greedy one."""
    best = [[]] + [None] * len(word)
    for end in range(1, len(word) + 1):
        for start in range(end):
            piece = ("##" if start else "") + word[start:end]
            if best[start] is not None and piece in known and (best[end] is None or len(best[start]) + 1 < len(best[end])):
                best[end] = [*best[start], piece]
    return best[-1] if best[-1] is not None else ["[UNK]"]


def without_marks(word, known):
    bare = [piece.removeprefix("##") for piece in known]
    found = greedy(word, [*bare, *("##" + piece for piece in bare)])
    return found if found == ["[UNK]"] else [piece.removeprefix("##") for piece in found]


PIECES = ["un", "##aff", "##able", "##a", "##affab", "a", "ab", "abc", "##b", "##bc", "##c", "##cd", "b", "##le"]


def words_and_pieces(rng):
    def drawn(count):
        return {"word": "".join("abcd"[i] for i in rng.integers(4, size=count)), "known": rng.permutation(PIECES).tolist()}

    return [
        {"word": "unaffable", "known": rng.permutation(PIECES[:4]).tolist()},
        {"word": rng.permutation(["abcab", "abcbc", "bcab", "abca"]).tolist()[0], "known": rng.permutation(PIECES).tolist()},
        drawn(4),
        drawn(6),
        edge("no letters", word="", known=PIECES),
        edge("a word that is a piece", word="abc", known=PIECES),
        edge("an unknown letter", word="xyz", known=PIECES),
        edge("an unknown letter at the end", word="unaffx", known=PIECES),
        edge("the longest piece leads nowhere", word="unaffable", known=["un", "##aff", "##affab", "##able", "##l"]),
        edge("a piece that may only begin a word", word="unab", known=["un", "ab", "##a"]),
        edge("a piece that may only continue one", word="able", known=["##able", "##a"]),
        edge("the longest piece is never finished", word="abcd", known=["abcdx", "ab", "##c", "##d"]),
        edge("the longest piece is given up late", word="abcdy", known=["abcdx", "ab", "##c", "##d", "##y"]),
        edge("nothing is known", word="abc", known=[]),
    ]


def one_pass(word, children, failure, pops):
    found, node = [], 0
    for letter in word:
        while letter not in children[node]:
            if failure[node] is None:
                return ["[UNK]"]
            found += pops[node]
            node = failure[node]
        node = children[node][letter]
    while failure[node] is not None:
        found += pops[node]
        node = failure[node]
    return found if node == 1 else ["[UNK]"]


def with_an_end(word, children, failure, pops):
    def letters():
        yield from word
        yield None

    found, node = [], 0
    for letter in letters():
        while letter not in children[node] and failure[node] is not None:
            found.extend(pops[node])
            node = failure[node]
        if letter is None:
            return found if node == 1 else ["[UNK]"]
        if letter not in children[node]:
            return ["[UNK]"]
        node = children[node][letter]
    return found


def passed_wrongly(word, children, failure, pops, links=99, rest=99, lenient=False):
    """Follows fewer links than it takes at a letter, or at the end; or never says that a word is unknown."""
    found, node = [], 0
    for letter in word:
        for _ in range(links):
            if letter not in children[node] and failure[node] is not None:
                found += pops[node]
                node = failure[node]
        if letter not in children[node] and not lenient:
            return ["[UNK]"]
        node = children[node].get(letter, 1)
    for _ in range(rest):
        if failure[node] is not None:
            found += pops[node]
            node = failure[node]
    return found if node == 1 or lenient or rest < 99 else ["[UNK]"]


def reads_the_word_again(word, children, failure, pops):
    return one_pass("".join(word)[: len(word)], children, failure, pops)


def words_and_tries(rng):
    def inputs(arguments):
        tree = build_trie(arguments["known"])
        tables = {"children": [dict(node) for node in tree.children], "failure": list(tree.failure)}
        return {"word": arguments["word"], **tables, "pops": [list(popped) for popped in tree.pops]}

    drawn = words_and_pieces(rng)
    return [edge(given.name, **inputs(given)) if hasattr(given, "name") else inputs(given) for given in drawn if given["word"]]


EXERCISES = (
    Exercise(
        "strip_accents",
        strip_accents,
        accented_texts,
        wrong={
            "does not take letters apart": lambda text: "".join(c for c in text if category(c) != "Mn"),
            "takes apart, and drops nothing": lambda text: normalize("NFD", text),
            "drops every letter beyond ASCII": lambda text: normalize("NFD", text).encode("ascii", "ignore").decode(),
            "puts together again": lambda text: normalize("NFC", strip_accents(text)),
            "drops all marks": lambda text: "".join(c for c in normalize("NFD", text) if not category(c).startswith("M")),
            "takes ligatures apart": lambda text: "".join(c for c in normalize("NFKD", text) if category(c) != "Mn"),
            "in lower case": lambda text: strip_accents(text).lower(),
        },
        right={"by a filter": lambda text: "".join(filter(lambda c: category(c) != "Mn", normalize("NFD", text)))},
    ),
    Exercise(
        "greedy",
        greedy,
        words_and_pieces,
        wrong={
            "keeps what it found before an unknown letter": lambda word, known: cut(word, known, keep=True),
            "the shortest piece first": lambda word, known: cut(word, known, shortest=True),
            "the fewest pieces": fewest_pieces,
            "pieces without ##": without_marks,
            "stops at an unknown letter": silent,
            "crashes on an unknown word": lambda word, known: [greedy(word, known), 1 // (greedy(word, known) != ["[UNK]"])][0],
            "whole words alone": lambda word, known: [word] if word in known else ["[UNK]"],
        },
        right={
            "by recursion": by_recursion,
            "the reference": lambda word, known: ref.wordpieces(word, dict.fromkeys(known, 0)) if word else [],
        },
    ),
    Exercise(
        "one_pass",
        one_pass,
        words_and_tries,
        constraints=(SinglePass("word"),),
        wrong={
            "forgets the rest of the word": lambda word, **tables: passed_wrongly(word, **tables, rest=0),
            "follows one link at the end": lambda word, **tables: passed_wrongly(word, **tables, rest=1),
            "follows one link": lambda word, **tables: passed_wrongly(word, **tables, links=1),
            "takes any end for good": lambda word, **tables: passed_wrongly(word, **tables, lenient=True),
            "asks for the length": reads_the_word_again,
            "pops after the link": lambda word, children, failure, pops: one_pass(
                word, children, failure, [pops[node] if node is not None else [] for node in failure]
            ),
            "unknown, always": lambda word, children, failure, pops: ["[UNK]"],
        },
        right={"with an end": with_an_end},
    ),
)
