"""Moving pictures, for what is explained by movement. They move without a kernel: in JupyterLab, in Colab and on a page."""

import html
import re

import matplotlib.pyplot as plt
from matplotlib.animation import FuncAnimation

from crosscheck.lesson.alt_text import alt_text

MOST = 300
"""kB of a moving picture."""

SIGNS = {
    "fa-minus": "−",
    "fa-plus": "+",
    "fa-fast-backward": "⏮",
    "fa-step-backward": "❘◀",
    "fa-play fa-flip-horizontal": "◀",
    "fa-pause": "❚❚",
    "fa-play": "▶",
    "fa-step-forward": "▶❘",
    "fa-fast-forward": "⏭",
}
"""What stands on the buttons in place of the letters of a font that would be fetched from outside."""


def moving(draw, frames, size=(6.5, 2.8), dpi=80, seconds=0.8):
    """A moving picture with buttons to stop it and to go through it frame by frame.

    Args:
        draw: A function `draw(fig, frame)` that draws a frame on the empty figure.
        frames: What `draw` is called with, one after the other.
        size: Width and height in inches.
        dpi: Dots an inch.
        seconds: How long a frame stays.

    Returns:
        An `IPython.display.HTML`, which the cell's last line shows. Its text has random names, so that the cell needs the tag
        `nbval-ignore-output`.

    Raises:
        ValueError: if it is larger than `MOST` kB.
    """
    from IPython.display import HTML

    fig, frames = plt.figure(figsize=size, dpi=dpi), list(frames)

    def next_frame(frame):
        fig.clear()
        draw(fig, frame)

    try:
        film = FuncAnimation(fig, next_frame, frames=frames, init_func=lambda: None, interval=1000 * seconds)
        text = on_its_own(
            film.to_jshtml(default_mode="loop"), f"Moving picture of {len(frames)} frames. The last: {alt_text(fig)}"
        )
    finally:
        plt.close(fig)
    if len(text) > 1000 * MOST:
        raise ValueError(f"a moving picture must be at most {MOST} kB. Received: {len(text) / 1000:.0f} kB")
    return HTML(text)


def on_its_own(text, alt):
    """Matplotlib's page of a film, with a text for readers who do not see it, and without what it would fetch from outside."""
    text = re.sub(r"<link rel=\"stylesheet\"\s+href=\"http[^>]*>\n?", "", text)
    text = re.sub(r"<i class=\"fa ([\w -]+)\"></i>", lambda found: SIGNS[found[1]], text)
    text = text.replace('<input id="_anim_slider', '<input aria-label="Frame" id="_anim_slider')
    return text.replace('<img id="_anim_img', f'<img alt="{html.escape(alt)}" id="_anim_img')
