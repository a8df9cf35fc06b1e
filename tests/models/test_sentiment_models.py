"""sentiment.py: vocabulary, batches, each model compared with its equation, training, McNemar's test."""

import math

import pytest
import torch
from torch import nn

import sentiment
from common.cli import UserError
from data import glove, reviews
from sentiment import RECIPES, UNKNOWN

V, D = 30, 6


def small_model(name):
    """One of the five models for V words, with few hidden units and all weights random."""
    torch.manual_seed(0)
    model = RECIPES[name].model(V, D, **({"hidden": 5} if name in ("rnn", "lstm") else {}))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def batch(*sentences):
    """Lists of word numbers as a minibatch (N, T)."""
    return nn.utils.rnn.pad_sequence([torch.tensor(words) for words in sentences], batch_first=True)


def test_vocabulary_drops_rare_words_unless_all_are_rare():
    vocabulary = sentiment.make_vocabulary([["b", "a", "b", "rare"], ["a", "b", "c"], ["c", "once"]])
    assert vocabulary == ["", "_unknown_", "b", "a", "c"]
    assert sentiment.make_vocabulary([["a", "b"], ["c"]]) == ["", "_unknown_", "a", "b", "c"]


def test_words_outside_the_vocabulary_become_unknown():
    split = reviews.Split([["a"], ["a", "new", "b"]], [1, 0])
    sentences, labels = sentiment.encode(split, ["", "?", "a", "b"])
    assert [words.tolist() for words in sentences] == [[2], [2, UNKNOWN, 3]] and labels.tolist() == [1, 0]


def test_batches_hold_every_sentence_once_longest_first():
    lengths = torch.randint(1, 16, (1000,), generator=torch.Generator().manual_seed(0))
    batches = sentiment.shuffled_batches(lengths, 32)
    assert sorted(sum(batches, [])) == list(range(1000)) and max(map(len, batches)) == 32
    assert all((lengths[rows].diff() <= 0).all() for rows in batches)


def test_bag_of_words_is_linear_in_the_binary_vector():
    model = small_model("bag")
    x = torch.zeros(3, V)
    for row, words in enumerate(([2, 3, 9], [4], [1, 2, 29])):
        x[row, words] = 1
    torch.testing.assert_close(model(batch([2, 3, 3, 9], [4], [1, 1, 2, 2, 29])), model.linear(x)[:, 0])


@pytest.mark.parametrize("name", ["average", "glove"])
def test_average_is_linear_in_the_mean_vector(name):
    model = small_model(name)
    e = model.embedding.weight
    means = torch.stack([e[[2, 3, 3, 9]].mean(0), e[4]])
    torch.testing.assert_close(model(batch([2, 3, 3, 9], [4])), model.linear(means).squeeze(1))


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_recurrent_models_score_the_state_at_the_last_word(name):
    model, sentences = small_model(name), [[4], [2, 3, 3, 9], [7, 8]]
    states = [model.cell(model.embedding.weight[words])[0][-1] for words in sentences]
    torch.testing.assert_close(model(batch(*sentences)), model.linear(torch.stack(states)).squeeze(1))


def test_lstm_starts_orthogonal_with_forget_bias_1():
    cell = RECIPES["lstm"].model(V, D).cell
    for part in cell.weight_hh_l0.chunk(4):
        torch.testing.assert_close(part @ part.T, torch.eye(128), atol=1e-5, rtol=0)
    assert (cell.bias_ih_l0 + cell.bias_hh_l0).view(4, 128).mean(1).tolist() == [0, 1, 0, 0]


def test_pretrained_vectors_are_scaled_and_others_random():
    found = torch.arange(V) % 2 == 1
    given = glove.Vectors(5 * torch.randn(V, D).numpy(), found.numpy(), "")
    weight = sentiment.build_model(RECIPES["glove"], V, given).embedding.weight.detach()
    ratio = weight[found] / torch.from_numpy(given.vectors)[found]
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))
    assert weight[found].std().item() == pytest.approx(0.2, rel=1e-3)
    assert 0.05 < weight[~found][1:].std() < 0.15


def toy_set(count=120):
    """Encoded sentences of "good" or "bad" followed by random words, and their vocabulary."""
    generator = torch.Generator().manual_seed(0)
    labels = [k % 2 for k in range(count)]
    words = [[f"w{int(w)}" for w in torch.randint(20, (2 + k % 5,), generator=generator)] for k in range(count)]
    split = reviews.Split([[("bad", "good")[y], *more] for y, more in zip(labels, words, strict=True)], labels)
    vocabulary = sentiment.make_vocabulary(split.sentences)
    return sentiment.encode(split, vocabulary), vocabulary


def toy_train(name, checkpoint=None, **changes):
    """Trains a model on the toy set. Returns it and its history."""
    train, vocabulary = toy_set()
    torch.manual_seed(0)
    vectors = glove.Vectors(torch.randn(len(vocabulary), D).numpy(), torch.ones(len(vocabulary)).bool().numpy(), "")
    recipe = RECIPES[name]._replace(**{"lr": 5 * RECIPES[name].lr, "batch_size": 8, "epochs": 3, **changes})
    model = sentiment.build_model(recipe, len(vocabulary), vectors)
    return model, sentiment.train_model(model, recipe, train, train, 0, checkpoint)


@pytest.mark.parametrize("name", RECIPES)
def test_every_model_learns_a_label_that_one_word_decides(name):
    assert max(toy_train(name, epochs=10)[1]["dev_accuracy"]) > 0.95


def test_history_has_the_means_of_each_epoch():
    _, history = toy_train("bag", lr=0.0, batch_size=50)
    assert history["train_loss"] == pytest.approx(history["dev_loss"])
    assert history["train_accuracy"] == pytest.approx(history["dev_accuracy"])


def test_training_keeps_the_first_of_equally_good_epochs(monkeypatch):
    weights, predict = [], sentiment.predict
    monkeypatch.setattr(sentiment, "predict", lambda m, _: weights.append(m.linear.weight.clone()) or torch.ones(120))
    model, history = toy_train("bag")
    assert history["dev_accuracy"] == [0.5] * 3 and torch.equal(model.linear.weight, weights[0])
    assert not torch.equal(weights[0], weights[2]) and predict(model, toy_set()[0][0]).shape == (120,)


@pytest.mark.parametrize("name", ["bag", "lstm"])
def test_resumed_training_equals_uninterrupted_training(tmp_path, monkeypatch, name):
    whole, history = toy_train(name)
    predict, epochs = sentiment.predict, iter(range(2))  # the training stops in the third epoch
    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(sentiment, "predict", lambda *args: (next(epochs), predict(*args))[1])
        toy_train(name, tmp_path / "checkpoint.pt")
    resumed, resumed_history = toy_train(name, tmp_path / "checkpoint.pt")
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in whole.state_dict().items())
    assert {**history, "seconds": 0} == {**resumed_history, "seconds": 0}


def test_the_learning_rate_falls_linearly_to_zero(monkeypatch):
    rates, step = [], torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: rates.append(self.param_groups[0]["lr"]) or step(self))
    toy_train("bag", lr=2.0, epochs=2, batch_size=60)
    assert rates == [2.0, 1.5, 1.0, 0.5]


def test_a_loss_that_is_not_finite_is_a_user_error():
    with pytest.raises(UserError, match="bag of words, seed 0"):
        toy_train("bag", lr=math.inf)


def test_predict_returns_scores_in_the_order_of_the_sentences():
    model, (sentences, _) = small_model("lstm"), toy_set()[0]
    one_by_one = torch.cat([model(words[None]) for words in sentences])
    torch.testing.assert_close(sentiment.predict(model, sentences), one_by_one)


MANY = 2 * sum(math.comb(3000, k) for k in range(1401)) / 2**3000


@pytest.mark.parametrize(
    "b, c, p", [(0, 0, 1), (5, 5, 1), (0, 5, 0.0625), (1, 9, 0.021484375), (3, 1, 0.625), (1400, 1600, MANY)]
)
def test_mcnemar_is_the_exact_two_sided_test(b, c, p):
    first = torch.tensor([True] * b + [False] * c + [True, True, False])
    second = torch.tensor([False] * b + [True] * c + [True, True, False])
    assert sentiment.mcnemar(first, second) == (b, c, pytest.approx(p, rel=1e-9))
