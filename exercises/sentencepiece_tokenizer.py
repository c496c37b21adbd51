"""Exercises of the lesson on SentencePiece."""

import numpy as np

from crosscheck.lesson.constraints import Time
from crosscheck.lesson.exercises import Exercise, edge


def join(pieces):
    return "".join(pieces).replace("▁", " ")[1:]


def piece_by_piece(pieces):
    text = ""
    for piece in pieces:
        text += " ".join(piece.split("▁"))
    return text.removeprefix(" ")


def texts_in_pieces(rng):
    words = ["▁the", "▁new", "est", "▁", "low", "▁wid", "er", "▁a"]

    def drawn(count):
        return {"pieces": ["▁" + words[1][1:], *(words[i] for i in rng.integers(len(words), size=count))]}

    return [
        drawn(4),
        drawn(9),
        edge("no pieces", pieces=[]),
        edge("one piece", pieces=["▁the"]),
        edge("a space at the end", pieces=["▁the", "▁"]),
        edge("several spaces at the beginning", pieces=["▁", "▁", "▁the"]),
        edge("several spaces inside", pieces=["▁the", "▁", "▁", "▁end"]),
        edge("a real underscore", pieces=["▁my", "_", "name"]),
        edge("a space alone", pieces=["▁"]),
    ]


def best_score(text, scores):
    best = [0.0]
    for end in range(1, len(text) + 1):
        best.append(max(best[start] + scores.get(text[start:end], -np.inf) for start in range(end)))
    return best[-1]


def best_by_pieces(text, scores):
    """The same, from each place forward."""
    best = [0.0] + [-np.inf] * len(text)
    for start in range(len(text)):
        for piece, score in scores.items():
            if piece and text.startswith(piece, start):
                best[start + len(piece)] = max(best[start + len(piece)], best[start] + score)
    return best[-1]


def cuts(text):
    if not text:
        yield []
    for end in range(1, len(text) + 1):
        for rest in cuts(text[end:]):
            yield [text[:end], *rest]


def best_of_all_cuts(text, scores):
    return max(sum(scores.get(piece, -np.inf) for piece in cut) for cut in cuts(text))


def longest_first(text, scores):
    total = 0.0
    while text:
        end = next((end for end in range(len(text), 0, -1) if text[:end] in scores), 0)
        if not end:
            return -np.inf
        total, text = total + scores[text[:end]], text[end:]
    return total


def fewest_first(text, scores):
    best = min(cuts(text), key=lambda cut: (any(piece not in scores for piece in cut), len(cut)))
    return sum(scores.get(piece, -np.inf) for piece in best)


def all_cuts_together(text, scores):
    total = [0.0]
    for end in range(1, len(text) + 1):
        total.append(np.logaddexp.reduce([total[start] + scores.get(text[start:end], -np.inf) for start in range(end)]))
    return total[-1]


def texts_and_scores(rng):
    def inputs(text, pieces):
        return {"text": text, "scores": {piece: -float(rng.uniform(1, 3) + len(piece)) for piece in pieces}}

    letters = "".join("hug"[i] for i in rng.integers(3, size=9))
    known = ["h", "u", "g", "hu", "ug", "hug", "gh", "ghu"]
    return [
        inputs(letters, known),
        inputs(letters + "hugug", known),
        inputs("abab", ["a", "b", "ab", "ba", "aba"]),
        {"text": "hugs", "scores": {"hug": -9.0, "h": -1.0, "ugs": -1.5, "s": -2.0, "u": -4.0, "g": -4.0}},
        edge("no text", **inputs("", known)),
        edge("one letter", **inputs("h", known)),
        edge("a letter that no piece has", **inputs("huxg", known)),
        edge("the longest piece leads nowhere", text="hugu", scores={"hug": -1.0, "hu": -2.0, "gu": -2.5}),
        edge("many small pieces are the best", text="hughug", scores={"hug": -50.0, "h": -1.0, "u": -1.0, "g": -1.0}),
        edge("scores of -1,000", text="hug", scores={"hug": -1000.0, "h": -1000.0, "ug": -1000.0}),
    ]


def average_number(text, p):
    whole, times = [1.0], [0.0]
    for end in range(1, len(text) + 1):
        ways = [(start, p.get(text[start:end], 0.0)) for start in range(end)]
        whole.append(sum(whole[start] * share for start, share in ways))
        times.append(sum((times[start] + whole[start]) * share for start, share in ways))
    return times[-1] / whole[-1]


def by_averages(text, p):
    """The average so far, weighed by how probable each last piece is."""
    whole, mean = [1.0], [0.0]
    for end in range(1, len(text) + 1):
        shares = np.array([whole[start] * p.get(text[start:end], 0.0) for start in range(end)])
        whole.append(shares.sum())
        mean.append(shares @ (np.array(mean) + 1) / shares.sum() if shares.sum() else 0.0)
    return mean[-1]


def over_all_cuts(text, p):
    found = [(np.prod([p.get(piece, 0.0) for piece in cut]), len(cut)) for cut in cuts(text)]
    return sum(share * count for share, count in found) / sum(share for share, _ in found)


def each_cut_alike(text, p):
    counts = [len(cut) for cut in cuts(text) if all(p.get(piece, 0) for piece in cut)]
    return np.mean(counts)


def of_the_best(text, p):
    return len(max(cuts(text), key=lambda cut: np.prod([p.get(piece, 0.0) for piece in cut])))


def not_divided(text, p):
    return sum(np.prod([p.get(piece, 0.0) for piece in cut]) * len(cut) for cut in cuts(text))


def texts_and_probabilities(rng):
    def inputs(text, pieces):
        return {"text": text, "p": dict(zip(pieces, rng.dirichlet(np.ones(len(pieces))).tolist()))}

    pieces = ["a", "b", "ab", "ba", "aba", "bb"]
    text = "".join("ab"[i] for i in rng.integers(2, size=8))
    return [
        inputs(text, pieces),
        inputs(text[::-1] + "ab", pieces),
        inputs("abaab", pieces[:4]),
        edge("no text", **inputs("", pieces)),
        edge("one letter", **inputs("a", pieces)),
        edge("one cut alone", **inputs("abba", ["a", "b"])),
        edge("the text is a piece", text="aba", p={"aba": 0.5, "a": 0.25, "b": 0.25}),
        edge("some cuts are impossible", text="abab", p={"ab": 0.6, "a": 0.2, "bab": 0.2}),
    ]


SHORT, LONG = ("hug" * 2, "hug" * 7)
SCORES = {"h": -1.0, "u": -2.0, "g": -3.0, "hu": -2.5, "ug": -4.0, "hug": -5.0}
SHARES = {"h": 0.2, "u": 0.1, "g": 0.2, "hu": 0.2, "ug": 0.1, "hug": 0.2}

EXERCISES = (
    Exercise(
        "join",
        join,
        texts_in_pieces,
        wrong={
            "an underscore for ▁": lambda pieces: "".join(pieces).replace("_", " ")[1:],
            "no space is left at the beginning": lambda pieces: join(pieces).lstrip(),
            "no space is left at the ends": lambda pieces: join(pieces).strip(),
            "the first space stays": lambda pieces: "".join(pieces).replace("▁", " "),
            "a space between pieces": lambda pieces: " ".join(piece.replace("▁", "") for piece in pieces),
            "underscores are spaces too": lambda pieces: join(pieces).replace("_", " "),
            "several spaces become one": lambda pieces: " ".join(join(pieces).split()),
        },
        right={"piece by piece": piece_by_piece},
    ),
    Exercise(
        "best_score",
        best_score,
        texts_and_scores,
        constraints=(
            Time({"text": SHORT, "scores": SCORES}, {"text": LONG, "scores": SCORES}, factor=60, demands="no list of all cuts"),
        ),
        wrong={
            "all cuts, one by one": best_of_all_cuts,
            "the longest piece first": longest_first,
            "the fewest pieces": fewest_first,
            "the logarithm of the sum over cuts": all_cuts_together,
            "the score of the text as one piece": lambda text, scores: scores.get(text, 0.0 if not text else -np.inf),
            "letters that no piece has cost nothing": lambda text, scores: best_score(
                text, {**dict.fromkeys(text, 0.0), **scores}
            ),
            "the worst cut": lambda text, scores: -best_score(text, {piece: -score for piece, score in scores.items()}),
        },
        right={"piece by piece": best_by_pieces},
    ),
    Exercise(
        "average_number",
        average_number,
        texts_and_probabilities,
        constraints=(Time({"text": SHORT, "p": SHARES}, {"text": LONG, "p": SHARES}, factor=60, demands="no list of all cuts"),),
        wrong={
            "all cuts, one by one": over_all_cuts,
            "each cut counts the same": each_cut_alike,
            "the best cut": of_the_best,
            "not divided by the probability of the text": not_divided,
            "one piece too few": lambda text, p: average_number(text, p) - 1,
            "the number of letters": lambda text, p: float(len(text)),
            "the logarithms for probabilities": lambda text, p: average_number(text, {k: -np.log(x) for k, x in p.items()}),
        },
        right={"by averages": by_averages},
    ),
)
