"""`check` tells a learner what is wrong in one line, and never with a traceback."""

import numpy as np
import pytest

from crosscheck.lesson.exercises import check


def answer(x):
    return 2 * x


@pytest.mark.parametrize(
    ("mine", "line"),
    [
        (lambda x: x + x, "right"),
        (lambda x: None, "not yet: it returns nothing"),
        (lambda x: 2 * x[0], "the shape should be (2, 3), not (3,)"),
        (lambda x: np.where(np.arange(3) == 1, 0, 2 * x), "2 of 6 values differ; the first at [0, 1] should be -0.26421, not 0"),
        (lambda x: "text", "it returns a str, not numbers"),
        (lambda x: (2 * x).astype("float32"), "right"),
        (lambda x: (2.001 * x).astype("float32"), "6 of 6 values differ"),
        (lambda x: np.full((2, 3), "a"), "it returns a ndarray, not numbers"),
        (lambda x: np.full((2, 3), np.nan), "6 of 6 values differ; the first at [0, 0] should be 0.25146, not nan"),
        (lambda x: x[9], "it stopped with IndexError: index 9 is out of bounds for axis 0 with size 2"),
        (lambda: None, "it stopped with TypeError"),
    ],
)
def test_check_says_what_is_wrong(mine, line, capsys):
    assert check(answer, mine, {"x": (2, 3)}) == (line == "right")
    printed = capsys.readouterr().out
    assert printed.startswith(line) and printed.count("\n") == 1


def test_each_of_several_results_is_checked(capsys):
    assert not check(lambda x: (x, x), lambda x: (x, 2 * x), {"x": (2,)})
    assert not check(lambda x: (x, x), lambda x: x, {"x": (2,)})
    assert check(lambda x: (x, x), lambda x: (x, x), {"x": (2,)})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("result 2: 2 of 2 values differ") and lines[1:] == ["it should return 2 results", "right"]


def test_each_function_gets_arguments_of_its_own(capsys):
    def in_place(x):
        x *= 2
        return x

    assert check(answer, in_place, {"x": (2, 3)}) and check(in_place, answer, {"x": np.ones(3)})


def test_truth_values_ids_and_text_are_shown_as_they_are(capsys):
    assert not check(lambda: np.array([True, True]), lambda: np.array([True, False]), {})
    assert not check(lambda: [7, 12], lambda: [7, 11], {})
    assert not check(lambda: ["un", "able"], lambda: ["una", "ble"], {})
    assert check(lambda: [[1], [2, 3]], lambda: [[1], [2, 3]], {})
    assert capsys.readouterr().out.splitlines() == [
        "1 of 2 values differ; the first at [1] should be True, not False",
        "1 of 2 values differ; the first at [1] should be 12, not 11",
        "it should be ['un', 'able'], not ['una', 'ble']",
        "right",
    ]


def test_what_is_no_shape_is_passed_on_as_it_is():
    assert check(lambda x, order: x[order], lambda x, order: x[order], {"x": (3,), "order": [2, 0, 1]})
