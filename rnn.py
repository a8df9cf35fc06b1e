"""The captioning model in numpy: an RNN or an LSTM that starts from a photo's features and says a word at each step."""

from collections import namedtuple

import numpy as np

from layers import (
    check_indices,
    check_shapes,
    dropout_backward,
    dropout_forward,
    fc_backward,
    fc_forward,
    weighted_softmax_loss,
)
from rnn_layers import (
    lstm_backward,
    lstm_forward,
    lstm_step_forward,
    rnn_backward,
    rnn_forward,
    rnn_step_forward,
    word_embedding_backward,
    word_embedding_forward,
)

SPECIAL = ("<NULL>", "<START>", "<END>", "<UNK>")  # padding, the first word, the last one, any word not known
AT_ONCE = 640  # captions that one beam search keeps open: bounds its memory


def _rnn_step(x, h, c, *weights):
    return rnn_step_forward(x, h, *weights)[0], c


def _lstm_step(x, h, c, *weights):
    return lstm_step_forward(x, h, c, *weights)[:2]


Cell = namedtuple("Cell", "width forward backward step")  # width: of Wx, in H; step: of words said one by one
CELLS = {
    "rnn": Cell(1, rnn_forward, rnn_backward, _rnn_step),
    "lstm": Cell(4, lstm_forward, lstm_backward, _lstm_step),
}


class CaptioningRNN:
    """h0 = features W_proj + b_proj, h = rnn or lstm(W_embed[words so far]), word scores = h W_vocab + b_vocab.

    word_to_idx: each word's index, 0 ... V - 1, with <NULL>, <START> and <END> among the words (<UNK> may be).
    input_dim: D, size of a photo's features. wordvec_dim: W, of a word's vector. hidden_dim: H. cell_type: 'rnn' or
    'lstm'. dtype: of the parameters and of all that is computed. seed: of their random start, the course's: normal
    numbers times 0.01 (W_embed) or 1/sqrt(rows) (the other matrices), and biases of 0.

    params: W_proj (D, H), b_proj (H,), W_embed (V, W), Wx (W, kH), Wh (H, kH), b (kH,), W_vocab (H, V), b_vocab (V,),
    where k is 1 for the RNN and 4 for the LSTM.
    Raises ValueError for another cell type, or a vocabulary that lacks these words or does not number them 0 ... V - 1.
    """

    def __init__(
        self, word_to_idx, input_dim=512, wordvec_dim=128, hidden_dim=128, cell_type="rnn", dtype=np.float32, seed=0
    ):
        if cell_type not in CELLS:
            raise ValueError(f"cell_type is {cell_type!r}, expected 'rnn' or 'lstm'")
        V = len(word_to_idx)
        missing = [word for word in SPECIAL[:3] if word not in word_to_idx]
        if missing or sorted(word_to_idx.values()) != list(range(V)):
            raise ValueError(f"word_to_idx lacks {missing[0]}" if missing else "word_to_idx does not number its words")
        self.word_to_idx, self.cell_type, self.dtype = word_to_idx, cell_type, np.dtype(dtype)
        self.null, self.start, self.end, self.unk = (word_to_idx.get(word) for word in SPECIAL)

        k, rng = CELLS[cell_type].width, np.random.default_rng(seed)
        D, W, H = input_dim, wordvec_dim, hidden_dim
        normal = {
            "W_proj": ((D, H), D**-0.5), "W_embed": ((V, W), 0.01), "Wx": ((W, k * H), W**-0.5),
            "Wh": ((H, k * H), H**-0.5), "W_vocab": ((H, V), H**-0.5),
        }  # fmt: skip
        self.params = {name: scale * rng.standard_normal(shape) for name, (shape, scale) in normal.items()}
        self.params |= {"b_proj": np.zeros(H), "b": np.zeros(k * H), "b_vocab": np.zeros(V)}
        self.params = {name: value.astype(self.dtype) for name, value in self.params.items()}

    @property
    def _cell_weights(self):
        return [self.params[name] for name in ("Wx", "Wh", "b")]

    def loss(self, features, captions, dropout=0.0, rng=None):
        """Cross entropy of each next word, summed over a caption's words, averaged over the minibatch; its gradients.

        features: (N, D), captions: (N, T + 1) integers: <START>, the words, <END>, then <NULL> alone. At step t the
        model reads captions[:, t] and shall say captions[:, t + 1]; where that is <NULL> it is not asked.
        dropout: the probability with which each number of the features, of the word vectors, and of the hidden states
        that the scores are made from, is dropped, in training; rng, a np.random.Generator, draws which (needed then).

        Returns loss, grads: a dict like params. Raises ValueError for other shapes or captions without a word,
        IndexError for a word outside the vocabulary.
        """
        p = self.params
        N, _, _ = check_shapes(features=(features, "N D"), captions=(captions, "N T"))
        check_indices("captions", captions, len(self.word_to_idx))
        words_in, words_out = captions[:, :-1].T, captions[:, 1:].T  # (T, N): time first, as the recurrent layers go
        asked = words_out != self.null
        if not asked.any():
            raise ValueError("captions hold no word but <NULL>")
        T = np.flatnonzero(asked.any(axis=1))[-1] + 1  # behind it all captions are padding
        words_in, words_out, asked = words_in[:T], words_out[:T], asked[:T]
        _, forward, backward, _ = CELLS[self.cell_type]

        features = features.astype(self.dtype, copy=False)
        if dropout:
            features, _ = dropout_forward(features, dropout, rng)
        h0, proj_cache = fc_forward(features, p["W_proj"], p["b_proj"])
        x, embed_cache = word_embedding_forward(words_in, p["W_embed"])  # (T, N, W)
        if dropout:
            x, x_cache = dropout_forward(x, dropout, rng)
        h, cell_cache = forward(x, h0, *self._cell_weights)  # (T, N, H)
        # From here on temporal_fc and temporal_softmax_loss, over the R places that are asked alone.
        spoken = h[asked]  # (R, H)
        if dropout:
            spoken, spoken_cache = dropout_forward(spoken, dropout, rng)
        scores, vocab_cache = fc_forward(spoken, p["W_vocab"], p["b_vocab"])  # (R, V)
        weight = np.full(len(scores), 1 / N, self.dtype)
        loss, dscores = weighted_softmax_loss(scores, words_out[asked], weight)

        grads = {}
        dspoken, grads["W_vocab"], grads["b_vocab"] = fc_backward(dscores, vocab_cache)
        if dropout:
            dspoken = dropout_backward(dspoken, spoken_cache)
        dh = np.zeros_like(h)
        dh[asked] = dspoken
        dx, dh0, grads["Wx"], grads["Wh"], grads["b"] = backward(dh, cell_cache)
        if dropout:
            dx = dropout_backward(dx, x_cache)
        grads["W_embed"] = word_embedding_backward(dx, embed_cache)
        _, grads["W_proj"], grads["b_proj"] = fc_backward(dh0, proj_cache)
        return loss, grads

    def _start(self, features):
        """h0 and c0 (N, H) of photos' features (N, D)."""
        h0, _ = fc_forward(features.astype(self.dtype, copy=False), self.params["W_proj"], self.params["b_proj"])
        return h0, np.zeros_like(h0)

    def _next(self, words, h, c):
        """One step from `words` (N,): the scores (N, V) of the next word, and h, c."""
        p = self.params
        h, c = CELLS[self.cell_type].step(p["W_embed"][words], h, c, *self._cell_weights)
        return fc_forward(h, p["W_vocab"], p["b_vocab"])[0], h, c

    def _never(self, unk):
        """The indices of the words that are never said."""
        return [self.null, self.start] + [self.unk] * (not unk and self.unk is not None)

    def sample(self, features, max_length=30, unk=True):
        """Greedy captions: at each step the word of the highest score, which is read at the next.

        features: (N, D), max_length: words to say at most, <END> included. unk: whether <UNK> may be said.
        Returns captions: (N, max_length) integers, without <START>, <NULL> behind <END>.
        """
        N, D = check_shapes(features=(features, "N D"))
        captions = np.full((N, max_length), self.null)
        words, ended = np.full(N, self.start), np.zeros(N, bool)
        h, c = self._start(features)
        for t in range(max_length):
            scores, h, c = self._next(words, h, c)
            scores[:, self._never(unk)] = -np.inf
            words = scores.argmax(axis=1)
            captions[:, t] = np.where(ended, self.null, words)
            ended |= words == self.end
            if ended.all():
                break
        return captions

    def beam_search(self, features, beam_width=3, max_length=30, length_power=0.7, unk=True):
        """The likeliest captions that a beam search finds; with beam_width 1 those of `sample`.

        At each step every open caption is continued by every word and the best beam_width of all are kept, by the sum
        of their words' log probabilities; one that says <END> is finished, and the beam is narrower by it from then on.
        The best of the finished ones has the largest sum / length^length_power (length with <END>): the sum alone
        prefers short captions. A caption cut at max_length is taken only where none is finished.

        Arguments and result as `sample`'s. beam_width: 1 or more. Raises ValueError for less.
        """
        if beam_width < 1:
            raise ValueError(f"beam_width is {beam_width}, expected 1 or more")
        check_shapes(features=(features, "N D"))
        photos = max(1, AT_ONCE // beam_width)
        parts = [
            self._beam_search(features[k : k + photos], beam_width, max_length, length_power, unk)
            for k in range(0, len(features), photos)
        ]
        return np.concatenate([np.empty((0, max_length), int), *parts])

    def _beam_search(self, features, B, max_length, length_power, unk):
        N, V = len(features), len(self.word_to_idx)
        photos = np.arange(N)
        h, c = (np.repeat(state, B, axis=0) for state in self._start(features))  # (N B, H)
        words = np.full(N * B, self.start)
        captions = np.full((N, B, max_length), self.null)
        log_p = np.full((N, B), -np.inf)  # of each open caption; there is one at first
        log_p[:, 0] = 0
        room = np.full(N, B)  # how many captions may be open
        best, best_score = captions[:, 0].copy(), np.full(N, -np.inf)
        for t in range(max_length):
            scores, h, c = self._next(words, h, c)
            continued = log_softmax(scores)
            continued[:, self._never(unk)] = -np.inf
            continued = continued.reshape(N, B, V) + log_p[:, :, None]
            places, log_p = largest(continued.reshape(N, B * V), B)
            log_p[np.arange(B) >= room[:, None]] = -np.inf
            parents, said = np.divmod(places, V)
            captions = np.take_along_axis(captions, parents[:, :, None], axis=1)
            captions[:, :, t] = said

            finished = (said == self.end) & (log_p > -np.inf)
            score = np.where(finished, log_p / (t + 1) ** length_power, -np.inf)
            winner = score.argmax(axis=1)
            better = score[photos, winner] > best_score
            best[better] = captions[better, winner[better]]
            best_score = np.maximum(best_score, score.max(axis=1))
            room -= finished.sum(axis=1)
            log_p[finished] = -np.inf
            if not room.any():
                break
            rows = (photos[:, None] * B + parents).ravel()
            h, c, words = h[rows], c[rows], said.ravel()
        cut = best_score == -np.inf
        best[cut] = captions[cut, log_p[cut].argmax(axis=1)]
        return best


def log_softmax(scores):
    """log(e^x / Σ e^x) of each row of scores (N, V), as float64 (N, V), so that unequal scores stay unequal."""
    shifted = scores.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def largest(values, count):
    """The `count` largest of each row of `values` (N, M), falling, the first of equals first. Overwrites `values`.

    Returns their places in the row (N, count), integers, and themselves (N, count).
    """
    rows = np.arange(len(values))
    places, found = np.empty((len(values), count), int), np.empty((len(values), count))
    for k in range(count):
        places[:, k] = values.argmax(axis=1)
        found[:, k] = values[rows, places[:, k]]
        values[rows, places[:, k]] = -np.inf
    return places, found
