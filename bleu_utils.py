"""BLEU scores, and the evaluation of a captioning model.

BLEU counts the n-grams (n words in a row) that a hypothesis shares with its references: Papineni, Roukos, Ward and Zhu,
"BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002. `BLEU_score` and `evaluate_model` are the
homework's metric, one caption against one reference; `corpus_bleu` is the paper's, which captioning papers report.
"""

import math
from collections import Counter

import numpy as np

from layers import as_arrays, check_indices

SPECIAL = ("<NULL>", "<START>", "<END>", "<UNK>")  # padding, first word, last word, unknown word


def corpus_bleu(references, hypotheses):
    """BLEU-1 ... BLEU-4 of a whole corpus, a tuple of four floats in 0 ... 1.

    BLEU-n = exp(min(0, 1 - r / c)) · (p_1 · ... · p_n)^(1/n), where p_k is the share of the hypotheses' k-grams that
    also occur in their references; a k-gram matches at most as often as it occurs in any one reference. c is the total
    length of the hypotheses, r the total length of their references; for each hypothesis, the reference closest in
    length counts (the shorter one in a tie). Counts and lengths are summed over the corpus before any division.
    No smoothing: BLEU-n is 0 if some k ≤ n has no match.

    hypotheses: N ≥ 1 lists of words, references: for each hypothesis, a list of one or more lists of words. A word is
    anything hashable. Empty lists of words are allowed.

    Raises ValueError for an empty corpus, lists of different lengths, a hypothesis without references, or a string
    instead of a list of words.
    """
    if len(references) != len(hypotheses) or len(hypotheses) == 0:
        raise ValueError(f"{len(references)} lists of references for {len(hypotheses)} hypotheses")
    matched, total = [0] * 4, [0] * 4  # k-grams, k = 1 ... 4
    r = c = 0
    for i, hypothesis in enumerate(hypotheses):
        refs = references[i]
        if len(refs) == 0:
            raise ValueError(f"hypothesis {i} has no references")
        if any(isinstance(words, str) for words in (hypothesis, *refs)):
            raise ValueError(f"hypothesis {i} or one of its references is a string, expected a list of words")
        c += len(hypothesis)
        r += min(map(len, refs), key=lambda length: (abs(length - len(hypothesis)), length))
        for k in range(4):
            counts, ref_counts = _ngrams(hypothesis, k + 1), [_ngrams(ref, k + 1) for ref in refs]
            matched[k] += sum(min(n, max(ref[gram] for ref in ref_counts)) for gram, n in counts.items())
            total[k] += counts.total()
    brevity = math.exp(min(0, 1 - r / c)) if c else 0.0
    precisions = [matched[k] / max(1, total[k]) for k in range(4)]
    return tuple(brevity * math.prod(precisions[:n]) ** (1 / n) for n in range(1, 5))


def _ngrams(words, n):
    """The count of each n-gram (a tuple) in a list of words."""
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def BLEU_score(gt_caption, sample_caption):
    """Unigram BLEU of one caption against one reference: `corpus_bleu`'s BLEU-1, a float in 0 ... 1.

    Both are strings of words separated by whitespace. Special words are removed first; the score is 0 if the sample is
    then empty.
    """
    gt, sample = ([word for word in text.split() if word not in SPECIAL] for text in (gt_caption, sample_caption))
    return corpus_bleu([[gt]], [sample])[0]


def decode_captions(captions, idx_to_word):
    """Captions as text: the words before <END>, joined by spaces, without <START> and <NULL>.

    captions: (N, T) or (T,) integers in 0 ... V - 1, idx_to_word: V words. Returns a list of N strings, or one string.
    Raises IndexError for a word outside the vocabulary, TypeError unless captions are integers.
    """
    (captions,) = as_arrays(captions=(captions, "..."))
    check_indices("captions", captions, len(idx_to_word))
    texts = []
    for row in np.atleast_2d(captions).tolist():
        words = " ".join(idx_to_word[i] for i in row).partition("<END>")[0].split()
        texts.append(" ".join(word for word in words if word not in ("<NULL>", "<START>")))
    return texts if captions.ndim > 1 else texts[0]


def evaluate_model(model, data, split, n=1000, seed=0):
    """Mean BLEU_score of the model's captions over n captions of a split, a float in 0 ... 1.

    `np.random.default_rng(seed)` draws the captions without replacement; all are used if there are fewer than n.

    model: any object with `sample(features)`, called once with one row per distinct photo, (B, D) float32; returns
        (B, T) integers, a numpy array or a PyTorch tensor on any device.
    data: `captions[split]`: (C, T) integers, <START> word ... <END> <NULL> ...; `image_idxs[split]`: (C,) integers, the
        photo of each caption; `features[split]`: (P, D) floats; `idx_to_word`: V words.
    Raises ValueError for n < 1, an unknown or empty split, or a sample of the wrong shape.
    """
    if split not in data.captions or len(data.captions[split]) == 0:
        raise ValueError(f"no captions in split {split!r}; the splits are {', '.join(map(repr, data.captions))}")
    if n < 1:
        raise ValueError(f"n is {n}, expected at least 1")
    C = len(data.captions[split])
    drawn = np.sort(np.random.default_rng(seed).choice(C, min(n, C), replace=False))
    photos, which = np.unique(data.image_idxs[split][drawn], return_inverse=True)
    captions = model.sample(np.asarray(data.features[split][photos], np.float32))
    captions = captions.cpu() if hasattr(captions, "cpu") else captions
    _, captions = as_arrays(photos=(photos, "N"), captions=(captions, "N T"))
    sampled = decode_captions(captions, data.idx_to_word)
    gt = decode_captions(data.captions[split][drawn], data.idx_to_word)
    return float(np.mean([*map(BLEU_score, gt, (sampled[i] for i in which))]))
