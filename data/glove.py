"""Word vectors for problem 6: read from any GloVe text file, or trained on the sentences themselves (Pennington 2014).

J. Pennington, R. Socher, C. Manning: GloVe: Global Vectors for Word Representation, EMNLP 2014.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data import HOME, DataError, files, locate
from data.results import seed_all, shown

USUAL = "glove.6B.50d*.txt"  # the file that is taken where `--glove` names none
SIZE, WINDOW, X_MAX, ALPHA = 50, 10, 10.0, 0.75  # the paper's, but for x_max: it has 100, for billions of words
LONGEST = 1 << 20  # bytes: no line of a text file of vectors is longer
LARGEST = 10_000  # numbers that a vector may have; a model of larger ones would not be loaded again


@dataclass(frozen=True)
class Vectors:
    """Word vectors (V, D) float32 of a vocabulary, zero where `found` (V,) bool is False, and where they are from."""

    vectors: np.ndarray
    found: np.ndarray
    name: str

    def coverage(self, counts):
        """The share that has a vector: of the vocabulary's words, and of their occurrences (tokens) `counts` (V,)."""
        counts = np.asarray(counts)
        return {
            "words": float(self.found[counts > 0].mean()),
            "tokens": float(counts[self.found].sum() / counts.sum()),
        }


def load(words, sentences, data, file, cache, seed=0):
    """The `Vectors` of `words`: of `file` (`--glove`), or of the real set's glove.6B.50d*, or trained on `sentences`.

    data: the script's `--data`; what is trained is kept in the folder `cache` by its content.
    Raises DataError where a file is broken, or holds none of the words.
    """
    folder = None if data == "builtin" else locate("glove", data or HOME)
    found = sorted(folder.glob(USUAL)) if folder and not file else []
    path = Path(file) if file else found[0] if found else None
    if path is None:
        path, name = trained(sentences, cache, seed), "GloVe trained on the training sentences"
    else:
        name = f"{shown(path.name, 60)}, SHA-256 {files.sha256(path)[:8]}"
    vectors, found = read(path, words)
    if not found.any():
        raise DataError(f"{path}: holds none of the {len(words):,} words of the vocabulary; give another --glove")
    return Vectors(vectors, found, name)


# ---- a file of vectors


def read(path, words):
    """The vectors of `words` from a text file of lines `word x1 ... xD`, as GloVe and word2vec write them.

    A first line of two whole numbers (how many words, D) is passed over. Every line's length is checked, but only the
    lines of `words` are turned into numbers and kept. Of a word that comes twice the first counts.
    Returns (vectors (len(words), D) float32, found (len(words),) bool); rows of words that are not there are zero.
    Raises DataError, naming the line, on a line of another length (a word with a space in it, a file cut short) or with
    something that is no finite number.
    """
    wanted = {word.encode(): k for k, word in enumerate(words)}
    rows = {}
    with files.user_errors(path), open(path, "rb") as lines:
        head = lines.readline(LONGEST).split()
        if not head:
            raise DataError(f"{path}, line 1: is empty; there should be a word and its vector")
        header = len(head) == 2 and all(field.isdigit() for field in head)
        if len(head) < 2 or (header and not lines.read(1)):
            raise DataError(f"{path}, line 1: holds no vector; each line should be a word and its numbers")
        size = int(head[1][:9]) if header else len(head) - 1
        if not 1 <= size <= LARGEST:
            raise DataError(f"{path}, line 1: vectors of {size:,} numbers; they should have 1 to {LARGEST:,}")
        lines.seek(0)
        for number, line in enumerate(iter(lambda: lines.readline(LONGEST), b""), 1):
            if header and number == 1:
                continue
            if len(line) == LONGEST:
                raise DataError(f"{path}, line {number}: is longer than any line of vectors; mend or remove it")
            if (count := line.rstrip().count(b" ")) != size:
                guess = "a word with a space in it, or numbers too many" if count > size else "cut short"
                raise DataError(
                    f"{path}, line {number}: has {count} numbers behind its word, the first line has {size} ({guess}); "
                    "mend or remove the line"
                )
            k = wanted.get(line[: line.find(b" ")])
            if k is not None and k not in rows:
                rows[k] = _numbers(path, number, line)
    vectors, found = np.zeros((len(words), size), np.float32), np.zeros(len(words), bool)
    for k, row in rows.items():
        vectors[k], found[k] = row, True
    return vectors, found


def _numbers(path, number, line):
    """The vector (D,) float32 of a line. Raises DataError where one of its numbers is none, or is not finite."""
    try:
        with np.errstate(over="ignore"):
            values = np.array([float(text) for text in line.rstrip().split(b" ")[1:]], np.float32)
    except ValueError as error:
        found = str(error).rpartition(": ")[2].removeprefix("b")
        raise DataError(f"{path}, line {number}: {found} is not a number; mend or remove the line") from None
    if not np.isfinite(values).all():
        raise DataError(f"{path}, line {number}: holds a number that is not finite; mend or remove the line")
    return values


# ---- training


def cooccurrences(sentences, index, window=WINDOW):
    """How often words stand near each other: X_ij sums 1/distance over all pairs at most `window` apart in a sentence.

    sentences: lists of words. index: word -> number from 0; other words are passed over but keep their place.
    Returns (i, j, x): the pairs with X_ij > 0 as int64 arrays and their X_ij as float32. X is symmetric.
    """
    tokens = np.array([index.get(word, -1) for sentence in sentences for word in sentence])
    owner = np.repeat(np.arange(len(sentences)), [len(sentence) for sentence in sentences])
    pairs, x = np.empty(0, np.int64), np.empty(0)
    for distance in range(1, window + 1):
        left, right = tokens[:-distance], tokens[distance:]
        near = (owner[:-distance] == owner[distance:]) & (left >= 0) & (right >= 0)
        left, right = left[near], right[near]
        keys = np.concatenate([left * len(index) + right, right * len(index) + left])
        found, counts = np.unique(keys, return_counts=True)  # one distance at a time: all together take tenfold memory
        pairs, where = np.unique(np.concatenate([pairs, found]), return_inverse=True)
        x = np.bincount(where.ravel(), np.concatenate([x, counts / distance]), len(pairs))
    return pairs // len(index), pairs % len(index), x.astype(np.float32)


def train(sentences, words, size=SIZE, epochs=20, lr=0.05, batch_size=4096, seed=0):
    """GloVe: the w, b that minimize J = sum_ij f(X_ij) (w_i . w~_j + b_i + b~_j - log X_ij)^2 by AdaGrad.

    f(x) = min(1, (x / X_MAX)^ALPHA); X as in `cooccurrences`. A word's vector is w_i + w~_i, as in the paper.
    AdaGrad (Duchi 2011) divides each number's step by the root of the sum of its squared gradients so far; here a step
    is taken for a batch of pairs, on the rows that the batch touches.
    Returns float32 (len(words), size).
    """
    seed_all("glove", seed)
    i, j, x = (torch.from_numpy(part) for part in cooccurrences(sentences, {w: k for k, w in enumerate(words)}))
    weight, log_x = (x / X_MAX).pow(ALPHA).clamp(max=1), x.log()
    # A word's row: its vector and its bias, times two for word and context. Row i + V is the context word's.
    table = (torch.rand(2 * len(words), size + 1) - 0.5) / size
    squares = torch.ones_like(table)
    for epoch in tqdm(range(epochs), desc="training GloVe", leave=False):
        seed_all("glove", seed, epoch)
        for batch in torch.randperm(len(x)).split(batch_size):
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


def trained(sentences, cache, seed=0):
    """The text file in `cache` of the vectors that `train` gives for the words seen twice or more in `sentences`.

    Where no word comes twice, it has them all. It is written on the first call for these sentences (and this seed) and
    found again later.
    """
    name = files.fingerprint(sentences, seed, SIZE, WINDOW, X_MAX, ALPHA, Path(__file__).read_text(encoding="utf-8"))
    path = Path(cache) / f"glove-{name}.txt"
    if not path.is_file():
        counts = Counter(word for sentence in sentences for word in sentence)
        words = [word for word, count in counts.most_common() if count > 1] or list(counts)
        vectors = train(sentences, words, seed=seed)
        lines = (
            f"{word} {' '.join(f'{value:.5f}' for value in row)}\n" for word, row in zip(words, vectors, strict=True)
        )
        files.write_text(path, "".join(lines))
    return path
