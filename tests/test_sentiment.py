"""sentiment.py: each model is the handout's line, padding is nothing, a kill loses nothing, bad input is one line."""

import dataclasses
import functools
import json
import re
import shutil

import pytest
import torch
from torch import nn
from tqdm import tqdm

import sentiment
from data import DataError, glove, results, reviews
from data.results import Checkpoint
from sentiment import PAD, RECIPES, UNKNOWN, Encoded
from tests import runs
from tests.conftest import snapshot
from tests.runs import Table, check_refused, ctrl_c_at_save, equal, without_times, world_folder, write

V, D = 30, 6


def small_model(name, dropout=0.0, seed=0):
    """One of the five for a vocabulary of V words, with random weights everywhere."""
    torch.manual_seed(seed)
    recipe = RECIPES[name]
    if name == "bag":
        model = recipe.model(V)
    else:
        options = {key: {"hidden": 5}.get(key, dropout) for key in recipe.options}
        model = recipe.model(V, D, **options)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def batch(*lists):
    encoded = Encoded([[str(word) for word in words] for words in lists], [str(k) for k in range(V)])
    return encoded.batch(torch.arange(len(lists)))[:2]


# ---- words as numbers


def test_the_vocabulary_has_the_words_seen_twice_commonest_first_behind_padding_and_unknown():
    vocabulary = sentiment.make_vocabulary([["b", "a", "b", "rare"], ["a", "b", "c"], ["c", "once"]])
    assert vocabulary == ["", "_unknown_", "b", "a", "c"]


def test_a_batch_is_padded_to_its_own_longest_sentence_and_new_words_are_unknown():
    encoded = Encoded([["a"], ["a", "new", "b"], ["b"] * 9], ["", "?", "a", "b"], [1, 0, 1])
    words, lengths, labels = encoded.batch(torch.tensor([1, 0]))
    assert words.tolist() == [[2, UNKNOWN, 3], [2, PAD, PAD]]
    assert lengths.tolist() == [3, 1] and labels.tolist() == [0, 1]


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_hold_every_sentence_once_longest_first(shuffle):
    lengths = torch.randint(1, 16, (1000,), generator=torch.Generator().manual_seed(0))
    batches = sentiment.sorted_batches(lengths, 32, shuffle)
    assert sorted(torch.cat(batches).tolist()) == list(range(1000)) and max(map(len, batches)) == 32
    assert all((lengths[rows].diff() <= 0).all() for rows in batches)


def test_hardly_anything_of_a_sorted_batch_is_padding():
    lengths = torch.randint(5, 16, (4000,), generator=torch.Generator().manual_seed(0))
    padded = sum(len(rows) * int(lengths[rows].max()) for rows in sentiment.sorted_batches(lengths, 64, shuffle=True))
    assert padded < 1.02 * int(lengths.sum())


def test_a_batch_with_a_very_long_sentence_has_few_sentences():
    lengths = torch.tensor([10_000, 9_000, *[10] * 200])
    assert [len(rows) for rows in sentiment.sorted_batches(lengths, 64)[:2]] == [6, 64]


# ---- the five models, against their lines written out


def test_the_bag_of_words_is_a_linear_layer_of_the_binary_vector():
    model = small_model("bag")
    words, lengths = batch([2, 3, 3, 9], [4], [1, 1, 2, 2, 29])
    x = torch.zeros(3, V)
    for row, members in enumerate(({2, 3, 9}, {4}, {1, 2, 29})):
        x[row, list(members)] = 1
    torch.testing.assert_close(model(words, lengths), model.linear(x)[:, 0])


@pytest.mark.parametrize("name", ["average", "glove"])
def test_the_average_is_a_linear_layer_of_the_mean_of_the_sentences_vectors(name):
    model = small_model(name)
    words, lengths = batch([2, 3, 3, 9], [4])
    means = torch.stack([model.embedding.weight[[2, 3, 3, 9]].mean(0), model.embedding.weight[4]])
    torch.testing.assert_close(model(words, lengths), model.linear(means)[:, 0])


def step_rnn(cell, x, h, c):
    return torch.tanh(cell.weight_ih_l0 @ x + cell.bias_ih_l0 + cell.weight_hh_l0 @ h + cell.bias_hh_l0), c


def step_lstm(cell, x, h, c):
    i, f, g, o = (cell.weight_ih_l0 @ x + cell.bias_ih_l0 + cell.weight_hh_l0 @ h + cell.bias_hh_l0).chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@pytest.mark.parametrize("name, step", [("rnn", step_rnn), ("lstm", step_lstm)])
def test_the_recurrent_models_predict_from_the_state_at_the_sentences_own_last_word(name, step):
    model, lists = small_model(name), [[4], [2, 3, 3, 9], [7, 8]]
    expected = []
    for words in lists:
        h = c = torch.zeros(5)
        for word in words:
            h, c = step(model.cell, model.embedding.weight[word], h, c)
        expected.append(model.linear(h))
    torch.testing.assert_close(model(*batch(*lists)), torch.cat(expected))


@pytest.mark.parametrize("name", RECIPES)
def test_padding_and_the_other_sentences_of_a_batch_change_no_score(name):
    model, lists = small_model(name), [[5, 6, 7], [2] * 12, [9, 1]]
    together = model(*batch(*lists))
    alone = torch.cat([model(*batch(words)) for words in lists])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_order_matters_to_the_recurrent_models(name):
    model = small_model(name)
    assert (model(*batch([2, 3, 4])) - model(*batch([4, 3, 2]))).abs() > 1e-3


@pytest.mark.parametrize("name", ["bag", "average", "glove"])
def test_order_does_not_matter_to_the_others(name):
    model = small_model(name)
    torch.testing.assert_close(model(*batch([2, 3, 4])), model(*batch([4, 3, 2])))


def test_pretrained_vectors_are_scaled_as_one_and_missing_words_get_small_random_ones():
    found = torch.arange(V) % 2 == 1
    given = glove.Vectors(5 * torch.randn(V, D).numpy(), found.numpy(), "")
    weight = sentiment.make_embedding(V, D, given).weight.detach()
    ratio = weight[found] / torch.from_numpy(given.vectors)[found]
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))
    assert weight[found].std().item() == pytest.approx(0.2, rel=1e-3) and 0.05 < weight[~found][1:].std() < 0.15
    assert (weight[PAD] == 0).all()


def test_the_recurrent_weights_begin_orthogonal_and_the_forget_gate_open():
    for name, gates in (("rnn", 1), ("lstm", 4)):
        model = RECIPES[name].model(V, D, hidden=8)
        for part in model.cell.weight_hh_l0.chunk(gates):
            torch.testing.assert_close(part @ part.T, torch.eye(8), atol=1e-5, rtol=0)
    bias = model.cell.bias_ih_l0 + model.cell.bias_hh_l0
    assert bias.view(4, 8).mean(1).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("name", RECIPES)
def test_every_parameter_of_a_model_gets_a_gradient_but_paddings_own_row(name):
    model = small_model(name)
    nn.functional.binary_cross_entropy_with_logits(
        model(*batch([2, 3], [4, 5, 6])), torch.tensor([0.0, 1.0])
    ).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, key
    table = model.linear.weight.grad[0] if name == "bag" else model.embedding.weight.grad
    assert (table[PAD] == 0).all() and (table[2:7] != 0).any(-1).all()


# ---- training, statistics


def toy_sets(count=120):
    """Sentences that hold "good" or "bad" among random words."""
    generator = torch.Generator().manual_seed(0)
    labels = [k % 2 for k in range(count)]
    lists = [
        [("bad", "good")[y], *(f"w{int(k)}" for k in torch.randint(20, (2 + k % 5,), generator=generator))]
        for k, y in enumerate(labels)
    ]
    return Encoded(lists, sentiment.make_vocabulary(lists), labels)


def toy_train(name, seed=0, epochs=3, checkpoint=None):
    train, recipe = toy_sets(), dataclasses.replace(RECIPES[name], lr=5 * RECIPES[name].lr, batch_size=8)
    torch.manual_seed(seed)
    vectors = glove.Vectors(torch.randn(22, D).numpy(), torch.ones(22).bool().numpy(), "")
    model = recipe.build(24, None if name == "bag" else padded(vectors))
    return sentiment.train_model(model, train, train, recipe, epochs, seed, checkpoint)


def padded(vectors):
    """The same with two rows more, for padding and unknown."""
    zeros = torch.zeros(2, D).numpy()
    found = torch.cat([torch.zeros(2).bool(), torch.from_numpy(vectors.found)]).numpy()
    return glove.Vectors(torch.cat([torch.from_numpy(zeros), torch.from_numpy(vectors.vectors)]).numpy(), found, "")


@pytest.mark.parametrize("name", RECIPES)
def test_every_model_learns_what_a_single_word_tells(name):
    _, history = toy_train(name, epochs=10)
    assert max(history["dev_accuracy"]) > 0.95


def test_the_model_that_comes_back_is_in_evaluation_mode_and_that_of_the_best_epoch_by_dev_accuracy():
    model, history = toy_train("bag", epochs=6)
    train = toy_sets()
    assert not model.training
    assert sentiment.accuracy(sentiment.predict(model, train), train.labels) == max(history["dev_accuracy"])


def test_predict_gives_the_scores_in_the_sentences_order():
    model, train = small_model("lstm"), toy_sets()
    one_by_one = torch.cat([model(*train.batch(torch.tensor([k]))[:2]) for k in range(len(train))])
    torch.testing.assert_close(sentiment.predict(model, train), one_by_one)


@pytest.mark.parametrize("name", ["bag", "lstm"])
def test_resumed_after_any_epoch_weights_and_history_are_bit_equal_to_an_undisturbed_training(tmp_path, name):
    undisturbed, history = toy_train(name, epochs=3)
    checkpoint = Checkpoint(tmp_path / "c.pt", {})
    with ctrl_c_at_save(2), pytest.raises(KeyboardInterrupt):
        toy_train(name, epochs=3, checkpoint=checkpoint)
    resumed, resumed_history = toy_train(name, epochs=3, checkpoint=checkpoint)
    assert without_times(resumed_history) == without_times(history)
    assert equal(resumed.state_dict(), undisturbed.state_dict())


def test_a_loss_that_is_no_number_is_a_dataerror():
    model, train = small_model("bag"), toy_sets()
    model.linear.bias.data.fill_(float("nan"))
    with pytest.raises(DataError, match="loss is no longer a number"):
        sentiment.train_model(model, train, train, RECIPES["bag"], 1)


@pytest.mark.parametrize(
    "b, c, p", [(0, 0, 1), (5, 5, 1), (0, 5, 0.0625), (1, 9, 0.021484375), (3, 1, 0.625), (10, 30, 0.0022)]
)
def test_mcnemar_is_the_exact_two_sided_test_of_fair_coins(b, c, p):
    first = torch.tensor([True] * b + [False] * c + [True, True, False])
    second = torch.tensor([False] * b + [True] * c + [True, True, False])
    assert sentiment.mcnemar(first, second) == (b, c, pytest.approx(p, abs=1e-4))
    assert sentiment.mcnemar(second, first) == (c, b, pytest.approx(p, abs=1e-4))


def test_a_hundred_thousand_differences_are_no_trouble_for_mcnemar():
    first = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) < 0.5
    assert 0 < sentiment.mcnemar(first, ~first)[2] <= 1


def epoch_of(model, encoded, recipe, lr):
    """What `train_epoch` returns, with plain gradient descent for an optimizer."""
    recipe, optimizer = dataclasses.replace(recipe, lr=lr), torch.optim.SGD(model.parameters(), lr=lr)
    return sentiment.train_epoch(model, encoded, optimizer, recipe, 0, 1, tqdm(disable=True))


def test_the_training_loss_and_accuracy_are_means_over_sentences_in_batches_of_any_size():
    model = small_model("average")
    lists = [["3"], ["4", "5"], ["6", "7", "8"], ["9"], ["3", "9", "9"]]
    encoded = Encoded(lists, [str(k) for k in range(V)], [1, 0, 1, 1, 0])
    loss, accuracy = epoch_of(model, encoded, dataclasses.replace(RECIPES["average"], batch_size=2), 0.0)
    scores = sentiment.predict(model, encoded)
    expected = nn.functional.binary_cross_entropy_with_logits(scores, encoded.labels).item()
    assert loss == pytest.approx(expected, rel=1e-5)
    assert accuracy == pytest.approx(sentiment.accuracy(scores, encoded.labels))


def test_a_step_follows_no_longer_gradient_than_one():
    model = sentiment.BagOfWords(500)
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    words = [str(k) for k in range(500)]
    epoch_of(model, Encoded([words[2:]], words, [1]), RECIPES["bag"], 1.0)  # the gradient is half a root of 499 long
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert (after - before).norm().item() == pytest.approx(1, rel=1e-4)


def test_the_learning_rate_falls_along_a_line_from_step_to_step():
    rates = []

    class Watched(torch.optim.SGD):
        def step(self):
            rates.append(self.param_groups[0]["lr"])

    model, recipe = small_model("bag"), dataclasses.replace(RECIPES["bag"], lr=2.0, batch_size=1)
    encoded = Encoded([["3"], ["4"], ["5"], ["6"]], [str(k) for k in range(V)], [1, 0, 1, 0])
    sentiment.train_epoch(model, encoded, Watched(model.parameters(), lr=9), recipe, 0.25, 0.5, tqdm(disable=True))
    assert rates == [1.5, 1.25, 1.0, 0.75]


def test_of_equally_good_epochs_the_first_is_kept(monkeypatch):
    kept = []
    monkeypatch.setattr(sentiment, "accuracy", lambda scores, labels: 0.5)
    predict = sentiment.predict
    monkeypatch.setattr(
        sentiment, "predict", lambda model, *rest: kept.append(model.linear.weight.clone()) or predict(model, *rest)
    )
    encoded = Encoded([["3"], ["4"], ["5", "6"]], [str(k) for k in range(V)], [1, 0, 1])
    model, _ = sentiment.train_model(small_model("bag"), encoded, encoded, RECIPES["bag"], 3)
    assert torch.equal(model.linear.weight, kept[0]) and not torch.equal(kept[0], kept[2])


# ---- the command


@pytest.fixture
def garden(tiny_reviews, tmp_path):
    """A copy of `tiny_reviews` to spoil."""
    return shutil.copytree(tiny_reviews, tmp_path / "garden")


@pytest.fixture
def flags(tiny_flags):
    """What every run below is given: `--results` and the rest come behind it, and the last one counts."""
    return tiny_flags("sentiment")


@pytest.fixture
def finished_run(finished_runs):
    """A run of all five models with two seeds: its folder, its figures, what it printed. Not to be changed."""
    return finished_runs("sentiment")


@pytest.fixture
def finished(finished_copy):
    """A copy of the finished run's results to write to."""
    return finished_copy("sentiment")


read = functools.partial(runs.read, name="sentiment")


QUESTIONS = [f"predictions_q{k}.txt" for k in range(1, 6)]
PLOTS = ["learning_curves.png", "test_accuracy.png", "bag_of_words.png"]
SHORT = ["--models", "bag", "--epochs", 1, "--seeds", 0]


def test_a_run_leaves_plots_predictions_models_examples_and_results_json_and_nothing_else(finished_run):
    assert set(snapshot(finished_run.folder)) == {*QUESTIONS, *PLOTS, "models.pt", "examples.txt", "results.json"}


def test_results_json_names_the_seeds_and_the_vectors_and_holds_no_sentence(finished_run, tiny_reviews):
    saved, text = read(finished_run.results), (finished_run.folder / "results.json").read_text()
    assert saved["seed"] == [0, 1] and "glove.6B.50d.test.txt" in saved["weights"]
    lines = (tiny_reviews / "test.txt").read_text().splitlines()
    assert not any(line[2:] in text for line in lines)


@pytest.mark.parametrize("flag", ["--seed", "--seeds"])
def test_one_seed_can_be_given_by_either_name(flag):
    assert sentiment.parse_args([flag, "7"]).seeds == [7]


def test_the_table_has_a_row_a_model_with_everything_that_was_promised(finished_run):
    table = read(finished_run.results)["table"]
    assert table["columns"] == ["model", "dev", "test", "95% interval", "p, to the row above", "seconds", "parameters"]
    assert [row[0] for row in table["rows"]] == [recipe.title for recipe in RECIPES.values()]


def test_test_accuracies_intervals_and_mcnemar_are_those_of_the_saved_models(finished_run, tiny_reviews):
    metrics = read(finished_run.results)["metrics"]
    models, saved = sentiment.load_models(finished_run.folder / "models.pt")
    test = reviews.read_labelled(tiny_reviews / "test.txt")
    encoded, right = Encoded(test.sentences, saved["vocabulary"], test.labels), {}
    for name, model in models.items():
        right[name] = (sentiment.predict(model, encoded) > 0) == (encoded.labels > 0.5)
        figures, seeds = metrics[name], metrics[name]["seeds"]
        assert seeds["0"]["test_accuracy"] == pytest.approx(right[name].float().mean().item())
        mean = (seeds["0"]["test_accuracy"] + seeds["1"]["test_accuracy"]) / 2
        assert figures["test_accuracy"] == pytest.approx(mean)
        assert figures["test_interval"] == pytest.approx(results.wilson_interval(mean, 80))
        assert seeds["0"]["dev_accuracy"] == max(figures["history"]["dev_accuracy"])
    for before, name in (("bag", "average"), ("rnn", "lstm")):
        assert metrics[name]["mcnemar"]["against"] == before
        assert metrics[name]["mcnemar"]["0"] == list(sentiment.mcnemar(right[before], right[name]))
    assert "mcnemar" not in metrics["bag"] and metrics["test_sentences"] == 80


def test_the_test_split_is_looked_at_once_after_all_training(flags, tiny_reviews, tmp_path, monkeypatch, command):
    looks, real = [], sentiment.predict
    test = (tiny_reviews / "test.txt").read_text().count("\n")
    monkeypatch.setattr(sentiment, "predict", lambda model, s: looks.append(len(s) == test) or real(model, s))
    assert command(sentiment.main, *flags, "--models", "bag", "average", "--results", tmp_path).status == 0
    assert sum(looks) == 4 and looks.index(True) == 2 * 2 * 2  # models x seeds x epochs of looks at dev before


def test_predictions_are_a_0_or_1_for_each_unlabelled_sentence_in_the_files_order(finished_run, tiny_reviews):
    models, saved = sentiment.load_models(finished_run.folder / "models.pt")
    unlabelled = reviews.read_unlabelled(tiny_reviews / "unlabelled.txt")
    for name, recipe in RECIPES.items():
        lines = (finished_run.folder / f"predictions_q{recipe.question}.txt").read_text()
        scores = torch.cat(
            [sentiment.predict(models[name], Encoded([s], saved["vocabulary"])) for s in unlabelled.sentences]
        )
        assert lines == "".join(f"{int(score > 0)}\n" for score in scores)


def test_examples_are_test_sentences_that_the_lstm_gets_right_and_the_bag_of_words_wrong(finished_run, tiny_reviews):
    models, saved = sentiment.load_models(finished_run.folder / "models.pt")
    text = (finished_run.folder / "examples.txt").read_text()
    found = re.findall(r"^([01])  +([\d.]+)%  +([\d.]+)%  (.+)$", text, re.MULTILINE)
    lines = (tiny_reviews / "test.txt").read_text().splitlines()
    for label, lstm, bag, sentence in found:
        assert f"{label} {sentence}" in lines
        scores = {
            name: sentiment.predict(models[name], Encoded([sentence.split()], saved["vocabulary"])) for name in models
        }
        assert (scores["lstm"] > 0) == (label == "1") != (scores["bag"] > 0)
        assert float(lstm) == pytest.approx(100 * scores["lstm"].sigmoid(), abs=0.06)
        assert float(bag) == pytest.approx(100 * scores["bag"].sigmoid(), abs=0.06)
    assert f"bag of words wrong: {len(found)}," in text


def test_the_largest_weights_of_the_bag_of_words_are_shown(finished_run):
    models, saved = sentiment.load_models(finished_run.folder / "models.pt")
    weights = models["bag"].linear.weight[0, 2:]
    best = saved["vocabulary"][2 + int(weights.argmax())]
    assert f"good review: {best} {weights.max():+.2f}" in (finished_run.folder / "examples.txt").read_text()
    labels = [label.get_text() for label in finished_run.figures["bag_of_words.png"].axes[0].get_yticklabels()]
    assert labels[-1] == best and labels[0] == saved["vocabulary"][2 + int(weights.argmin())]


def test_every_plot_names_its_axes_and_every_curve_has_the_colour_of_its_model(finished_run):
    assert [plot["file"] for plot in read(finished_run.results)["plots"]] == PLOTS
    assert all(axes.get_xlabel() for figure in finished_run.figures.values() for axes in figure.axes)
    loss, accuracy = finished_run.figures["learning_curves.png"].axes
    assert len(loss.lines) == len(accuracy.lines) == 10
    assert len({line.get_color() for line in accuracy.lines}) == 5


def test_the_run_says_which_vectors_it_used_and_how_much_they_cover(finished_run):
    saved = read(finished_run.results)["metrics"]
    assert re.search(
        r"^vectors: glove.6B.50d.test.txt, SHA-256 \w{8}; for 50% of \d+ words, ", finished_run.out, re.MULTILINE
    )
    assert saved["covered"]["words"] == pytest.approx(0.5, abs=0.01)


def test_without_unlabelled_sentences_and_vectors_a_run_says_so_trains_its_own_and_goes_on(garden, finished, command):
    (garden / "unlabelled.txt").unlink()
    shutil.rmtree(garden / "glove")
    stale = finished / "sentiment" / "predictions_q1.txt"
    assert stale.exists()
    done = command(sentiment.main, "--data", garden, "--models", "glove", "--epochs", 1, "--results", finished)
    assert (
        done.status == 0 and "no unlabelled.txt" in done.out and "GloVe trained on the training sentences" in done.out
    )
    assert "trained" in read(finished)["weights"] and not stale.exists()


def test_quick_takes_a_part_and_writes_to_a_folder_of_its_own(garden, tmp_path, command):
    done = command(sentiment.main, "--data", garden, "--models", "bag", "--quick", "--results", tmp_path / "results")
    assert done.status == 0 and "quick look" in done.out
    saved = json.loads((tmp_path / "results" / "sentiment-quick" / "results.json").read_text())
    assert saved["settings"]["epochs"] == 2 and len(saved["metrics"]["bag"]["history"]["dev_loss"]) == 2


@pytest.mark.slow
def test_on_the_builtin_sentences_the_lstm_beats_the_bag_of_words_by_five_points(tmp_path, command):
    done = command(sentiment.main, "--data", "builtin", "--models", "bag", "lstm", "--results", tmp_path)
    metrics = read(tmp_path)["metrics"]
    assert done.status == 0 and metrics["lstm"]["test_accuracy"] > metrics["bag"]["test_accuracy"] + 0.05


@pytest.mark.slow
def test_vectors_trained_on_the_real_sentences_put_great_near_excellent(hw2_data, tmp_path):
    split = reviews.read_labelled(hw2_data / "train.txt")
    words = sentiment.make_vocabulary(split.sentences)
    table = torch.from_numpy(glove.load(words, split.sentences, "builtin", None, tmp_path).vectors)
    unit = nn.functional.normalize(table[2:1002], dim=1)  # the thousand commonest words
    for first, second in (("great", "excellent"), ("chicken", "beef"), ("friendly", "helpful"), ("never", "again")):
        near = unit @ unit[words.index(first) - 2]
        assert (near > near[words.index(second) - 2]).sum() <= 50, (first, second)


def test_the_bag_of_words_of_the_real_sentences_is_right_on_nineteen_of_twenty(hw2_data, tmp_path, command):
    done = command(sentiment.main, "--data", hw2_data, "--models", "bag", "--epochs", 3, "--results", tmp_path)
    assert done.status == 0 and read(tmp_path)["metrics"]["bag"]["test_accuracy"] > 0.945


# ---- predictions


def test_predict_prints_every_models_probability_and_the_words_that_none_knows(finished_run, command):
    model = finished_run.folder / "models.pt"
    done = command(sentiment.main, "--predict", "The soup wasn't good!", "zzyzx Qwerty", "--model", model)
    assert done.status == 0 and done.err == "" and str(model) in done.out
    models, saved = sentiment.load_models(model)
    encoded = Encoded([["the", "soup", "was", "n't", "good", "!"]], saved["vocabulary"])
    shares = [f"{sentiment.predict(m, encoded).sigmoid().item():.1%}" for m in models.values()]
    assert re.search(r"^the soup was n't good ! +" + " +".join(map(re.escape, shares)), done.out, re.MULTILINE)
    assert re.search(r"^zzyzx qwerty .*% +'zzyzx' 'qwerty'$", done.out, re.MULTILINE)
    for recipe in RECIPES.values():
        assert recipe.title in done.out


def test_predict_file_gives_what_predict_gives_line_by_line(finished_run, tmp_path, command):
    (tmp_path / "mine.txt").write_text("Great!\nNot so great...\n")
    model = ["--model", finished_run.folder / "models.pt"]
    by_file = command(sentiment.main, "--predict-file", tmp_path / "mine.txt", *model)
    assert by_file.status == 0
    assert by_file.out == command(sentiment.main, "--predict", "Great!", "Not so great...", *model).out


def test_a_sentence_of_ten_thousand_words_and_one_of_a_single_sign_get_an_answer(finished_run, command):
    long = "the soup was good and " * 2000
    done = command(sentiment.main, "--predict", long, "\U0001f355", "--model", finished_run.folder / "models.pt")
    assert done.status == 0 and done.out.count("%") == 10 and max(map(len, done.out.splitlines())) < 250


def test_predict_takes_the_full_models_unless_quick_or_alone_and_leaves_the_run_alone(finished, command):
    full, quick = finished / "sentiment", finished / "sentiment-quick"
    shutil.copytree(full, quick)
    before = snapshot(finished)
    argv = ["--predict", "good", "--results", finished]
    assert f"models: {full / 'models.pt'} " in command(sentiment.main, *argv).out
    assert f"models: {quick / 'models.pt'} " in command(sentiment.main, *argv, "--quick").out
    assert snapshot(finished) == before
    (full / "models.pt").unlink()
    assert f"models: {quick / 'models.pt'} " in command(sentiment.main, *argv).out


def test_without_a_model_that_begins_with_vectors_none_are_read_or_trained(garden, tmp_path, command):
    (garden / "glove" / "glove.6B.50d.test.txt").write_text("broken")
    flags = ["--data", garden, "--models", "bag", "average", "--epochs", 1, "--results", tmp_path / "results"]
    done = command(sentiment.main, *flags)
    assert done.status == 0 and "vectors" not in done.out.replace("no vectors", "")
    assert read(tmp_path / "results")["weights"] == "no vectors"


# ---- bad input


class World:
    """Good input to spoil: sentences, vectors, an earlier run's results."""

    def __init__(self, garden, tmp_path, run):
        self.garden, self.tmp, self.run = garden, tmp_path, run
        self.results = world_folder(tmp_path, "sentiment")

    def train(self, *more):
        return ["--data", self.garden, *SHORT, "--results", self.results, *more]

    def spoil(self, name, content):
        """A run with that content in one of the files; the error names the file."""
        path = self.garden / name
        path.write_bytes(content)
        return self.train(), path

    def vectors(self, content):
        """The same with the file of vectors, and a model that begins with them."""
        argv, path = self.spoil("glove/glove.6B.50d.test.txt", content)
        return [*argv, "--models", "glove"], path

    def predict(self, *more, model=None):
        return [*more, "--model", model or self.run.folder / "models.pt", "--results", self.results]

    def model(self, change):
        """--predict with a file of models that `change` made of the good one's content; and the file."""
        path = write(self.tmp / "models.pt", change(torch.load(self.run.folder / "models.pt", weights_only=True)))
        return self.predict("--predict", "good", model=path), path


def changed(saved, name, **parts):
    """The content of a file of models with other parts for one model."""
    return {**saved, "models": {**saved["models"], name: {**saved["models"][name], **parts}}}


def shorter(saved):
    state = saved["models"]["lstm"]["state"]
    return changed(saved, "lstm", state={**state, "embedding.weight": state["embedding.weight"][:-1]})


def not_finite(saved):
    return changed(saved, "bag", state={key: value / 0 for key, value in saved["models"]["bag"]["state"].items()})


BAD = Table({
    "a label of 2": lambda w: w.spoil("train.txt", b"1 good\n2 bad\n"),
    "an empty sentence": lambda w: w.spoil("dev.txt", b"1 good\n0\n"),
    "an empty file": lambda w: w.spoil("test.txt", b""),
    "no word twice": lambda w: w.spoil("train.txt", b"1 good food\n0 bad service\n")[:1] + ("no word comes twice",),
    "not UTF-8": lambda w: w.spoil("train.txt", b"1 good\n0 caf\xe9\n"),
    "one class only": lambda w: w.spoil("train.txt", b"1 good\n1 fine\n"),
    "an unlabelled line without words": lambda w: w.spoil("unlabelled.txt", b"good\n\nbad\n"),
    "vectors of another length": lambda w: w.vectors(b"the 1 2\nwas 1\n"),
    "a vector's word with a space in it": lambda w: w.vectors(b"the 1 2\nat all 1 2\n"),
    "a vector with something else than a number": lambda w: w.vectors(b"the 1 x\n"),
    "vectors of other words only": lambda w: w.vectors(b"xyz 1 2\n"),
    "--data without the set": lambda w: (w.train("--data", w.tmp / "results"), "python -m data.download sentences"),
    "--predict and --predict-file": lambda w: (w.predict("--predict", "a", "--predict-file", "b"), "--predict-file"),
    "--predict of blanks": lambda w: (w.predict("--predict", "good", "  "), "sentence 2"),
    "--model without its vocabulary": lambda w: w.model(
        lambda saved: {k: saved[k] for k in saved if k != "vocabulary"}
    ),
    "--model with a shorter vocabulary": lambda w: w.model(
        lambda saved: {**saved, "vocabulary": saved["vocabulary"][:-1]}
    ),
    "--model with one model of another vocabulary": lambda w: w.model(shorter),
    "--model without models": lambda w: w.model(lambda saved: {**saved, "models": {}}),
    "--model with an unknown model": lambda w: w.model(lambda saved: {**saved, "models": {"gru": {}}}),
    "--model without a layer": lambda w: w.model(lambda saved: changed(saved, "rnn", state={})),
    "--model with a hidden size of the wrong kind": lambda w: w.model(lambda saved: changed(saved, "rnn", hidden="5")),
    "--model with numbers that are not finite": lambda w: w.model(not_finite),
    "a seed twice": lambda w: (w.train("--seeds", "3", "3"), "--seeds"),
})  # fmt: skip


@BAD.case("a missing dev file")
def _(world):
    (world.garden / "dev.txt").unlink()
    return world.train(), world.garden / "dev.txt"


@BAD.case("--predict-file with an empty line")
def _(world):
    path = world.tmp / "mine.txt"
    path.write_text("good\n\n")
    return world.predict("--predict-file", path), f"{path}, line 2"


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_on_stderr_and_status_2_and_changes_no_result(
    case, garden, tmp_path, finished_run, command
):
    argv, named = BAD[case](World(garden, tmp_path, finished_run))
    check_refused(command, sentiment.main, argv, named, tmp_path)
