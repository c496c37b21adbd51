"""The attention layers that take a bias for their scores, with what else each needs."""

KINDS = {
    "MultiHeadAttention": {},
    "GroupedQueryAttention": {"num_kv_heads": 1},
    "TalkingHeadsAttention": {},
    "ReuseMultiHeadAttention": {},
    "CachedAttention": {},
}
