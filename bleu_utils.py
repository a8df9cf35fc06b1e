"""BLEU, and how well a model's captions match the captions that people wrote.

BLEU counts the n-grams (n words in a row) that a hypothesis shares with its references: Papineni, Roukos, Ward and Zhu,
"BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002. `BLEU_score` and `evaluate_model` are the
homework's measure, one caption against one; `corpus_bleu` is the paper's, as captioning results are reported.
"""

import math
from collections import Counter
from itertools import chain

import numpy as np

SPECIAL = {"<START>", "<END>", "<UNK>", "<NULL>"}  # these words of a caption are no words of the language
BATCH = 250  # photos that evaluate_model hands to the model at once


def _ngrams(words):
    """How often each n-gram of 1 ... 4 words stands in the list, n-grams being tuples."""
    tails = [words[i:] for i in range(4)]
    return Counter(chain.from_iterable(zip(*tails[:n], strict=False) for n in range(1, 5)))


def corpus_bleu(references, hypotheses):
    """BLEU-1 ... BLEU-4 of a whole corpus, a tuple of four floats in 0 ... 1.

    BLEU-n = exp(min(0, 1 - r / c)) · (p_1 · ... · p_n)^(1/n), where p_k is the share of the hypotheses' k-grams that
    their references have too; a k-gram matches at most as often as it stands in any one reference of its hypothesis.
    c is the length of all hypotheses, r that of their references, of which each hypothesis picks the one closest to it
    in length (the shorter of two equally close). Counts and lengths are summed before anything is divided.

    hypotheses: N ≥ 1 lists of words, references: for each of them a list of one or more lists of words. Any hashable is
    a word (a string of words must be split first). Empty lists of words are allowed.

    There is no smoothing: BLEU-n is exactly 0 if an order up to n has no match, so BLEU-4 of captions of three words
    is. As in nltk, a hypothesis of fewer than k words counts as one k-gram without a match.

    Raises ValueError for an empty corpus, lists of different lengths, a hypothesis without references, and a string
    where a list of words belongs.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} lists of references for {len(hypotheses)} hypotheses")
    if len(hypotheses) == 0:
        raise ValueError("the corpus is empty: no hypotheses")
    matched, total = [0] * 4, [0] * 4  # of the n-grams of 1, 2, 3, 4 words
    r = c = 0
    for i, (hypothesis, refs) in enumerate(zip(hypotheses, references, strict=True)):
        if len(refs) == 0:
            raise ValueError(f"hypothesis {i} has no references")
        if any(isinstance(words, str) for words in (hypothesis, *refs)):
            raise ValueError(f"hypothesis {i} or a reference of it is a string, expected a list of words")
        c += len(hypothesis)
        r += min(map(len, refs), key=lambda length: (abs(length - len(hypothesis)), length))
        counts = [_ngrams(ref) for ref in refs]
        for ngram, count in _ngrams(hypothesis).items():
            matched[len(ngram) - 1] += min(count, max(ref.get(ngram, 0) for ref in counts))
        for k in range(4):
            total[k] += max(1, len(hypothesis) - k)
    brevity = math.exp(min(0, 1 - r / c)) if c else 0.0
    precisions = [m / t for m, t in zip(matched, total, strict=True)]
    return tuple(brevity * math.prod(precisions[:n]) ** (1 / n) for n in range(1, 5))


def BLEU_score(gt_caption, sample_caption):
    """Unigram BLEU of one caption against one other: `corpus_bleu`'s BLEU-1, a float in 0 ... 1.

    Both are strings of words with blanks between. <START>, <END>, <UNK> and <NULL> are dropped from both first; if
    nothing of the sample is left, the score is 0.
    """
    gt, sample = ([w for w in caption.split() if w not in SPECIAL] for caption in (gt_caption, sample_caption))
    return corpus_bleu([[gt]], [sample])[0]


def decode_captions(captions, idx_to_word):
    """The words of captions, joined by blanks: up to <END>, which is kept, and without <NULL>.

    captions: (N, T) or (T,) integers in 0 ... V - 1, idx_to_word: V words. Returns a list of N strings, or one string.
    Raises ValueError for another shape or dtype and IndexError for a word outside the vocabulary.
    """
    captions = np.asarray(captions)
    if captions.ndim not in (1, 2) or captions.dtype.kind not in "iu":
        raise ValueError(f"captions: {captions.dtype} of shape {captions.shape}, expected integers (N, T) or (T,)")
    outside = np.argwhere((captions < 0) | (captions >= len(idx_to_word)))
    if len(outside):
        word, V = captions[tuple(outside[0])], len(idx_to_word)
        raise IndexError(f"captions{outside[0].tolist()} is {word}, outside 0 ... {V - 1}")
    if captions.ndim == 2:
        return [decode_captions(caption, idx_to_word) for caption in captions]
    words = [idx_to_word[i] for i in captions.tolist()]
    if "<END>" in words:
        words = words[: words.index("<END>") + 1]
    return " ".join(word for word in words if word != "<NULL>")


def evaluate_model(model, data, split, n=1000, seed=0):
    """Mean BLEU_score of the model's captions over n captions of a split, a float in 0 ... 1.

    The captions are drawn without replacement by `np.random.default_rng(seed)`; a split of fewer is taken whole. Each
    photo that they describe is captioned once, 250 photos at a time.

    model: anything with `sample(features)`: (B, D) float32 numpy array -> (B, T) integers, a numpy array or a PyTorch
        tensor on any device; T may differ from call to call.
    data: `captions[split]`: (C, T) integers, <START> word ... <END> <NULL> ...; `image_idxs[split]`: (C,) integers, the
        photo of each caption; `features[split]`: (P, D) floats; `idx_to_word`: V words.
    Raises ValueError for n < 1, a split that is unknown or has no captions, and a sample of the wrong shape.
    """
    if split not in data.captions:
        raise ValueError(f"no split {split!r} in the captions, which have {', '.join(map(repr, data.captions))}")
    C = len(data.captions[split])
    if C == 0:
        raise ValueError(f"the split {split!r} has no captions")
    if n < 1:
        raise ValueError(f"n is {n}, expected at least 1")
    drawn = np.sort(np.random.default_rng(seed).choice(C, min(n, C), replace=False))
    photos, which = np.unique(data.image_idxs[split][drawn], return_inverse=True)
    sampled = []
    for start in range(0, len(photos), BATCH):
        features = np.asarray(data.features[split][photos[start : start + BATCH]], np.float32)
        captions = model.sample(features)
        captions = np.asarray(captions.cpu() if hasattr(captions, "cpu") else captions)
        if captions.ndim != 2 or len(captions) != len(features):
            raise ValueError(f"model.sample gave shape {captions.shape}, expected ({len(features)}, T)")
        sampled += decode_captions(captions, data.idx_to_word)
    gt = decode_captions(data.captions[split][drawn], data.idx_to_word)
    return float(np.mean([BLEU_score(caption, sampled[i]) for caption, i in zip(gt, which, strict=True)]))
