"""bleu_utils.py: hand-computed values, sacrebleu, decoding, and the homework's mean over captions."""

import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sacrebleu.metrics import BLEU

from bleu_utils import BLEU_score, corpus_bleu, decode_captions, evaluate_model

F = Fraction
E = math.exp

# name: [(hypothesis, references), ...], brevity penalty, (p1, p1·p2, p1·p2·p3, p1·p2·p3·p4)
BY_HAND = {
    # Papineni's example: "the" occurs at most twice in a reference: 2 of 7 match; none of the 6 bigrams does
    "clipped": ([("the " * 7, ["the cat is on the mat", "there is a cat on the mat"])], 1, (F(2, 7), 0, 0, 0)),
    # the last word is wrong: p = 4/5, 3/4, 2/3, 1/2
    "one word wrong": ([("a b c d e", ["a b c d f"])], 1, (F(4, 5), F(3, 5), F(2, 5), F(1, 5))),
    # all n-grams match; c = 4, r = 6: exp(1 - 6/4)
    "too short": ([("a b c d", ["a b c d e f"])], E(-1 / 2), (1, 1, 1, 1)),
    # "a" occurs twice in the first reference (three times in both together): 2/3; "a a" once: 1/2.
    # c = 3, lengths 4 and 2 are equally close: r = 2, so no penalty (r = 4 would give exp(-1/3))
    "largest count in one reference, shorter of a tie": ([("a a a", ["a a c d", "a b"])], 1, (F(2, 3), F(1, 3), 0, 0)),
    # p1 = (4 + 0) / (4 + 2), p2 = 3 / (3 + 1), p3 = 2 / 2 and p4 = 1 / 1, since "x y" has no 3-gram and no 4-gram;
    # the mean of the two captions' scores would be 1/2 for each n
    "sums over the corpus": ([("a b c d", ["a b c d"]), ("x y", ["v w"])], 1, (F(2, 3), F(1, 2), F(1, 2), F(1, 2))),
    # each reference matches one half, "a b" or "c d"; no reference contains "b c"
    "matches of several references": ([("a b c d", ["a b x y", "x y c d"])], 1, (1, F(2, 3), 0, 0)),
    # c = 4, r = 4 + 2
    "one of two hypotheses is empty": ([("a b c d", ["a b c d"]), ("", ["x y"])], E(-1 / 2), (1, 1, 1, 1)),
    "the only hypothesis is empty": ([("", ["a", ""])], 0, (0, 0, 0, 0)),
    # 0 is closer to 1 than 3 is: no penalty
    "an empty reference": ([("a", ["", "a b c"])], 1, (1, 0, 0, 0)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_corpus_bleu_matches_hand_computed_values(name):
    corpus, brevity, products = BY_HAND[name]
    references = [[ref.split() for ref in refs] for _, refs in corpus]
    scores = corpus_bleu(references, [hypothesis.split() for hypothesis, _ in corpus])
    expected = [brevity * float(products[n - 1]) ** (1 / n) for n in (1, 2, 3, 4)]
    assert scores == pytest.approx(expected, rel=1e-14, abs=0)
    assert all(type(score) is float for score in scores)


def test_corpus_bleu_equals_sacrebleu_on_300_random_corpora(rng):
    some, none = [0] * 4, [0] * 4
    for _ in range(300):
        V = rng.integers(2, 6)  # a small vocabulary, so that many n-grams match

        def captions(V=V):
            return [[f"w{i}" for i in rng.integers(0, V, rng.integers(1, 13))] for _ in range(rng.integers(1, 5))]

        hypotheses = captions()
        references = [captions() for _ in hypotheses]
        streams = [[" ".join(refs[k]) if k < len(refs) else None for refs in references] for k in range(4)]
        ours = corpus_bleu(references, hypotheses)
        for n in (1, 2, 3, 4):
            theirs = BLEU(max_ngram_order=n, smooth_method="none", tokenize="none", force=True)
            score = theirs.corpus_score([*map(" ".join, hypotheses)], streams).score / 100
            assert ours[n - 1] == pytest.approx(score, rel=0, abs=1e-12)
            some[n - 1] += ours[n - 1] > 0
            none[n - 1] += ours[n - 1] == 0
    assert min(some) > 50 and min(none) > 0  # zero and nonzero scores both occur


def test_words_can_be_numbers_in_arrays():
    scores = corpus_bleu([[np.array([4, 5, 6]), (4, 7)]], [np.array([4, 5, 7])])
    assert scores == corpus_bleu([[list("abc"), list("ad")]], [list("abd")])


@pytest.mark.parametrize(
    "references, hypotheses, message",
    [
        ([[["a"]]], [["a"], ["b"]], "1 lists of references for 2 hypotheses"),
        ([], [], "0 lists of references for 0 hypotheses"),
        ([[["a"]], []], [["a"], ["b"]], "hypothesis 1 has no references"),
        ([[["a"]]], ["a b"], "hypothesis 0 .* string"),
        ([["a", "b"]], [["a", "b"]], "hypothesis 0 .* string"),  # a reference in place of a list of references
    ],
)
def test_a_mismatched_corpus_raises_a_value_error(references, hypotheses, message):
    with pytest.raises(ValueError, match=message):
        corpus_bleu(references, hypotheses)


@pytest.mark.parametrize(
    "gt, sample, score",
    [
        ("a man rides a horse", "horse a rides man a", 1),  # unigrams, so order does not matter
        ("a man", "a man rides a horse", F(2, 5)),  # too long, and the second "a" is clipped
        ("a man rides a horse", "a dog", E(1 - 5 / 2) / 2),
        ("a man", "  ", 0),
        ("", "a man", 0),
        ("<START> a <NULL> b <END> <UNK>", "a b", 1),  # counting special words would make gt longer
        ("a b", "<START> a <UNK> b <END> <NULL>", 1),  # counting special words would make the sample longer
        ("a <END>b", "a", E(1 - 2)),  # "<END>b" is an ordinary word
    ],
)
def test_bleu_score_matches_hand_computed_values(gt, sample, score):
    got = BLEU_score(gt, sample)
    assert type(got) is float and got == pytest.approx(float(score), rel=1e-14, abs=0)


WORDS = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "cat", "sits"]


@pytest.mark.parametrize(
    "caption, text",
    [([1, 4, 5, 6, 2, 0, 0], "a cat sits"), ([4, 5, 2, 6, 2], "a cat"), ([4, 0, 3, 0], "a <UNK>"), ([2, 4], "")],
)
def test_decode_stops_at_end_and_skips_start_and_null(caption, text):
    assert decode_captions(np.array(caption, np.int32), WORDS) == text
    assert decode_captions([caption, caption], WORDS) == [text, text]


def test_decode_errors_name_a_word_outside_the_vocabulary():
    with pytest.raises(IndexError, match=r"captions\[0, 1\] is 7, outside 0 ... 6"):
        decode_captions([[4, 7, 4]], WORDS)


class Model:
    """Returns the given caption of each photo and records the photos. A photo's only feature is its number."""

    def __init__(self, captions, kind=np.asarray):
        self.captions, self.kind, self.batches = captions, kind, []

    def sample(self, features):
        assert type(features) is np.ndarray and features.dtype == np.float32
        self.batches.append(features[:, 0].astype(int).tolist())
        return self.kind(self.captions[self.batches[-1]])


def on_a_device(captions):
    """Captions that become an array only after `.cpu()`."""
    return SimpleNamespace(cpu=lambda: torch.from_numpy(captions))


def make_data(captions, image_idxs):
    """A validation split."""
    features = np.arange(1.0 + max(image_idxs))[:, None]
    parts = {"captions": np.array(captions), "image_idxs": np.array(image_idxs), "features": features}
    return SimpleNamespace(**{name: {"val": part} for name, part in parts.items()}, idx_to_word=WORDS)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, on_a_device])
def test_evaluate_model_matches_the_hand_computed_mean(kind):
    data = make_data([[1, 4, 5, 6, 2], [1, 5, 2, 0, 0], [1, 4, 5, 2, 0]], [1, 0, 1])
    model = Model(np.array([[1, 6, 2, 0], [1, 4, 5, 2]]), kind)
    # photo 1 gets "a cat": exp(1 - 3/2) for "a cat sits", 1 for "a cat"; photo 0 gets "sits": 0 for "cat"
    score = evaluate_model(model, data, "val")
    assert type(score) is float and score == pytest.approx((E(-1 / 2) + 0 + 1) / 3, rel=1e-14)
    assert model.batches == [[0, 1]]  # each photo only once


@pytest.mark.parametrize("given", [{"n": 1}, {"n": 5, "seed": 1}, {"n": 1100}, {}], ids=str)
def test_evaluate_model_draws_n_captions_without_replacement(given):
    model, photos = Model(np.full((1100, 2), 4)), np.random.default_rng(7).permutation(1100)
    evaluate_model(model, make_data([[4, 4]] * 1100, photos), "val", **given)
    drawn = np.random.default_rng(given.get("seed", 0)).choice(1100, given.get("n", 1000), replace=False)
    assert model.batches == [sorted(photos[drawn])]


@pytest.mark.parametrize("split, n, words", [("tset", 5, "'tset'.*'val'"), ("no", 5, "'no'"), ("val", 0, "n is 0")])
def test_a_wrong_split_or_n_raises_a_value_error(split, n, words):
    data = make_data([[4, 4]], [0])
    data.captions["no"] = data.captions["val"][:0]
    with pytest.raises(ValueError, match=words):
        evaluate_model(Model(data.captions["val"]), data, split, n)


@pytest.mark.parametrize("part", [np.s_[0], np.s_[:-1]], ids=["one caption", "one too few"])
def test_a_sample_of_the_wrong_shape_raises_a_value_error(part):
    model = Model(np.full((3, 2), 4), lambda captions: captions[part])
    with pytest.raises(ValueError, match=r"captions has shape .*, expected \(N, T\) = \(3, "):
        evaluate_model(model, make_data([[4, 4]] * 3, [0, 1, 2]), "val")
