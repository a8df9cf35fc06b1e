"""sentiment.py on the command line: reports, one use of the test split, predictions for the user's sentences."""

import json
import re
import shutil

import pytest
import torch

import sentiment
from common.run import load_model, wilson_interval
from data import reviews
from sentiment import RECIPES, predict
from tests.conftest import refused
from tests.scripts.tiny import SCRIPTS


@pytest.fixture(scope="module")
def finished(finished):
    """The folder of a run of all five models with two seeds. Read-only."""
    return finished("sentiment") / "sentiment"


@pytest.fixture
def scores(finished):
    """Scores lists of words with a model of the finished run."""
    models, saved = load_model(finished / "models.pt", "sentiment", sentiment.load_models)
    return lambda name, texts: predict(models[name], sentiment.encode(reviews.Split(texts), saved["vocabulary"])[0])


def read(folder):
    return json.loads((folder / "results.json").read_text())


def test_reported_accuracies_match_the_saved_models(finished, world, scores):
    metrics, right = read(finished)["metrics"], {}
    test = reviews.read_labelled(world / "test.txt")
    for name in RECIPES:
        right[name] = (scores(name, test.sentences) > 0) == (torch.tensor(test.labels) == 1)
        found, seeds = metrics[name], metrics[name]["seeds"]
        assert seeds["0"]["test_accuracy"] == pytest.approx(right[name].double().mean().item())
        mean = (seeds["0"]["test_accuracy"] + seeds["1"]["test_accuracy"]) / 2
        assert found["test_accuracy"] == pytest.approx(mean)
        assert found["test_interval"] == pytest.approx(wilson_interval(mean, 80))
        assert seeds["0"]["dev_accuracy"] == max(found["history"]["dev_accuracy"])
    assert metrics["lstm"]["mcnemar"]["against"] == "rnn" and "mcnemar" not in metrics["bag"]
    assert metrics["lstm"]["mcnemar"]["0"] == list(sentiment.mcnemar(right["rnn"], right["lstm"]))


def test_predictions_have_one_line_per_sentence_in_order(finished, world, scores):
    unlabelled = reviews.read_unlabelled(world / "unlabelled.txt").sentences
    for question, name in enumerate(RECIPES, 1):
        lines = (finished / f"predictions_q{question}.txt").read_text()
        assert lines == "".join(f"{int(score > 0)}\n" for score in scores(name, unlabelled))


def test_the_lstm_gets_the_examples_right_and_the_bag_wrong(finished, world, scores):
    lines = (finished / "examples.txt").read_text().splitlines()[1:]
    results = (finished / "results.json").read_text()
    assert lines and not any(line.split("  ", 3)[-1].split("%  ")[-1] in results for line in lines)
    for label, *_, sentence in (line.split("  ", 3) for line in lines):
        assert f"{label} {sentence.split('%  ')[-1]}\n" in (world / "test.txt").read_text()
        lstm, bag = (scores(name, [sentence.split("%  ")[-1].split()]) > 0 for name in ("lstm", "bag"))
        assert lstm == int(label) != bag


def test_the_test_split_is_read_after_all_training(world, tmp_path, command, monkeypatch):
    looks = []
    monkeypatch.setattr(sentiment, "predict", lambda m, s: looks.append(len(s)) or predict(m, s))
    flags = SCRIPTS["sentiment"].flags(world)
    assert command(sentiment.main, *flags, "--models", "bag", "average", "--results", tmp_path).status == 0
    assert looks[:8] == [60] * 8 and 60 not in looks[8:] and looks.count(80) == 4  # dev: models x seeds x epochs


def test_tiny_p_values_are_shown_as_less_than_0_001():
    found = {"test_interval": (0, 1), "test_spread": None, "seeds": {0: {}}, "dev_accuracy": 1, "test_accuracy": 1}
    found |= {"seconds": 1, "parameters": 1, "mcnemar": {0: (1, 99, 7e-240)}}
    assert sentiment.table_row("rnn", found)[4] == "< 0.001"


def test_unlabeled_sentences_and_vectors_are_optional(world, tmp_path, command):
    for name in ("train", "dev", "test"):
        shutil.copy(world / f"{name}.txt", tmp_path)
    flags = ["--data", tmp_path, "--models", "glove", "--quick", "--results", tmp_path / "results"]
    done = command(sentiment.main, *flags)
    assert done.status == 0 and "0 to predict" in done.out
    results = read(tmp_path / "results" / "sentiment-quick")
    assert results["texts"] == [] and results["weights"] == "GloVe trained on the training sentences"


def test_predict_prints_verdicts_and_unknown_words(finished, scores, command):
    done = command(sentiment.main, "--predict", "The soup wasn't good!", "zzyzx Qwerty", "--results", finished.parent)
    words = ["the", "soup", "was", "n't", "good", "!"]
    shares = [scores(name, [words]).sigmoid().item() for name in RECIPES]
    verdicts = [f"{'good' if share > 0.5 else 'bad'} ({share:.1%})" for share in shares]
    assert done.status == 0 and str(finished / "models.pt") in done.out
    assert re.search(r"^the soup was n't good ! +" + " +".join(map(re.escape, verdicts)), done.out, re.MULTILINE)
    assert re.search(r"^zzyzx qwerty .*%\) +'zzyzx' 'qwerty'$", done.out, re.MULTILINE)


def test_predict_file_prints_what_predict_prints(finished, tmp_path, command):
    (tmp_path / "mine.txt").write_text("Great!\nNot so great...\n")
    model = ["--model", finished / "models.pt"]
    done = command(sentiment.main, "--predict-file", tmp_path / "mine.txt", *model)
    assert done.status == 0
    assert done.out == command(sentiment.main, "--predict", "Great!", "Not so great...", *model).out


def test_empty_sentences_and_broken_models_are_refused(finished, tmp_path, command):
    assert refused(command(sentiment.main, "--predict", "good", " ", "--model", finished / "models.pt"), "sentence 2")
    saved = torch.load(finished / "models.pt", weights_only=True)
    torch.save({**saved, "vocabulary": saved["vocabulary"][1:]}, tmp_path / "other.pt")
    assert refused(command(sentiment.main, "--predict", "good", "--model", tmp_path / "other.pt"), "other.pt")


def test_the_bag_of_words_is_94_5_percent_right_on_real_reviews(hw2_data, tmp_path, command):
    flags = ["--data", hw2_data, "--models", "bag", "--epochs", 3, "--results", tmp_path]
    assert command(sentiment.main, *flags).status == 0
    assert read(tmp_path / "sentiment")["metrics"]["bag"]["test_accuracy"] > 0.945


@pytest.mark.slow
def test_the_lstm_beats_the_bag_of_words_by_five_points(tmp_path, command):
    assert command(sentiment.main, "--data", "builtin", "--models", "bag", "lstm", "--results", tmp_path).status == 0
    metrics = read(tmp_path / "sentiment")["metrics"]
    assert metrics["lstm"]["test_accuracy"] > metrics["bag"]["test_accuracy"] + 0.05
