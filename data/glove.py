"""Word vectors for problem 6: read from a file, or trained (Pennington, Socher, Manning: GloVe, EMNLP 2014)."""

import gzip
import re
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from common.cli import UserError, shown, user_errors, write_text
from data import fingerprint, locate, sha256, visible

SIZE, WINDOW, X_MAX, ALPHA = 50, 10, 10.0, 0.75  # the paper's values, except x_max: its 100 is for billions of words
ENDINGS = (".txt", ".vec", ".gz", ".zip")
BOM = b"\xef\xbb\xbf"  # the byte-order mark that some editors write before UTF-8 text


@dataclass(frozen=True)
class Vectors:
    """Word vectors (V, D) float32 for a vocabulary, zero where `found` (V,) bool is False. name: their origin."""

    vectors: np.ndarray
    found: np.ndarray
    name: str

    def coverage(self, counts):
        """The shares of words, and of their occurrences ("tokens"), that have a vector. counts: (V,), for each word."""
        counts = np.asarray(counts)
        tokens = counts[self.found].sum() / counts.sum()
        return {"words": float(self.found[counts > 0].mean()), "tokens": float(tokens)}


def load(words, sentences, data, file, cache, seed=0):
    """The Vectors of `words`: from `file` (--glove), else from the real set's glove/ (50-d preferred), else `trained`.

    sentences: lists of words to train on. data: the script's --data. cache: the folder for trained vectors.
    Raises UserError if the file is missing or broken, or has none of the words.
    """
    if not file and data != "builtin" and (folder := locate("glove", data)):
        files = [path for path in folder.rglob("*") if path.is_file() and visible(path.name)]
        file = min((path for path in files if path.suffix.lower() in ENDINGS), key=preference, default=None)
        if files and not file:
            raise UserError(f"{files[0]}: is not a .txt, .vec, .gz or .zip file of word vectors; remove it, or --glove")
    path = Path(file) if file else trained(sentences, cache, seed)
    name = (
        f"{shown(path.name, 60)}, SHA-256 {sha256(on_disk(path))[:8]}"
        if file
        else "GloVe trained on the training sentences"
    )
    vectors, found = read(path, words)
    if not found.any():
        raise UserError(f"{path}: has none of the {len(words):,} words of the vocabulary; give another --glove")
    return Vectors(vectors, found, name)


def on_disk(path):
    """The file that holds `path`: the archive for ARCHIVE.zip/MEMBER, else `path`."""
    return next((part for part in (path, *path.parents) if part.is_file()), path)


def open_vectors(path):
    """Opens a file of word vectors: text, gzip, or a zip's member, ARCHIVE.zip/MEMBER, by default its 50-d one.

    Raises UserError if the archive has no such file.
    """
    path = Path(path)
    packed = on_disk(path)
    if packed.suffix.lower() != ".zip":
        return gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb")
    archive, asked = zipfile.ZipFile(packed), path.relative_to(packed).as_posix()
    names = [Path(name) for name in archive.namelist() if Path(name).suffix.lower() in ENDINGS[:2]]
    names = [n for n in names if all(map(visible, n.parts)) and asked in (".", n.as_posix(), n.name)]
    if not names:
        what = "holds no .txt file" if asked == "." else "no such file in the archive"
        raise UserError(f"{path}: {what}; it holds {', '.join(archive.namelist()[:6])}")
    return archive.open(min(names, key=preference).as_posix())


def preference(path):
    """Sort key for files of word vectors: first those of size 50, then archives, last those that name another size."""
    size = re.search(r"\d+d(?![a-z])", path.name)
    return not size or size[0] != "50d", path.suffix.lower() != ".zip", not size, path.name


def read(path, words):
    """The vectors of `words` from a file of lines `word x1 ... xD`, as GloVe and word2vec write them.

    A word may contain spaces. Skips blank lines and word2vec's first line of two integers; of repeated words, the first
    counts. Raises UserError, naming the line, if a line has another number of values than the first line or a vector of
    `words` is not finite; naming the file, if it is binary, truncated or broken.
    Returns (vectors (len(words), D) float32, found (len(words),) bool); zeros where not found.
    """
    wanted = {word.encode(): k for k, word in enumerate(words)}
    size = number = 0
    try:
        with user_errors(path), open_vectors(path) as file:
            for number, line in enumerate(file, 1):
                line = line.removeprefix(BOM).rstrip()
                header = number == 1 and re.fullmatch(rb"\d+ (\d+)", line)
                if not size:
                    size = int(header[1]) if header else _count_numbers(line)
                    vectors, found = np.zeros((len(words), size), np.float32), np.zeros(len(words), bool)
                if header or not line:
                    continue
                if b"\0" in line:
                    raise UserError(f"{path}: is in word2vec's binary format, or has no vectors; save them as text")
                word = line[: line.find(b" ")]
                if line.count(b" ") != size or not size:
                    if not size:
                        raise ValueError("should be a word and the numbers of its vector")
                    if (count := _count_numbers(line)) != size:
                        raise ValueError(f"{count} numbers after the word instead of {size}")
                    word = line.rsplit(b" ", size)[0]
                k = wanted.get(word)
                if k is not None and not found[k]:
                    vectors[k], found[k] = [float(text) for text in line.rsplit(b" ", size)[1:]], True
                    if not np.isfinite(vectors[k]).all():
                        raise ValueError("holds a number that is not finite")
    except (EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        raise UserError(f"{path}: is cut short, encrypted or broken; unpack it, or get it again") from None
    except ValueError as error:
        raise UserError(f"{path}, line {number}: {error}; correct or remove the line") from None
    if not size:
        raise UserError(f"{path}, line 1: should be a word and the numbers of its vector")
    return vectors, found


def _count_numbers(line):
    """How many numbers are at the end of the line."""
    return re.search(rb"(?: [-+]?\.?\d[-+.\deE]*)*$", line)[0].count(b" ")


def cooccurrences(sentences, index, window=WINDOW):
    """Co-occurrence counts: X_ij is the sum of 1/distance over all pairs at most `window` words apart in a sentence.

    sentences: lists of words. index: {word: number from 0}; other words do not count but keep their position.
    Returns (i, j, x): the pairs with X_ij > 0 as int64 arrays, and their X_ij as float32. X is symmetric.
    """
    tokens = np.array([index.get(word, -1) for sentence in sentences for word in sentence])
    owner = np.repeat(np.arange(len(sentences)), [len(sentence) for sentence in sentences])
    pairs, x = np.empty(0, np.int64), np.empty(0)
    for distance in range(1, window + 1):
        left, right = tokens[:-distance], tokens[distance:]
        near = (owner[:-distance] == owner[distance:]) & (left >= 0) & (right >= 0)
        left, right = left[near], right[near]
        keys = np.concatenate([left * len(index) + right, right * len(index) + left])
        found, counts = np.unique(keys, return_counts=True)  # one distance at a time needs a tenth of the memory
        pairs, where = np.unique(np.concatenate([pairs, found]), return_inverse=True)
        x = np.bincount(where.ravel(), np.concatenate([x, counts / distance]), len(pairs))
    return pairs // len(index), pairs % len(index), x.astype(np.float32)


def train(sentences, words, size=SIZE, epochs=20, lr=0.05, batch_size=4096, seed=0):
    """GloVe: the w, b that minimize J = sum_ij f(X_ij) (w_i . w~_j + b_i + b~_j - log X_ij)^2 by AdaGrad.

    f(x) = min(1, (x / X_MAX)^ALPHA); X as in `cooccurrences`. A word's vector is w_i + w~_i, as in the paper. AdaGrad
    (Duchi 2011) divides each step by the root of the sum of squared gradients; every batch of pairs is one step, which
    updates only their rows. Returns float32 (len(words), size).
    """
    i, j, x = (torch.from_numpy(part) for part in cooccurrences(sentences, {w: k for k, w in enumerate(words)}))
    weight, log_x = (x / X_MAX).pow(ALPHA).clamp(max=1), x.log()
    # Row i: w_i and b_i. Row i + V: w~_i and b~_i.
    table = (torch.rand(2 * len(words), size + 1, generator=_generator("glove", seed)) - 0.5) / size
    squares = torch.ones_like(table)
    for epoch in tqdm(range(epochs), desc="training GloVe", leave=False):
        for batch in torch.randperm(len(x), generator=_generator("glove", seed, epoch)).split(batch_size):
            rows = torch.cat([i[batch], j[batch] + len(words)])  # (2B,)
            word, context = table[rows].chunk(2)
            difference = (word[:, :-1] * context[:, :-1]).sum(1) + word[:, -1] + context[:, -1] - log_x[batch]
            slope = (weight[batch] * difference)[:, None]  # dJ / d(w.w~ + b + b~), halved
            dword, dcontext = slope * context, slope * word
            dword[:, -1:] = dcontext[:, -1:] = slope
            touched, where = rows.unique(return_inverse=True)
            gradient = torch.zeros(len(touched), size + 1).index_add_(0, where, torch.cat([dword, dcontext]))
            squares[touched] += gradient**2
            table[touched] -= lr * gradient / squares[touched].sqrt()
    word, context = table[:, :-1].chunk(2)
    return (word + context).numpy()


def _generator(*parts):
    return torch.Generator().manual_seed(int(fingerprint(*parts)[:8], 16))


def trained(sentences, cache, seed=0):
    """The file in `cache` with `train`'s vectors for words that occur twice or more (for all words if none does)."""
    name = fingerprint(sentences, seed, SIZE, WINDOW, X_MAX, ALPHA, Path(__file__).read_text(encoding="utf-8"))
    path = Path(cache) / f"glove-{name}.txt"
    if not path.is_file():
        counts = Counter(word for sentence in sentences for word in sentence)
        words = [word for word, count in counts.most_common() if count > 1] or list(counts)
        vectors = zip(words, train(sentences, words, seed=seed), strict=True)
        write_text(path, "".join(f"{word} {' '.join(f'{x:.5f}' for x in vector)}\n" for word, vector in vectors))
    return path
