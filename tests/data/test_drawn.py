"""data/drawn: one seed gives one picture or sentence, captions are true, pretraining can be repeated and resumed."""

import re
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from data import fingerprint
from data.drawn import creatures, filters, lessons, paintings, pretrain, scenes, sentences, textures
from data.drawn.canvas import Pen
from data.drawn.scenes import COLORS, GROUNDS, KINDS, LIGHTS, Scene, Thing
from data.weights import build

DRAW = {name: getattr(paintings, f"draw_{name}") for name in ("town", "mosaic", "lines", "strokes")}
DRAW |= {"scene": lambda *at: scenes.draw_scene(*at)[0], "lesson": lambda rng, _: lessons.draw_lesson(rng, 0)[0]}
DRAW |= {f"{name} texture": lambda *at, name=name: textures.draw_texture(name, *at)[0] for name in textures.TEXTURES}
DRAW |= {kind: partial(creatures.draw_photo, kind) for kind in (*creatures.TARGETS, *creatures.PRETRAINING)}


@pytest.mark.parametrize("name", DRAW)
def test_the_seed_decides_a_picture(name):
    first, same, other = (np.asarray(DRAW[name](np.random.default_rng(seed), 48)) for seed in (1, 1, 2))
    assert (first == same).all() and (first != other).any()


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
def test_a_thing_shows_its_color_where_the_plan_says(kind, monkeypatch):
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


def test_no_thing_of_a_lesson_is_an_ant_or_a_bee(monkeypatch, rng):
    monkeypatch.setattr(lessons, "CREATURES", {kind: creatures.CREATURES[kind] for kind in creatures.PRETRAINING})
    for kind in range(lessons.KINDS):
        lessons.draw_thing(Pen(Image.new("RGBA", (64, 64)), (32, 32), 20, 0), rng, kind)


def test_smooth_filters_have_no_part_that_alternates():
    weight, alternating = filters.without_highest_frequency(torch.randn(5, 3, 3)), torch.tensor([1.0, -1.0, 1.0])
    assert (alternating @ weight).abs().max() < 1e-5 and (weight @ alternating).abs().max() < 1e-5


def test_mirrored_lessons_keep_each_label_in_its_quarter():
    images, labels = torch.arange(4).view(1, 1, 2, 2), torch.tensor([[(k, k, k, 2) for k in range(4)]])  # direction 2
    for _ in range(20):
        image, moved = pretrain.Lessons().mirror(images, labels)
        assert image.flatten().tolist() == moved[0, :, 0].tolist()
        assert moved[0, :, 3].tolist() == [2 if image[0, 0, 0].tolist() in ([0, 1], [3, 2]) else 5] * 4


@torch.no_grad()
def test_folding_batch_norms_keeps_the_network_and_its_names():
    torch.manual_seed(0)
    network, images = pretrain.add_batch_norm(build("squeezenet1_1", 5)), torch.randn(8, 3, 64, 64)
    network.train()(images)  # changes means and variances
    before = network.eval()(images)
    torch.testing.assert_close(pretrain.fold_batch_norm(network)(images), before, rtol=1e-4, atol=1e-5)
    assert network.state_dict().keys() == build("squeezenet1_1", 5).state_dict().keys()


@torch.no_grad()
def test_rescaling_changes_levels_and_not_the_scores():
    torch.manual_seed(0)
    network, images = build("squeezenet1_1", 5).eval(), torch.randn(8, 3, 64, 64)
    before = network(images)
    filters.rescale(network, images)
    torch.testing.assert_close(network(images), before, rtol=1e-3, atol=1e-4)
    for layer, level in filters.LEVELS.items():
        assert network.features[: layer + 1](images).relu().square().mean().item() == pytest.approx(level, rel=1e-3)


@pytest.mark.parametrize("arch", pretrain.TRAININGS)
def test_a_resumed_pretraining_gives_the_same_weights(tmp_path, monkeypatch, arch):
    monkeypatch.setattr(filters, "PATCHES", 600)
    pictures = zip(*(pretrain.TRAININGS[arch].draw(0, k) for k in range(40)), strict=True)
    images, labels = (torch.from_numpy(np.stack(part)) for part in pictures)
    torch.save((images[:, ::2, ::2].permute(0, 3, 1, 2), labels.long()), tmp_path / "pictures.pt")  # small: faster

    def teach(name):
        folder, count = tmp_path / name, 10 if "shuffle" in arch else 2  # of 10 steps, OneCycleLR divides by 0
        pretrain.pretrain(arch, [tmp_path / "pictures.pt"] * 2, 0, count, folder / "saved.pt", folder)
        return (folder / f"{arch}.pth").read_bytes()

    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        results = iter([(None, 0.5)])  # of one epoch
        patch.setattr(pretrain, "validate", lambda *_: next(results))
        teach("stopped")
    assert teach("stopped") == teach("undisturbed")
