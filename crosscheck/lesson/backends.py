"""Which lessons and guides run on which backend of Keras. It imports none, so that a test run can ask before anything starts."""

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX"}
"""{a backend, as in KERAS_BACKEND: its name}."""

TEXT_LESSONS = ("bert_tokenizer", "sentencepiece_tokenizer", "bert_pack_inputs")
"""The lessons on layers of TensorFlow's text operations. They run on TensorFlow alone."""


def runs_on(lesson):
    """The backends on which a lesson runs from its first cell to its last."""
    return ("tensorflow",) if lesson in TEXT_LESSONS else tuple(BACKENDS)


GUIDES = {"tpu": ("jax",), "scale": tuple(BACKENDS)}
"""{guide: its backends}. A guide is a notebook on how to use the course, in no chapter; it chooses its backends itself."""


def left_out(lesson, backend):
    """Why a lesson is not run on `backend`; None if it is."""
    if backend in runs_on(lesson):
        return None
    return f"{lesson} is on TensorFlow's text operations, so it runs on TensorFlow alone"
