"""data/drawn: one seed gives one picture or sentence, captions are true, pretraining can be repeated and resumed."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from data import fingerprint
from data.drawn import creatures, paintings, pretrain, scenes, sentences
from data.drawn.scenes import COLORS, GROUNDS, KINDS, LIGHTS, Scene, Thing
from data.weights import build

DRAW = {name: getattr(paintings, f"draw_{name}") for name in ("town", "mosaic", "lines", "strokes")}
DRAW["scene"] = lambda rng, side: scenes.draw_scene(rng, side)[0]
DRAW["creature"] = lambda rng, side: creatures.draw_photo("bees", rng, side)


@pytest.mark.parametrize("name", DRAW)
def test_the_seed_decides_a_picture(name):
    first, same, other = (np.asarray(DRAW[name](np.random.default_rng(seed), 48)) for seed in (1, 1, 2))
    assert (first == same).all() and (first != other).any()


@pytest.mark.parametrize("kind", [*creatures.TARGETS, *creatures.PRETRAINING])
def test_every_kind_of_creature_can_be_drawn(kind):
    assert creatures.draw_photo(kind, np.random.default_rng(1), 32).size == (32, 32)


def test_the_weights_never_see_ants_and_bees():
    assert creatures.TARGETS == ("ants", "bees") and len(creatures.PRETRAINING) == 25
    assert not set(creatures.TARGETS) & set(creatures.PRETRAINING)


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
    """(scene, its five captions) for each of 500 seeds; nothing is drawn."""
    generators = [np.random.default_rng(seed) for seed in range(500)]
    return [(scene := scenes.plan_scene(rng), scenes.describe(scene, rng)) for rng in generators]


@pytest.fixture(scope="module")
def phrases(described):
    """(caption, noun phrase in it, the thing of the scene that it names, or None) of all captions."""
    found = [
        (s, c.lower(), phrase) for s, captions in described for c in captions for phrase in PHRASE.finditer(c.lower())
    ]
    return [(c, p, next((t for t in s.things if t.kind == NOUNS[p["noun"]]), None)) for s, c, p in found]


def middles(thing):
    return np.array(thing.places).T  # (x, y), each (count,)


def test_a_scene_has_five_different_captions(described):
    assert all(len({caption.lower() for caption in captions}) == len(captions) == 5 for _, captions in described)


def test_a_caption_is_five_to_sixteen_words_and_a_full_stop(described):
    captions = [caption for _, captions in described for caption in captions]
    assert all(re.fullmatch(r"[A-Za-z][a-z]*( [a-z]+){3,14} \.", caption) for caption in captions)


def test_things_in_captions_are_in_the_scene(phrases):
    assert len(phrases) > 2500 and all(thing for _, _, thing in phrases)


def test_colors_sizes_and_counts_in_captions_are_true(phrases):
    for caption, phrase, thing in phrases:
        assert (phrase["color"] or phrase["dress"]) in (None, thing.color), caption
        assert phrase["size"] is None or SIZES[phrase["size"]] == thing.size, caption
        assert thing.count in COUNTS[phrase["count"]], caption


@pytest.mark.parametrize("field, known", [("ground", PLACES), ("light", TIMES)])
def test_grounds_and_lights_in_captions_are_true(described, field, known):
    words = re.compile(rf"\b{one_of(known)}\b")
    named = [(getattr(scene, field), known[m]) for scene, cs in described for c in cs for m in words.findall(c.lower())]
    named = [(true, name) for true, name in named if name != "sky"]  # birds fly in the sky of any ground
    assert len(named) > 300 and all(true == name for true, name in named)


HOLDS = {  # relation: whether it holds between the middles (x, y) of two groups
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
        first, second = map(middles, scene.things[:2])
        assert HOLDS[scene.relations[0]](first, second) and HOLDS[scene.relations[1]](second, first), scene


def test_all_things_lie_within_the_picture_and_apart(described):
    for thing in (thing for scene, _ in described for thing in scene.things):
        assert np.abs(middles(thing) - 0.5).max() + thing.scale < 0.52, thing
        assert all(b - a > 1.1 * thing.scale for a, b in pairwise(sorted(middles(thing)[0]))), thing


@pytest.mark.parametrize("kind", KINDS)
def test_a_thing_shows_its_colour_where_the_plan_says(kind, monkeypatch):
    monkeypatch.setattr(scenes, "photograph", lambda rng, image, size: image)
    color = KINDS[kind].colors.split()[0]
    thing = Thing(kind, color, "big", 0.2, "air", ((0.4, 0.6),))
    things = ((thing,), ())
    drawn, empty = (
        np.asarray(scenes.draw(Scene("street", "plain", 0.5, t), np.random.default_rng(3), 80), int) for t in things
    )
    there = np.abs(drawn - empty).sum(2) > 30
    nearest = np.abs(drawn[there][:, None] - np.array(list(COLORS.values()))).sum(2)[:, list(COLORS).index(color)]
    assert (nearest < 110).mean() > 0.2 and (np.abs(np.argwhere(there) / 80 - (0.6, 0.4)) < 0.27).all()


@pytest.fixture(scope="module")
def written():
    return sentences.splits(counts={"train": 3000, "dev": 500, "unlabelled": 500})


def test_the_sentences_are_those_of_the_quoted_results():
    assert fingerprint(sentences.splits(counts={"train": 500})) == "9b8c7ee88846"


def test_no_sentence_comes_twice(written):
    lines = [re.sub("^[01] ", "", line) for split in written.values() for line in split]
    assert len(set(lines)) == len(lines) == 4000


def test_labels_are_balanced_and_lengths_5_to_15(written):
    labels, lengths = zip(*((line[0], len(line.split()) - 1) for line in written["train"]), strict=True)
    assert 0.47 < labels.count("1") / len(labels) < 0.53 and (min(lengths), max(lengths)) == (5, 15)


def test_folding_batch_norms_keeps_the_network_and_its_names():
    torch.manual_seed(0)
    network, images = pretrain.add_batch_norm(build("squeezenet1_1", 5)), torch.randn(2, 3, 64, 64)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.2)
    with torch.no_grad():
        before = network.eval()(images)
        folded = pretrain.fold_batch_norm(network)
        torch.testing.assert_close(folded(images), before, rtol=1e-4, atol=1e-5)
    assert folded.state_dict().keys() == build("squeezenet1_1", 5).state_dict().keys()


def test_a_resumed_pretraining_gives_the_same_weights(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(256, size=(40, pretrain.SIDE, pretrain.SIDE, 3), dtype=np.uint8)
    np.save(tmp_path / "noise.npy", noise)

    def teach(name):
        folder = tmp_path / name
        pretrain.pretrain("shufflenet_v2_x0_5", [tmp_path / "noise.npy"] * 2, 0, 2, folder / "saved.pt", folder)
        return (folder / "shufflenet_v2_x0_5.pth").read_bytes()

    def stop(network, images, predict=pretrain.predict):
        if (tmp_path / "stopped" / "saved.pt").exists():  # in the second epoch
            raise KeyboardInterrupt
        return predict(network, images)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pretrain, "predict", stop)
        teach("stopped")
    assert teach("stopped") == teach("undisturbed")
