"""`check` tells a learner what is wrong in one line; every exercise refuses its wrong answers and accepts its right ones."""

import inspect
import types

import ml_dtypes
import numpy as np
import pytest

from crosscheck.catalogue import lessons
from crosscheck.lesson import exercises
from crosscheck.lesson.arguments import Edge
from crosscheck.lesson.constraints import SinglePass
from crosscheck.lesson.differences import difference
from crosscheck.lesson.exercises import Exercise, check, edge, verdict

ALL = {
    f"{lesson}/{number}": exercise
    for lesson in exercises.lessons_with_exercises()
    for number, exercise in enumerate(exercises.exercises_of(lesson), 1)
}
every_exercise = pytest.mark.parametrize("name", ALL)
SEEDS = range(5)


def double(x):
    return 2 * x


DOUBLE = Exercise("double", double, lambda rng: [{"x": rng.normal(size=(2, 3))}, edge("no rows", x=np.zeros((0, 3)))])


@pytest.mark.parametrize(
    ("mine", "line"),
    [
        (lambda x: x + x, None),
        (lambda x: None, "not yet: it returns nothing"),
        (lambda x: 2 * x[0], "for x of shape (2, 3): the shape should be (2, 3), not (3,)"),
        (lambda x: np.where(np.arange(3) == 1, 0, 2 * x), "for x of shape (2, 3): 2 of 6 values differ; the first, at [0, 1],"),
        (lambda x: "text", "for x of shape (2, 3): it returns a str, not numbers"),
        (lambda x: (2 * x).astype("float32"), None),
        (lambda x: (2.1 * x).astype("float32"), "for x of shape (2, 3): 6 of 6 values differ"),
        (lambda x: np.full((2, 3), "a"), "for x of shape (2, 3): it returns a ndarray, not numbers"),
        (lambda x: np.full((2, 3), np.nan), "for x of shape (2, 3): 6 of 6 values differ; the first, at [0, 0], should be 0.2"),
        (lambda x: x[9], "for x of shape (2, 3): it stopped with IndexError: index 9 is out of bounds for axis 0 with size 2"),
        (lambda: None, "for x of shape (2, 3): it stopped with TypeError"),
        (lambda x: 2 * x if len(x) else None, "for no rows (x of shape (0, 3)): it returns nothing"),
        (lambda x: 2 * x + 0 / len(x), "for no rows (x of shape (0, 3)): it stopped with ZeroDivisionError"),
        (lambda x: 2 * x + 0 * x[0], "for no rows (x of shape (0, 3)): it stopped with IndexError"),
    ],
)
def test_a_verdict_says_for_which_input_and_what_differs_first(mine, line):
    found = verdict(DOUBLE, mine, seed=0)
    assert found == line or found.startswith(line)
    assert not found or "\n" not in found


def test_check_prints_one_line_and_returns_whether_it_is_right(capsys):
    assert check("masked_softmax/1", lambda x: x - np.logaddexp.reduce(x)) is True
    assert check("masked_softmax/1", lambda x: None) is False
    assert check("masked_softmax/1", lambda x: x) is False
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["right", "not yet: it returns nothing"]
    assert len(lines) == 3 and lines[2].startswith("for x ")


@pytest.mark.parametrize("name", ["nothing/1", "masked_softmax/4", "masked_softmax/0", "masked_softmax"])
def test_an_exercise_that_is_not_there_is_an_error(name):
    with pytest.raises(ValueError, match="exercises"):
        check(name, double)


def test_arguments_may_have_other_names_or_another_order():
    power = Exercise("power", lambda x, exponent: x**exponent, lambda rng: [{"x": rng.normal(size=3), "exponent": 3}])
    for mine in (lambda exponent, x: x**exponent, lambda a, b: a**b, np.power, lambda *given: given[0] ** given[1]):
        assert verdict(power, mine) is None
    assert "it stopped with TypeError" in verdict(power, lambda x: x)


def test_each_call_gets_arguments_of_its_own():
    def in_place(x):
        x *= 2
        return x

    assert verdict(DOUBLE, in_place) is None
    assert verdict(Exercise("double", in_place, DOUBLE.inputs), double) is None


@pytest.mark.parametrize(
    ("found", "expected", "line"),
    [
        ((1, 2.0), (1, 3.0), "result 2: it should be 3, not 2"),
        (1, (1, 3.0), "it should return 2 results, not a int"),
        (np.ones((5, 2)), (1, 3.0), "it should return 2 results, not an array of shape (5, 2)"),
        ([1, 2, 3], (1, 3.0), "it should return 2 results, not 3 results"),
        ([1, 3.0], (1, 3.0), None),
        (np.array([1, 3]), (1, 3), None),
        (np.array([True, False]), np.array([True, True]), "1 of 2 values differ; the first, at [1], should be True, not False"),
        ([7, 11], [7, 12], "1 of 2 values differ; the first, at [1], should be 12, not 11"),
        (["una", "ble"], ["un", "able"], "item 1: it should be 'un', not 'una'; character 2 should be the end, not 'a'"),
        (np.array(["un", "able"]), ["un", "able"], None),
        ("caf\u00e9", "cafe\u0301", "character 3 should be 'e' (U+0065 LATIN SMALL LETTER E), not 'é' (U+00E9"),
        ("\u0410", "A", "should be 'A' (U+0041 LATIN CAPITAL LETTER A), not '\u0410' (U+0410 CYRILLIC CAPITAL LETTER A)"),
        (3, "A", "it should be 'A', not 3"),
        ([[1], (2, 3)], [[1], [2, 3]], None),
        (["un"], ["un", "able"], "it should return 2 items, not 1 item: ['un', 'able'], not ['un']"),
        ([[1], [2, 4]], [[1], [2, 3]], "item 2: 1 of 2 values differ; the first, at [1], should be 3, not 4"),
        ([], np.zeros((0, 3)), None),
        (np.zeros(3), np.zeros((0, 3)), "the shape should be (0, 3), not (3,)"),
        (3.0, np.array(3.0), None),
        (None, (1, 2), "it returns nothing"),
        ((1, None), (1, 2), "result 2: it is None"),
        (5, None, "it should be None, not 5"),
        ({"a": 1}, {"a": 1, "b": 2}, "the key 'b' is missing"),
        ({"a": 1, "c": 2}, {"a": 1}, "there should be no key 'c'"),
        ({"a": 1}, {"a": 2}, "key 'a': it should be 2, not 1"),
        (1.0000001, 1.0, "it should be 1, not 1.0000001"),
        (np.array([1e-14, 1.0]), np.array([0.0, 1.0]), None),
        (np.array([-np.inf, 1.0]), np.array([-np.inf, 1.0]), None),
        (np.array([np.inf, 1.0]), np.array([-np.inf, 1.0]), "should be -inf, not inf"),
        (np.ones(2).astype(ml_dtypes.bfloat16), np.array([1.001, 1.0]), None),
        (np.ones(2).astype("float16"), np.array([1.001, 1.0]), None),
        ([np.float32(1.00001), np.float32(1)], (1.0, 1.0), None),
        (np.ones(2).astype("float32"), np.array([1.001, 1.0]), "should be 1.001, not 1"),
    ],
)
def test_differences(found, expected, line):
    said = difference(found, expected)
    assert said is None if line is None else line in said


@every_exercise
def test_the_answer_and_other_right_ones_are_accepted(name):
    exercise = ALL[name]
    assert {what: verdict(exercise, right, seed=0) for what, right in rights(exercise).items()} == dict.fromkeys(rights(exercise))
    for seed in SEEDS[1:]:
        found = {what: verdict(exercise, right, seed, measured=False) for what, right in rights(exercise).items()}
        assert found == dict.fromkeys(found), seed


def rights(exercise):
    return {"the answer": exercise.answer, **exercise.right}


@every_exercise
@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16, "list"])
def test_the_form_of_a_right_answer_does_not_matter(name, dtype):
    exercise = ALL[name]
    assert verdict(exercise, lambda **given: in_form(exercise.answer(**given), dtype), seed=0, measured=False) is None


def in_form(result, dtype):
    """Numbers in a narrower dtype or as Python's own, and a list for a tuple."""
    if isinstance(result, list | tuple):
        return [in_form(part, dtype) for part in result]
    if isinstance(result, str) or result is None:
        return result
    array = np.asarray(result)
    if dtype == "list":
        return array.tolist()
    return array.astype(dtype) if array.dtype.kind == "f" else array


@every_exercise
def test_wrong_answers_are_refused(name):
    exercise = ALL[name]
    assert len(exercise.wrong) >= 3
    accepted = [(what, s) for what, wrong in exercise.wrong.items() for s in SEEDS if verdict(exercise, wrong, s) is None]
    assert accepted == []


@every_exercise
def test_a_constant_and_a_single_example_are_refused(name):
    """The result for one draw, whatever the arguments are, and the same with the right shape."""
    exercise = ALL[name]
    _, constant = next(exercise.cases(seed=100))
    assert verdict(exercise, lambda **given: constant, seed=0, measured=False) is not None
    assert verdict(exercise, lambda **given: np.zeros_like(exercise.answer(**given)), seed=0, measured=False) is not None


@every_exercise
def test_no_argument_can_be_ignored(name):
    """An answer that takes each argument but one from another draw is refused."""
    exercise = ALL[name]
    once = exercises.read_once(exercise)
    for ignored in inspect.signature(exercise.answer).parameters:
        fixed = exercise.draw(100)[0][ignored]

        def careless(fixed=fixed, ignored=ignored, **given):
            return exercise.answer(**exercises.prepared({**given, ignored: fixed}, once and tuple({*once} & {ignored})))

        assert verdict(exercise, careless, seed=0, measured=False) is not None, ignored


@every_exercise
def test_inputs_are_drawn_anew_have_edges_and_the_arguments_of_the_stub(name):
    exercise = ALL[name]
    first, second = (exercise.draw(seed) for seed in (0, 1))
    assert len(first) >= 3
    assert any(isinstance(arguments, Edge) for arguments in first)
    assert {tuple(arguments) for arguments in first} == {tuple(inspect.signature(exercise.answer).parameters)}
    assert [exercises.described(a) for a in first] != [exercises.described(a) for a in second]


@every_exercise
def test_every_constraint_refuses_a_wrong_answer(name):
    exercise = ALL[name]
    for constraint in exercise.constraints:
        assert any(broken(exercise, constraint, wrong) for wrong in exercise.wrong.values()), constraint


def broken(exercise, constraint, wrong):
    """Whether it is this constraint that refuses an answer which is right on all inputs."""
    if isinstance(constraint, SinglePass):
        return "ReadOnce" in (said := verdict(exercise, wrong, seed=0) or "") or "only once" in said
    if verdict(exercise, wrong, seed=0, measured=False):
        return False
    return constraint.verdict(wrong, exercises.read_once(exercise)) is not None


@pytest.mark.parametrize("lesson", exercises.lessons_with_exercises())
def test_a_lesson_has_three_exercises(lesson):
    assert len(exercises.exercises_of(lesson)) == 3


def test_every_lesson_has_exercises():
    assert exercises.lessons_with_exercises() == sorted(lessons())


def test_the_table_counts_what_is_refused_and_accepted(capsys):
    assert exercises.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(ALL) + 2
    assert any(line.startswith("masked_softmax") and line.endswith("SinglePass, Memory") for line in lines)
    assert lines[-1].startswith(f"{len(ALL)} exercises: ")


def test_exercises_are_functions_of_their_own_names():
    for name, exercise in ALL.items():
        assert isinstance(exercise.answer, types.FunctionType), name
        assert exercise.name.isidentifier()
