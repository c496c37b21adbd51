"""MultiChannelAttention and VotingAttention beside reference/multi_channel_attention.py."""

from functools import partial

import numpy as np

from crosscheck.case import B, Case, D, E, H, M, S, T
from crosscheck.catalogue import Chapter
from layers.multi_channel_attention import MultiChannelAttention, VotingAttention
from reference.attention import AttentionWeights
from reference.masked_softmax import masked_softmax
from reference.multi_channel_attention import VotingWeights, multi_channel_attention, voting_attention

A = 6
LAYER = partial(MultiChannelAttention, num_heads=H, key_dim=D, value_dim=E)
VOTE = partial(VotingAttention, num_heads=H, head_size=D)


def documents(rng):
    return {
        "query": rng.normal(size=(B, T, M)),
        "value": rng.normal(size=(B, A, S, M)),
        "context_attention_weights": masked_softmax(rng.normal(size=(B, H, T, A))),
    }


def with_key(rng):
    return documents(rng) | {"key": rng.normal(size=(B, A, S, M + 1))}


def masked(rng):
    mask = rng.random((B, A, T, S)) < 0.6
    mask[0, 2, 1] = False  # one query may attend to nothing in one channel
    return documents(rng) | {"attention_mask": mask}


def masked_channel(rng):
    """One channel in which no query may attend to anything, and a query that may attend to nothing anywhere."""
    inputs = masked(rng)
    inputs["attention_mask"][1, 3] = False
    inputs["attention_mask"][0, :, 2] = False
    return inputs


def padded(rng):
    return documents(rng) | {"attention_mask": rng.random((B, A, 1, S)) < 0.7}


def unnormalized(rng):
    """The same weights, of any size and sign, for every query of every head."""
    return documents(rng) | {"context_attention_weights": rng.normal(size=(B, 1, 1, A))}


def with_scores(rng):
    return masked(rng) | {"return_attention_scores": True}


def stories(rng):
    return {"encoder_outputs": rng.normal(size=(B, A, S, M))}


def some_absent(rng):
    return stories(rng) | {"doc_attention_mask": np.arange(A) < [[4], [6]]}


def one_and_none(rng):
    return stories(rng) | {"doc_attention_mask": np.arange(A) < [[1], [0]]}


def reference(weights, query, value, context_attention_weights, key=None, attention_mask=None, return_attention_scores=False):
    output = multi_channel_attention(query, value, weights, context_attention_weights, key, attention_mask)
    return output if return_attention_scores else output[0]


def reference_vote(weights, encoder_outputs, doc_attention_mask=None):
    return voting_attention(encoder_outputs, weights, doc_attention_mask)[0]


def case(variant, inputs, layer=LAYER):
    return Case(f"multi_channel_attention/{variant}", layer, inputs, AttentionWeights, reference, unknown=(T, S, A))


def vote(variant, inputs):
    return Case(f"multi_channel_attention/{variant}", VOTE, inputs, VotingWeights, reference_vote, unknown=(S, A))


CHAPTER = Chapter(
    number=7,
    name="multi_channel_attention",
    title="Multi-channel attention",
    part="Attention",
    sentence="Attention to several documents at once, weighted by how well they agree with each other.",
    paper="Gu et al., 2020",
    link="https://arxiv.org/abs/2001.09386",
    classes=("MultiChannelAttention", "VotingAttention"),
    functions=("attend_channels_one", "attend_channels", "multi_channel_attention", "votes_by_loops", "voting_attention"),
    cases=(
        case("unmasked", documents),
        case("key", with_key),
        case("masked", masked),
        case("masked-channel", masked_channel),
        case("padded", padded),
        case("any-weights", unnormalized),
        case("scores", with_scores),
        case("no-bias", masked, partial(LAYER, use_bias=False, output_shape=M + 2)),
        case("dropout-inactive", masked, partial(LAYER, dropout=0.5, seed=1)),
        vote("vote", stories),
        vote("vote-some-absent", some_absent),
        vote("vote-one-and-none", one_and_none),
    ),
)
