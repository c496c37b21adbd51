"""What the milestones of the project on sorting ask."""

from itertools import product

import numpy as np

from crosscheck.lesson.projects import Milestone, ask, demand, expect, halfway, numbers, shuffled_weights

NUMBERS = 10
"""The numbers are 0 to 9."""

SEPARATOR = 10
"""The id between a list and the same list in order."""

LENGTH = 8
"""Numbers in a list."""

VOCABULARY = NUMBERS + 1


def lists(rng, count, length=LENGTH):
    """Random lists, `(count, length)`: each number is drawn from 0 to 9, all equally likely."""
    return rng.integers(0, NUMBERS, (count, length)).astype("int32")


def judge_rows(rng, rows):
    shapes = {(5, LENGTH): "five lists", (2, 5): "two lists of 5", (1, LENGTH): "a single list", (3, 1): "lists of one number"}
    cases = [(lists(rng, *shape), name) for shape, name in shapes.items()]
    for given, name in [*cases, (np.full((2, 4), 3, "int32"), "a list of equal numbers")]:
        found = ask(rows, given)
        count, length = given.shape
        demand(isinstance(found, tuple) and len(found) == 3, f"for {name}: it should return (inputs, targets, weights)")
        inputs, targets, weights = map(numbers, found)
        for what, array in (("inputs", inputs), ("targets", targets), ("weights", weights)):
            came = f"for {name}: the {what} should be of shape {(count, 2 * length)}, not {array.shape}"
            demand(array.shape == (count, 2 * length), came)
        expect(inputs[:, :length], given, f"{name}, the first half of the inputs")
        expect(inputs[:, length], np.full(count, SEPARATOR), f"{name}, the place of the separator")
        expect(targets[:, :-1], inputs[:, 1:], f"{name}, targets, which are the inputs one place later,")
        check_order(np.concatenate([inputs[:, length + 1 :], targets[:, -1:]], axis=1), given, name)
        expect(weights, np.repeat([[0.0, 1.0]], length, axis=1).repeat(count, axis=0), f"{name}, the weights")


def check_order(found, given, name):
    """Whether the numbers are those of a list, in order."""
    demand((found[:, 1:] >= found[:, :-1]).all(), f"for {name}: after the separator, {found[0].tolist()} is not in order")
    kept = all((np.bincount(f, minlength=NUMBERS) == np.bincount(g, minlength=NUMBERS)).all() for f, g in zip(found, given))
    demand(kept, f"for {name}: after the separator, {found[0].tolist()} has not the numbers of {given[0].tolist()}")


def judge_already_sorted(rng, already_sorted):
    for length, count in ((3, 4), (1, 5), (2, NUMBERS), (6, 2), (rng.integers(3, 6), 5)):
        every = list(product(range(count), repeat=length))
        in_order = sum(list(each) == sorted(each) for each in every)
        found = ask(already_sorted, length, count)
        expect(float(found), in_order / len(every), f"lists of {length} numbers, each one of {count}")


def judge_build(rng, build):
    model = ask(build)
    for length in (LENGTH, 5):
        ids = whole_rows(lists(rng, 3, length))[:, :-1]
        logits = numbers(model(ids))
        expected = (*ids.shape, VOCABULARY)
        demand(logits.shape == expected, f"for inputs of shape {ids.shape}: the logits should be {expected}, not {logits.shape}")
        place = rng.integers(1, 2 * length)
        later = ids.copy()
        later[:, place:] = (later[:, place:] + 1) % NUMBERS
        moved = np.abs(numbers(model(later)) - logits).max(axis=(0, 2)) / np.abs(logits).max()
        seen = f"at {int(np.argmax(moved > 1e-4))}, where logits change although only later inputs did"
        demand((moved[:place] < 1e-4).all(), f"the model should see no input that comes later; it does so {seen}")
        earlier = ids.copy()
        earlier[:, 0] = (earlier[:, 0] + 1) % NUMBERS
        moved = np.abs(numbers(model(earlier)) - logits)[:, -1].max() / np.abs(logits).max()
        demand(moved > 1e-6, "the last logits should depend on the first number; they do not change with it")


def judge_model(rng, model):
    given = lists(rng, 500)
    found = share_of_numbers(model, given)
    with shuffled_weights(model, rng):
        without = share_of_numbers(model, given)
    guessing = share_without_the_list(rng)
    said = halfway(found, guessing, "numbers that are right, each after those before it")
    demand(without < (1 + guessing) / 2, f"with shuffled weights, {without:.3f} are right too: it is not learned")
    return said


def share_of_numbers(model, given):
    """The share of right numbers, each predicted by a model that is given only what comes before it."""
    rows, right = whole_rows(given), []
    for place in range(LENGTH, 2 * LENGTH):
        ids = rows[:, :-1].copy()
        ids[:, place + 1 :] = 0
        right.append(np.argmax(numbers(model(ids))[:, place], axis=-1) == rows[:, place + 1])
    return float(np.mean(right))


def share_without_the_list(rng, count=50_000):
    """The same for the best guess from the number just written and from how many there are: counted on random lists."""
    written = np.concatenate([np.zeros((count, 1), "int32"), np.sort(lists(rng, count))], axis=1)
    most = 0
    for place in range(LENGTH):
        pairs = np.bincount(written[:, place] * NUMBERS + written[:, place + 1], minlength=NUMBERS**2)
        most += pairs.reshape(NUMBERS, NUMBERS).max(axis=1).sum()
    return most / (count * LENGTH)


def judge_sort(rng, sort, model):
    given = lists(rng, 200)
    found = numbers(ask(sort, model, given))
    demand(found.shape == given.shape, f"for 200 lists: the shape should be {given.shape}, not {found.shape}")
    check_follows(model, given, found, "the trained model")
    one = numbers(ask(sort, model, given[:1]))
    expect(one, found[:1], "the first list alone")
    with shuffled_weights(model, rng):
        check_follows(model, given, numbers(ask(sort, model, given)), "a model with shuffled weights")
    in_order = (np.diff(given, axis=1) >= 0).all(axis=1).mean()
    return halfway((found == np.sort(given)).all(axis=1).mean(), in_order, "lists without a single fault")


def check_follows(model, given, found, name):
    """Whether each number that was written is the model's own choice after those before it."""
    ids = whole_rows(given)
    ids[:, LENGTH + 1 :] = found
    logits = numbers(model(ids[:, :-1]))[:, LENGTH:]
    written = np.take_along_axis(logits, found[..., None].astype("int64"), axis=-1)[..., 0]
    far = written < logits.max(axis=-1) - 1e-3 * np.abs(logits).max()
    came = f"{far.sum()} of {far.size} numbers are not the most probable ones after what was written before them"
    demand(not far.any(), f"with {name}, {came}: it is not the model that sorts")


def whole_rows(given):
    """What a model reads and writes for these lists."""
    length = given.shape[1]
    found = np.full((len(given), 2 * length + 1), SEPARATOR, "int32")
    found[:, :length], found[:, -length:] = given, np.sort(given)
    return found


MILESTONES = (
    Milestone("rows", judge_rows),
    Milestone("already_sorted", judge_already_sorted),
    Milestone("build", judge_build),
    Milestone("model", judge_model),
    Milestone("sort", judge_sort),
)
