"""Call forms of the Model Garden that exist here only so that code written for it runs with another import."""

from functools import wraps
from inspect import signature

OTHER_ATTENTION = {
    "src_block_size": (None,),
    "tgt_block_size": (None,),
    "use_sigmoid_attn": (False,),
    "sigmoid_attn_bias": (None,),
    "linformer_dim": (None,),
    "linformer_shared_kv_projection": (True, False),
}
"""Arguments of the Model Garden's blocks for block-sparse, sigmoid and low-rank attention, with what switches these off."""


def garden_arguments(renamed=None, unused=None):
    """A class decorator: the constructor also takes the Model Garden's keywords for what has another name here, or is not here.

    Args:
        renamed: {its other name there: name of the argument here}.
        unused: {name of an argument there of a mechanism that this class lacks: the values with which it has no effect}. No
            other value is accepted, so that nothing is ignored.
    """
    renamed, unused = renamed or {}, unused or {}

    def decorate(kind):
        init = kind.__init__

        @wraps(init)
        def __init__(self, *args, **kwargs):
            for there, here in renamed.items():
                if there in kwargs and here in kwargs:
                    raise ValueError(f"{there} must not be given with {here}, its other name. Received: both")
                if there in kwargs:
                    kwargs[here] = kwargs.pop(there)
            for name, without_effect in unused.items():
                if name in kwargs and not any(kwargs[name] is value for value in without_effect):
                    expected, received = " or ".join(map(str, without_effect)), f"{name}={kwargs[name]!r}"
                    raise ValueError(f"{name} must be {expected}: {kind.__name__} lacks its mechanism. Received: {received}")
                kwargs.pop(name, None)
            init(self, *args, **kwargs)

        __init__.__signature__ = signature(init)  # Keras asks for it, and does not see through the wrapper
        kind.__init__ = __init__
        kind.only_for_garden_code = {*renamed, *unused}
        return kind

    return decorate
