"""What a statement forbids is measured, and each measure sees what it is for."""

import functools

import numpy as np
import pytest

from crosscheck.lesson import measuring
from crosscheck.lesson.arguments import Draw, prepared
from crosscheck.lesson.constraints import Calls, Memory, NoLoop, SinglePass, Time, Unchanged

ONE, MANY = {"x": Draw((4, 3))}, {"x": Draw((104, 3))}
NO_LOOP = NoLoop(ONE, MANY, more=100, axis="x")


@pytest.mark.parametrize(
    "looping",
    [
        lambda x: np.array([row.sum() for row in x]),
        lambda x: sum(row.sum() for row in x),
        lambda x: np.array(list(map(np.sum, x))),
        lambda x: np.apply_along_axis(np.sum, 1, x),
        lambda x: np.vectorize(np.exp)(x),
        lambda x: np.frompyfunc(np.exp, 1, 1)(x),
        lambda x: [x[i] for i in np.ndindex(x.shape)],
        lambda x: by_recursion(x),
        lambda x: by_while(x),
    ],
)
def test_a_loop_is_seen_in_whatever_form(looping):
    assert "loop over" in NO_LOOP.verdict(looping, ())


def by_recursion(x):
    return x[0] + by_recursion(x[1:]) if len(x) else 0


def by_while(x):
    i = 0
    while i < len(x):
        i += 1
    return i


@pytest.mark.parametrize(
    "vectorized",
    [
        lambda x: x.sum(axis=1),
        lambda x: np.einsum("ij,kj->ik", x, x),
        lambda x: np.concatenate([x, x]).cumsum(axis=0),
        lambda x: np.pad(x, [(1, 0), (0, 2)]) @ np.ones((5, 2)),
        lambda x: x[np.argsort(x[:, 0])],
        lambda x: [x[:, i] for i in range(x.shape[1])],
    ],
)
def test_what_has_no_loop_over_the_axis_is_accepted(vectorized):
    assert NO_LOOP.verdict(vectorized, ()) is None


def test_tracing_is_over_after_a_measurement_even_if_the_call_fails():
    import sys

    before = sys.gettrace(), sys.getprofile(), map, np.vectorize
    for measure in (measuring.steps, functools.partial(measuring.calls_of, "numpy.sum"), measuring.peak_memory):
        with pytest.raises(ZeroDivisionError):
            measure(lambda: 1 / 0)
    assert (sys.gettrace(), sys.getprofile(), map, np.vectorize) == before


def test_memory_counts_arrays_and_what_is_kept_of_an_iterator():
    constraint = Memory({"x": Draw((1000, 2))}, most=1_000_000, forbids="all pairs")
    assert constraint.verdict(lambda x: (x**2).sum(), ()) is None
    said = constraint.verdict(lambda x: (x @ x.T).sum(), ())
    assert said == "with x of shape (1000, 2) it needs 8.0 MB at once, and at most 1.0 MB are allowed: no room for all pairs"
    wide = Memory({"x": Draw((500, 400))}, most=100_000, forbids="all rows")
    assert wide.verdict(lambda x: sum(row.sum() for row in x), ("x",)) is None
    assert wide.verdict(lambda x: sum(row.sum() for row in list(x)), ("x",)) is not None


def test_what_can_be_read_once_is_read_once():
    (x,) = prepared({"x": np.arange(3)}, once=("x",)).values()
    assert list(x) == [0, 1, 2]
    with pytest.raises(RuntimeError, match="x can be read only once"):
        list(x)
    (pairs,) = prepared({"pairs": (np.arange(2), np.ones((2, 3)))}, once=("pairs",)).values()
    assert [(int(i), row.shape) for i, row in pairs] == [(0, (3,)), (1, (3,))]
    assert SinglePass("x").verdict(None, ("x",)) is None
    (nothing,) = prepared({"x": np.zeros((0, 3))}, once=("x",)).values()
    assert list(nothing) == []


def test_calls_are_counted_under_any_name():
    from numpy.linalg import inv as inverse

    from reference.masked_softmax import masked_softmax as renamed

    inverting = Calls(("numpy.linalg.inv", "numpy.linalg.solve"), {"x": np.eye(3)})
    assert inverting.verdict(lambda x: x.T, ()) is None
    assert inverting.verdict(lambda x: inverse(x), ()) == "it calls inv, and it should do without"
    assert inverting.verdict(lambda x: np.linalg.solve(x, x), ()) == "it calls solve, and it should do without"
    one = Calls(("reference.masked_softmax.masked_softmax",), {"x": np.ones((2, 3))}, most=1, least=1)
    assert one.verdict(lambda x: renamed(x), ()) is None
    assert "calls masked_softmax 2 times, not 1" in one.verdict(lambda x: [renamed(row) for row in x], ())
    assert "calls masked_softmax 0 times, not 1" in one.verdict(lambda x: x, ())
    with pytest.raises(ValueError, match="written in Python"):
        measuring.calls_of("numpy.dot", lambda: None)
    with pytest.raises(ValueError, match="path must name a function"):
        measuring.named("nothing.at_all")


def test_time_sees_pairs_in_python_and_in_c():
    linear = Time({"x": Draw((150, 8))}, {"x": Draw((3000, 8))}, factor=100, demands="time in proportion to the rows")
    assert linear.verdict(lambda x: x @ x.sum(axis=0), ()) is None
    assert linear.verdict(lambda x: sum(row @ row for row in x), ()) is None
    in_c = linear.verdict(lambda x: np.einsum("ij,kj->i", x, x), ())
    assert in_c == "with x of shape (3000, 8) it takes too long for time in proportion to the rows"
    assert linear.verdict(lambda x: [0 for i in range(len(x)) for j in range(len(x) // 8)], ()) is not None


def test_an_argument_that_must_not_change_is_watched():
    def in_place(x):
        x += 1
        return x

    watched = Unchanged("x", {"x": np.zeros(3)})
    assert watched.verdict(lambda x: x + 1, ()) is None
    assert watched.verdict(in_place, ()) == "it changes x, and should leave it as it is"
