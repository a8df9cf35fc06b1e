"""The captioning model in numpy: an RNN or LSTM that starts from a photo's features and predicts one word per step."""

import numpy as np

from bleu_utils import SPECIAL
from layers import as_arrays, as_floats, check_indices, dropout_backward, dropout_forward, fc_backward, fc_forward
from rnn_layers import (
    lstm_backward,
    lstm_forward,
    lstm_step_forward,
    rnn_backward,
    rnn_forward,
    rnn_step_forward,
    temporal_fc_backward,
    temporal_fc_forward,
    temporal_softmax_loss,
    word_embedding_backward,
    word_embedding_forward,
)

CELLS = {"rnn": (1, rnn_forward, rnn_backward), "lstm": (4, lstm_forward, lstm_backward)}  # gates, forward, backward
PHOTOS_AT_ONCE = 128  # limits the memory of a beam search


class CaptioningRNN:
    """h0 = features W_proj + b_proj, h = rnn or lstm(W_embed[words so far]), word scores = h W_vocab + b_vocab.

    word_to_idx: {word: number}, must contain <NULL>; sampling also needs <START> and <END>. V = len(word_to_idx).
    input_dim: D, size of a photo's features. wordvec_dim: W, size of a word vector. hidden_dim: H. cell_type: 'rnn' or
    'lstm'. dtype: of the parameters, the loss and the gradients. seed: of the initial weights. As in the course, they
    are standard normal numbers times 0.01 (W_embed) or 1/sqrt(rows) (the other matrices); the biases are 0.

    params: W_proj (D, H), b_proj (H,), W_embed (V, W), Wx (W, kH), Wh (H, kH), b (kH,), W_vocab (H, V), b_vocab (V,),
    where k is 1 for the RNN and 4 for the LSTM.
    Raises ValueError for an unknown cell type or a vocabulary without <NULL>.
    """

    def __init__(
        self, word_to_idx, input_dim=512, wordvec_dim=128, hidden_dim=128, cell_type="rnn", dtype=np.float32, seed=0
    ):
        if cell_type not in CELLS:
            raise ValueError(f"cell_type is {cell_type!r}, expected 'rnn' or 'lstm'")
        if "<NULL>" not in word_to_idx:
            raise ValueError("word_to_idx has no <NULL>")
        self.word_to_idx, self.cell_type, self.dtype = word_to_idx, cell_type, np.dtype(dtype)
        self.null, self.start, self.end, self.unk = (word_to_idx.get(word) for word in SPECIAL)

        rng = np.random.default_rng(seed)
        V, D, W, H, kH = len(word_to_idx), input_dim, wordvec_dim, hidden_dim, CELLS[cell_type][0] * hidden_dim
        shapes = {"W_proj": (D, H), "W_embed": (V, W), "Wx": (W, kH), "Wh": (H, kH), "W_vocab": (H, V)}
        self.params = {name: rng.standard_normal(shape) / np.sqrt(shape[0]) for name, shape in shapes.items()}
        self.params["W_embed"] *= 0.01 * np.sqrt(V)  # 0.01 instead of 1/sqrt(V)
        self.params |= {"b_proj": np.zeros(H), "b": np.zeros(kH), "b_vocab": np.zeros(V)}
        self.params = {name: value.astype(self.dtype) for name, value in self.params.items()}

    def loss(self, features, captions, rng=None, dropout=0.0, feature_dropout=0.0, word_dropout=0.0):
        """Cross-entropy loss of the next word, summed over each caption, averaged over the minibatch; its gradients.

        features: (N, D), captions: (N, T + 1) integers: <START>, the words, <END>, then <NULL>. At step t the model
        reads captions[:, t]; the target is captions[:, t + 1]. <NULL> targets do not count.
        dropout: drop probability for word vectors and hidden states, feature_dropout: for the features, word_dropout:
        probability that an input word becomes <UNK> (Bowman et al. 2016). rng: a np.random.Generator.

        Returns loss, grads: a dict like params. Raises IndexError for a word outside the vocabulary, TypeError unless
        captions are integers, ValueError for a wrong shape or if every target is <NULL>.
        """
        loss, cache = self.forward(features, captions, rng, dropout, feature_dropout, word_dropout)
        return loss, self.backward(cache)

    def forward(self, features, captions, rng=None, dropout=0.0, feature_dropout=0.0, word_dropout=0.0):
        """The loss and the cache for `backward`. Arguments and errors as in `loss`."""
        p, (_, cell_forward, _) = self.params, CELLS[self.cell_type]
        features, captions = as_arrays(features=(self._features(features), "N D"), captions=(captions, "N T"))
        check_indices("captions", captions, len(self.word_to_idx))
        counts = np.flatnonzero((captions[:, 1:] != self.null).any(axis=0))  # steps with a target other than <NULL>
        if len(counts) == 0:
            raise ValueError("captions have no target except <NULL>")
        T = counts[-1] + 1
        captions_in, captions_out = captions[:, :T], captions[:, 1 : T + 1]
        mask = captions_out != self.null
        if word_dropout:
            hidden = (rng.random(captions_in.shape) < word_dropout) & (captions_in != self.start)
            captions_in = np.where(hidden, self.unk, captions_in)

        features, _ = dropout_forward(features, feature_dropout, rng)
        h0, proj_cache = fc_forward(features, p["W_proj"], p["b_proj"])  # (N, H)
        x, embed_cache = word_embedding_forward(captions_in, p["W_embed"])  # (N, T, W)
        x, x_cache = dropout_forward(x, dropout, rng)
        h, cell_cache = cell_forward(x.swapaxes(0, 1), h0, p["Wx"], p["Wh"], p["b"])  # (T, N, H)
        h, h_cache = dropout_forward(h.swapaxes(0, 1), dropout, rng)  # (N, T, H)
        scores, vocab_cache = temporal_fc_forward(h, p["W_vocab"], p["b_vocab"])  # (N, T, V)
        loss, dscores = temporal_softmax_loss(scores, captions_out, mask)
        return loss, (dscores, vocab_cache, h_cache, cell_cache, x_cache, embed_cache, proj_cache)

    def backward(self, cache):
        """The gradient of each parameter, a dict like params."""
        dscores, vocab_cache, h_cache, cell_cache, x_cache, embed_cache, proj_cache = cache
        grads, (_, _, cell_backward) = {}, CELLS[self.cell_type]
        dh, grads["W_vocab"], grads["b_vocab"] = temporal_fc_backward(dscores, vocab_cache)
        dh = dropout_backward(dh, h_cache).swapaxes(0, 1)  # (T, N, H)
        dx, dh0, grads["Wx"], grads["Wh"], grads["b"] = cell_backward(dh, cell_cache)
        dx = dropout_backward(dx.swapaxes(0, 1), x_cache)  # (N, T, W)
        grads["W_embed"] = word_embedding_backward(dx, embed_cache)
        _, grads["W_proj"], grads["b_proj"] = fc_backward(dh0, proj_cache)
        return grads

    def _features(self, features):
        """The features (N, D) as an array of the model's dtype."""
        _, features = as_floats(W_proj=(self.params["W_proj"], "D H"), features=(features, "N D"))
        return features.astype(self.dtype, copy=False)

    def _start(self, features, unk):
        """h0 and c0 (N, H), the states before the first word, and the words that a caption must not contain."""
        if None in (self.start, self.end) or set(self.word_to_idx.values()) != set(range(len(self.word_to_idx))):
            raise ValueError("word_to_idx: sampling needs <START>, <END> and words numbered 0 ... V - 1")
        h0, _ = fc_forward(self._features(features), self.params["W_proj"], self.params["b_proj"])
        return h0, np.zeros_like(h0), [self.null, self.start] + [self.unk] * (not unk and self.unk is not None)

    def _next(self, words, h, c):
        """One step with input `words` (N,). Returns the scores (N, V) of the next word, and h, c."""
        p = self.params
        x, _ = word_embedding_forward(words, p["W_embed"])
        if self.cell_type == "rnn":
            h, _ = rnn_step_forward(x, h, p["Wx"], p["Wh"], p["b"])
        else:
            h, c, _ = lstm_step_forward(x, h, c, p["Wx"], p["Wh"], p["b"])
        return fc_forward(h, p["W_vocab"], p["b_vocab"])[0], h, c

    def sample(self, features, max_length=30, unk=True):
        """Greedy captions: each step picks the word with the highest score and feeds it to the next step.

        features: (N, D), max_length: maximum number of words, including <END>. unk: whether captions may contain <UNK>.
        Returns captions: (N, max_length) integers, without <START>, with <NULL> after <END>.
        Raises ValueError for a vocabulary without <START> or <END>, or with gaps in its numbers.
        """
        h, c, excluded = self._start(features, unk)
        captions = np.full((len(h), max_length), self.null)
        words, ended = np.full(len(h), self.start), np.zeros(len(h), bool)
        for t in range(max_length):
            scores, h, c = self._next(words, h, c)
            scores[:, excluded] = -np.inf
            words = scores.argmax(axis=1)
            captions[:, t] = np.where(ended, self.null, words)
            ended |= words == self.end
            if ended.all():
                break
        return captions

    def beam_search(self, features, beam_width=3, max_length=30, length_power=0.7, unk=True):
        """The most likely captions that a beam search finds; beam_width 1 gives the captions of `sample`.

        Each step extends every open caption with every word and keeps the beam_width ones with the highest sum of log
        probabilities. A caption that reaches <END> is finished, and the beam narrows by one. The result is the finished
        caption with the largest sum / length^length_power (the plain sum favors short captions; the length includes
        <END>), or the best open caption if none is finished. Other arguments, result and errors: as in `sample`.
        """
        if len(features) > PHOTOS_AT_ONCE:
            parts = np.split(features, range(PHOTOS_AT_ONCE, len(features), PHOTOS_AT_ONCE))
            return np.concatenate([self.beam_search(part, beam_width, max_length, length_power, unk) for part in parts])
        N, B, V = len(features), beam_width, len(self.word_to_idx)
        photo = np.arange(N)[:, None]
        h, c, excluded = self._start(features, unk)
        h, c = np.repeat(h, B, axis=0), np.repeat(c, B, axis=0)  # (N B, H)
        words = np.full((N, B), self.start)
        captions = np.full((N, B, max_length), self.null)
        log_p, finished = np.full((N, B), -np.inf), np.zeros((N, B), bool)
        log_p[:, 0] = 0  # start with one open caption
        for t in range(max_length):
            scores, h, c = self._next(words.ravel(), h, c)
            grown = log_p[:, :, None] + log_softmax(scores).reshape(N, B, V)
            grown[:, :, excluded] = -np.inf
            grown[finished] = -np.inf
            grown[finished, self.null] = np.inf  # a finished caption stays in the beam
            places, found = largest(grown.reshape(N, B * V), B)
            parent, words = np.divmod(places, V)
            captions = captions[photo, parent]
            captions[:, :, t] = words
            log_p = np.where(found == np.inf, log_p[photo, parent], found)
            finished = (found == np.inf) | ((words == self.end) & (found > -np.inf))
            if finished.all():
                break
            rows = (photo * B + parent).ravel()
            h, c = h[rows], c[rows]
        length = (captions != self.null).sum(axis=2)
        score = np.where(finished, log_p / length**length_power, -np.inf)
        best = np.where(finished.any(axis=1), score.argmax(axis=1), log_p.argmax(axis=1))
        return captions[photo[:, 0], best]


def log_softmax(scores):
    """log(e^x / Σ e^x) of each row of scores (N, V), in float64, so that unequal scores stay unequal."""
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def largest(values, count):
    """The `count` largest values of each row (N, M), in descending order, ties by position. Overwrites `values`.

    Returns their column indices (N, count) and their values (N, count).
    """
    rows = np.arange(len(values))
    places, found = np.empty((len(values), count), int), np.empty((len(values), count))
    for k in range(count):
        places[:, k] = values.argmax(axis=1)
        found[:, k] = values[rows, places[:, k]]
        values[rows, places[:, k]] = -np.inf
    return places, found
