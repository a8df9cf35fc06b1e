"""rnn.py: the model's parameters, greedy captions and beam search."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnn
import rnn_layers
from rnn import SPECIAL, CaptioningRNN, log_softmax
from tests.gradients.test_captioning_rnn import WORDS, model_of

pytestmark = pytest.mark.filterwarnings("error")

CELLS = ("rnn", "lstm")


def features_of(count):
    return np.random.default_rng(1).standard_normal((count, 4))


@pytest.mark.parametrize("cell, gates", [("rnn", 1), ("lstm", 4)])
def test_parameters_have_the_courses_names_shapes_and_scale(cell, gates):
    words = {word: k for k, word in enumerate([*SPECIAL, *map(str, range(296))])}
    params = CaptioningRNN(words, 400, 100, 200, cell).params
    assert {name: w.shape for name, w in params.items()} == {
        "W_proj": (400, 200), "b_proj": (200,), "W_embed": (300, 100), "Wx": (100, 200 * gates),
        "Wh": (200, 200 * gates), "b": (200 * gates,), "W_vocab": (200, 300), "b_vocab": (300,),
    }  # fmt: skip
    spread = {"W_proj": 400**-0.5, "W_embed": 0.01, "Wx": 100**-0.5, "Wh": 200**-0.5, "W_vocab": 200**-0.5}
    spread |= dict.fromkeys(("b_proj", "b", "b_vocab"), 0)
    assert {name: float(w.std()) for name, w in params.items()} == pytest.approx(spread, rel=0.02)


def test_arguments_default_to_the_courses_sizes_and_float32():
    params = CaptioningRNN(WORDS).params
    assert (params["W_proj"].shape, params["W_embed"].shape, params["Wx"].shape) == ((512, 128), (9, 128), (128, 128))
    assert {w.dtype for w in params.values()} == {np.dtype(np.float32)}


def test_initial_weights_depend_only_on_the_seed():
    first, same, other = (CaptioningRNN(WORDS, **seed).params["Wx"] for seed in ({}, {"seed": 0}, {"seed": 3}))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_unknown_cell_or_missing_null_raises_a_value_error():
    with pytest.raises(ValueError, match="cell_type is 'gru'"):
        CaptioningRNN(WORDS, cell_type="gru")
    with pytest.raises(ValueError, match="no <NULL>"):
        CaptioningRNN({"<START>": 0, "<END>": 1})


@pytest.mark.parametrize("words", [{"<START>": 1, "a": 2}, {"<END>": 1, "a": 2}, {"<START>": 1, "<END>": 3}], ids=str)
def test_only_sampling_needs_start_end_and_no_gaps_in_indices(words):
    model = CaptioningRNN({"<NULL>": 0, **words}, 4, 3, 5)
    assert model.loss(features_of(1), np.array([[2, 1, 2]]))[0] > 0
    for search in (model.sample, model.beam_search):
        with pytest.raises(ValueError, match="word_to_idx: sampling needs <START>"):
            search(features_of(1))


@pytest.mark.parametrize("search", [CaptioningRNN.sample, CaptioningRNN.beam_search], ids=["sample", "beam_search"])
def test_captions_contain_unk_only_if_allowed(search):
    model, features = model_of("rnn", np.float32), features_of(100)
    model.params["b_vocab"][WORDS["<UNK>"]] = 4
    assert (search(model, features) == WORDS["<UNK>"]).any()
    assert not (search(model, features, unk=False) == WORDS["<UNK>"]).any()


@pytest.mark.parametrize("search", [CaptioningRNN.sample, CaptioningRNN.beam_search], ids=["sample", "beam_search"])
def test_no_photos_give_no_captions(search):
    assert search(model_of("lstm"), features_of(0)).shape == (0, 30)


def plain_beam_search(model, feature, width, most, length_power):
    """Beam search for one photo with lists: adds every word, keeps the best captions until `width` have ended."""
    p = model.params
    h = feature[None] @ p["W_proj"] + p["b_proj"]
    step = {"rnn": rnn_layers.rnn_step_forward, "lstm": rnn_layers.lstm_step_forward}[model.cell_type]
    opened, ended = [(0.0, [], (h,) if model.cell_type == "rnn" else (h, np.zeros_like(h)))], []
    for _ in range(most):
        grown = []
        for total, words, state in opened:
            word = words[-1] if words else model.start
            *after, _ = step(p["W_embed"][[word]], *state, p["Wx"], p["Wh"], p["b"])
            log_p = log_softmax(after[0] @ p["W_vocab"] + p["b_vocab"])[0]
            log_p[[model.null, model.start]] = -np.inf
            grown += [(total + value, [*words, k], after) for k, value in enumerate(log_p)]
        grown = sorted(grown, key=lambda entry: -entry[0])[: width - len(ended)]
        ended += [entry for entry in grown if entry[1][-1] == model.end]
        opened = [entry for entry in grown if entry[1][-1] != model.end]
        if len(ended) == width:
            break
    best = max(ended or opened, key=lambda entry: entry[0] / len(entry[1]) ** length_power if ended else entry[0])
    return best[1] + [model.null] * (most - len(best[1]))


def any_model(cell, words, D, W, H, seed):
    """A model of any size, with a vocabulary that may be smaller than the beam, and features of photos."""
    vocabulary = {word: k for k, word in enumerate([*SPECIAL[:3], *(f"word{k}" for k in range(words))])}
    model, rng = CaptioningRNN(vocabulary, D, W, H, cell, np.float64, seed), np.random.default_rng(seed)
    model.params = {name: rng.standard_normal(w.shape) for name, w in model.params.items()}
    return model, rng.standard_normal((seed % 7, D))


any_size = given(st.sampled_from(CELLS), st.tuples(*[st.integers(1, 6)] * 4), st.integers(1, 6), st.integers(0, 99))
fuzz = settings(max_examples=100, deadline=None, derandomize=True, database=None)


@fuzz
@any_size
@pytest.mark.parametrize("width, length_power", [(1, 0.7), (2, 0.7), (5, 0.7), (5, 0.0)])
def test_beam_search_matches_a_plain_search(width, length_power, cell, sizes, most, seed):
    model, features = any_model(cell, *sizes, seed)
    expected = [plain_beam_search(model, feature, width, most, length_power) for feature in features]
    assert model.beam_search(features, width, most, length_power).tolist() == expected


@fuzz
@any_size
def test_sample_equals_a_beam_search_of_width_1(cell, sizes, most, seed):
    model, features = any_model(cell, *sizes, seed)
    assert np.array_equal(model.sample(features, most), model.beam_search(features, 1, most))


@pytest.mark.parametrize("cell", CELLS)
def test_a_very_wide_beam_finds_the_best_caption(cell):
    model, features = model_of(cell, seed=4), features_of(10)
    choices = [k for k in range(len(WORDS)) if k not in (model.null, model.start, model.end)]
    every = [[*words, model.end] for length in range(3) for words in itertools.product(choices, repeat=length)]
    for feature, caption in zip(features, model.beam_search(features, 600, 3, 0.7), strict=True):
        loss = [model.forward(feature[None], np.array([[model.start, *words]]))[0] for words in every]
        best = every[np.argmin([value / len(words) ** 0.7 for value, words in zip(loss, every, strict=True)])]
        assert caption.tolist() == best + [model.null] * (3 - len(best))


def test_a_search_in_parts_gives_the_same_captions(monkeypatch):
    model, features = model_of("rnn", seed=2), features_of(7)
    expected = model.beam_search(features, 3, 5, 0.2, unk=False)
    monkeypatch.setattr(rnn, "PHOTOS_AT_ONCE", 2)
    assert np.array_equal(model.beam_search(features.tolist(), 3, 5, 0.2, unk=False), expected)


def test_log_softmax_handles_large_scores_and_minus_infinity():
    values = log_softmax(np.array([[1e4, 0, -np.inf]], np.float32))
    assert values.tolist() == [[0.0, -1e4, -np.inf]]
