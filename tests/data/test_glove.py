"""data/glove.py: vector files are read, errors name the broken line, training follows the paper."""

import gzip
import zipfile

import numpy as np
import pytest
import torch

from common.cli import UserError
from data import glove

WORDS = ["", "_unknown_", "good", "bad", "naïve"]


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_vectors_follow_the_order_of_the_words(tmp_path):
    path = write(tmp_path / "v.txt", "7 1 2 3", "bad -0.5 1e-2 7", "naïve 0 0 1", "good 4 5 6", "good 1 1 1")
    vectors, found = glove.read(path, WORDS)
    assert vectors.dtype == np.float32 and found.tolist() == [False, False, True, True, True]
    np.testing.assert_allclose(vectors, [[0, 0, 0], [0, 0, 0], [4, 5, 6], [-0.5, 0.01, 7], [0, 0, 1]])


FOREIGN = {
    "word2vec's header": "2 3\nbad 1 2 3\ngood 4 5 6\n",
    "blanks at the end": "bad 1 2 3 \ngood 4 5 6 \n",
    "Windows line ends": "bad 1 2 3\r\ngood 4 5 6\r\n",
    "no last line end": "bad 1 2 3\ngood 4 5 6",
    "a byte-order mark and a header": "\ufeff2 3\nbad 1 2 3\ngood 4 5 6\n",
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_files_of_other_programs_are_read(tmp_path, text):
    (tmp_path / "v.txt").write_bytes(text.encode())
    vectors, found = glove.read(tmp_path / "v.txt", WORDS)
    assert vectors[2:4].tolist() == [[4, 5, 6], [1, 2, 3]] and found.sum() == 2


VECTORS = b"good 1 2 3\nnew york 4 5 6\n. . . 7 8 9\n\n"


@pytest.mark.parametrize("name, member", [("v.vec", ""), ("v.txt.GZ", ""), ("v.zip", ""), ("v.zip", "v.50d.txt")])
def test_compressed_files_and_words_with_blanks_are_read(tmp_path, name, member):
    path = tmp_path / "glove" / name
    path.parent.mkdir()
    path.write_bytes(gzip.compress(VECTORS) if path.suffix == ".GZ" else VECTORS)
    (path.parent / "._v.50d.txt").write_bytes(b"junk of another program")
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("v.250d.txt", "good 9 9\n")
            archive.writestr("folder/v.50d.txt", VECTORS)
    read = glove.load(["good", "new york", ". . .", "new"], [], tmp_path, member and path / member, None)
    assert read.found.tolist() == [True, True, True, False]
    assert read.vectors[:3].ravel().tolist() == [*range(1, 10)]


def test_a_folder_without_readable_vectors_is_an_error(tmp_path):
    (tmp_path / "glove").mkdir()
    (tmp_path / "glove" / "glove.kv").touch()
    with pytest.raises(UserError, match="glove.kv: is not a .txt"):
        glove.load(["good"], [["good"]], tmp_path, None, tmp_path)


BROKEN = {
    "a shorter line": (["good 1 2 3", "bad 1 2"], "line 2: 2 numbers after the word instead of 3"),
    "not a number": (["good 1 2 3", "bad 1 two 3"], "line 2: could not convert string to float: b'two'"),
    "nan": (["the 1 2 3", "good 1 nan 3"], "line 2: holds a number that is not finite"),
    "an empty file": ([], "line 1"),
    "a word without numbers": (["good"], "line 1: should be a word and the numbers"),
    "a header that does not fit": (["2 4", "good 1 2 3"], "line 2: 3 numbers after the word instead of 4"),
    "word2vec's binary format": (["2 3", "good " + 12 * "\0"], "is in word2vec's binary format"),
}


@pytest.mark.parametrize("lines, message", BROKEN.values(), ids=BROKEN)
def test_an_error_names_the_broken_line(tmp_path, lines, message):
    with pytest.raises(UserError, match=f"v.txt[,:] {message}"):
        glove.read(write(tmp_path / "v.txt", *lines), WORDS)


def test_a_given_file_comes_before_the_default_file(tmp_path):
    (tmp_path / "glove").mkdir()
    write(tmp_path / "glove" / "glove.6B.50d.subset.txt", "a0 1 2")
    write(tmp_path / "glove" / "glove.6B.100d.txt", "a0 9 9")
    usual = glove.load(["a0"], [], tmp_path, None, tmp_path)
    assert usual.vectors.tolist() == [[1, 2]] and usual.name.startswith("glove.6B.50d.subset.txt, SHA-256 ")
    named = glove.load(["a0"], [], tmp_path, str(write(tmp_path / "mine.txt", "a0 3 4")), tmp_path)
    assert named.vectors.tolist() == [[3, 4]] and named.name.startswith("mine.txt, ")


def test_without_a_file_vectors_are_trained_only_once(tmp_path, monkeypatch):
    for _ in range(2):
        vectors = glove.load(["good", "bad", "new"], [["good", "food"], ["bad"]], "builtin", None, tmp_path)
        assert vectors.found.tolist() == [True, True, False] and "trained" in vectors.name
        assert vectors.vectors.shape == (3, glove.SIZE)
        monkeypatch.setattr(glove, "train", None)  # must not be called again


def test_coverage_counts_words_and_their_occurrences():
    vectors = glove.Vectors(np.zeros((4, 2)), np.array([False, True, True, False]), "")
    assert vectors.coverage([0, 8, 1, 1]) == pytest.approx({"words": 2 / 3, "tokens": 0.9})


@pytest.mark.parametrize("window, repeated", [(2, []), (3, [(0, 0, 2 / 3)])])
def test_cooccurrences_are_weighted_by_distance(window, repeated):
    i, j, x = glove.cooccurrences([["a", "b", "rare", "a"], ["b"]], {"a": 0, "b": 1}, window)
    expected = [*repeated, (0, 1, 1.5), (1, 0, 1.5)]  # 1 for neighbors, 1/2 across "rare"
    assert [*zip(i.tolist(), j.tolist(), x.tolist(), strict=True)] == [pytest.approx(triple) for triple in expected]


def test_training_is_adagrad_on_the_papers_cost():
    sentences, words = [["a", "b", "c"], ["a", "b"]] * 9, ["a", "b", "c"]  # a and b co-occur more than X_MAX times
    i, j, x = map(torch.tensor, glove.cooccurrences(sentences, {word: k for k, word in enumerate(words)}))
    assert x.max() > glove.X_MAX > x.min()
    table = (torch.rand(6, 3, generator=glove._generator("glove", 3)) - 0.5) / 2  # three words, then three contexts
    squares = torch.ones_like(table)
    for _ in range(4):
        table.requires_grad_()
        (w, b), (c, d) = (rows.split([2, 1], 1) for rows in (table[i], table[j + 3]))
        errors = (w * c).sum(1) + b[:, 0] + d[:, 0] - x.log()
        cost = ((x / glove.X_MAX) ** glove.ALPHA).clamp(max=1) @ errors**2 / 2
        [gradient] = torch.autograd.grad(cost, table)
        squares += gradient**2
        table = (table - 0.05 * gradient / squares.sqrt()).detach()
    found = glove.train(sentences, words, 2, epochs=4, lr=0.05, seed=3)
    np.testing.assert_allclose(found, table[:3, :-1] + table[3:, :-1], atol=1e-5)
