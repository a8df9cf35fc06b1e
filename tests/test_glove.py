"""data/glove.py: any file of vectors is read, a broken line is named, trained vectors know what goes together."""

import collections
import tracemalloc

import numpy as np
import pytest
import torch

from data import DataError, glove, results
from tests.runs import check_one_error

WORDS = ["", "_unknown_", "good", "bad", "naïve"]


def write(path, *lines):
    path.write_bytes(b"".join(line if isinstance(line, bytes) else f"{line}\n".encode() for line in lines))
    return path


# ---- reading


def test_vectors_come_in_the_vocabularys_order_and_are_zero_where_the_file_has_none(tmp_path):
    path = write(tmp_path / "v.txt", "the 1 2 3", "bad -0.5 1e-2 7", "naïve 0 0 1", "good 4 5 6")
    vectors, found = glove.read(path, WORDS)
    assert vectors.dtype == np.float32 and found.tolist() == [False, False, True, True, True]
    np.testing.assert_allclose(vectors, [[0, 0, 0], [0, 0, 0], [4, 5, 6], [-0.5, 0.01, 7], [0, 0, 1]])


@pytest.mark.parametrize(
    "lines",
    [("2 3", "bad 1 2 3", "good 4 5 6"), ("bad 1 2 3 ", "good 4 5 6 "), ("bad 1 2 3\r", "good 4 5 6\r"),
     ("bad 1 2 3", b"good 4 5 6")],
    ids=["word2vec's line of counts", "a blank at the end", "Windows' ends of line", "no end of the last line"],
)  # fmt: skip
def test_what_other_programs_write_is_read_alike(tmp_path, lines):
    vectors, found = glove.read(write(tmp_path / "v.txt", *lines), WORDS)
    assert vectors[2:4].tolist() == [[4, 5, 6], [1, 2, 3]] and found.sum() == 2


def test_a_word_that_is_a_number_is_no_line_of_counts(tmp_path):
    vectors, _ = glove.read(write(tmp_path / "v.txt", "7 1 2", "good 3 4"), ["7", "good"])
    assert vectors.tolist() == [[1, 2], [3, 4]]


def test_of_a_word_that_comes_twice_the_first_counts(tmp_path):
    vectors, _ = glove.read(write(tmp_path / "v.txt", "good 1 2", "good 3 4"), ["good"])
    assert vectors.tolist() == [[1, 2]]


BROKEN = {
    "a shorter line": (["good 1 2 3", "bad 1 2"], "line 2"),
    "a shorter line of a word that nobody asked for": (["good 1 2 3", "strange 1 2"], "line 2"),
    "a word with a space in it": (["good 1 2 3", "new york 1 2 3"], "line 2"),
    "a longer line": (["good 1 2 3", "bad 1 2 3", "bad 1 2 3 4"], "line 3"),
    "an empty line": (["good 1 2 3", "", "bad 1 2 3"], "line 2"),
    "not a number": (["good 1 two 3"], "'two'"),
    "nan": (["the 1 2 3", "good 1 nan 3"], "line 2"),
    "infinity": (["good 1 inf 3"], "line 1"),
    "an empty first line": (["", "good 1 2 3"], "line 1"),
    "an empty file": ([], "line 1"),
    "words alone": (["good", "bad"], "line 1"),
    "counts that are not the lines'": (["2 4", "good 1 2 3"], "line 2"),
    "counts and nothing more": (["2 3"], "line 1"),
    "bytes of a binary file": ([b"2 3\n", b"good \x00\x01\n\x02\xff\xfe"], "line 2"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_line_is_named(tmp_path, case):
    lines, said = BROKEN[case]
    path = write(tmp_path / "v.txt", *lines)
    check_one_error(lambda: glove.read(path, WORDS), path, said)


def test_a_first_line_with_a_number_of_5000_digits_is_a_dataerror(tmp_path):
    with pytest.raises(DataError, match="line 1: vectors of 111,111,111 numbers"):
        glove.read(write(tmp_path / "v.txt", "3 " + "1" * 5000, "film 1 2"), ["film"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="nosuch.txt: No such file"):
        glove.read(tmp_path / "nosuch.txt", WORDS)


def test_of_a_large_file_only_the_vectors_of_the_vocabulary_are_kept_in_memory(tmp_path):
    numbers = " ".join("0.12345" for _ in range(50))
    path = write(tmp_path / "v.txt", *(f"word{k} {numbers}" for k in range(20_000)))
    tracemalloc.start()
    try:
        vectors, found = glove.read(path, ["word7", "word19999", "nosuch"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert vectors.shape == (3, 50) and found.sum() == 2 and peak < path.stat().st_size / 10


# ---- which vectors a run uses


def sentences_of_two_topics(count=300):
    """Sentences of words a0..a4 or b0..b4 only: what belongs together stands together."""
    rng = np.random.default_rng(0)
    return [[f"{'ab'[k % 2]}{word}" for word in rng.integers(0, 5, 6)] for k in range(count)]


def test_a_file_that_is_named_goes_before_the_sets_own_and_that_before_training(tmp_path):
    (tmp_path / "glove").mkdir()
    write(tmp_path / "glove" / "glove.6B.50d.subset.txt", "a0 1 2")
    write(tmp_path / "glove" / "glove.6B.100d.txt", "a0 9 9")
    write(tmp_path / "mine.txt", "a0 3 4")
    words, sentences = ["a0"], sentences_of_two_topics(10)
    own = glove.load(words, sentences, tmp_path, None, tmp_path / "cache")
    named = glove.load(words, sentences, tmp_path, tmp_path / "mine.txt", tmp_path / "cache")
    assert own.vectors.tolist() == [[1, 2]] and own.name.startswith("glove.6B.50d.subset.txt, SHA-256 ")
    assert named.vectors.tolist() == [[3, 4]] and named.name.startswith("mine.txt, ")
    assert not (tmp_path / "cache").exists()
    trained = glove.load(words, sentences, "builtin", None, tmp_path / "cache")
    assert trained.vectors.shape == (1, glove.SIZE) and "trained" in trained.name


def test_a_file_without_any_word_of_the_vocabulary_is_refused(tmp_path):
    with pytest.raises(DataError, match="mine.txt: holds none of the 2 words"):
        glove.load(["x", "y"], [["x"]], "builtin", write(tmp_path / "mine.txt", "a 1"), tmp_path)


def test_a_line_that_is_cut_short_is_told_by_the_numbers_that_it_has_a_blank_at_its_end_or_not(tmp_path):
    with pytest.raises(DataError, match=r"line 2: has 2 numbers behind its word, the first line has 3 \(cut short\)"):
        glove.read(write(tmp_path / "mine.txt", "a 1 2 3", "b 1 2 "), ["a"])


def test_coverage_counts_words_and_their_occurrences():
    vectors = glove.Vectors(np.zeros((4, 2)), np.array([False, True, True, False]), "")
    assert vectors.coverage([0, 8, 1, 1]) == pytest.approx({"words": 2 / 3, "tokens": 0.9})


def test_trained_vectors_are_kept_by_content(tmp_path, monkeypatch):
    sentences = sentences_of_two_topics(60)
    first = glove.trained(sentences, tmp_path)
    content = first.read_bytes()
    assert glove.trained(sentences[:-1], tmp_path) != first and len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(glove, "train", None)  # not needed again
    assert glove.trained(sentences, tmp_path) == first and first.read_bytes() == content


def test_sentences_in_which_no_word_comes_twice_get_vectors_of_all_their_words(tmp_path):
    vectors = glove.load(["good", "bad", "new"], [["good", "food"], ["bad"]], "builtin", None, tmp_path)
    assert vectors.found.tolist() == [True, True, False]


# ---- training


def naive_cooccurrences(sentences, window):
    found = collections.Counter()
    for sentence in sentences:
        for s, first in enumerate(sentence):
            for t, second in enumerate(sentence):
                if 0 < abs(s - t) <= window:
                    found[first, second] += 1 / abs(s - t)
    return found


@pytest.mark.parametrize("window", [1, 3, 10])
def test_cooccurrences_are_those_of_two_plain_loops(window):
    rng = np.random.default_rng(window)
    words = [f"w{k}" for k in range(7)]
    sentences = [[words[k] for k in rng.integers(0, 7, length)] for length in (1, 2, 5, 12, 3)]
    i, j, x = glove.cooccurrences(sentences, {word: k for k, word in enumerate(words)}, window)
    counted = {(words[a], words[b]): c for a, b, c in zip(i, j, x, strict=True)}
    assert counted == pytest.approx(naive_cooccurrences(sentences, window))


def test_words_out_of_the_vocabulary_keep_their_place_in_the_sentence():
    i, j, x = glove.cooccurrences([["a", "rare", "b"]], {"a": 0, "b": 1})
    assert (i.tolist(), j.tolist(), x.tolist()) == ([0, 1], [1, 0], [0.5, 0.5])


def test_training_brings_the_weighted_squares_of_the_paper_near_zero():
    """With as many numbers a word as there are words, w . w~ + b + b~ can be log X itself."""
    sentences, words = sentences_of_two_topics(40), [f"{side}{k}" for side in "ab" for k in range(5)]
    tables = {}
    for epochs in (0, 400):
        tables[epochs] = glove.train(sentences, words, size=12, epochs=epochs, batch_size=16)
        assert tables[epochs].shape == (10, 12) and tables[epochs].dtype == np.float32
    assert np.isfinite(tables[400]).all() and np.abs(tables[400]).max() > 5 * np.abs(tables[0]).max()


def test_training_is_adagrad_on_the_paper_s_cost_and_adds_word_and_context_vectors():
    sentences, words = [["a", "b", "c"], ["a", "b"]] * 9, ["a", "b", "c"]  # a and b meet more than X_MAX times
    V, size, lr = len(words), 2, 0.05
    pairs = list(zip(*glove.cooccurrences(sentences, {word: k for k, word in enumerate(words)}), strict=True))
    assert max(x for _, _, x in pairs) > glove.X_MAX > min(x for _, _, x in pairs)
    results.seed_all("glove", 3)
    table = ((torch.rand(2 * V, size + 1) - 0.5) / size).double().numpy()  # vector and bias: words, then contexts
    squares = np.ones_like(table)
    for _ in range(4):
        gradient = np.zeros_like(table)
        for i, j, x in pairs:
            word, context = table[i], table[j + V]
            error = word[:-1] @ context[:-1] + word[-1] + context[-1] - np.log(x)
            slope = min(1, (x / glove.X_MAX) ** glove.ALPHA) * error
            gradient[i] += slope * np.append(context[:-1], 1)
            gradient[j + V] += slope * np.append(word[:-1], 1)
        squares += gradient**2
        table -= lr * gradient / np.sqrt(squares)
    found = glove.train(sentences, words, size, epochs=4, lr=lr, seed=3)
    np.testing.assert_allclose(found, table[:V, :-1] + table[V:, :-1], atol=1e-5)


def cosine(vectors, first, second):
    a, b = vectors[first], vectors[second]
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_words_that_stand_together_get_nearer_vectors_than_words_that_never_do():
    words = [f"{side}{k}" for side in "ab" for k in range(5)]
    vectors = glove.train(sentences_of_two_topics(), words, size=8, epochs=60, batch_size=64)
    pairs = [(k, m) for k in range(10) for m in range(k)]
    same = [cosine(vectors, k, m) for k, m in pairs if words[k][0] == words[m][0]]
    other = [cosine(vectors, k, m) for k, m in pairs if words[k][0] != words[m][0]]
    assert np.mean(same) > np.mean(other) + 0.3


def test_one_seed_gives_the_same_vectors_and_another_gives_others():
    run = [glove.train(sentences_of_two_topics(30), ["a0", "a1", "b0"], size=4, epochs=2, seed=s) for s in (0, 0, 1)]
    assert (run[0] == run[1]).all() and (run[0] != run[2]).any()
