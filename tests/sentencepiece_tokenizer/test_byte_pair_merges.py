"""Merges by a queue against merges by looking at every pair, and against pencil and paper."""

import random

import pytest

from reference.sentencepiece_tokenizer.merges import merge, merge_by_loops

RANKS = {"lo": -1.0, "low": -2.0, "er": -3.0, "we": -4.0, "lowe": -5.0}


def test_worked_example():
    """l o w e r: lo; low; er comes before we, which is then gone. Nothing joins low and er."""
    assert merge(list("lower"), RANKS)[0] == ["low", "er"] == merge_by_loops(list("lower"), RANKS)[0]


def test_of_equal_pairs_the_leftmost_is_joined_first():
    assert merge(list("aaa"), {"aa": -1.0})[0] == ["aa", "a"] == merge_by_loops(list("aaa"), {"aa": -1.0})[0]


@pytest.mark.parametrize("seed", range(30))
def test_the_queue_joins_what_the_loops_join(seed):
    draw = random.Random(seed)
    ranks = {"".join(draw.choices("abc", k=draw.randint(2, 5))): -float(draw.randint(1, 9)) for _ in range(25)}
    for length in range(25):
        symbols = draw.choices(["a", "b", "c", "d", "ab"], k=length)
        fixed = frozenset(draw.sample(["d", "ab"], draw.randint(0, 2)))
        assert merge(symbols, ranks, fixed)[0] == merge_by_loops(symbols, ranks, fixed)[0]


def test_fixed_symbols_join_nothing():
    assert merge(["lo", "w", "e"], RANKS, frozenset({"lo"}))[0] == ["lo", "we"]


def test_the_queue_looks_at_few_pairs_for_each_symbol_and_the_loops_at_all_of_them_each_time():
    draw = random.Random(0)
    ranks = {a + b: -float(i) for i, (a, b) in enumerate((a, b) for a in ("a", "b", "aa", "ab") for b in ("a", "b", "ab", "ba"))}
    looked = {t: [f(draw.choices("ab", k=t), ranks)[1] for f in (merge, merge_by_loops)] for t in (100, 400)}
    assert looked[400][0] < 5 * 400 and 3.5 < looked[400][0] / looked[100][0] < 4.5
    assert 14 < looked[400][1] / looked[100][1] < 18
