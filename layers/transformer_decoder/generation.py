"""Text from a language model, token by token, as one compiled program (Keras 3)."""

import keras
import numpy as np
from keras import ops

from layers.common.checks import check_at_least
from layers.transformer_decoder.prompts import as_array
from layers.transformer_decoder.sampling import check_choice, next_token, no_choice

MOST_PROGRAMS = 16


def generate(
    model,
    prompt,
    length,
    temperature=0.0,
    top_k=None,
    top_p=None,
    seed=None,
    end_id=None,
    pad_id=None,
    prompt_mask=None,
):
    """The prompts, each continued by `length` tokens.

    Computes equations (7) to (10) of `reference/transformer_decoder/`, with a cache: each token passes through the
    model once. The tokens are those of the model without a cache. The prompt and the loop over new tokens are one program,
    compiled by XLA at the first call for a shape of prompt, a length and a choice of top_k; temperature, top_p and ids may change
    without compiling again, and so may the model's weights. For prompts of many lengths, pad them to a few.

    Prompts may differ in length. Each then continues where it ends, as if it were alone: its new tokens replace the padding.

    Axes: `b` batch, `t` position, `n` vocabulary.

    Args:
        model: A built layer, such as `TransformerDecoder`, that returns `(logits, cache)` from
            `model(ids, cache=cache, decode_loop_step=step, training=False)`, where `logits` is `(b, t, n)`, and a cache from
            `model.init_cache(batch, slots)`.
        prompt: Ids, integers of shape `(b, t)`, or a list of lists of ids or a ragged tensor, whose rows may differ in length;
            at least one token each.
        length: Number of new tokens of each prompt.
        temperature: 0 for the most probable token. Above 0, tokens are drawn with probabilities softmax(logits / temperature).
        top_k: Draw only from the `top_k` most probable tokens. Defaults to None, all of them.
        top_p: Draw only from the fewest most probable tokens, of those of `top_k`, whose probabilities add up to `top_p`.
        seed: Integer that decides the draws, the same on every backend. Defaults to None: a seed from NumPy's global generator,
            which `keras.utils.set_random_seed` sets.
        end_id: Id after which a prompt's continuation ends and the rest is padding. The loop ends when all have ended.
        pad_id: Id for padding, which may be outside the vocabulary, but not of int32. Defaults to `end_id`, or 0 without one.
        prompt_mask: `(b, t)`, nonzero for the tokens of `prompt`, zero for padding, which must come after them.

    Returns:
        NumPy array of ids, int32 of shape `(b, t + length)`: each prompt, its new tokens, then padding.

    Raises:
        ValueError: if `length` is below 1, a prompt has no token or has ids outside the model's vocabulary, the mask has tokens
            after padding, the model has no room for `t + length - 1` tokens, arguments are out of range, one would be ignored
            because `temperature` is 0, or the model's logits leave no choice, such as NaN.

    Example:

    >>> from layers.transformer_decoder.decoder_only import TransformerDecoder
    >>> decoder = TransformerDecoder(50, hidden_size=8, num_layers=2, num_attention_heads=2, intermediate_size=16)
    >>> decoder.build((None, None))
    >>> generate(decoder, [[3, 1, 4], [2, 7]], length=5).shape
    (2, 8)

    Reference:
        [Fan et al., 2018](https://arxiv.org/abs/1805.04833), section 5.4, for top_k;
        [Holtzman et al., 2020](https://arxiv.org/abs/1904.09751), section 3.1, for top_p.
    """
    check_at_least(1, length=length)
    check_choice(temperature, top_k, top_p, seed)
    if not (isinstance(model, keras.layers.Layer) and callable(getattr(model, "init_cache", None))):
        raise ValueError(f"model must be a layer with a method init_cache. Received: {type(model).__name__}")
    if not model.built:
        raise ValueError("model must be built before generate: call or build it first. Received: built=False")
    vocab_size = getattr(model, "vocab_size", None)
    check_id("end_id", end_id, vocab_size)
    check_id("pad_id", pad_id)
    pad_id = pad_id if pad_id is not None else end_id or 0
    ids, lengths = as_array(prompt, prompt_mask, pad_id, vocab_size)
    draws = np.random.default_rng(np.random.randint(2**31) if seed is None else seed)  # noqa: NPY002
    program = program_of(model, ids.shape, length, temperature > 0, top_k, top_p is not None)
    tokens, failed = program.predict_on_batch(
        {
            "ids": ops.convert_to_tensor(ids),
            "lengths": ops.convert_to_tensor(lengths),
            "u": ops.convert_to_tensor(draws.random((len(ids), length), dtype="float32")),
            "temperature": ops.convert_to_tensor(temperature, "float32"),
            "top_p": ops.convert_to_tensor(1.0 if top_p is None else top_p, "float32"),
            "end_id": ops.convert_to_tensor(-1 if end_id is None else end_id, "int32"),
            "pad_id": ops.convert_to_tensor(pad_id, "int32"),
        }
    )
    if failed:
        raise ValueError("model must have logits without NaN, the largest of them finite. Received: others, for a new token")
    return np.asarray(tokens)


def check_id(name, number, vocab_size=None):
    """Raise a ValueError unless the argument `name` is None or an id of the vocabulary; of int32, if that is not known."""
    if number is not None:
        check_at_least(0, **{name: number})
        most = 2**31 if vocab_size is None else vocab_size
        if number >= most:
            raise ValueError(f"{name} must be an id from 0 to {most - 1}. Received: {name}={number}")


class Programs:
    """The compiled programs of one model. They are no state of the model, and are not saved with it."""

    def __init__(self):
        self.by_key = {}


def program_of(model, shape, length, is_drawn, top_k, has_top_p):
    """The program for these arguments, which is kept with the model, so that the next call need not compile."""
    programs = model.__dict__.setdefault("_generation_programs", Programs()).by_key
    weights = tuple(id(variable) for variable in model.variables)  # adapters and quantization replace some
    key = (*shape, length, is_drawn, top_k, has_top_p, model.dtype_policy.name, weights)
    if key not in programs:
        if len(programs) == MOST_PROGRAMS:
            del programs[next(iter(programs))]
        programs[key] = Program(model, shape, length, is_drawn, top_k, has_top_p)
    return programs[key]


class Program(keras.Model):
    """The whole of `generate` for one shape of prompt: Keras compiles `call` for its backend.

    Args:
        model, length, top_k: As in `generate`.
        shape: Shape of the prompts, `(b, t)`.
        is_drawn, has_top_p: Whether tokens are drawn at all, and whether from those of `top_p`.
    """

    def __init__(self, model, shape, length, is_drawn, top_k, has_top_p):
        super().__init__(autocast=False)
        self.model, self.shape, self.length = model, shape, length
        self.is_drawn, self.top_k, self.has_top_p = is_drawn, top_k, has_top_p
        self.built = True
        self.compile(jit_compile=True)

    def call(self, inputs, training=None):
        (b, t), lengths = self.shape, inputs["lengths"]
        tokens = ops.concatenate([inputs["ids"], ops.ones((b, self.length), "int32") * inputs["pad_id"]], axis=1)
        cache = self.model.init_cache(b, t + self.length - 1)
        if t > 1:
            # Slots that this fills with padding are overwritten before a token attends to them.
            _, cache = self.model(inputs["ids"][:, :-1], cache=cache, decode_loop_step=0, training=False)
        end = ops.max(lengths) + self.length - 1

        def goes_on(p, tokens, done, failed, cache):
            return ops.logical_and(p < end, ops.logical_not(ops.all(done)))

        def step(p, tokens, done, failed, cache):
            """From the tokens up to position p, the tokens at position p + 1."""
            token = ops.take(tokens, p[None], axis=1)
            logits, cache = self.model(token, cache=cache, decode_loop_step=p, training=False)
            given = p + 1 < lengths
            done = ops.logical_or(done, p + 1 >= lengths + self.length)
            is_new = ops.logical_not(ops.logical_or(given, done))
            failed = ops.logical_or(failed, ops.any(ops.logical_and(is_new, no_choice(logits[:, -1]))))
            chosen = self.choice(logits[:, -1], p + 1 - lengths, inputs)
            kept = ops.take(tokens, p[None] + 1, axis=1)[:, 0]  # the prompt's own token, or padding
            token = ops.where(is_new, chosen, kept)
            done = ops.logical_or(done, ops.logical_and(is_new, token == inputs["end_id"]))
            return p + 1, ops.slice_update(tokens, (p * 0, p + 1), token[:, None]), done, failed, cache

        start = ops.min(lengths) - 1, tokens, ops.zeros((b,), "bool"), ops.zeros((), "bool"), cache
        _, tokens, _, failed, _ = ops.while_loop(goes_on, step, start)
        return tokens, failed

    def choice(self, logits, count, inputs):
        """The next token of each example, after `count` new ones."""
        if not self.is_drawn:
            return next_token(logits, None)
        place = ops.clip(count, 0, self.length - 1)
        u = ops.take_along_axis(inputs["u"], place[:, None], axis=1)[:, 0]
        return next_token(logits, u, inputs["temperature"], self.top_k, inputs["top_p"] if self.has_top_p else None)
