"""Moving pictures, for what is explained by movement. They move without a kernel: in JupyterLab, in Colab and on a page."""

import matplotlib.pyplot as plt
from matplotlib.animation import FuncAnimation

MOST = 300
"""kB of a moving picture."""


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

    fig = plt.figure(figsize=size, dpi=dpi)

    def next_frame(frame):
        fig.clear()
        draw(fig, frame)

    try:
        film = FuncAnimation(fig, next_frame, frames=list(frames), init_func=lambda: None, interval=1000 * seconds)
        text = film.to_jshtml(default_mode="loop")
    finally:
        plt.close(fig)
    if len(text) > 1000 * MOST:
        raise ValueError(f"a moving picture must be at most {MOST} kB. Received: {len(text) / 1000:.0f} kB")
    return HTML(text)
