"""bleu_utils.py: values worked out by hand, sacrebleu, and what holds for any corpus."""

import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sacrebleu.metrics import BLEU

from bleu_utils import BLEU_score, corpus_bleu, decode_captions, evaluate_model


def random_corpus(rng, least=0):
    """1 to 4 hypotheses of `least` to 12 words out of 2 to 5, each with 1 to 4 references of as many."""
    V = int(rng.integers(2, 6))

    def caption(least):
        return [f"w{i}" for i in rng.integers(0, V, rng.integers(least, 13))]

    hypotheses = [caption(least) for _ in range(rng.integers(1, 5))]
    return [[caption(least) for _ in range(rng.integers(1, 5))] for _ in hypotheses], hypotheses


# ---- corpus_bleu: values by hand

F = Fraction
E = math.exp

# name: [(hypothesis, references), ...], brevity penalty, (p1, p1·p2, p1·p2·p3, p1·p2·p3·p4)
BY_HAND = {
    # Papineni's example: "the" stands at most twice in one reference, so 2 of 7; none of the 6 "the the" matches
    "clipped": (
        [("the the the the the the the", ["the cat is on the mat", "there is a cat on the mat"])],
        1,
        (F(2, 7), 0, 0, 0),
    ),
    # the last word is wrong: p = 4/5, 3/4, 2/3, 1/2
    "one word wrong": ([("a b c d e", ["a b c d f"])], 1, (F(4, 5), F(3, 5), F(2, 5), F(1, 5))),
    "every word, no order": ([("d c b a", ["a b c d"])], 1, (1, 0, 0, 0)),
    # p1: a and b once each of 4; p2: "a b" once, of "a b", "b a", "a b"
    "a bigram is clipped too": ([("a b a b", ["a b c d"])], 1, (F(2, 4), F(2, 4) * F(1, 3), 0, 0)),
    # all matches; c = 4, r = 6: exp(1 - 6/4)
    "too short": ([("a b c d", ["a b c d e f"])], E(-1 / 2), (1, 1, 1, 1)),
    # p = 4/6, 3/5, 2/4, 1/3, and no reward or penalty for c = 6, r = 4
    "too long": ([("a b c d e f", ["a b c d"])], 1, (F(2, 3), F(2, 5), F(1, 5), F(1, 15))),
    # "a" stands twice in the first reference (three times in both together): 2/3; "a a" once: 1/2.
    # c = 3, lengths 4 and 2 are equally close: r = 2, so no penalty (r = 4 would give exp(-1/3))
    "the most in one reference, the shorter of a tie": ([("a a a", ["a a c d", "a b"])], 1, (F(2, 3), F(1, 3), 0, 0)),
    # all in the reference of 9 words, but the one of 3 is closer to 4: no penalty
    "the closest is shorter": ([("a b c d", ["a b c d e f g h i", "x y z"])], 1, (1, 1, 1, 1)),
    # 5 is closer to 4 than 1 is: exp(1 - 5/4)
    "the closest is longer": ([("a b c d", ["a", "a b c d e"])], E(-1 / 4), (1, 1, 1, 1)),
    # p1 = (8 + 0) / (8 + 2), p2 = 7 / (7 + 1), p3 = 6 / 6 and p4 = 5 / 5, since "x y" has no 3-gram and no 4-gram;
    # the mean of the two captions' scores would be 1/2, for each n
    "sums over the corpus": (
        [("a b c d e f g h", ["a b c d e f g h"]), ("x y", ["v w"])],
        1,
        (F(4, 5), F(7, 10), F(7, 10), F(7, 10)),
    ),
    "a caption without 4-grams beside one with": (
        [("a b c d e f", ["a b c d e f"]), ("a b c", ["a b c"])],
        1,
        (1,) * 4,
    ),
    # p = (4 + 4) / (4 + 8), (3 + 3) / (3 + 7), (2 + 2) / (2 + 6), (1 + 1) / (1 + 5); c = r = 12, so no penalty,
    # though the first caption is 4 words short
    "lengths are summed": (
        [("a b c d", ["a b c d e f g h"]), ("a b c d e f g h", ["a b c d"])],
        1,
        (F(2, 3), F(2, 5), F(1, 5), F(1, 15)),
    ),
    # a match in the other hypothesis's references is none: 0 of 2 and 0 of 2
    "each with its own references": ([("a b", ["c d"]), ("c d", ["a b"])], 1, (0, 0, 0, 0)),
    # two references each give half: "a b" and "c d", but nobody wrote "b c"
    "matches of several references": ([("a b c d", ["a b x y", "x y c d"])], 1, (1, F(2, 3), 0, 0)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_corpus_bleu_is_the_value_by_hand(name):
    corpus, brevity, products = BY_HAND[name]
    references = [[ref.split() for ref in refs] for _, refs in corpus]
    scores = corpus_bleu(references, [hypothesis.split() for hypothesis, _ in corpus])
    expected = [brevity * float(products[n - 1]) ** (1 / n) for n in (1, 2, 3, 4)]
    assert scores == pytest.approx(expected, rel=1e-14, abs=0)
    assert all(type(score) is float for score in scores)


# ---- corpus_bleu: edge cases


@pytest.mark.parametrize("words", [4, 5, 30])
def test_identical_captions_of_four_or_more_words_score_1(words):
    caption = [f"w{i % 7}" for i in range(words)]
    assert corpus_bleu([[caption], [["x"], caption]], [caption, caption]) == (1, 1, 1, 1)


@pytest.mark.parametrize("words", [1, 2, 3])
def test_bleu_n_of_an_identical_caption_below_n_words_is_0(words):
    caption = list("abc"[:words])
    assert corpus_bleu([[caption]], [caption]) == tuple([1] * words + [0] * (4 - words))


@pytest.mark.parametrize("refs", [[["a"]], [[]], [[], ["a", "b"]]])
def test_an_empty_hypothesis_scores_0(refs):
    assert corpus_bleu([refs], [[]]) == (0, 0, 0, 0)


def test_an_empty_hypothesis_in_a_corpus_costs_brevity():
    scores = corpus_bleu([[list("abcd")], [list("xy")]], [list("abcd"), []])  # c = 4, r = 4 + 2
    assert scores == pytest.approx([E(1 - 6 / 4)] * 4, rel=1e-14)


def test_an_empty_reference_matches_nothing_but_has_a_length():
    assert corpus_bleu([[[]]], [["a"]]) == (0, 0, 0, 0)
    assert corpus_bleu([[[], ["a", "b", "c"]]], [["a"]])[0] == 1  # 0 is closer to 1 than 3 is: no penalty


@pytest.mark.parametrize(
    "references, hypotheses, message",
    [
        ([[["a"]]], [["a"], ["b"]], "1 lists of references for 2 hypotheses"),
        ([[["a"]], [["b"]]], [["a"]], "2 lists of references for 1 hypotheses"),
        ([], [["a"]], "0 lists of references for 1 hypotheses"),
        ([], [], "0 lists of references for 0 hypotheses"),
        ([[["a"]], []], [["a"], ["b"]], "hypothesis 1 has no references"),
        ([[["a"]]], ["a b"], "hypothesis 0 .* string"),
        ([[["a"]], [["a"], "a b"]], [["a"], ["b"]], "hypothesis 1 .* string"),
        ([["a", "b"]], [["a", "b"]], "hypothesis 0 .* string"),  # one reference where a list of them belongs
        (["a b"], [["a", "b"]], "hypothesis 0 .* string"),
    ],
)
def test_a_corpus_that_does_not_fit_is_a_value_error(references, hypotheses, message):
    with pytest.raises(ValueError, match=message):
        corpus_bleu(references, hypotheses)


# ---- corpus_bleu: any corpus


def test_corpus_bleu_equals_sacrebleus_on_300_random_corpora(rng):
    some, none = [0] * 4, [0] * 4
    for _ in range(300):
        references, hypotheses = random_corpus(rng, least=1)
        streams = [[" ".join(refs[k]) if k < len(refs) else None for refs in references] for k in range(4)]
        ours = corpus_bleu(references, hypotheses)
        for n in (1, 2, 3, 4):
            theirs = BLEU(max_ngram_order=n, smooth_method="none", tokenize="none", force=True)
            score = theirs.corpus_score([*map(" ".join, hypotheses)], streams).score / 100
            assert ours[n - 1] == pytest.approx(score, rel=0, abs=1e-12)
            some[n - 1] += ours[n - 1] > 0
            none[n - 1] += ours[n - 1] == 0
    assert min(some) > 50 and min(none) > 0  # the corpora show both


@pytest.mark.parametrize("seed", range(20))
def test_order_copies_and_kind_of_words_do_not_change_bleu(seed):
    rng = np.random.default_rng(seed)
    references, hypotheses = random_corpus(rng)
    scores = corpus_bleu(references, hypotheses)
    order = rng.permutation(len(hypotheses))
    assert corpus_bleu([references[i] for i in order], [hypotheses[i] for i in order]) == scores
    assert corpus_bleu([refs[::-1] for refs in references], hypotheses) == scores
    assert corpus_bleu([refs + refs[:1] for refs in references], hypotheses) == scores
    assert corpus_bleu(references * 3, hypotheses * 3) == scores

    def numbered(caption):
        return tuple(int(word[1:]) for word in caption)

    numbers = [[numbered(ref) for ref in refs] for refs in references], [numbered(h) for h in hypotheses]
    assert corpus_bleu(*numbers) == scores
    arrays = [[np.array(ref, int) for ref in refs] for refs in numbers[0]], [np.array(h) for h in numbers[1]]
    assert corpus_bleu(*arrays) == scores


# ---- BLEU_score


@pytest.mark.parametrize(
    "gt, sample, score",
    [
        ("a man rides a horse", "a man rides a horse", 1),
        ("a man rides a horse", "horse a rides man a", 1),  # words only, in any order
        ("a man rides a horse", "a man rides a dog", F(4, 5)),
        ("a man rides a horse", "a a a a a", F(2, 5)),
        ("a man", "a man rides a horse", F(2, 5)),  # too long: the second "a" is clipped
        ("a man rides a horse", "a man", E(1 - 5 / 2)),
        ("a man rides a horse", "a dog", E(1 - 5 / 2) / 2),
        ("a man rides a horse", "horse", E(1 - 5)),
        ("dog", "dog", 1),
        ("dog", "cat", 0),
        ("a man", "", 0),
        ("a man", "  ", 0),
        ("", "a man", 0),
        ("", "", 0),
    ],
)
def test_bleu_score_is_the_value_by_hand(gt, sample, score):
    got = BLEU_score(gt, sample)
    assert type(got) is float and got == pytest.approx(float(score), rel=1e-14, abs=0)


@pytest.mark.parametrize("word", ["<START>", "<END>", "<UNK>", "<NULL>"])
def test_bleu_score_drops_special_words_from_both(word):
    assert BLEU_score(f"{word} a {word} b {word}", "a b") == 1  # a longer truth would cost brevity
    assert BLEU_score("a b", f"{word} a b {word} {word}") == 1  # a longer sample would cost precision
    assert BLEU_score(f"a {word}", word) == 0
    assert BLEU_score(word, "a") == 0


def test_bleu_score_keeps_words_that_only_look_special():
    assert BLEU_score("END a", "END a") == 1 and BLEU_score("a <END>b", "a") == pytest.approx(E(1 - 2))


# ---- decode_captions

WORDS = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "cat", "sits"]


@pytest.mark.parametrize(
    "caption, text",
    [
        ([1, 4, 5, 6, 2, 0, 0], "a cat sits"),
        ([4, 5, 2, 6, 2], "a cat"),
        ([4, 0, 5, 0], "a cat"),
        ([3, 4], "<UNK> a"),
        ([2, 4], ""),
        ([0, 0], ""),
    ],
)
def test_decode_reads_up_to_end_without_start_and_null(caption, text):
    assert decode_captions(np.array(caption, np.int32), WORDS) == text
    assert decode_captions([caption, caption], WORDS) == [text, text]


def test_decode_of_no_captions_is_an_empty_list():
    assert decode_captions(np.zeros((0, 5), int), WORDS) == []


@pytest.mark.parametrize("word", [-1, 7])
def test_decode_names_a_word_outside_the_vocabulary(word):
    with pytest.raises(IndexError, match=rf"captions\[0, 1\] is {word}, outside 0 ... 6"):
        decode_captions([[4, word, 4]], WORDS)


def test_decode_refuses_captions_that_are_not_integers():
    with pytest.raises(TypeError, match="captions has dtype float64"):
        decode_captions(np.zeros((2, 3)), WORDS)


# ---- evaluate_model


def make_data(rng, photos=300, each=2, split="val"):
    """Every photo has `each` equal captions of 4 to 8 words and its own number as its one feature."""
    captions = np.zeros((photos, 10), np.int64)
    for caption, words in zip(captions, rng.integers(4, 9, photos), strict=True):
        caption[: words + 2] = [1, *rng.integers(4, 24, words), 2]
    idxs = rng.permutation(np.repeat(np.arange(photos), each))
    return SimpleNamespace(
        captions={split: captions[idxs]},
        image_idxs={split: idxs},
        features={split: np.arange(photos, dtype=np.float64)[:, None]},
        idx_to_word=WORDS[:4] + [f"w{i}" for i in range(20)] + ["never"],
        of_photo=captions,
    )


class Numpy:
    """Knows the caption of every photo, and notes which photos it is shown."""

    def __init__(self, of_photo):
        self.of_photo, self.batches = of_photo, []

    def sample(self, features):
        assert type(features) is np.ndarray and features.dtype == np.float32
        self.batches.append(features[:, 0].astype(int).tolist())
        captions = self.of_photo[self.batches[-1]]
        return captions[:, 1 : captions.any(axis=0).sum()]  # without <START>, as wide as this minibatch needs

    @property
    def seen(self):
        return [photo for batch in self.batches for photo in batch]


class Torch(Numpy):
    def sample(self, features):
        return torch.from_numpy(super().sample(features))


class Gpu(Numpy):
    """Its captions are on a device: no array until they are fetched."""

    def sample(self, features):
        captions = super().sample(features)
        return SimpleNamespace(cpu=lambda: torch.from_numpy(captions))


MODELS = pytest.mark.parametrize("Model", [Numpy, Torch, Gpu])


@MODELS
@pytest.mark.parametrize("n", [7, 600, 1000])
def test_a_perfect_model_gets_1(rng, Model, n):
    data = make_data(rng)
    score = evaluate_model(Model(data.of_photo), data, "val", n)
    assert type(score) is float and score == 1


@MODELS
def test_a_model_that_is_all_wrong_gets_0(rng, Model):
    data = make_data(rng)
    never = np.full_like(data.of_photo, data.idx_to_word.index("never"))
    assert evaluate_model(Model(never), data, "val") == 0


@MODELS
def test_evaluate_model_is_the_mean_by_hand(Model):
    data = SimpleNamespace(
        captions={"val": np.array([[1, 4, 5, 6, 2], [1, 5, 2, 0, 0], [1, 4, 5, 2, 0]])},
        image_idxs={"val": np.array([1, 0, 1])},
        features={"val": np.arange(2.0)[:, None]},
        idx_to_word=WORDS,
    )
    model = Model(np.array([[1, 6, 2, 0], [1, 4, 5, 2]]))
    # photo 1 is "a cat": of "a cat sits" exp(1 - 3/2), of "a cat" 1; photo 0 is "sits", not "cat"
    assert evaluate_model(model, data, "val") == pytest.approx((E(-1 / 2) + 0 + 1) / 3, rel=1e-14)
    assert model.batches == [[0, 1]]


def test_each_photo_is_captioned_once(rng):
    data = make_data(rng, photos=600, each=3)
    model = Numpy(data.of_photo)
    evaluate_model(model, data, "val", n=10_000)
    assert model.batches == [list(range(600))]


def test_n_captions_are_drawn_without_replacement_by_the_seed(rng):
    data = make_data(rng, photos=40, each=1)
    for n, seed in [(1, 0), (5, 0), (5, 1), (39, 2)]:
        model = Numpy(data.of_photo)
        evaluate_model(model, data, "val", n, seed)
        drawn = np.random.default_rng(seed).choice(40, n, replace=False)
        assert len(model.seen) == n and sorted(model.seen) == sorted(data.image_idxs["val"][drawn])


def test_1000_captions_are_drawn_by_default_with_seed_0(rng):
    data = make_data(rng, photos=1100, each=1)
    default, spelled = Numpy(data.of_photo), Numpy(data.of_photo)
    evaluate_model(default, data, "val")
    evaluate_model(spelled, data, "val", n=1000, seed=0)
    assert default.batches == spelled.batches and len(default.seen) == 1000


@pytest.mark.parametrize(
    "split, n, message",
    [("tset", 5, "'tset'.*'val'"), ("empty", 5, "'empty'"), ("val", 0, "n is 0"), ("val", -3, "-3")],
)
def test_an_unknown_or_empty_split_or_n_below_1_is_an_error(rng, split, n, message):
    data = make_data(rng)
    data.captions["empty"] = data.captions["val"][:0]
    with pytest.raises(ValueError, match=message):
        evaluate_model(Numpy(data.of_photo), data, split, n)


@pytest.mark.parametrize("part", [np.s_[0], np.s_[:-1], np.s_[:, 1]])  # one caption, one too few, one word each
def test_a_sample_of_the_wrong_shape_is_a_value_error(rng, part):
    data = make_data(rng)
    model = SimpleNamespace(sample=lambda features: data.of_photo[: len(features)][part])
    with pytest.raises(ValueError, match=r"captions has shape .*, expected \(N, T\) = \(300, "):
        evaluate_model(model, data, "val")
