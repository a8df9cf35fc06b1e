"""rnn.py against numeric gradients, its PyTorch twin, the temporal layers, and a search that tries every caption."""

import itertools

import numpy as np
import pytest

import rnn
import rnn_layers
from image_captioning import TorchCaptioningRNN
from layers import fc_forward
from rnn import SPECIAL, CaptioningRNN, largest, log_softmax
from tests.gradient_check import numeric_gradient, relative_error

pytestmark = pytest.mark.filterwarnings("error")

CELLS = ("rnn", "lstm")
WORDS = {word: k for k, word in enumerate((*SPECIAL, "a", "dog", "cat", "runs", "sleeps"))}
CAPTIONS = np.array([[1, 4, 5, 7, 2, 0, 0], [1, 4, 6, 2, 0, 0, 0], [1, 4, 5, 3, 8, 2, 0]])


def model_of(cell, dtype=np.float64, seed=0, lively=True, words=WORDS):
    """A small model; `lively`: of weights large enough that its words depend on the photo and on one another."""
    model = CaptioningRNN(words, 4, 3, 5, cell, dtype, seed)
    if lively:
        rng = np.random.default_rng(seed)
        model.params = {name: rng.standard_normal(w.shape).astype(dtype) for name, w in model.params.items()}
    return model


def features_of(count, dtype=np.float64, seed=1):
    return np.random.default_rng(seed).standard_normal((count, 4)).astype(dtype)


# ---- the model


@pytest.mark.parametrize("cell, gates", [("rnn", 1), ("lstm", 4)])
def test_the_parameters_have_the_courses_names_and_shapes(cell, gates):
    shapes = {name: w.shape for name, w in model_of(cell, lively=False).params.items()}
    assert shapes == {
        "W_proj": (4, 5), "b_proj": (5,), "W_embed": (9, 3), "Wx": (3, 5 * gates), "Wh": (5, 5 * gates),
        "b": (5 * gates,), "W_vocab": (5, 9), "b_vocab": (9,),
    }  # fmt: skip


def test_the_arguments_default_to_the_courses_sizes_and_single_precision():
    shapes = {name: w.shape for name, w in CaptioningRNN(WORDS).params.items()}
    assert (shapes["W_proj"], shapes["W_embed"]) == ((512, 128), (9, 128))
    assert {w.dtype for w in CaptioningRNN(WORDS).params.values()} == {np.dtype(np.float32)}


def test_one_seed_gives_one_model_and_another_seed_another():
    first, same, other = (CaptioningRNN(WORDS, seed=seed).params["Wx"] for seed in (3, 3, 4))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_the_random_start_has_the_courses_spread():
    words = {word: k for k, word in enumerate([*SPECIAL, *map(str, range(296))])}
    params = CaptioningRNN(words, 400, 100, 200, "lstm").params
    spread = {name: float(params[name].std()) for name in params}
    expected = {"W_proj": 400**-0.5, "W_embed": 0.01, "Wx": 100**-0.5, "Wh": 200**-0.5, "W_vocab": 200**-0.5}
    assert spread == pytest.approx({**dict.fromkeys(("b_proj", "b", "b_vocab"), 0), **expected}, rel=0.02)


def test_an_unknown_cell_is_a_value_error_that_names_it():
    with pytest.raises(ValueError, match="cell_type is 'gru'"):
        CaptioningRNN(WORDS, cell_type="gru")


@pytest.mark.parametrize(
    "words, message",
    [
        ({"<NULL>": 0, "<START>": 1}, "lacks <END>"),
        ({**WORDS, "cow": 4}, "does not number"),
        ({**WORDS, "cow": 99}, "does not number"),
    ],
)
def test_a_vocabulary_that_is_none_is_a_value_error(words, message):
    with pytest.raises(ValueError, match=message):
        CaptioningRNN(words)


# ---- the loss


def plain_loss(model, features, captions):
    """The handout's formulation, with the temporal layers over all steps, padding included."""
    p = model.params
    words_in, words_out = captions[:, :-1], captions[:, 1:]
    h0, _ = fc_forward(features, p["W_proj"], p["b_proj"])
    x, _ = rnn_layers.word_embedding_forward(words_in, p["W_embed"])
    forward = {"rnn": rnn_layers.rnn_forward, "lstm": rnn_layers.lstm_forward}[model.cell_type]
    h, _ = forward(x.transpose(1, 0, 2), h0, p["Wx"], p["Wh"], p["b"])
    scores, _ = rnn_layers.temporal_fc_forward(h.transpose(1, 0, 2), p["W_vocab"], p["b_vocab"])
    return rnn_layers.temporal_softmax_loss(scores, words_out, words_out != model.null)[0]


@pytest.mark.parametrize("cell", CELLS)
def test_the_loss_is_that_of_the_temporal_layers(cell):
    model, features = model_of(cell), features_of(3)
    loss, _ = model.loss(features, CAPTIONS)
    assert loss == pytest.approx(plain_loss(model, features, CAPTIONS), rel=1e-13)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_every_gradient_of_the_loss_agrees_with_numeric_differences(cell, dropout):
    model, features = model_of(cell), features_of(3)

    def loss(changed, name):
        kept, model.params[name] = model.params[name], changed
        value = model.loss(features, CAPTIONS, dropout, np.random.default_rng(5))[0]
        model.params[name] = kept
        return value

    _, grads = model.loss(features, CAPTIONS, dropout, np.random.default_rng(5))
    errors = {
        name: relative_error(grads[name], numeric_gradient(lambda w, name=name: loss(w, name), model.params[name]))
        for name in model.params
    }
    assert max(errors.values()) < 1e-8, errors


@pytest.mark.parametrize("cell", CELLS)
def test_longer_padding_changes_neither_loss_nor_gradients(cell):
    model, features = model_of(cell), features_of(3)
    loss, grads = model.loss(features, CAPTIONS)
    longer_loss, longer_grads = model.loss(features, np.pad(CAPTIONS, ((0, 0), (0, 6))))
    assert longer_loss == loss
    assert all(np.array_equal(grads[name], longer_grads[name]) for name in grads)


@pytest.mark.parametrize("cell", CELLS)
def test_the_loss_is_the_mean_over_captions(cell):
    model, features = model_of(cell), features_of(3)
    alone = [model.loss(features[k : k + 1], CAPTIONS[k : k + 1])[0] for k in range(3)]
    assert model.loss(features, CAPTIONS)[0] == pytest.approx(np.mean(alone), rel=1e-13)


@pytest.mark.parametrize("cell", CELLS)
def test_single_precision_stays_single_and_changes_no_argument(cell):
    model, features, captions = model_of(cell, np.float32), features_of(3, np.float32), CAPTIONS.astype(np.int32)
    kept = features.copy(), captions.copy(), {name: w.copy() for name, w in model.params.items()}
    loss, grads = model.loss(features, captions, 0.3, np.random.default_rng(0))
    assert {dw.dtype for dw in (*grads.values(), loss)} == {np.dtype(np.float32)}
    assert np.array_equal(features, kept[0]) and np.array_equal(captions, kept[1])
    assert all(np.array_equal(w, kept[2][name]) for name, w in model.params.items())


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_draws_from_its_generator_alone(cell):
    model, features = model_of(cell), features_of(3)
    first, again, other = (model.loss(features, CAPTIONS, 0.5, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert first == again != other


def test_captions_of_padding_alone_are_a_value_error():
    with pytest.raises(ValueError, match="no word"):
        model_of("rnn").loss(features_of(1), np.array([[1, 0, 0]]))


def test_a_word_outside_the_vocabulary_is_an_index_error_that_names_it():
    with pytest.raises(IndexError, match=r"captions\[0, 1\] is 9"):
        model_of("rnn").loss(features_of(1), np.array([[1, 9, 2]]))


def test_another_number_of_features_and_captions_is_a_value_error():
    with pytest.raises(ValueError, match="captions has shape"):
        model_of("rnn").loss(features_of(2), CAPTIONS)


def test_features_of_another_size_are_a_value_error():
    with pytest.raises(ValueError, match="w has shape"):
        model_of("rnn").loss(np.ones((3, 7)), CAPTIONS)


# ---- sampling


@pytest.mark.parametrize("cell", CELLS)
def test_a_sample_reads_its_own_words_and_takes_the_best_next_one_each_time(cell):
    model, features = model_of(cell, seed=3), features_of(20)
    p = model.params
    step = {"rnn": rnn_layers.rnn_step_forward, "lstm": rnn_layers.lstm_step_forward}[cell]
    for feature, caption in zip(features, model.sample(features, 9), strict=True):
        h, word, expected = feature[None] @ p["W_proj"] + p["b_proj"], model.start, []
        state = (h,) if cell == "rnn" else (h, np.zeros_like(h))
        while len(expected) < 9 and word != model.end:
            *state, _ = step(p["W_embed"][[word]], *state, p["Wx"], p["Wh"], p["b"])
            scores = (state[0] @ p["W_vocab"] + p["b_vocab"])[0]
            scores[[model.null, model.start]] = -np.inf
            word = int(scores.argmax())
            expected.append(word)
        assert caption.tolist() == expected + [model.null] * (9 - len(expected))


@pytest.mark.parametrize("cell", CELLS)
def test_a_twin_says_what_the_numpy_model_says(cell):
    model, features = model_of(cell, seed=3), features_of(20)
    assert np.array_equal(TorchCaptioningRNN(model).sample(features, 9).numpy(), model.sample(features, 9))


@pytest.mark.parametrize("search", [CaptioningRNN.sample, CaptioningRNN.beam_search], ids=["sample", "beam_search"])
@pytest.mark.parametrize("cell", CELLS)
def test_captions_are_integers_without_start_and_null_behind_the_end_alone(cell, search):
    models = [model_of(cell, np.float32, seed) for seed in range(8)]
    captions = np.concatenate([search(model, features_of(50, np.float32), max_length=7) for model in models])
    assert captions.shape == (400, 7) and captions.dtype.kind == "i"
    assert not (captions == WORDS["<START>"]).any()
    for caption in captions.tolist():
        length = caption.index(WORDS["<END>"]) + 1 if WORDS["<END>"] in caption else 7
        assert WORDS["<NULL>"] not in caption[:length] and set(caption[length:]) <= {WORDS["<NULL>"]}
    assert (captions == WORDS["<END>"]).any() and (captions[:, -1] > 2).any()  # both kinds were seen


@pytest.mark.parametrize("search", [CaptioningRNN.sample, CaptioningRNN.beam_search], ids=["sample", "beam_search"])
def test_unk_is_said_only_where_it_may_be(search):
    model, features = model_of("rnn"), features_of(100)
    model.params["b_vocab"][WORDS["<UNK>"]] = 4
    assert (search(model, features) == WORDS["<UNK>"]).any()
    assert not (search(model, features, unk=False) == WORDS["<UNK>"]).any()


@pytest.mark.parametrize("search", [CaptioningRNN.sample, CaptioningRNN.beam_search], ids=["sample", "beam_search"])
def test_no_photos_give_no_captions(search):
    assert search(model_of("lstm"), features_of(0)).shape == (0, 30)


# ---- beam search


def score(model, feature, caption, length_power):
    """log p(caption) / length^length_power, the caption's numbers without padding, by the loss."""
    words = np.array([[model.start, *caption]])
    return -model.loss(feature[None], words)[0] / len(caption) ** length_power


def plain_beam_search(model, feature, width, most, length_power):
    """The search of one photo with lists: grows captions by every word, keeps the best, until `width` have ended."""
    p = model.params
    h = feature[None] @ p["W_proj"] + p["b_proj"]
    step = {"rnn": rnn_layers.rnn_step_forward, "lstm": rnn_layers.lstm_step_forward}[model.cell_type]
    state = (h,) if model.cell_type == "rnn" else (h, np.zeros_like(h))
    opened, ended = [(0.0, [], state)], []
    for _ in range(most):
        grown = []
        for total, said, state in opened:
            word = said[-1] if said else model.start
            *after, _ = step(p["W_embed"][[word]], *state, p["Wx"], p["Wh"], p["b"])
            scores = after[0] @ p["W_vocab"] + p["b_vocab"]
            log_p = log_softmax(scores)[0]
            log_p[[model.null, model.start]] = -np.inf
            grown += [(total + value, [*said, k], after) for k, value in enumerate(log_p)]
        grown = sorted(grown, key=lambda entry: -entry[0])[: width - len(ended)]
        ended += [entry for entry in grown if entry[1][-1] == model.end]
        opened = [entry for entry in grown if entry[1][-1] != model.end]
        if len(ended) == width:
            break
    best = max(ended or opened, key=lambda entry: entry[0] / len(entry[1]) ** length_power if ended else entry[0])
    return best[1] + [model.null] * (most - len(best[1]))


@pytest.mark.parametrize("length_power", [0.0, 0.7])
@pytest.mark.parametrize("width", [2, 3, 5])
@pytest.mark.parametrize("cell", CELLS)
def test_the_batched_search_finds_what_a_search_of_one_photo_with_lists_finds(cell, width, length_power):
    model, features = model_of(cell, seed=2), features_of(30)
    found = model.beam_search(features, width, 6, length_power)
    expected = [plain_beam_search(model, feature, width, 6, length_power) for feature in features]
    assert found.tolist() == expected


@pytest.mark.parametrize("cell", CELLS)
def test_a_beam_as_wide_as_all_captions_finds_the_best_of_all(cell):
    model, features = model_of(cell, seed=4), features_of(10)
    said = [k for k in range(len(WORDS)) if k not in (model.null, model.start, model.end)]
    every = [[*words, model.end] for length in range(3) for words in itertools.product(said, repeat=length)]
    for feature, caption in zip(features, model.beam_search(features, 600, 3, 0.7), strict=True):
        best = max(every, key=lambda words: score(model, feature, words, 0.7))
        assert caption.tolist() == best + [model.null] * (3 - len(best))


def test_a_wider_beam_finds_likelier_captions_on_the_whole():
    model, features = model_of("lstm", seed=2), features_of(300)

    def total(width):
        found = model.beam_search(features, width, 12, 0.0)
        ended = [caption[: list(caption).index(model.end) + 1] for caption in found if model.end in caption]
        assert len(ended) == len(found)
        return sum(score(model, f, list(caption), 0.0) for f, caption in zip(features, ended, strict=True))

    model.params["b_vocab"][model.end] += 2  # every caption ends
    assert total(1) < total(4)


@pytest.mark.parametrize("cell", CELLS)
def test_a_photos_caption_does_not_depend_on_the_photos_beside_it(cell):
    model, features = model_of(cell), features_of(300)
    together = model.beam_search(features, 3, 10)
    assert np.array_equal(together[140:170], model.beam_search(features[140:170], 3, 10))


def test_a_search_keeps_at_most_so_many_captions_open_and_finds_the_same(monkeypatch):
    model, features = model_of("rnn", seed=2), features_of(7)
    expected, seen = model.beam_search(features, 3, 5), []
    search = model._beam_search
    monkeypatch.setattr(rnn, "AT_ONCE", 8)
    monkeypatch.setattr(model, "_beam_search", lambda part, *rest: seen.append(len(part)) or search(part, *rest))
    assert np.array_equal(model.beam_search(features, 3, 5), expected)
    assert seen == [2, 2, 2, 1]


@pytest.mark.parametrize("width", [0, -1])
def test_a_beam_of_no_width_is_a_value_error(width):
    with pytest.raises(ValueError, match=f"beam_width is {width}"):
        model_of("rnn").beam_search(features_of(1), width)


def test_log_softmax_is_finite_for_large_scores_and_keeps_words_that_are_never_said_out():
    values = log_softmax(np.array([[1e4, 0, -np.inf]], np.float32))
    assert values.tolist() == [[0.0, -1e4, -np.inf]]


def test_largest_finds_the_first_of_equals_first():
    places, values = largest(np.array([[1.0, 3, 2, 3], [0, 0, 0, 0]]), 3)
    assert places.tolist() == [[1, 3, 2], [0, 1, 2]]
    assert values.tolist() == [[3, 3, 2], [0, 0, 0]]
