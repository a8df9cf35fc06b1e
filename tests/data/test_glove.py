"""data/glove.py: files of vectors are read, a broken line is named, trained vectors are those of the paper."""

import numpy as np
import pytest
import torch

from common.cli import UserError
from data import glove

WORDS = ["", "_unknown_", "good", "bad", "naïve"]


def write(path, *lines):
    path.write_bytes(b"".join(line if isinstance(line, bytes) else f"{line}\n".encode() for line in lines))
    return path


def test_vectors_come_in_the_order_of_the_words(tmp_path):
    path = write(tmp_path / "v.txt", "the 1 2 3", "bad -0.5 1e-2 7", "naïve 0 0 1", "good 4 5 6")
    vectors, found = glove.read(path, WORDS)
    assert vectors.dtype == np.float32 and found.tolist() == [False, False, True, True, True]
    np.testing.assert_allclose(vectors, [[0, 0, 0], [0, 0, 0], [4, 5, 6], [-0.5, 0.01, 7], [0, 0, 1]])


@pytest.mark.parametrize(
    "lines",
    [("2 3", "bad 1 2 3", "good 4 5 6"), ("bad 1 2 3 ", "good 4 5 6 "), ("bad 1 2 3\r", "good 4 5 6\r"),
     ("bad 1 2 3", b"good 4 5 6"),
     (b"\xef\xbb\xbf", "bad 1 2 3", "good 4 5 6"), (b"\xef\xbb\xbf", "2 3", "bad 1 2 3", "good 4 5 6")],
    ids=["word2vec's header", "blanks at the end", "Windows' line ends", "no last line end", "a byte-order mark",
         "a byte-order mark and a header"],
)  # fmt: skip
def test_files_of_other_programs_are_read(tmp_path, lines):
    vectors, found = glove.read(write(tmp_path / "v.txt", *lines), WORDS)
    assert vectors[2:4].tolist() == [[4, 5, 6], [1, 2, 3]] and found.sum() == 2


def test_the_first_of_equal_words_counts(tmp_path):
    vectors, _ = glove.read(write(tmp_path / "v.txt", "7 1 2", "good 3 4", "good 5 6"), ["7", "good"])
    assert vectors.tolist() == [[1, 2], [3, 4]]


BROKEN = {
    "a shorter line": (["good 1 2 3", "bad 1 2"], "line 2: 2 numbers instead of 3"),
    "a line cut after a blank": (["good 1 2 3", "bad 1 2 "], "line 2: 2 numbers"),
    "a word with a space": (["good 1 2 3", "new york 1 2 3"], "line 2: 4 numbers"),
    "an empty line": (["good 1 2 3", "", "bad 1 2 3"], "line 2"),
    "not a number": (["good 1 two 3"], "line 1: could not convert string to float: b'two'"),
    "nan": (["the 1 2 3", "good 1 nan 3"], "line 2: holds a number that is not finite"),
    "an empty file": ([], "line 1"),
    "a header that does not fit": (["2 4", "good 1 2 3"], "line 2: 3 numbers instead of 4"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_line_is_named(tmp_path, case):
    lines, message = BROKEN[case]
    with pytest.raises(UserError, match=f"v.txt, {message}"):
        glove.read(write(tmp_path / "v.txt", *lines), WORDS)


def test_a_named_file_comes_before_the_usual_one(tmp_path):
    (tmp_path / "glove").mkdir()
    write(tmp_path / "glove" / "glove.6B.50d.subset.txt", "a0 1 2")
    write(tmp_path / "glove" / "glove.6B.100d.txt", "a0 9 9")
    usual = glove.load(["a0"], [], tmp_path, None, tmp_path)
    assert usual.vectors.tolist() == [[1, 2]] and usual.name.startswith("glove.6B.50d.subset.txt, SHA-256 ")
    named = glove.load(["a0"], [], tmp_path, str(write(tmp_path / "mine.txt", "a0 3 4")), tmp_path)
    assert named.vectors.tolist() == [[3, 4]] and named.name.startswith("mine.txt, ")


def test_without_a_file_vectors_are_trained_once(tmp_path, monkeypatch):
    for _ in range(2):
        vectors = glove.load(["good", "bad", "new"], [["good", "food"], ["bad"]], "builtin", None, tmp_path)
        assert vectors.found.tolist() == [True, True, False] and "trained" in vectors.name
        assert vectors.vectors.shape == (3, glove.SIZE)
        monkeypatch.setattr(glove, "train", None)  # not needed again


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nosuch.txt: No such file"):
        glove.load(["a"], [], "builtin", tmp_path / "nosuch.txt", tmp_path)


def test_a_file_without_any_of_the_words_is_an_error(tmp_path):
    with pytest.raises(UserError, match="mine.txt: has none of the 2 words"):
        glove.load(["x", "y"], [], "builtin", write(tmp_path / "mine.txt", "a 1"), tmp_path)


def test_coverage_counts_words_and_their_occurrences():
    vectors = glove.Vectors(np.zeros((4, 2)), np.array([False, True, True, False]), "")
    assert vectors.coverage([0, 8, 1, 1]) == pytest.approx({"words": 2 / 3, "tokens": 0.9})


@pytest.mark.parametrize("window, repeated", [(2, []), (3, [(0, 0, 2 / 3)])])
def test_cooccurrences(window, repeated):
    i, j, x = glove.cooccurrences([["a", "b", "rare", "a"], ["b"]], {"a": 0, "b": 1}, window)
    expected = [*repeated, (0, 1, 1.5), (1, 0, 1.5)]  # 1 for neighbours, 1/2 across "rare"
    assert [*zip(i.tolist(), j.tolist(), x.tolist(), strict=True)] == [pytest.approx(triple) for triple in expected]


def test_training_is_adagrad_on_the_cost_of_the_paper():
    sentences, words = [["a", "b", "c"], ["a", "b"]] * 9, ["a", "b", "c"]  # a and b meet more than X_MAX times
    V, size, lr = len(words), 2, 0.05
    pairs = list(zip(*glove.cooccurrences(sentences, {word: k for k, word in enumerate(words)}), strict=True))
    assert max(x for _, _, x in pairs) > glove.X_MAX > min(x for _, _, x in pairs)
    start = torch.rand(2 * V, size + 1, generator=glove._generator("glove", 3))
    table = ((start - 0.5) / size).double().numpy()  # vector and bias: words, then contexts
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
