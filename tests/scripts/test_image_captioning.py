"""image_captioning.py on the command line: reports of both experiments, captions of the user's photos."""

import json
import re
import shutil

import numpy as np
import pytest
import torch

import image_captioning as ic
from bleu_utils import decode_captions
from common.run import load_model
from data import captions
from tests.conftest import refused
from tests.scripts.tiny import captioning

SMALL, FULL = "image_captioning", "image_captioning-full"


@pytest.fixture(scope="module")
def finished(finished, tmp_path_factory):
    """The results of a small and a full run. Read-only."""
    results = tmp_path_factory.mktemp("results")
    for run in (SMALL, FULL):
        shutil.copytree(finished(run) / run, results / run)
    return results


@pytest.fixture
def run(world, tmp_path, command):
    """Runs the script on `world` with extra flags."""

    def call(*flags, data=world):
        done = command(ic.main, *captioning(data), *flags, "--results", tmp_path)
        assert done.status == 0, done.err
        return done

    return call


def metrics(results, run):
    return json.loads((results / run / "results.json").read_text())["metrics"]


def model_of(results, run, cell):
    return load_model(results / run / f"{cell}.pt", SMALL, ic.rebuild)


def equal(model, other):
    return all(np.array_equal(w, other.params[name]) for name, w in model.params.items())


def test_results_json_contains_no_captions_or_photo_names(finished):
    for run in (SMALL, FULL):
        assert not re.search(r"square|ground|\.jpg", (finished / run / "results.json").read_text())


def test_a_small_run_counts_the_reproduced_captions(finished):
    lines = (finished / SMALL / "examples.txt").read_text().split("== LSTM\n")[1].splitlines()
    pairs = [(lines[k + 1].partition(": ")[2], lines[k + 2].partition("reference: ")[2]) for k in range(0, 18, 3)]
    assert all(line.startswith("train train") for line in lines[:18:3]) and lines[18].startswith("val dev")
    found = metrics(finished, SMALL)["lstm"]
    assert (found["captions"], found["repeated"]) == (6, sum(text == reference for text, reference in pairs))


def test_more_epochs_reproduce_every_caption(run, tmp_path):
    run("--epochs", 60, "--lr", 0.02, "--small", 3, "--cells", "lstm")
    found = metrics(tmp_path, SMALL)
    assert list(found) == ["lstm"] and found["lstm"]["repeated"] == 3 and found["lstm"]["unigram_bleu_train"] == 1


def test_a_full_run_reports_the_model_of_its_best_epoch(finished):
    for found in metrics(finished, FULL).values():
        scores = list(zip(found["history"]["bleu4"], found["history"]["bleu1"], strict=True))
        assert scores.index(max(scores)) == found["best_epoch"] - 1
        assert (found["beam 2"]["val"]["bleu4"], found["beam 2"]["val"]["bleu1"]) == pytest.approx(max(scores))
        assert found.keys() >= {"greedy", "beam 2, another photo", "unigram_bleu_val", "parameters"}
        assert list(found["greedy"]["test"]) == ["bleu1", "bleu2", "bleu3", "bleu4"]


def test_the_test_split_affects_only_the_test_scores(finished, world, run, tmp_path):
    shutil.copytree(world / "flickr8k", tmp_path / "data" / "flickr8k")
    (tmp_path / "data" / "weights").symlink_to(world / "weights")
    file = tmp_path / "data" / "flickr8k" / "Flickr8k.token.txt"
    file.write_text(re.sub(r"(?m)^(test\d\.jpg#\d)\t.*", "\\1\tRed red balls", file.read_text()))
    run("--full", data=tmp_path / "data")
    assert all(equal(model_of(tmp_path, FULL, cell)[0], model_of(finished, FULL, cell)[0]) for cell in ic.NAMES)
    ours, theirs = (metrics(results, FULL)["lstm"]["greedy"] for results in (tmp_path, finished))
    assert ours["val"] == theirs["val"] and ours["test"] != theirs["test"]


def test_torch_and_numpy_backends_have_similar_losses(finished, run, tmp_path):
    run("--backend", "torch", "--cells", "rnn")
    ours, theirs = (metrics(results, SMALL)["rnn"]["step_loss"] for results in (tmp_path, finished))
    assert ours == pytest.approx(theirs, rel=1e-2)


def test_a_run_trains_on_own_photos_with_a_captions_file(world, run, tmp_path):
    own = ["--photos", world / "flickr8k/images", "--captions", world / "flickr8k/Flickr8k.token.txt"]
    assert "photos in images, photos: 16 train, 2 val, 2 test" in run(*own, "--cells", "rnn", "--quick").out
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("image")] == [f"{SMALL}-quick"]


def test_photos_without_files_are_printed_and_not_drawn(capsys):
    data = type("Set", (), {"pictures": {"val": ["http://photos.invalid/1.jpg"]}})
    lines = ic.show_captions(None, data, "rnn", {"val": ["a dog"]}, {"val": ["a cat"]}, {"val": [0]})
    assert lines[1:] == ["val http://photos.invalid/1.jpg", "  vanilla RNN: a dog", "  reference: a cat"]
    assert "photos.invalid" in capsys.readouterr().out


def test_caption_uses_the_best_available_model(finished, world, tmp_path, command):
    results, photo = shutil.copytree(finished, tmp_path / "results"), world / "own/cat.jpg"
    for run, cell in ((FULL, "lstm"), (FULL, "rnn"), (SMALL, "lstm"), (SMALL, "rnn")):
        done = command(ic.main, "--caption", photo, "--data", world, "--results", results)
        model, saved = model_of(results, run, cell)
        weights = ic.weights.load(saved["arch"], world)
        features = ic.PhotoFeatures({}, weights, "unused", "cpu").compute([ic.open_photo(photo)])
        features = captions.scaled(features, (saved["mean"].numpy(), saved["spread"]))
        [text] = decode_captions(model.beam_search(features, 5, unk=False), saved["vocabulary"])
        assert done.status == 0 and f"{run}/{cell}.pt" in done.out and re.search(rf"{photo} *{text}\n", done.out)
        assert ("overfitted" in done.out) == (run == SMALL) and (results / "captions.png").is_file()
        (results / run / f"{cell}.pt").unlink()


@pytest.mark.parametrize("change, named", [
    ({"arch": None}, "cs231n"), ({"features_id": "0"}, "--data"), ({"cell": "gru"}, "not a model"),
    ({"script": "sentiment"}, "not a model"),
])  # fmt: skip
def test_an_unusable_model_is_refused(finished, world, tmp_path, command, change, named):
    torch.save(torch.load(finished / SMALL / "lstm.pt", weights_only=True) | change, tmp_path / "m.pt")
    flags = ["--caption", world / "own/cat.jpg", "--model", tmp_path / "m.pt", "--data", world]
    assert refused(command(ic.main, *flags), tmp_path / "m.pt", named)
