"""The README's picture shows what the code computes."""

import re

import numpy as np
import pytest
from matplotlib import pyplot as plt

from crosscheck.agreement import largest_error
from crosscheck.case import TOLERANCE
from crosscheck.catalogue import chapters
from crosscheck.models import minilm
from crosscheck.report import picture


@pytest.fixture(scope="module")
def found():
    model = minilm.load()
    return picture.three_times(
        minilm.embed(model, minilm.wordpieces(model, picture.SENTENCE)), minilm.attention_weights(model, layer=0)
    )


def test_three_programs_give_the_same_attention_weights(found):
    definition, *others = found
    np.testing.assert_allclose(definition.sum(axis=-1), 1)
    for weights in others:
        assert 0 < largest_error({"weights": weights}, {"weights": definition}) < TOLERANCE["float64"]  # 0: one was copied


def results(error):
    cases = [{"case": case.name, "errors": {"float64": error}} for chapter in chapters() for case in chapter.cases]
    return {"cases": cases}


@pytest.mark.parametrize(("error", "height"), [(0.0, picture.LEAST), (3e-15, 3e-15)])
def test_every_chapter_has_a_point_and_exact_is_shown(error, height):
    _, ax = plt.subplots()
    picture.draw_all_chapters(ax, results(error))
    numbers, errors = ax.lines[0].get_data()
    assert list(numbers) == [chapter.number for chapter in chapters()]
    assert list(errors) == [height] * len(chapters())
    plt.close("all")


def test_the_stored_picture_is_of_every_case():
    text = picture.FILE.read_text(encoding="utf-8")
    assert re.search(r"(\d+) cases, each dtype", text)[1] == str(sum(len(chapter.cases) for chapter in chapters()))
