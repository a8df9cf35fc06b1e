"""data/drawn: one seed gives one picture or sentence, captions are true, pretraining can be repeated and resumed."""

import re
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from data import fingerprint
from data.drawn import creatures, paintings, pretrain, scenes, sentences
from data.drawn.scenes import COLORS, GROUNDS, KINDS, LIGHTS, Scene, Thing
from data.weights import build

DRAW = {name: getattr(paintings, f"draw_{name}") for name in ("town", "mosaic", "lines", "strokes")}
DRAW["scene"] = lambda rng, side: scenes.draw_scene(rng, side)[0]
DRAW |= {kind: partial(creatures.draw_photo, kind) for kind in (*creatures.TARGETS, *creatures.PRETRAINING)}


@pytest.mark.parametrize("name", DRAW)
def test_the_seed_decides_a_picture(name):
    first, same, other = (np.asarray(DRAW[name](np.random.default_rng(seed), 48)) for seed in (1, 1, 2))
    assert (first == same).all() and (first != other).any()


# captions are parsed and compared with the plan of their scene
NOUNS = {word: kind for kind, row in KINDS.items() for names in row.names.split() for word in names.split("/")}
SIZES = {"small": "small", "little": "small", "big": "big", "large": "big"}
COUNTS = {"a": {1}, "one": {1}, "two": {2}, "a pair of": {2}, "three": {3}, "a group of": {3}, "some": {2, 3}}
PLACES = {word: name for name, row in GROUNDS.items() for place in row.places for word in place.split()[2:]}
TIMES = {phrase: name for name, row in LIGHTS.items() for phrase in row.phrases}


def one_of(words):
    return "(?:" + "|".join(sorted(words, key=len, reverse=True)) + ")"


PHRASE = re.compile(
    rf"\b(?P<count>{one_of(COUNTS)})(?: (?P<size>{one_of(SIZES)}))?(?: (?P<color>{one_of(COLORS)}))?"
    rf" (?P<noun>{one_of(NOUNS)})(?: in (?P<dress>{one_of(COLORS)}))?\b"
)


@pytest.fixture(scope="module")
def described():
    """(scene, its captions in lower case) for each of 500 seeds; nothing is drawn."""
    plans = [(scenes.plan_scene(rng), rng) for rng in map(np.random.default_rng, range(500))]
    return [(scene, [caption.lower() for caption in scenes.describe(scene, rng)]) for scene, rng in plans]


def test_a_scene_has_five_different_captions_of_4_to_15_words(described):
    for _, captions in described:
        assert len(set(captions)) == len(captions) == 5
        assert all(re.fullmatch(r"[a-z]+( [a-z]+){3,14} \.", caption) for caption in captions), captions


def test_things_in_captions_are_in_the_scene_and_like_that(described):
    named = [(scene.things, phrase) for scene, texts in described for phrase in PHRASE.finditer("\n".join(texts))]
    assert len(named) > 2500
    for things, phrase in named:
        [thing] = (thing for thing in things if thing.kind == NOUNS[phrase["noun"]])
        assert (phrase["color"] or phrase["dress"]) in (None, thing.color), phrase
        assert phrase["size"] is None or SIZES[phrase["size"]] == thing.size, phrase
        assert thing.count in COUNTS[phrase["count"]], phrase


@pytest.mark.parametrize("field, known", [("ground", PLACES), ("light", TIMES)])
def test_grounds_and_lights_in_captions_are_true(described, field, known):
    words = re.compile(rf"\b{one_of(known)}\b")
    named = [(getattr(scene, field), known[m]) for scene, cs in described for c in cs for m in words.findall(c)]
    named = [(true, name) for true, name in named if name != "sky"]  # birds fly in the sky of any ground
    assert len(named) > 300 and all(true == name for true, name in named)


HOLDS = {  # relation: whether it holds between two groups, each the (x, y) of its middles
    "left of": lambda a, b: a[0].max() < b[0].min(),
    "right of": lambda a, b: a[0].min() > b[0].max(),
    "below": lambda a, b: a[1].min() > b[1].max(),
    **dict.fromkeys(("above", "on"), lambda a, b: a[1].max() < b[1].min()),
    **dict.fromkeys(("in front of", "behind"), lambda a, b: np.abs(a[0] - b[0]).max() < 0.3),
}


def test_relations_hold_in_both_directions(described):
    related = [scene for scene, _ in described if scene.relations]
    assert {relation for scene in related for relation in scene.relations} == HOLDS.keys()
    for scene in related:
        first, second = (np.array(thing.places).T for thing in scene.things[:2])
        assert HOLDS[scene.relations[0]](first, second) and HOLDS[scene.relations[1]](second, first), scene


def test_all_things_lie_within_the_picture_and_apart(described):
    for thing in (thing for scene, _ in described for thing in scene.things):
        assert np.abs(np.array(thing.places) - 0.5).max() + thing.scale < 0.52, thing
        assert all(b[0] - a[0] > 1.1 * thing.scale for a, b in pairwise(sorted(thing.places))), thing


@pytest.mark.parametrize("kind", KINDS)
def test_a_thing_shows_its_colour_where_the_plan_says(kind, monkeypatch):
    monkeypatch.setattr(scenes, "photograph", lambda rng, image, size: image)
    color = KINDS[kind].colors.split()[0]
    plans = [Scene("street", "plain", 0.5, t) for t in ((Thing(kind, color, "big", 0.2, "air", ((0.4, 0.6),)),), ())]
    drawn, empty = (np.asarray(scenes.draw(plan, np.random.default_rng(3), 80), int) for plan in plans)
    there = np.abs(drawn - empty).sum(2) > 30
    nearest = np.abs(drawn[there][:, None] - np.array(list(COLORS.values()))).sum(2)[:, list(COLORS).index(color)]
    assert (nearest < 110).mean() > 0.2 and (np.abs(np.argwhere(there) / 80 - (0.6, 0.4)) < 0.27).all()


def test_the_sentences_are_those_of_the_quoted_results():
    assert fingerprint(sentences.splits(counts={"train": 500})) == "9b8c7ee88846"


def test_no_sentence_comes_twice():
    written = sentences.splits(counts={"train": 3000, "dev": 500, "unlabelled": 500})
    lines = [re.sub("^[01] ", "", line) for split in written.values() for line in split]
    assert len(set(lines)) == len(lines) == 4000


def test_folding_batch_norms_keeps_the_network_and_its_names():
    torch.manual_seed(0)
    network, images = pretrain.add_batch_norm(build("squeezenet1_1", 5)), torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        network.train()(images)  # changes means and variances
        before = network.eval()(images)
        folded = pretrain.fold_batch_norm(network)
        torch.testing.assert_close(folded(images), before, rtol=1e-4, atol=1e-5)
    assert folded.state_dict().keys() == build("squeezenet1_1", 5).state_dict().keys()


def test_a_resumed_pretraining_gives_the_same_weights(tmp_path, monkeypatch, rng):
    np.save(tmp_path / "noise.npy", rng.integers(256, size=(40, pretrain.SIDE, pretrain.SIDE, 3), dtype=np.uint8))

    def teach(name):
        folder = tmp_path / name
        pretrain.pretrain("shufflenet_v2_x0_5", [tmp_path / "noise.npy"] * 2, 0, 2, folder / "saved.pt", folder)
        return (folder / "shufflenet_v2_x0_5.pth").read_bytes()

    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        results = iter([torch.zeros(40)])  # of one epoch
        patch.setattr(pretrain, "predict", lambda *_: next(results))
        teach("stopped")
    assert teach("stopped") == teach("undisturbed")
