"""image_captioning.py: steps are PyTorch's, both backends learn alike, a kill loses nothing, bad input is one line."""

import contextlib
import dataclasses
import functools
import io
import re
import shutil
import tracemalloc
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import image_captioning as ic
from bleu_utils import SPECIAL, corpus_bleu, decode_captions
from data import DataError, captions, photo_features, plot
from data.captions import SPLITS, encode, tokenize
from data.files import write_bytes
from data.results import Checkpoint
from rnn import CaptioningRNN
from tests import runs
from tests.conftest import ARCH, Bomb, random_state, snapshot
from tests.runs import (
    BEAM,
    EPOCHS,
    PHOTOS,
    Table,
    captioning_flags,
    check_refused,
    ctrl_c_at_save,
    cut,
    equal,
    strings,
    without_cache,
    without_times,
    words,
    world_folder,
    write,
)  # fmt: skip
from tests.test_captions import TOKENS, changed, drawn, rewrite, spoil_h5, write_coco

BACKENDS, CELLS = ("numpy", "torch"), ("rnn", "lstm")


@pytest.fixture(autouse=True)
def no_bars(monkeypatch):
    """Without progress bars, which a slow machine shows and a fast one does not, stderr holds the errors alone."""
    for module in (captions, ic):
        monkeypatch.setattr(module, "tqdm", functools.partial(module.tqdm, disable=True))


# ---- steps of optimization


def random_arrays(seed, dtype=np.float64):
    """Parameters, or their gradients: one is larger than a block of `adam_step`, one is a single number."""
    rng = np.random.default_rng(seed)
    shapes = {"W": (131, 130), "b": (7,), "cube": (3, 4, 5), "one": (1,)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def torch_steps(optimizer, rates, dtype=np.float64, **settings):
    """The parameters after one step of PyTorch's optimizer at each rate, with gradients from `random_arrays`."""
    params = {name: nn.Parameter(torch.from_numpy(w)) for name, w in random_arrays(0, dtype).items()}
    steps = optimizer(params.values(), **settings)
    for k, lr in enumerate(rates):
        steps.param_groups[0]["lr"] = lr
        for name, dw in random_arrays(k + 1, dtype).items():
            params[name].grad = torch.from_numpy(dw)
        steps.step()
    return {name: w.detach().numpy() for name, w in params.items()}


RATES = [0.1 / (k + 1) for k in range(20)]


def close(first, second, **tolerance):
    for name in second:
        np.testing.assert_allclose(first[name], second[name], err_msg=name, **tolerance)


def test_twenty_sgd_steps_are_those_of_torch():
    params = random_arrays(0)
    for k, lr in enumerate(RATES):
        ic.sgd_step(params, random_arrays(k + 1), lr)
    close(params, torch_steps(torch.optim.SGD, RATES, lr=0.1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "ours, theirs",
    [({}, {}), ({"beta1": 0.5, "beta2": 0.9, "eps": 0.1}, {"betas": (0.5, 0.9), "eps": 0.1})],
    ids=["as they are", "others"],
)
def test_twenty_adam_steps_are_those_of_torch_with_its_settings(ours, theirs):
    params = random_arrays(0)
    state = ic.adam_state(params)
    for k, lr in enumerate(RATES):
        ic.adam_step(params, random_arrays(k + 1), state, lr, **ours)
    close(params, torch_steps(torch.optim.Adam, RATES, **theirs), rtol=1e-12, atol=1e-12)


def test_adam_in_single_precision_stays_single_and_near_torchs():
    params = random_arrays(0, np.float32)
    state = ic.adam_state(params)
    for k, lr in enumerate(RATES):
        ic.adam_step(params, random_arrays(k + 1, np.float32), state, lr)
    assert {w.dtype for w in params.values()} == {np.dtype(np.float32)}
    close(params, torch_steps(torch.optim.Adam, RATES, np.float32), rtol=1e-4, atol=1e-5)


def sgd(params, grads):
    ic.sgd_step(params, grads, 0.1)


def adam(params, grads):
    ic.adam_step(params, grads, ic.adam_state(params), 0.1)


@pytest.mark.parametrize("step", [sgd, adam])
def test_a_step_changes_the_parameters_in_place_and_no_gradient(step):
    params, grads = random_arrays(0), random_arrays(1)
    before = dict(params)
    step(params, grads)
    assert all(params[name] is w for name, w in before.items())
    assert not any(np.array_equal(w, random_arrays(0)[name]) for name, w in params.items())
    close(grads, random_arrays(1), rtol=0)


def test_an_adam_step_allocates_nothing_of_the_parameters_size():
    params, grads = ({"W": np.ones((1000, 500), np.float32), "b": np.ones(5, np.float32)} for _ in range(2))
    state = ic.adam_state(params)
    ic.adam_step(params, grads, state, 0.1)
    tracemalloc.start()
    try:
        ic.adam_step(params, grads, state, 0.1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < params["W"].nbytes / 10


@pytest.mark.parametrize("most", [0.5, 3.0])
def test_gradients_that_are_too_large_are_scaled_together_to_the_largest_norm(most):
    grads = random_arrays(1)
    norm = np.sqrt(sum(np.sum(dw**2) for dw in grads.values()))
    assert ic.clip_gradients(grads, most) == pytest.approx(norm)
    close(grads, {name: dw * most / norm for name, dw in random_arrays(1).items()}, rtol=1e-12)


def test_gradients_that_are_small_enough_stay_bit_equal():
    grads = random_arrays(1)
    ic.clip_gradients(grads, 1e6)
    close(grads, random_arrays(1), rtol=0)


# ---- minibatches and learning rates


@pytest.mark.parametrize("pool", [1, 3, 50])
@pytest.mark.parametrize("count, size", [(1, 5), (5, 5), (23, 5), (40, 8), (7, 100), (9, 1)])
def test_every_caption_is_in_one_minibatch_and_all_but_one_of_them_are_full(count, size, pool):
    lengths = np.random.default_rng(0).integers(3, 20, count)
    batches = ic.minibatches(lengths, size, pool, np.random.default_rng(1))
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert sorted(map(len, batches), reverse=True) == [size] * (count // size) + [count % size] * (count % size > 0)


def test_captions_of_a_pool_are_sorted_by_length_over_its_minibatches():
    lengths = np.random.default_rng(0).integers(3, 20, 60)
    batches = ic.minibatches(lengths, 6, 10, np.random.default_rng(1))
    spans = sorted((lengths[batch].min(), lengths[batch].max()) for batch in batches)
    assert all(after[0] >= before[1] for before, after in zip(spans, spans[1:], strict=False))
    means = [lengths[batch].mean() for batch in batches]
    assert means != sorted(means) and means != sorted(means, reverse=True)  # the batches themselves are shuffled


def test_one_pool_is_not_sorted_into_the_next():
    lengths = np.random.default_rng(0).integers(3, 20, 60)
    batches = ic.minibatches(lengths, 5, 4, np.random.default_rng(1))
    assert len({tuple(sorted(batch)) for batch in batches}) == 12
    shortest = np.sort(lengths)[:5].sum()
    assert min(lengths[batch].sum() for batch in batches) > shortest


@pytest.mark.parametrize("pool", [1, 4])
def test_minibatches_are_decided_by_their_generator(pool):
    lengths = np.random.default_rng(0).integers(3, 20, 60)
    first, same, other = (
        [batch.tolist() for batch in ic.minibatches(lengths, 7, pool, np.random.default_rng(seed))]
        for seed in (1, 1, 2)
    )
    assert first == same != other


def test_the_learning_rate_decays_by_a_factor_after_each_epoch():
    recipe = ic.Recipe(epochs=5, batch_size=1, lr=0.5, decay=0.9)
    assert [recipe.lr_at(progress) for progress in (0, 0.99, 1, 2.5)] == pytest.approx([0.5, 0.5, 0.45, 0.405])


def test_the_learning_rate_goes_down_to_zero_along_a_cosine():
    recipe = ic.Recipe(epochs=4, batch_size=1, lr=0.5, decay="cosine")
    rates = [recipe.lr_at(progress) for progress in (0, 1, 2, 3, 4)]
    assert rates == pytest.approx([0.5, 0.25 + 0.25 * 0.5**0.5, 0.25, 0.25 - 0.25 * 0.5**0.5, 0])


# ---- training, in both backends

TOY_WORDS = [*SPECIAL, "a", "red", "green", "blue", "dog", "cat", "runs", "sleeps", "and"]


def toy_set(count=12, dtype=np.float32):
    """Captions of random words and lengths for as many photos of random features."""
    rng = np.random.default_rng(0)
    sentences = [[TOY_WORDS[k] for k in rng.integers(4, len(TOY_WORDS), rng.integers(2, 7))] for _ in range(count)]
    numbers = {word: k for k, word in enumerate(TOY_WORDS)}
    return types.SimpleNamespace(
        captions={"train": encode(sentences, numbers)},
        image_idxs={"train": rng.permutation(count)},
        features={"train": rng.standard_normal((count, 6)).astype(dtype)},
        word_to_idx=numbers,
    )


def toy_learner(backend, cell="lstm", dtype=np.float32, seed=0):
    model = CaptioningRNN(toy_set().word_to_idx, 6, 10, 16, cell, dtype, seed)
    return ic.NumpyLearner(model) if backend == "numpy" else ic.TorchLearner(model, torch.device("cpu"))


def toy_recipe(**given):
    usual = dict(epochs=4, batch_size=5, lr=0.01, decay=0.9, hidden=16, wordvec=10)
    return ic.Recipe(**usual | given)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_few_captions_are_learned_by_heart(backend, cell):
    data, learner = toy_set(), toy_learner(backend, cell)
    params, history = ic.train_model(learner, data, toy_recipe(epochs=80, lr=0.02, decay=0.98))
    assert history["train_loss"][-1] < 0.1 * history["train_loss"][0]
    model = toy_learner("numpy", cell).model
    model.params = params
    said = model.sample(data.features["train"][data.image_idxs["train"]], 8)
    right = [decode_captions(row, TOY_WORDS) == decode_captions(truth, TOY_WORDS)
             for row, truth in zip(said, data.captions["train"], strict=True)]  # fmt: skip
    assert sum(right) >= 10


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-4), (np.float32, 2e-3)])
@pytest.mark.parametrize("cell", CELLS)
def test_both_backends_take_the_same_steps_on_the_same_minibatches(cell, dtype, tolerance):
    losses = [
        ic.train_model(toy_learner(backend, cell, dtype), toy_set(dtype=dtype), toy_recipe(epochs=6))[1]["step_loss"]
        for backend in BACKENDS
    ]
    assert len(losses[0]) == 18 and losses[0] == pytest.approx(losses[1], rel=tolerance)


@pytest.mark.parametrize("cell", CELLS)
def test_a_model_trained_by_numpy_loads_in_torch(cell):
    data, learner = toy_set(), toy_learner("numpy", cell)
    ic.train_model(learner, data, toy_recipe())
    twin = ic.TorchLearner(learner.numpy_model(), torch.device("cpu")).twin
    features, words = data.features["train"], data.captions["train"]
    loss = twin.loss(torch.from_numpy(features), torch.from_numpy(words.astype(np.int64))).item()
    assert loss == pytest.approx(float(learner.model.loss(features, words)[0]), rel=1e-5)
    assert np.array_equal(twin.sample(features).numpy(), learner.model.sample(features))


@pytest.mark.parametrize("cell", CELLS)
def test_a_model_trained_by_torch_loads_in_numpy(cell):
    data, learner = toy_set(), toy_learner("torch", cell)
    params, _ = ic.train_model(learner, data, toy_recipe())
    model = toy_learner("numpy", cell).model
    assert {k: (v.shape, v.dtype) for k, v in params.items()} == {
        k: (v.shape, v.dtype) for k, v in model.params.items()
    }
    model.params = params
    features, words = data.features["train"], data.captions["train"]
    loss = learner.twin.loss(torch.from_numpy(features), torch.from_numpy(words.astype(np.int64))).item()
    assert float(model.loss(features, words)[0]) == pytest.approx(loss, rel=1e-5)
    assert np.array_equal(learner.twin.sample(features).numpy(), model.sample(features))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_history_has_a_loss_for_each_step_and_their_mean_over_captions_for_each_epoch(backend):
    _, history = ic.train_model(toy_learner(backend), toy_set(12), toy_recipe(epochs=3, batch_size=8, pool=1, lr=0.0))
    assert len(history["step_loss"]) == 6 and len(history["train_loss"]) == len(history["seconds"]) == 3
    whole = float(toy_learner("numpy").model.loss(
        toy_set().features["train"][toy_set().image_idxs["train"]], toy_set().captions["train"]
    )[0])  # fmt: skip
    assert history["train_loss"] == pytest.approx([whole] * 3, rel=1e-5)


def scripted(bleu4, bleu1=None, seen=None):
    """A `validate` that gives these figures, epoch by epoch, and copies the parameters that it is shown to `seen`."""
    figures = iter([{"bleu4": b4, "bleu1": b1} for b4, b1 in zip(bleu4, bleu1 or [0.0] * len(bleu4), strict=True)])

    def validate(model):
        if seen is not None:
            seen.append({name: w.copy() for name, w in model.params.items()})
        return next(figures)

    return validate


@pytest.mark.parametrize(
    "bleu4, bleu1, best",
    [([0.1, 0.3, 0.2, 0.25], [0.5, 0.6, 0.9, 0.9], 1), ([0.3, 0.2, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4], 0),
     ([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], 3), ([0.0] * 4, [0.2, 0.4, 0.6, 0.5], 2),
     ([0.1, 0.3, 0.3, 0.3], [0.5, 0.6, 0.6, 0.5], 1)],
    ids=["in the middle", "the first", "the last", "by BLEU-1 of equals", "the first of equals"],
)  # fmt: skip
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_parameters_of_the_epoch_of_the_best_bleu_are_kept(backend, bleu4, bleu1, best):
    seen = []
    params, history = ic.train_model(
        toy_learner(backend), toy_set(), toy_recipe(), validate=scripted(bleu4, bleu1, seen)
    )
    assert [equal(params, other) for other in seen] == [k == best for k in range(4)]
    assert history["bleu4"] == bleu4 and history["bleu1"] == bleu1


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_validation_the_last_parameters_are_kept(backend):
    learner = toy_learner(backend)
    params, _ = ic.train_model(learner, toy_set(), toy_recipe(lr=0.01, decay=1.0))
    longer, _ = ic.train_model(toy_learner(backend), toy_set(), toy_recipe(lr=0.01, decay=1.0, epochs=3))
    assert equal(params, learner.numpy_model().params) and not equal(params, longer)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_seed_gives_one_training_and_another_seed_another(backend):
    recipe = toy_recipe(dropout=0.3)
    first, again, other = (ic.train_model(toy_learner(backend), toy_set(), recipe, seed=seed) for seed in (5, 5, 6))
    assert equal(first[0], again[0]) and without_times(first[1]) == without_times(again[1])
    assert first[1]["step_loss"] != other[1]["step_loss"]


def test_every_epoch_goes_through_the_captions_in_another_order():
    losses = ic.train_model(toy_learner("numpy"), toy_set(), toy_recipe(epochs=3, lr=0.0))[1]["step_loss"]
    assert len({tuple(losses[k : k + 3]) for k in (0, 3, 6)}) == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_makes_another_training(backend):
    plain, dropped = (
        ic.train_model(toy_learner(backend), toy_set(), toy_recipe(dropout=p, epochs=1))[1] for p in (0.0, 0.4)
    )
    assert plain["step_loss"] != dropped["step_loss"]


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loss_that_is_no_number_is_a_dataerror_that_names_the_flag(backend):
    data = toy_set()
    data.features["train"][3] = np.nan
    with pytest.raises(DataError, match="loss is no longer a number.*--lr"):
        ic.train_model(toy_learner(backend), data, toy_recipe())


# ---- stopped and resumed


class Interrupted(BaseException):
    pass


def breaks_off(learner, steps):
    """The learner, which breaks off after so many steps."""
    step, left = learner.step, [steps]

    def one(*arguments):
        if left[0] == 0:
            raise Interrupted
        left[0] -= 1
        return step(*arguments)

    learner.step = one
    return learner


def figures_of(model):
    """A figure for each epoch that depends on the parameters alone."""
    return {"bleu4": float(np.abs(np.sin(50 * model.params["b_vocab"])).sum()), "bleu1": 0.5}


@pytest.mark.parametrize("validate", [None, figures_of], ids=["without validation", "with validation"])
@pytest.mark.parametrize("steps", [1, 4, 9, 14])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_training_that_was_stopped_goes_on_to_bit_equal_parameters_and_history(tmp_path, backend, steps, validate):
    checkpoint, settings = Checkpoint(tmp_path / "c.pt", {}), (toy_set(), toy_recipe(epochs=5, dropout=0.3, pool=2), 7)
    undisturbed, history = ic.train_model(toy_learner(backend), *settings, validate=validate)
    with pytest.raises(Interrupted):
        ic.train_model(breaks_off(toy_learner(backend), steps), *settings, checkpoint, validate=validate)
    learner = toy_learner(backend, seed=int(checkpoint.path.exists()))  # all is in the checkpoint, where there is one
    resumed, resumed_history = ic.train_model(learner, *settings, checkpoint, validate=validate)
    assert equal(resumed, undisturbed) and without_times(resumed_history) == without_times(history)


@pytest.mark.parametrize("backend", BACKENDS)
def test_resuming_keeps_the_best_parameters_from_before_the_checkpoint(tmp_path, backend):
    checkpoint, seen = Checkpoint(tmp_path / "c.pt", {}), []
    with pytest.raises(Interrupted):
        ic.train_model(
            breaks_off(toy_learner(backend), 7), toy_set(), toy_recipe(), 0, checkpoint,
            validate=scripted([0.5, 0.4], seen=seen),
        )  # fmt: skip
    params, history = ic.train_model(
        toy_learner(backend), toy_set(), toy_recipe(), 0, checkpoint, validate=scripted([0.3, 0.2])
    )
    assert equal(params, seen[0]) and history["bleu4"] == [0.5, 0.4, 0.3, 0.2]


def test_a_checkpoint_is_written_after_every_so_many_epochs(tmp_path, monkeypatch):
    epochs, save = [], Checkpoint.save

    def note(checkpoint, state):
        save(checkpoint, state)
        epochs.append(len(checkpoint.load()["history"]["train_loss"]))

    monkeypatch.setattr(Checkpoint, "save", note)
    recipe = toy_recipe(epochs=5, save_every=2)
    ic.train_model(toy_learner("numpy"), toy_set(), recipe, 0, Checkpoint(tmp_path / "c.pt", {}))
    assert epochs == [2, 4]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_finished_training_is_not_trained_again(tmp_path, backend):
    checkpoint = Checkpoint(tmp_path / "c.pt", {})
    first, history = ic.train_model(toy_learner(backend), toy_set(), toy_recipe(), 0, checkpoint)
    again, same_history = ic.train_model(breaks_off(toy_learner(backend), 0), toy_set(), toy_recipe(), 0, checkpoint)
    assert equal(first, again) and history == same_history


@pytest.mark.parametrize("state", [{"a": 1}, {"history": {}, "best": {}, "learner": {}}, {"history": 1, "best": []}])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_checkpoint_that_does_not_fit_is_a_dataerror_that_names_it(tmp_path, backend, state):
    checkpoint = Checkpoint(tmp_path / "c.pt", {})
    checkpoint.save(state)
    with pytest.raises(DataError, match="c.pt: .*--resume"):
        ic.train_model(toy_learner(backend), toy_set(), toy_recipe(), 0, checkpoint)


# ---- the whole script


def flags_for(folder):
    """What every run on the set in `folder` is given: `--results` and the rest come behind, and the last one counts."""
    return words(captioning_flags(folder))


@pytest.fixture(scope="session")
def flags(tiny_set):
    return flags_for(tiny_set)


MODES = {"image_captioning": [], "image_captioning-full": ["--full"]}


@pytest.fixture(scope="session")
def finished_run(finished_runs, tmp_path_factory):
    """A small and a full run: their results folder, and of each its figures and what it printed. Not to be changed."""
    folder, made = tmp_path_factory.mktemp("both"), {name: finished_runs(name) for name in MODES}
    for run in made.values():
        shutil.copytree(run.results, folder, dirs_exist_ok=True)
    figures, out = ({name: getattr(run, part) for name, run in made.items()} for part in ("figures", "out"))
    return types.SimpleNamespace(results=folder, figures=figures, out=out, made=made)


@pytest.fixture
def finished(finished_run, tmp_path):
    """A copy of the finished runs' results to write to."""
    return shutil.copytree(finished_run.results, tmp_path / "finished")


@pytest.fixture
def no_drawing(monkeypatch):
    """Figures take most of a tiny run's time: their files are empty here."""
    monkeypatch.setattr(plot, "save_figure", lambda figure, path: write_bytes(path, b""))


def read(folder, name="image_captioning"):
    return runs.read(folder, name)


def params_of(folder, cell="lstm", name="image_captioning"):
    return ic.load_model(folder / name / f"{cell}.pt")[0].params


def load_data(flags):
    """The tiny set with the features of all its photos, in the memory alone."""
    args = ic.parse_args(list(flags))
    data = captions.load(args, "unused", "cpu")
    data._scale({split: data.source.compute(map(photo_features.open_photo, data.pictures[split])) for split in SPLITS})
    return data


@pytest.mark.parametrize("name", MODES)
def test_a_run_leaves_its_plots_its_models_its_examples_and_results_json_and_nothing_else(finished_run, name):
    assert set(snapshot(finished_run.results / name)) == {
        *("learning_curves.png", "samples_rnn.png", "samples_lstm.png", "rnn.pt", "lstm.pt"),
        *("examples.txt", "results.json"),
    }


@pytest.mark.parametrize("name", MODES)
def test_results_json_names_the_set_the_features_the_cells_and_their_settings(finished_run, name):
    saved = read(finished_run.results, name)
    assert (saved["data"], saved["seed"], saved["settings"]["backend"]) == ("Flickr8k", 0, "numpy")
    assert "squeezenet1_1" in saved["weights"] and saved["metrics"].keys() == set(CELLS)
    assert saved["seconds"].keys() == {*CELLS, "total"} and saved["models"] == ["rnn.pt", "lstm.pt"]
    assert (saved["settings"]["lstm_hidden"], saved["settings"]["rnn_epochs"]) == (16, EPOCHS)


@pytest.mark.parametrize("name", MODES)
def test_results_json_holds_no_caption_and_no_photos_name(finished_run, name):
    texts = strings(read(finished_run.results, name))
    assert not [text for text in texts if re.search(r"square|yellow|there is|\.jpg", text)]


@pytest.mark.parametrize("name", MODES)
def test_a_run_prints_its_data_and_its_features(finished_run, name):
    assert finished_run.out[name].startswith("data: Flickr8k, photos: 12 train, 4 val, 4 test; ")
    assert re.search("^features: squeezenet1_1 ", finished_run.out[name], re.MULTILINE)


def test_real_photos_with_weights_that_learned_from_drawings_are_warned_of(finished_run):
    for out in finished_run.out.values():
        assert "warning: " in out and "python -m data.download weights" in out


def test_the_learning_curves_show_both_cells(finished_run):
    [axes] = finished_run.figures["image_captioning"]["learning_curves.png"].axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    metrics = read(finished_run.results)["metrics"]
    assert {name: list(values) for name, values in lines.items()} == {
        "vanilla RNN": metrics["rnn"]["step_loss"], "LSTM": metrics["lstm"]["step_loss"],
    }  # fmt: skip
    loss, bleu = finished_run.figures["image_captioning-full"]["learning_curves.png"].axes
    assert len(loss.lines) == len(bleu.lines) == 4
    history = read(finished_run.results, "image_captioning-full")["metrics"]["lstm"]["history"]
    [line] = [line for line in bleu.lines if line.get_label() == "LSTM, BLEU-1"]
    assert list(line.get_ydata()) == pytest.approx([100 * value for value in history["bleu1"]])


def test_the_learning_curves_of_one_epoch_alone_show_its_points():
    figures = {"train_loss": [3.0], "val_loss": [4.0], "bleu1": [0.5], "bleu4": [0.1]}
    lines = [line for axes in ic.plot_full({"rnn": figures}, "the title").axes for line in axes.lines]
    assert len(lines) == 4 and all(line.get_marker() == "o" for line in lines)


def examples_of(folder, name="image_captioning"):
    """The examples of a run: {cell: [(split, photo, said, people), ...]}."""
    lines, found = (folder / name / "examples.txt").read_text().splitlines(), {}
    for k, line in enumerate(lines):
        if line.startswith("== "):
            cell = {title: cell for cell, title in ic.NAMES.items()}[line[3:]]
            found[cell] = []
        elif not line.startswith("  "):
            said, people = (text.partition(": ")[2] for text in lines[k + 1 : k + 3])
            found[cell].append((*line.split(), said, people))
    return found


def test_a_small_runs_examples_are_what_its_models_say_of_the_chosen_photos(finished_run, flags, tiny_set):
    data = load_data(flags)
    for cell, rows in examples_of(finished_run.results).items():
        model, saved = ic.load_model(finished_run.results / "image_captioning" / f"{cell}.pt")
        assert [row[0] for row in rows] == ["train"] * PHOTOS + ["val"] * 4
        for split, photo, said, people in rows:
            image = photo_features.open_photo(tiny_set / "flickr8k" / "images" / photo)
            features = captions.scaled(data.source.compute([image]), (saved["mean"].numpy(), saved["spread"]))
            assert said == decode_captions(model.sample(features)[0], data.idx_to_word)
            k = [path.name for path in data.pictures[split]].index(photo)
            assert people == " ".join(data.references[split][k][0])


def test_a_small_run_counts_the_training_captions_that_its_models_repeat(finished_run):
    metrics = read(finished_run.results)["metrics"]
    for cell, rows in examples_of(finished_run.results).items():
        trained = [row for row in rows if row[0] == "train"]
        assert metrics[cell]["captions"] == len(trained) == PHOTOS
        assert metrics[cell]["repeated"] == sum(said == people for _, _, said, people in trained)


def test_more_epochs_repeat_every_caption_of_a_small_run(flags, tmp_path, no_drawing, command):
    done = command(ic.main, *flags, "--epochs", 40, "--small", 4, "--cells", "lstm", "--results", tmp_path)
    assert done.status == 0, done.err
    figures = read(tmp_path)["metrics"]["lstm"]
    assert figures["repeated"] == figures["captions"] == 4 and figures["final_loss"] < 1
    assert figures["unigram_bleu_train"] == 1


def test_a_full_run_reports_the_saved_models_own_bleu_on_val_and_test(finished_run, flags):
    data, metrics = load_data(flags), read(finished_run.results, "image_captioning-full")["metrics"]
    for cell in CELLS:
        model, saved = ic.load_model(finished_run.results / "image_captioning-full" / f"{cell}.pt")
        np.testing.assert_array_equal(saved["mean"].numpy(), data.scaling[0])
        searches = {
            "greedy": lambda features, model=model: model.sample(features, unk=False),
            f"beam {BEAM}": lambda features, model=model: model.beam_search(features, BEAM, unk=False),
        }
        for name, search in searches.items():
            for split in ("val", "test"):
                said = [text.split() for text in decode_captions(search(data.features[split]), data.idx_to_word)]
                bleu = corpus_bleu(data.references[split], said)
                assert list(metrics[cell][name][split].values()) == pytest.approx(list(bleu))
                assert list(metrics[cell][name][split]) == ["bleu1", "bleu2", "bleu3", "bleu4"]


def test_a_full_run_reports_the_model_of_its_best_epoch(finished_run):
    for figures in read(finished_run.results, "image_captioning-full")["metrics"].values():
        pairs = list(zip(figures["history"]["bleu4"], figures["history"]["bleu1"], strict=True))
        assert len(pairs) == EPOCHS and pairs.index(max(pairs)) == figures["best_epoch"] - 1
        found = figures[f"beam {BEAM}"]["val"]
        assert (found["bleu4"], found["bleu1"]) == pytest.approx(max(pairs))


def test_a_full_runs_examples_are_every_photo_of_val_and_test(finished_run):
    for rows in examples_of(finished_run.results, "image_captioning-full").values():
        assert [row[:2] for row in rows] == [(split, f"{split}{k}.jpg") for split in ("val", "test") for k in range(4)]


def test_another_seed_gives_other_photos_and_other_numbers(finished_run, flags, tmp_path, no_drawing, command):
    assert command(ic.main, *flags, "--seed", 1, "--results", tmp_path).status == 0
    losses = [read(folder)["metrics"]["lstm"]["step_loss"] for folder in (tmp_path, finished_run.results)]
    assert losses[0] != losses[1]
    photos = [[row[:2] for row in examples_of(folder)["lstm"]] for folder in (tmp_path, finished_run.results)]
    assert photos[0] != photos[1]


def test_nothing_of_the_test_split_is_used_in_training_or_to_choose(
    finished_run, tiny_set, tmp_path, no_drawing, command
):
    data = shutil.copytree(tiny_set, tmp_path / "data")
    rewrite(data / "flickr8k" / TOKENS, lambda lines: [
        re.sub(r"^(test\d\.jpg#\d)\t.*", "\\1\tYellow yellow balls !", line) for line in lines
    ])  # fmt: skip
    for path in (data / "flickr8k" / "images").glob("test*"):
        drawn("red", "bar", 3).save(path)
    done = command(ic.main, *flags_for(data), "--full", "--results", tmp_path / "results")
    assert done.status == 0, done.err
    name = "image_captioning-full"
    assert all(
        equal(params_of(tmp_path / "results", cell, name), params_of(finished_run.results, cell, name))
        for cell in CELLS
    )
    ours, theirs = (read(folder, name)["metrics"]["lstm"] for folder in (tmp_path / "results", finished_run.results))
    assert without_times(ours["history"]) == without_times(theirs["history"])
    assert ours["greedy"]["val"] == theirs["greedy"]["val"] and ours["greedy"]["test"] != theirs["greedy"]["test"]


def test_the_test_split_is_measured_after_all_training_alone(flags, tmp_path, monkeypatch, no_drawing, command):
    events, train, bleu = [], ic.train_model, ic.corpus_bleu
    tested = captions.load(ic.parse_args(list(flags)), tmp_path / "cache", "cpu").references["test"]

    def training(*arguments):
        done = train(*arguments)
        events.append("trained")
        return done

    def measured(references, said):
        events.append("test" if references == tested else "val")
        return bleu(references, said)

    monkeypatch.setattr(ic, "train_model", training)
    monkeypatch.setattr(ic, "corpus_bleu", measured)
    assert command(ic.main, *flags, "--full", "--results", tmp_path).status == 0
    assert events[: 2 * EPOCHS + 2] == ["val"] * EPOCHS + ["trained"] + ["val"] * EPOCHS + ["trained"]
    assert "test" in events[2 * EPOCHS + 2 :]


def test_quick_goes_to_a_folder_of_its_own_with_fewer_epochs(flags, finished, no_drawing, command):
    before = snapshot(finished / "image_captioning"), snapshot(finished / "image_captioning-full")
    given = [w for pair in zip(flags[::2], flags[1::2], strict=True) if pair[0] != "--epochs" for w in pair]
    for mode in MODES.values():
        assert command(ic.main, *given, *mode, "--cells", "rnn", "--quick", "--results", finished).status == 0
    small, full = (read(finished, f"{name}-quick")["settings"] for name in MODES)
    assert small["quick"] and full["quick"] and full["rnn_epochs"] < small["rnn_epochs"] < 50
    assert "quick" in read(finished, "image_captioning-full-quick")["data"]
    assert (snapshot(finished / "image_captioning"), snapshot(finished / "image_captioning-full")) == before


@pytest.mark.parametrize("cell", CELLS)
def test_cells_chooses_which_to_train_and_the_other_ones_files_go(flags, finished, no_drawing, command, cell):
    assert command(ic.main, *flags, "--cells", cell, "--results", finished).status == 0
    saved = read(finished)
    assert list(saved["metrics"]) == [cell] and len(saved["table"]["rows"]) == 1
    assert {path.name for path in (finished / "image_captioning").glob("*.p*")} == {
        f"{cell}.pt", f"samples_{cell}.png", "learning_curves.png",
    }  # fmt: skip


def test_a_cell_is_trained_alike_alone_and_beside_the_other(finished_run, flags, tmp_path, no_drawing, command):
    assert command(ic.main, *flags, "--cells", "lstm", "--results", tmp_path).status == 0
    assert equal(params_of(tmp_path), params_of(finished_run.results))


@pytest.mark.parametrize("name", MODES)
def test_the_torch_backend_trains_models_that_are_saved_and_caption_alike(
    finished_run, flags, tiny_set, tmp_path, no_drawing, command, name
):
    done = command(ic.main, *flags, *MODES[name], "--backend", "torch", "--results", tmp_path)
    assert done.status == 0, done.err
    saved = read(tmp_path, name)
    assert saved["settings"]["backend"] == "torch" and saved["metrics"].keys() == set(CELLS)
    ours, theirs = (params_of(folder, "rnn", name) for folder in (tmp_path, finished_run.results))
    assert {k: (v.shape, v.dtype) for k, v in ours.items()} == {k: (v.shape, v.dtype) for k, v in theirs.items()}
    photo = tiny_set / "flickr8k" / "images" / "val0.jpg"
    assert command(ic.main, "--caption", photo, "--results", tmp_path).status == 0


def test_a_small_run_by_torch_ends_near_that_by_numpy(finished_run, flags, tmp_path, no_drawing, command):
    assert command(ic.main, *flags, "--backend", "torch", "--results", tmp_path).status == 0
    for cell in CELLS:
        ours, theirs = (read(folder)["metrics"][cell]["step_loss"] for folder in (tmp_path, finished_run.results))
        assert ours == pytest.approx(theirs, rel=1e-2)


def test_ones_own_photos_with_a_captions_file_are_trained_on(tiny_set, tmp_path, no_drawing, command):
    own = shutil.copytree(tiny_set / "flickr8k" / "images", tmp_path / "garden")
    texts = shutil.copy(tiny_set / "flickr8k" / TOKENS, tmp_path / "texts.txt")
    flags = flags_for("builtin")
    done = command(ic.main, *flags, "--photos", own, "--captions", texts, "--full", "--results", tmp_path / "results")
    assert done.status == 0, done.err
    saved = read(tmp_path / "results", "image_captioning-full")
    assert saved["data"] == "photos in garden" and "16 train, 2 val, 2 test" in done.out


def test_the_built_in_scenes_are_trained_on_and_said_to_be_drawn(tmp_path, monkeypatch, no_drawing, command):
    monkeypatch.setattr(captions, "COUNTS", {"train": 8, "val": 3, "test": 2})
    done = command(ic.main, *flags_for("builtin"), "--results", tmp_path)
    assert done.status == 0, done.err
    assert done.out.startswith("data: built-in scenes (drawn), photos: 8 train, 3 val, 2 test; ")
    assert "python -m data.download flickr8k weights" in done.out and "warning" not in done.out
    assert "drawn" in read(tmp_path)["data"]


# ---- cs231n's files


@pytest.fixture(scope="session")
def coco_run(tmp_path_factory):
    """A `--data` folder with a tiny set in cs231n's format, and a small run's results and output."""
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("coco")
    write_coco(data / "coco_captioning")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        ic.main([*flags_for(data), "--cells", "lstm", "--results", str(folder)])
    return types.SimpleNamespace(data=data, results=folder, out=out.getvalue())


def test_a_run_on_cs231ns_files_prints_the_photos_addresses_and_draws_no_photo(coco_run):
    folder = coco_run.results / "image_captioning"
    assert set(snapshot(folder)) == {"learning_curves.png", "lstm.pt", "examples.txt", "results.json"}
    assert "http://photos.invalid/train3.jpg" in coco_run.out and "VGG-16" in coco_run.out
    assert "http://photos.invalid/train3.jpg" in (folder / "examples.txt").read_text()
    assert not [text for text in strings(read(coco_run.results)) if "photos.invalid" in text]


def test_a_full_run_on_cs231ns_files_reports_bleu_too(coco_run, tmp_path, no_drawing, command):
    done = command(ic.main, *flags_for(coco_run.data), "--full", "--coco-features", "fc7", "--results", tmp_path)
    assert done.status == 0, done.err
    metrics = read(tmp_path, "image_captioning-full")["metrics"]
    assert 0 <= metrics["lstm"]["greedy"]["test"]["bleu1"] <= 1
    assert params_of(tmp_path, name="image_captioning-full")["W_proj"].shape == (7, 16)


def test_a_model_of_cs231ns_features_refuses_a_photo_in_one_line_and_writes_nothing(coco_run, tiny_set, command):
    photo = tiny_set / "flickr8k" / "images" / "val0.jpg"
    argv = ["--caption", photo, "--results", coco_run.results]
    check_refused(command, ic.main, argv, "cannot caption photos", coco_run.results)


# ---- captions for one's own photos


@pytest.fixture
def photo(tiny_set):
    return tiny_set / "flickr8k" / "images" / "val0.jpg"


def model_line(path):
    return f"model: {path} "


def test_caption_prints_what_a_model_file_says_and_saves_a_picture(finished_run, photo, tmp_path, command):
    path = finished_run.results / "image_captioning-full" / "rnn.pt"
    done = command(ic.main, "--caption", photo, "--model", path, "--beam-width", 3, "--results", tmp_path)
    assert done.status == 0 and done.err == "" and model_line(path) in done.out and "vanilla RNN" in done.out
    model, saved = ic.load_model(path)
    source = captions.PhotoFeatures({}, captions.weights.load("squeezenet1_1", "builtin"), "unused", "cpu")
    features = captions.scaled(
        source.compute([photo_features.open_photo(photo)]), (saved["mean"].numpy(), saved["spread"])
    )
    said = decode_captions(model.beam_search(features, 3, unk=False)[0], saved["vocabulary"])
    assert re.search(rf"^{re.escape(str(photo))} *{said}$", done.out, re.MULTILINE)
    assert set(snapshot(tmp_path)) == {"image_captioning", "image_captioning/captions.png"}
    with Image.open(tmp_path / "image_captioning" / "captions.png") as picture:
        assert picture.format == "PNG"


def test_caption_takes_the_full_runs_lstm_then_its_rnn_then_the_small_runs_and_says_which(
    finished, photo, no_drawing, command
):
    for name in ("image_captioning-full", "image_captioning"):
        for cell in ("lstm", "rnn"):
            path = finished / name / f"{cell}.pt"
            done = command(ic.main, "--caption", photo, "--results", finished)
            assert done.status == 0 and model_line(path) in done.out
            path.unlink()
    done = command(ic.main, "--caption", photo, "--results", finished)
    assert done.status == 2 and str(finished) in done.err and "--model" in done.err


def test_caption_takes_a_quick_looks_model_where_it_is_asked_for_or_alone(finished, photo, no_drawing, command):
    quick = finished / "image_captioning-quick"
    shutil.copytree(finished / "image_captioning", quick)
    argv = ["--caption", photo, "--results", finished]
    assert model_line(quick / "lstm.pt") in command(ic.main, *argv, "--quick").out
    for name in MODES:
        shutil.rmtree(finished / name)
    assert model_line(quick / "lstm.pt") in command(ic.main, *argv).out


def test_caption_takes_several_photos_of_any_size_and_leaves_the_runs_alone(finished, tmp_path, command):
    before, names = snapshot(finished), []
    for size, mode in (((30, 200), "L"), ((500, 20), "RGBA"), ((64, 64), "P"), ((90, 9), "1")):
        names.append(tmp_path / f"a photo {size}.png")
        Image.effect_noise(size, 50).convert(mode).save(names[-1])
    done = command(ic.main, "--caption", *names, "--results", finished)
    after = snapshot(finished)
    assert done.status == 0 and all(done.out.count(str(name)) == 1 for name in names)
    assert after.pop("image_captioning-full/captions.png") and after == before


def test_a_model_of_other_weights_than_those_here_is_refused_in_one_line(tiny_set, weights_folder, photo, tmp_path,
                                                                          no_drawing, command):  # fmt: skip
    data = shutil.copytree(tiny_set, tmp_path / "data")
    shutil.copytree(weights_folder / "weights", data / "weights")
    given = [*flags_for(data), "--arch", ARCH, "--cells", "lstm", "--results", tmp_path / "results"]
    assert command(ic.main, *given).status == 0
    caption = ["--caption", photo, "--results", tmp_path / "results"]
    assert command(ic.main, *caption, "--data", data).status == 0
    torch.save(random_state(ARCH, seed=1), data / "weights" / f"{ARCH}.pth")
    done = command(ic.main, *caption, "--data", data)
    assert done.status == 2 and done.err.count("\n") == 1 and "lstm.pt: was trained with features of" in done.err


# ---- stopped and resumed


def test_a_full_run_by_torch_that_was_stopped_goes_on_to_an_undisturbed_ones_parameters(
    flags, tmp_path, no_drawing, command
):
    given = [*flags, "--full", "--backend", "torch", "--cells", "lstm"]
    with ctrl_c_at_save(3):
        assert command(ic.main, *given, "--results", tmp_path / "stopped").status == 130
    assert command(ic.main, *given, "--results", tmp_path / "stopped", "--resume").status == 0
    assert command(ic.main, *given, "--results", tmp_path / "undisturbed").status == 0
    stopped, undisturbed = (
        params_of(tmp_path / folder, name="image_captioning-full") for folder in ("stopped", "undisturbed")
    )
    assert equal(stopped, undisturbed)


def test_a_small_run_that_was_stopped_goes_on_to_an_undisturbed_ones_parameters(
    finished_run, flags, tmp_path, monkeypatch, no_drawing, command
):
    monkeypatch.setattr(ic, "SMALL", {c: dataclasses.replace(recipe, save_every=1) for c, recipe in ic.SMALL.items()})
    with ctrl_c_at_save(EPOCHS + 2):
        assert command(ic.main, *flags, "--results", tmp_path).status == 130
    assert command(ic.main, *flags, "--results", tmp_path, "--resume").status == 0
    assert all(equal(params_of(tmp_path, cell), params_of(finished_run.results, cell)) for cell in CELLS)
    assert read(tmp_path)["metrics"] == read(finished_run.results)["metrics"]


# ---- bad input


class World:
    """Good input to spoil: a tiny Flickr8k, a tiny set of h5 files, an earlier run's results."""

    def __init__(self, tiny_set, tmp_path, finished_run):
        self.tmp, self.run, self.mark = tmp_path, finished_run, tmp_path / "mark"
        self.data = shutil.copytree(tiny_set, tmp_path / "data")
        self.set, self.results = self.data / "flickr8k", world_folder(tmp_path, "image_captioning")

    def train(self, *more):
        """A run on all photos of the set."""
        return [*flags_for(self.data), "--small", 50, "--results", self.results, *more]

    def spoil(self, name, change, *more):
        """A run on a set of which `change` spoilt a file; and the file."""
        path = (self.set / name).resolve()
        change(path)
        return self.train(*more), path

    def coco(self, spoil, *more):
        """A run on h5 files of which `spoil(folder)` spoils one; and what it returns, which the error must name."""
        folder = write_coco(self.tmp / "coco" / "coco_captioning")
        return self.train("--data", folder.parent, *more), spoil(folder)

    def line(self, number, text, *more):
        """A run with another line in the captions file, and what the error must name."""
        rewrite(self.set / TOKENS, lambda lines: [*lines[: number - 1], text, *lines[number:]])
        return self.train(*more), f"{self.set / TOKENS}, line {number}"

    def model(self, trained="lstm", /, **changed):
        """--caption with a model file, some of whose content is changed; and the file."""
        saved = torch.load(self.run.results / "image_captioning" / f"{trained}.pt", weights_only=True)
        for key, change in changed.items():
            saved[key] = change(saved[key]) if callable(change) else change
        path = write(self.tmp / "model.pt", saved)
        photo = self.set / "images" / "val0.jpg"
        return ["--caption", photo, "--model", path, "--results", self.results], path

    def params(self, **changed):
        """The same with some parameters changed; None leaves one out."""
        return self.model(
            params=lambda params: {name: w for name, w in (params | changed).items() if w is not None},
        )


def holding(text):
    """Gives a file this content."""
    return lambda path: path.write_text(text)


BAD = Table({
    "--set of a set that is not there": lambda world: (world.train("--set", "coco"), "no coco_captioning"),
    "--photos without --captions": lambda world: (world.train("--photos", "nosuch"), "--photos"),
    "--captions without --photos": lambda world: (world.train("--captions", "nosuch"), "--captions"),
    "--data without the set in it": lambda world: (world.train("--data", world.results), world.results),
    "a photo of the list is missing": lambda world: (
        world.spoil("images/train3.jpg", Path.unlink)[0], "no photo train3.jpg in"
    ),
    **{
        f"a photo of {split} is cut short, in a full run": lambda world, split=split: world.spoil(
            f"images/{split}1.jpg", cut, "--full"
        ) for split in SPLITS
    },
    **{
        f"a photo of {split} is no picture": lambda world, split=split: world.spoil(
            f"images/{split}1.jpg", holding("no photo")
        ) for split in ("train", "val")
    },
    "a captions file without captions": lambda world: world.spoil(TOKENS, holding("\n")),
    "two lists that overlap": lambda world: world.spoil(captions.LISTS["test"], holding("train0.jpg\n")),
    "a list is missing": lambda world: world.spoil(captions.LISTS["val"], Path.unlink, "--full"),
    "a caption line without a tab": lambda world: world.line(3, "train1.jpg#0 A dog"),
    "a caption line of an unknown photo": lambda world: world.line(7, "nosuch.jpg#0\tA dog", "--full"),
    "a caption line without words": lambda world: world.line(2, "train0.jpg#1\t."),
    "ones own photos, fewer than ten": lambda world: world.spoil(
        "texts.txt", holding("train0.jpg#0\tA ball\n"), "--photos", world.set / "images", "--captions",
        world.set / "texts.txt",
    ),
    "weights that are broken, of the architecture that is usual": lambda world: world.spoil(
        "../weights/resnet50.pth", lambda path: write(path, b"no weights")
    ),
    "h5 captions cut short": lambda world: world.coco(lambda folder: cut(folder / "coco2014_captions.h5")),
    "h5 features cut short": lambda world: world.coco(
        lambda folder: cut(folder / "val2014_vgg16_fc7_pca.h5"), "--full"
    ),
    "h5 without a data set": lambda world: world.coco(
        lambda folder: spoil_h5(folder, val_captions=None) or "'val_captions'"
    ),
    "h5 with words beyond the vocabulary": lambda world: world.coco(
        lambda folder: spoil_h5(folder, train_captions=changed("train_captions", 0, 99)) or "holds word 99"
    ),
    "h5 with photos beyond the features": lambda world: world.coco(
        lambda folder: spoil_h5(folder, val_image_idxs=changed("val_image_idxs", 0, 99)) or "holds photo 99", "--full"
    ),
    "h5 without the vocabulary": lambda world: world.coco(
        lambda folder: (folder / "coco2014_vocab.json").unlink() or "vocab.json"
    ),
})  # fmt: skip

# the model

BAD |= {
    "--model with an object among its parameters": lambda world: world.params(b_vocab=Bomb(world.mark)),
    "--model of another vocabulary": lambda world: world.model(vocabulary=lambda words: words[:-1]),
    "--model of a longer vocabulary": lambda world: world.model(vocabulary=lambda words: [*words, "zebra"]),
    "--model with a word twice": lambda world: world.model(vocabulary=lambda words: [*words[:-1], "a"]),
    "--model without the special words": lambda world: world.model(vocabulary=lambda words: words[::-1]),
    "--model with a vocabulary of numbers": lambda world: world.model(
        vocabulary=lambda words: [*SPECIAL, *range(len(words) - 4)]
    ),
    "--model of another cell": lambda world: world.model(cell="rnn"),
    "--model of the other cell's parameters": lambda world: world.model("rnn", cell="lstm"),
    "--model of an unknown cell": lambda world: world.model(cell="gru"),
    "--model of a cell that is a list": lambda world: world.model(cell=["lstm"]),
    "--model of features of another size": lambda world: world.params(W_proj=torch.ones(99, 16)),
    "--model with a mean of another size": lambda world: world.model(mean=torch.ones(99)),
    "--model with a mean of NaN": lambda world: world.model(mean=lambda mean: mean * float("nan")),
    "--model with a spread of zero": lambda world: world.model(spread=0.0),
    "--model with a spread of NaN": lambda world: world.model(spread=float("nan")),
    "--model with a spread that is a text": lambda world: world.model(spread="1"),
    "--model of other weights": lambda world: world.model(features_id="0123456789ab"),
    "--model of an unknown architecture": lambda world: world.model(arch="nosuch", builtin=False),
    "--model without a parameter": lambda world: world.params(b=None),
    "--model with a parameter too many": lambda world: world.params(extra=torch.ones(3)),
    "--model with a parameter of another shape": lambda world: world.params(b=torch.ones(3)),
    "--model in double precision": lambda world: world.model(
        params=lambda params: {name: w.double() for name, w in params.items()}
    ),
    "--model with NaN": lambda world: world.params(b=torch.full((64,), float("nan"))),
    "--model with infinity": lambda world: world.params(b=torch.full((64,), float("inf"))),
    "--model with parameters that are numbers": lambda world: world.model(params={"W_proj": 3}),
    "--model with a parameter that is sparse": lambda world: world.params(b=torch.ones(64).to_sparse()),
    "--model with parameters larger than its file": lambda world: world.params(
        W_proj=torch.ones(1, 1).expand(10**6, 10**6)
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_on_stderr_and_status_2_and_changes_no_result(
    case, tiny_set, tmp_path, finished_run, command
):
    argv, named = BAD[case](World(tiny_set, tmp_path, finished_run))
    check_refused(command, ic.main, argv, named, tmp_path, without_cache)


# ---- the real data


@pytest.fixture(scope="module")
def flickr8k(hw2_data, tmp_path_factory):
    """The real set, read where opening a photo fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photo_features, "open_photo", lambda path: pytest.fail(f"opened {path}"))
        return captions.load(ic.parse_args(["--data", str(hw2_data)]), tmp_path_factory.mktemp("cache"), "cpu")


def test_the_real_flickr8k_is_read_without_opening_a_photo(flickr8k):
    assert flickr8k.name == "Flickr8k" and flickr8k.real


def test_the_real_flickr8k_has_its_published_splits_of_five_captions_a_photo(flickr8k):
    data = flickr8k
    assert {split: len(paths) for split, paths in data.pictures.items()} == {"train": 6000, "val": 1000, "test": 1000}
    assert all(len(photo) == 5 for split in SPLITS for photo in data.references[split])
    assert {split: len(rows) for split, rows in data.captions.items()} == {"train": 30000, "val": 5000, "test": 5000}
    names = [{path.name for path in data.pictures[split]} for split in SPLITS]
    assert len(set.union(*names)) == 8000


def test_the_real_vocabulary_is_the_words_that_the_training_captions_hold_five_times(flickr8k, hw2_data):
    data = flickr8k
    train = set((hw2_data / "flickr8k" / captions.LISTS["train"]).read_text().split())
    counts = Counter()
    for line in (hw2_data / "flickr8k" / TOKENS).read_text().splitlines():
        photo, text = line.split("\t")
        if photo.split("#")[0] in train:
            counts.update(tokenize(text))
    assert data.idx_to_word == [*SPECIAL, *sorted(word for word, count in counts.items() if count >= 5)]
    assert 2000 < len(data.idx_to_word) < 4000


def test_the_real_references_hold_the_rare_words_that_are_unk_in_the_numbers(flickr8k):
    data = flickr8k
    words = {word for photo in data.references["test"] for caption in photo for word in caption}
    assert words - set(data.idx_to_word) and not words & set(SPECIAL)
    assert (data.captions["test"] == captions.UNK).any()


def test_the_real_set_goes_with_the_real_resnet50(flickr8k):
    data = flickr8k
    assert (data.source.arch, data.source.builtin) == ("resnet50", False)
