"""Training of the captioning model: Adam, minibatches, both backends, the best epoch, resuming."""

import functools
import itertools
import types

import numpy as np
import pytest
import torch

import image_captioning as ic
from bleu_utils import SPECIAL, corpus_bleu, decode_captions
from common.cli import UserError
from rnn import CaptioningRNN

WORDS = [*SPECIAL, "a", "red", "green", "blue", "dog", "cat", "runs", "sleeps", "and"]
BACKENDS = {"numpy": ic.NumpyLearner, "torch": functools.partial(ic.TorchLearner, device=torch.device("cpu"))}
both_backends = pytest.mark.parametrize("backend", BACKENDS)
both_cells = pytest.mark.parametrize("cell", ["rnn", "lstm"])


def arrays(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in {"W": (31, 30), "b": (7,)}.items()}


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-4)])
@pytest.mark.parametrize("betas, eps", [((0.9, 0.999), 1e-8), ((0.5, 0.9), 0.1)])
def test_adam_steps_match_pytorch(betas, eps, dtype, tolerance):
    params = arrays(0, dtype)
    m, v = ({name: np.zeros_like(w) for name, w in params.items()} for _ in range(2))
    theirs = {name: torch.nn.Parameter(torch.from_numpy(w.copy())) for name, w in params.items()}
    optimizer = torch.optim.Adam(theirs.values(), betas=betas, eps=eps)
    for t in range(1, 21):
        grads, optimizer.param_groups[0]["lr"] = arrays(t, dtype), 0.1 / t
        for name, dw in grads.items():
            theirs[name].grad = torch.from_numpy(dw.copy())
        ic.adam_step(params, grads, m, v, t, 0.1 / t, *betas, eps)
        optimizer.step()
        assert all(np.array_equal(dw, arrays(t, dtype)[name]) for name, dw in grads.items())
    for name, w in params.items():
        assert w.dtype == dtype
        np.testing.assert_allclose(w, theirs[name].detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("most", [0.5, 1e6])
def test_clipping_scales_only_gradients_above_the_norm(most):
    grads = arrays(1)
    scale = min(1, most / np.sqrt(sum(np.sum(dw**2) for dw in grads.values())))
    ic.clip_gradients(grads, most)
    assert all(np.allclose(grads[name], dw * scale, rtol=1e-12) for name, dw in arrays(1).items())


@pytest.mark.parametrize("count, size, pool", [(23, 5, 1), (23, 5, 3), (40, 8, 50)])
def test_minibatches_hold_every_caption_once(count, size, pool):
    lengths = np.random.default_rng(0).integers(3, 20, count)
    batches = ic.minibatches(lengths, size, pool, np.random.default_rng(1))
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert sorted(map(len, batches), reverse=True) == [size] * (count // size) + [count % size] * (count % size > 0)


def test_a_pool_is_split_into_minibatches_by_length():
    lengths = np.random.default_rng(0).integers(3, 20, 60)
    batches = ic.minibatches(lengths, 6, 10, np.random.default_rng(1))
    spans = [(lengths[batch].min(), lengths[batch].max()) for batch in batches]
    assert all(after[0] >= before[1] for before, after in itertools.pairwise(sorted(spans)))
    assert spans != sorted(spans)  # the minibatches are shuffled


def test_learning_rate_decays_by_a_factor_per_epoch():
    recipe = ic.Recipe(epochs=5, batch_size=1, lr=0.5, decay=0.9)
    assert [recipe.lr_at(progress) for progress in (0, 0.99, 1, 2.5)] == pytest.approx([0.5, 0.5, 0.45, 0.405])


def test_learning_rate_falls_to_zero_along_a_cosine():
    recipe = ic.Recipe(epochs=4, batch_size=1, lr=0.5, decay="cosine")
    assert [recipe.lr_at(progress) for progress in (0, 1, 2, 4)] == pytest.approx([0.5, 0.25 + 0.125**0.5 / 2, 0.25, 0])


def toy_set(count=12):
    """Random captions of random lengths, one for each photo, and random features; val equals train."""
    rng = np.random.default_rng(0)
    captions = np.zeros((count, 8), np.int32)
    for row in captions:
        words = rng.integers(4, len(WORDS), rng.integers(2, 7))
        row[: len(words) + 2] = [1, *words, 2]
    photos, features = rng.permutation(count), rng.standard_normal((count, 6)).astype(np.float32)
    texts = dict(zip(photos.tolist(), decode_captions(captions, WORDS), strict=True))
    parts = {"captions": captions, "image_idxs": photos, "features": features}
    parts["references"] = [[texts[photo].split()] for photo in range(count)]
    both = {name: {"train": part, "val": part} for name, part in parts.items()}
    return types.SimpleNamespace(**both, idx_to_word=WORDS, word_to_idx={word: k for k, word in enumerate(WORDS)})


def train(backend="numpy", cell="lstm", seed=0, checkpoint=None, validate=None, data=None, **given):
    usual = dict(epochs=4, batch_size=5, lr=0.01, decay=0.9, hidden=16, wordvec=10)
    return ic.train(cell, data or toy_set(), ic.Recipe(**usual | given), BACKENDS[backend], seed, checkpoint, validate)


def equal(model, other):
    return all(np.array_equal(w, other.params[name]) for name, w in model.params.items())


def figures_of(model):
    """Validation scores that depend only on the parameters."""
    return {"bleu4": float(np.abs(np.sin(50 * model.params["b_vocab"])).sum()), "bleu1": 0.5}


@both_cells
@both_backends
def test_training_overfits_a_few_captions(backend, cell):
    data = toy_set()
    model, _ = train(backend, cell, epochs=80, lr=0.02, decay=0.98)
    written = decode_captions(model.sample(data.features["train"][data.image_idxs["train"]], 8), WORDS)
    assert sum(map(str.__eq__, written, decode_captions(data.captions["train"], WORDS))) >= 10


@both_cells
def test_both_backends_have_nearly_equal_losses(cell):
    losses = [train(backend, cell, epochs=6)[1]["step_loss"] for backend in BACKENDS]
    assert len(losses[0]) == 18 and losses[0] == pytest.approx(losses[1], rel=2e-3)


@both_backends
def test_history_has_each_step_and_the_mean_of_each_epoch(backend):
    model, history = train(backend, epochs=3, batch_size=8, lr=0.0)
    data = toy_set()
    whole, _ = model.forward(data.features["train"][data.image_idxs["train"]], data.captions["train"])
    assert (len(history["step_loss"]), len(history["seconds"])) == (6, 3)
    assert history["train_loss"] == pytest.approx([whole] * 3, rel=1e-5)


@both_backends
def test_training_depends_only_on_the_seed(backend):
    first, again, other = (train(backend, seed=seed, dropout=0.3)[0] for seed in (5, 5, 6))
    assert equal(first, again) and not equal(first, other)


@pytest.mark.parametrize(
    "bleu4, bleu1, best",
    [([0.1, 0.3, 0.2, 0.25], [0.5, 0.6, 0.9, 0.9], 1), ([0.0] * 4, [0.2, 0.4, 0.6, 0.5], 2),
     ([0.1, 0.3, 0.3, 0.3], [0.5, 0.6, 0.6, 0.5], 1)],
    ids=["by BLEU-4", "by BLEU-1 of equals", "the first of equals"],
)  # fmt: skip
@both_backends
def test_training_returns_the_model_of_the_best_epoch(backend, bleu4, bleu1, best):
    seen, figures = [], zip(bleu4, bleu1, strict=True)

    def validate(model):
        seen.append(model.params["b_vocab"].copy())
        return dict(zip(("bleu4", "bleu1"), next(figures), strict=True))

    model, history = train(backend, validate=validate)
    assert [np.array_equal(b, model.params["b_vocab"]) for b in seen] == [epoch == best for epoch in range(4)]
    assert ic.best_epoch(history) == best


@pytest.mark.filterwarnings("ignore:invalid value")
@both_backends
def test_a_loss_that_is_not_finite_names_the_flag(backend):
    data = toy_set()
    data.features["train"][3] = np.nan
    with pytest.raises(UserError, match="LSTM: the loss is not finite.*--lr"):
        train(backend, data=data)


@pytest.mark.parametrize("every, validate", [(1, figures_of), (2, None)], ids=["full", "small"])
@both_backends
def test_resumed_training_equals_uninterrupted_training(tmp_path, monkeypatch, backend, every, validate):
    given = dict(backend=backend, validate=validate, epochs=5, every=every, dropout=0.3, pool=2, seed=7)
    model, history = train(**given)
    steps = iter(range(10))  # the training stops in the third epoch
    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(ic, "check_finite", lambda *_: next(steps))
        train(**given, checkpoint=tmp_path / "c.pt")
    assert (tmp_path / "c.pt").exists()
    for _ in range(2):  # the second time, no epoch is left
        resumed, resumed_history = train(**given, checkpoint=tmp_path / "c.pt")
        assert equal(resumed, model) and {**resumed_history, "seconds": 0} == {**history, "seconds": 0}


def test_validation_returns_the_loss_and_beam_search_bleu():
    data, model = toy_set(), CaptioningRNN(toy_set().word_to_idx, 6, 10, 16, "lstm")
    found = ic.validation(model, data, 3)
    loss, _ = model.forward(data.features["val"][data.image_idxs["val"]], data.captions["val"])
    texts = decode_captions(model.beam_search(data.features["val"], 3, unk=False), WORDS)
    bleu = corpus_bleu(data.references["val"], [text.split() for text in texts])
    assert list(found.values()) == pytest.approx([loss, bleu[0], bleu[3]])
