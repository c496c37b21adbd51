"""A moving picture has all its frames, leaves no figure open, and is not too large."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from crosscheck.lesson.moving import SIGNS, moving


def test_each_frame_is_drawn_on_an_empty_figure():
    drawn = []

    def draw(fig, frame):
        drawn.append((frame, len(fig.axes)))
        fig.subplots().plot([0, frame])

    text = moving(draw, (1, 2, 5), size=(2, 1)).data
    assert drawn[-3:] == [(1, 0), (2, 0), (5, 0)]
    assert text.count("data:image/png;base64") == 3 and "<script" in text
    assert not plt.get_fignums()


def test_a_picture_that_is_too_large_is_refused():
    noise = np.random.default_rng(0).random((200, 200))
    with pytest.raises(ValueError, match="at most 300 kB. Received:"):
        moving(lambda fig, frame: fig.subplots().imshow(noise), range(4), size=(6, 6))
    assert not plt.get_fignums()


def test_a_picture_has_a_text_and_fetches_nothing():
    text = moving(lambda fig, frame: fig.subplots().set(title=f"step <{frame}>", xlabel="x"), (1, 2), size=(2, 1)).data
    assert "http" not in text and "fa-" not in text
    assert '<img alt="Moving picture of 2 frames. The last: step &lt;2&gt; (drawing: x)." id="_anim_img' in text
    assert text.count("<button") == len(SIGNS) == sum(sign in text for sign in SIGNS.values())
