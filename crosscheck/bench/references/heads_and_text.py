"""The same as `attention.py` for everything before and after the blocks: text, embeddings, heads and uncertainty."""

from collections import Counter
from functools import partial

import numpy as np

from crosscheck.models.sentencepiece import SENTENCES, license_lines, read, small
from reference import (
    bert_pack_inputs,
    bert_tokenizer,
    classification_head,
    gaussian_process,
    gaussian_process_head,
    masked_lm,
    mat_mul_with_margin,
    on_device_embedding,
    positional_embedding,
    sentencepiece_tokenizer,
    spectral_normalization,
)
from reference.bert_tokenizer import linear_wordpiece, training
from reference.common.projection import Projection
from reference.gaussian_process_head import calibration
from reference.gaussian_process_head import posterior as gaussian_posterior
from reference.sentencepiece_tokenizer import training as unigram_training


def of_on_device_embedding(draw):
    ids, table, n = draw.ids(), draw.array(draw.sizes.n, draw.sizes.m), draw.sizes.n
    yield "rows", partial(on_device_embedding.embed, ids, table)
    yield "one-hot", partial(on_device_embedding.embed_by_one_hot, ids, table)
    yield "gradient", partial(on_device_embedding.gradient_by_one_hot, ids, draw.tokens(), n)


def of_positional_embedding(draw):
    _, t, m, h, *_ = draw.sizes
    places = np.arange(t)
    yield "learned", partial(positional_embedding.learned, draw.tokens(), draw.array(t, m))
    yield "interleaved", partial(positional_embedding.interleaved, places, m)
    yield "concatenated", partial(positional_embedding.concatenated, places, m)
    yield "rotation", partial(positional_embedding.rotation, 3, m)
    yield "bias-both-ways", partial(positional_embedding.relative_position_bias, t, t, draw.array(32, h))
    yield "bias-back", partial(positional_embedding.relative_position_bias, t, t, draw.array(32, h), both_ways=False)


def of_masked_lm(draw):
    t, m, n = draw.sizes.t, draw.sizes.m, draw.sizes.n
    weights = masked_lm.MaskedLMWeights(draw.projection(m, m), draw.norm(), draw.array(n), draw.array(n, m))
    x, positions = draw.tokens(), draw.ids(below=t)
    yield "gelu", lambda: masked_lm.log_softmax(masked_lm.masked_lm(x, positions, weights)[0])
    chances = draw.rng.random((2, draw.sizes.b, t))
    yield "corrupted", partial(masked_lm.corrupt, draw.ids(), *chances, draw.ids(), n)
    ids, most = draw.ids(), max(1, t // 5)
    yield "chosen", lambda: masked_lm.predictions(ids, masked_lm.choose(chances[0] < 0.9, chances[1], most), most)


def of_classification_head(draw):
    m, c = draw.sizes.m, draw.sizes.c
    weights = classification_head.ClassificationHeadWeights(draw.projection(m, m), draw.projection(m, c))
    yield "first-token", partial(classification_head.classification_head, draw.tokens(), weights)
    yield "vectors", partial(classification_head.classification_head, vectors(draw), weights)


def vectors(draw):
    """Every token as a separate example."""
    return draw.array(draw.sizes.b * draw.sizes.t, draw.sizes.m)


def of_mat_mul_with_margin(draw):
    left, right = vectors(draw), vectors(draw)
    yield (
        "losses",
        lambda: [mat_mul_with_margin.losses(x) for x in mat_mul_with_margin.mat_mul_with_margin(left, right, 20.0, 0.3)],
    )


def of_gaussian_process(draw):
    x, r, m = vectors(draw), draw.sizes.features, draw.sizes.m
    weights, phi = draw.gaussian_process(x), draw.array(len(x), r) / np.sqrt(r)
    one, add = draw.array(len(x), 1), partial(gaussian_process.add_batch, np.eye(r), phi)
    normed = weights._replace(input_norm=draw.norm())
    yield "covariance", partial(gaussian_process.gaussian_process, x, normed)
    yield "batch", lambda: add(gaussian_process.observation_weights(one, "binary_logistic"))
    yield "batch-momentum", lambda: add(gaussian_process.observation_weights(one, "poisson"), momentum=0.9)
    yield "draws", partial(gaussian_process.draw_random_features, draw.rng, m, r, "laplacian")


def of_gaussian_process_head__posterior(draw):
    (x, known), y = draw.tokens()[:2], draw.array(draw.sizes.t, draw.sizes.c)
    yield "gaussian", partial(gaussian_posterior.exact_posterior, x, known, y, gaussian_posterior.gaussian_kernel)
    yield "laplacian", partial(gaussian_posterior.exact_posterior, x, known, y, gaussian_posterior.laplacian_kernel)
    features = gaussian_process.draw_random_features(draw.rng, draw.sizes.m, draw.sizes.features)
    phi, phi_known = (gaussian_process.random_features(side, features, float(draw.sizes.m)) for side in (x, known))
    yield "features", partial(gaussian_posterior.linear_posterior, phi, phi_known, y)
    yield "features-by-updates", partial(gaussian_posterior.linear_posterior_by_updates, phi, phi_known, y)


def of_gaussian_process_head(draw):
    m, x = draw.sizes.m, vectors(draw)
    pooler = spectral_normalization.SpectralNormalizationWeights(draw.projection(m, m), *draw.array(2, m))
    weights = gaussian_process_head.GaussianProcessHeadWeights(pooler, draw.gaussian_process(x))
    logits, variance, draws = draw.array(len(x), draw.sizes.c), draw.rng.random(len(x)), draw.array(100, len(x), draw.sizes.c)
    yield "mean-field", partial(gaussian_process_head.gaussian_process_head, x, weights, factor=np.pi / 8)
    yield "expected-softmax", partial(gaussian_process_head.expected_softmax, logits, variance, draws)


def of_gaussian_process_head__calibration(draw):
    inside, outside = draw.rng.random((2, draw.sizes.b * draw.sizes.t))
    yield "error", partial(calibration.expected_calibration_error, inside, outside < inside)
    yield "auroc", partial(calibration.auroc, inside, outside)


def of_spectral_normalization(draw):
    b, t, m, f = draw.sizes.b, draw.sizes.t, draw.sizes.m, draw.sizes.f
    kernel, u, v, x = draw.kernel((m,), (f,)), draw.array(f), draw.array(m), vectors(draw)
    dense = spectral_normalization.SpectralNormalizationWeights(Projection(kernel), u, v)
    yield "singular-values", partial(spectral_normalization.spectral_norm, kernel)
    yield "power-iteration", partial(spectral_normalization.power_iteration, kernel, u, 20)
    yield "dense", partial(spectral_normalization.spectral_einsum, x, dense, "bm,mf->bf")
    for name, image in {"sequence": (t,), "image": (t // 8, 8)}.items():
        window, steps = (3,) * len(image), (1,) * len(image)
        filters, outputs = draw.projection((*window, m), m), draw.array(*image, m)
        bounded = spectral_normalization.SpectralNormalizationWeights(filters, outputs, outputs)
        pixels = draw.array(b, *image, m)
        yield name, partial(spectral_normalization.spectral_convolution, pixels, bounded, steps, "same")
        yield f"{name}-norm", partial(spectral_normalization.convolution_norm, filters.kernel, outputs, image, steps, "same")


def of_bert_pack_inputs(draw):
    segments, t = [draw.ids().tolist() for _ in range(2)], draw.sizes.t
    for cut in (bert_pack_inputs.round_robin, bert_pack_inputs.waterfall):
        yield cut.__name__.replace("_", "-"), partial(bert_pack_inputs.bert_pack_inputs, segments, t, 1, 2, 0, cut)


def texts(draw):
    """Lines of text with the total number of characters that the sizes give."""
    lines = ["Ｆｕｌｌ ｗｉｄｔｈ: ① ﬁrst, ② ﬁnd.", *SENTENCES, *license_lines()]  # the rules apply to the first
    ends = np.cumsum([len(line) for line in lines])
    return [line for line, end in zip(lines, ends) if end <= draw.sizes.characters] or [lines[0][: draw.sizes.characters]]


def of_bert_tokenizer(draw):
    lines = texts(draw)
    words = Counter(word for line in lines for word in bert_tokenizer.split_words(line, True))
    letters = sorted({letter for word in words for letter in word})
    pieces = [
        bert_tokenizer.UNKNOWN,
        *letters,
        *(f"##{letter}" for letter in letters),
        *(word for word in words if len(word) > 1),
    ]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    yield "uncased", partial(bert_tokenizer.bert_tokenizer, lines, vocabulary)
    yield "words", lambda: [bert_tokenizer.split_words(line, True) for line in lines]
    yield "cased", partial(bert_tokenizer.bert_tokenizer, lines, vocabulary, lower_case=False)
    trie = linear_wordpiece.build_trie(vocabulary)
    yield "trie", partial(linear_wordpiece.build_trie, vocabulary)
    yield "linear", lambda: [linear_wordpiece.linear_wordpieces(word, trie) for word in words]
    some = dict(words.most_common(12))  # training tries every pair in the whole text
    pieces = {piece for word in some for piece in training.into_characters(word)}
    yield "training", partial(training.train, some, len(pieces) + 3)


def of_sentencepiece_tokenizer(draw):
    lines = texts(draw)
    for name in ("unigram", "bytes", "byte-pairs-bytes"):
        model = read(small(name))
        ids = sentencepiece_tokenizer.encode(lines, model).ids
        call = partial(sentencepiece_tokenizer.encode, lines, model, lower_case=True, strip_diacritics=True)
        yield name, call
        yield f"{name}-decoded", lambda ids=ids, model=model: [sentencepiece_tokenizer.decode(row, model) for row in ids]


def of_sentencepiece_tokenizer__training(draw):
    words = Counter(word for line in texts(draw) for word in line.split())
    p = unigram_training.seed_pieces(words, 8)
    letters = len({letter for word in words for letter in word})
    yield "trained", partial(unigram_training.train, words, letters)
    yield "sampled", lambda: [unigram_training.sample(word, p, 0.2, draw.rng) for word in words]
