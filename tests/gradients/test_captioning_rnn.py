"""The loss of CaptioningRNN: numeric gradients, the same model in PyTorch, padding, vocabularies."""

import numpy as np
import pytest
import torch

from image_captioning import TorchCaptioningRNN
from rnn import SPECIAL, CaptioningRNN
from tests.gradient_check import numeric_gradient, relative_error

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.parametrize("cell", ["rnn", "lstm"])]
WORDS = {word: k for k, word in enumerate((*SPECIAL, "a", "dog", "cat", "runs", "sleeps"))}
CAPTIONS = np.array([[1, 4, 5, 7, 2, 0, 0], [1, 4, 6, 2, 0, 0, 0], [1, 4, 5, 3, 8, 2, 0]])
FEATURES = np.random.default_rng(1).standard_normal((3, 4))


def model_of(cell, dtype=np.float64, seed=0):
    """A small model with weights so large that its words depend on the photo and on each other."""
    model, rng = CaptioningRNN(WORDS, 4, 3, 5, cell, dtype, seed), np.random.default_rng(seed)
    model.params = {name: rng.standard_normal(w.shape).astype(dtype) for name, w in model.params.items()}
    return model


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_match_numeric_gradients(cell, dropout):
    model = model_of(cell)
    _, grads = model.loss(FEATURES, CAPTIONS, np.random.default_rng(5), dropout, dropout, dropout)

    def loss(value, name):
        other = model_of(cell)
        other.params[name] = value
        return other.forward(FEATURES, CAPTIONS, np.random.default_rng(5), dropout, dropout, dropout)[0]

    assert grads.keys() == model.params.keys()
    for name, value in model.params.items():
        assert relative_error(grads[name], numeric_gradient(lambda w, name=name: loss(w, name), value)) < 1e-8, name


@pytest.mark.parametrize("word_dropout", [0.0, 1.0])
def test_loss_and_gradients_match_pytorch(cell, word_dropout):
    model, twin = model_of(cell), TorchCaptioningRNN(model_of(cell))
    exact = twin.loss(torch.tensor(FEATURES), torch.tensor(CAPTIONS), word_dropout=word_dropout)
    exact.backward()
    rng = np.random.default_rng(0)
    loss, grads = model.loss(FEATURES.tolist(), CAPTIONS.tolist(), rng, word_dropout=word_dropout)
    assert loss == pytest.approx(exact.item(), rel=1e-10)
    for name, parameter in twin.named_parameters():
        assert relative_error(grads[name], parameter.grad.numpy()) < 1e-10, name


def test_word_dropout_replaces_input_words_by_unk(cell):
    model, twin = model_of(cell), model_of(cell)
    keep = [WORDS["<START>"], WORDS["<UNK>"]]
    kept, embed = np.isin(range(len(WORDS)), keep)[:, None], twin.params["W_embed"]
    twin.params["W_embed"] = np.where(kept, embed, embed[3])
    loss, _ = model.loss(FEATURES, CAPTIONS, np.random.default_rng(0), word_dropout=1.0)
    assert loss == pytest.approx(twin.loss(FEATURES, CAPTIONS)[0], rel=1e-12) != model.loss(FEATURES, CAPTIONS)[0]


def test_loss_with_vocabulary_gaps_has_the_published_value(cell):
    model = CaptioningRNN({"<NULL>": 0, "cat": 2, "dog": 3}, 20, 30, 40, cell, np.float64)
    for name, w in model.params.items():
        w.flat = np.linspace(-1.4, 1.3, w.size)
        if cell == "lstm" and name in ("Wx", "Wh", "b"):  # the published order of the gates is i, f, o, c~
            i, f, o, c_tilde = np.split(w.copy(), 4, axis=-1)
            w[...] = np.concatenate([f, i, c_tilde, o], axis=-1)
    low, high, published = {"rnn": (-1.5, 0.3, 9.83235591003), "lstm": (-0.5, 1.7, 9.82445935443)}[cell]
    loss, _ = model.loss(np.linspace(low, high, 200).reshape(10, 20), (np.arange(130) % 3).reshape(10, 13))
    assert loss == pytest.approx(published, rel=1e-11)


def test_padding_changes_neither_loss_nor_gradients(cell):
    loss, grads = model_of(cell).loss(FEATURES, CAPTIONS)
    longer_loss, longer = model_of(cell).loss(FEATURES, np.pad(CAPTIONS, ((0, 0), (0, 6))))
    assert longer_loss == loss and all(np.array_equal(grads[name], longer[name]) for name in grads)


def test_loss_keeps_float32_and_changes_no_argument(cell):
    model, features, captions = model_of(cell, np.float32), FEATURES.copy(), CAPTIONS.astype(np.int32)
    loss, grads = model.loss(features, captions, np.random.default_rng(0), 0.3)
    assert {dw.dtype for dw in (*grads.values(), loss)} == {np.dtype(np.float32)}
    assert np.array_equal(features, FEATURES) and np.array_equal(captions, CAPTIONS)
    assert all(np.array_equal(w, model_of(cell, np.float32).params[name]) for name, w in model.params.items())


def test_errors_name_the_wrong_argument(cell):
    model = model_of(cell)
    for features, captions, error, message in (
        (FEATURES, np.where(CAPTIONS == 5, 9, CAPTIONS), IndexError, r"captions\[0, 2\] is 9"),
        (FEATURES[:2], CAPTIONS, ValueError, "captions has shape"),
        (FEATURES[:, :3], CAPTIONS, ValueError, "features has shape"),
        (FEATURES, np.where(CAPTIONS == 1, 1, 0), ValueError, "no target except <NULL>"),
    ):
        with pytest.raises(error, match=message):
            model.loss(features, captions)
    with pytest.raises(ValueError, match="features has shape"):
        model.sample(FEATURES[:, :3])
