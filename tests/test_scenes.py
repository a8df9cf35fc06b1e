"""data/builtin/scenes.py: a seed decides a scene, every caption is true of it, and only who looks can tell it well."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from data.builtin import scenes
from data.builtin.scenes import COLORS, FLYERS, GROUNDS, KINDS, LIGHTS, Scene, Thing

SEEDS = 1000
NOUNS = {word: kind for kind, row in KINDS.items() for names in row.names.split() for word in names.split("/")}
SIZES = {"small": "small", "little": "small", "big": "big", "large": "big"}
COUNTS = {"a": {1}, "one": {1}, "two": {2}, "a pair of": {2}, "three": {3}, "a group of": {3}, "some": {2, 3}}
GROUND_WORDS = {
    "grass": "grass", "field": "grass", "sand": "sand", "beach": "sand", "snow": "snow", "water": "water",
    "sea": "water", "street": "street", "road": "street",
}  # fmt: skip
LIGHT_WORDS = {"sunny": "sun", "sun": "sun", "cloudy": "clouds", "night": "night", "dark": "night"}


def one_of(words):
    return "(?:" + "|".join(sorted(words, key=len, reverse=True)) + ")"


PHRASE = re.compile(
    rf"\b(?P<count>{one_of(COUNTS)})(?: (?P<size>{one_of(SIZES)}))?(?: (?P<color>{one_of(COLORS)}))?"
    rf" (?P<noun>{one_of(NOUNS)})(?: in (?P<dress>{one_of(COLORS)}))?\b"
)


@pytest.fixture(scope="module")
def told():
    """(scene, its five captions) for each of SEEDS seeds; nothing is drawn."""
    pairs = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        scene = scenes.plan_scene(rng)
        pairs.append((scene, scenes.describe(scene, rng)))
    return pairs


@pytest.fixture(scope="module")
def read(told):
    """(scene, caption in small letters, the noun phrases in it as matches of PHRASE) for every caption."""
    return [(s, c.lower(), list(PHRASE.finditer(c.lower()))) for s, captions in told for c in captions]


def meant(scene, phrase):
    """The thing of the scene that a noun phrase speaks of, or None."""
    return next((thing for thing in scene.things if thing.kind == NOUNS[phrase["noun"]]), None)


def middles(thing):
    return np.array(thing.places).T  # (x, y), each (count,)


# ---- a seed


def test_the_same_seed_gives_the_same_picture_and_captions():
    (image, captions), (again, same) = (scenes.draw_scene(np.random.default_rng(5)) for _ in range(2))
    assert captions == same and (np.asarray(image) == np.asarray(again)).all()


def test_other_seeds_give_other_pictures_and_captions():
    drawn = [scenes.draw_scene(np.random.default_rng(seed), 32) for seed in range(20)]
    assert len({image.tobytes() for image, _ in drawn}) == len({tuple(captions) for _, captions in drawn}) == 20


@pytest.mark.parametrize("size", [32, 97, 160])
def test_the_picture_is_rgb_and_as_large_as_asked(size):
    image, _ = scenes.draw_scene(np.random.default_rng(1), size)
    assert (image.mode, image.size) == ("RGB", (size, size))


def test_the_captions_do_not_depend_on_the_size_of_the_picture():
    assert len({tuple(scenes.draw_scene(np.random.default_rng(2), size)[1]) for size in (16, 64)}) == 1


# ---- the form of the captions


def test_a_scene_has_five_different_captions(told):
    assert all(len({caption.lower() for caption in captions}) == len(captions) == 5 for _, captions in told)


def test_a_caption_is_words_with_a_space_between_and_a_full_stop_at_the_end(told):
    assert all(re.fullmatch(r"[A-Za-z][a-z]*( [a-z]+)* \.", caption) for _, captions in told for caption in captions)


def test_most_captions_begin_with_a_capital_letter_but_not_all(told):
    capitals = np.mean([caption[0].isupper() for _, captions in told for caption in captions])
    assert 0.8 < capitals < 0.98


def test_captions_have_five_to_fifteen_words_and_ten_or_so_on_average(read):
    lengths = [len(caption.split()) - 1 for _, caption, _ in read]
    assert min(lengths) >= 4 and max(lengths) <= 15 and 8 < np.mean(lengths) < 11


def test_the_vocabulary_has_100_to_150_words_and_each_is_used_often_enough_to_learn(read):
    words = Counter(word for _, caption, _ in read for word in caption.split())
    assert 100 <= len(words) <= 150
    assert min(words.values()) >= 5, words.most_common()[-5:]


# ---- the truth of the captions


def test_every_thing_that_a_caption_names_is_in_the_scene(read):
    for scene, caption, phrases in read:
        assert len(phrases) == sum(word in NOUNS for word in caption.split()) >= 1, caption
        assert all(meant(scene, phrase) for phrase in phrases), (caption, scene)


def test_every_colour_in_a_caption_is_that_of_the_thing_it_is_said_of(read):
    for scene, caption, phrases in read:
        said = [(phrase, phrase["color"] or phrase["dress"]) for phrase in phrases]
        assert sum(word in COLORS for word in caption.split()) == sum(color is not None for _, color in said), caption
        assert all(color in (None, meant(scene, phrase).color) for phrase, color in said), (caption, scene)


def test_people_wear_the_colour_and_other_things_have_it(read):
    for _, caption, phrases in read:
        for phrase in phrases:
            assert phrase["color" if KINDS[NOUNS[phrase["noun"]]].dressed else "dress"] is None, caption


def test_every_size_in_a_caption_is_that_of_the_thing_it_is_said_of(read):
    for scene, caption, phrases in read:
        assert sum(word in SIZES for word in caption.split()) == sum(p["size"] is not None for p in phrases), caption
        assert all(p["size"] is None or SIZES[p["size"]] == meant(scene, p).size for p in phrases), (caption, scene)


def test_what_is_called_small_is_smaller_than_what_is_called_big(told):
    scales = {size: [t.scale for scene, _ in told for t in scene.things if t.size == size] for size in scenes.SIZES}
    assert max(scales["small"]) < min(scales["medium"]) and max(scales["medium"]) < min(scales["big"])


def test_every_count_in_a_caption_is_right_and_agrees_with_its_noun(read):
    for scene, caption, phrases in read:
        for phrase in phrases:
            thing = meant(scene, phrase)
            forms = [names.split("/")[thing.count > 1] for names in KINDS[thing.kind].names.split()]
            assert thing.count in COUNTS[phrase["count"]] and phrase["noun"] in forms, (caption, scene)


def test_verbs_agree_in_number_with_what_does_them(read):
    one, many = ({forms[k].split()[0] for forms in scenes.VERBS.values()} for k in (0, 1))
    for scene, caption, phrases in read:
        for phrase in phrases:
            following = caption[phrase.end() :].split()[0]
            if following in one | many and " and " not in caption[: phrase.start()]:
                assert following in (many if meant(scene, phrase).count > 1 else one), caption
        if caption.startswith("there"):
            assert caption.split()[1] == ("are" if meant(scene, phrases[0]).count > 1 else "is"), caption


NEAR = {
    words: lambda a, b: np.hypot(*(middles(a)[:, :, None] - middles(b)[:, None])).min() < 0.8
    for words in ("next to", "beside", "near")
}
LEFT, RIGHT = (lambda a, b: middles(a)[0].max() < middles(b)[0].min()), (lambda a, b: LEFT(b, a))
ABOVE, BELOW = (lambda a, b: middles(a)[1].max() < middles(b)[1].min()), (lambda a, b: ABOVE(b, a))


def stands_on(a, b):
    """One thing's feet touch the other's roof and do not hang beside it."""
    (((x, y),), ((below_x, below_y),)) = a.places, b.places
    roof = below_y + KINDS[b.kind].top * b.scale
    return abs(y + a.scale - roof) < 0.01 and abs(x - below_x) < 0.5 * b.scale


def stands_before(a, b):
    """The feet are lower in the picture, which is nearer, and some of the other thing is covered."""
    near, far = middles(a)[1] + a.scale, middles(b)[1] + b.scale
    return near.min() > far.max() and np.abs(middles(a)[0] - middles(b)[0]).max() < a.scale + b.scale


HOLDS = {
    **NEAR, "to the left of": LEFT, "left of": LEFT, "to the right of": RIGHT, "right of": RIGHT,
    "above": ABOVE, "over": ABOVE, "below": BELOW, "under": BELOW, "on": stands_on, "on top of": stands_on,
    "in front of": stands_before, "behind": lambda a, b: stands_before(b, a),
}  # fmt: skip
RELATION = re.compile(rf"\b{one_of(HOLDS)}$")


def test_every_relation_in_a_caption_holds_between_the_places_of_the_two_things(read):
    used = Counter()
    for scene, caption, phrases in read:
        for first, second in zip(phrases, phrases[1:], strict=False):
            between = caption[first.end() : second.start()].strip()
            relation = RELATION.search(between)
            assert relation or re.search(r"\b(and|with)$", between), caption
            if relation:
                used[relation[0]] += 1
                assert HOLDS[relation[0]](meant(scene, first), meant(scene, second)), (caption, scene)
    assert used.keys() == HOLDS.keys()


def test_the_relation_of_a_plan_holds_from_either_side(told):
    for scene, _ in told:
        if scene.relation:
            first, second = scene.things[:2]
            assert HOLDS[scene.relation](first, second) and HOLDS[scene.inverse](second, first), scene


def test_the_ground_that_a_caption_names_is_the_scenes(read):
    for scene, caption, _ in read:
        assert {GROUND_WORDS[word] for word in caption.split() if word in GROUND_WORDS} <= {scene.ground}, caption


def test_the_light_that_a_caption_names_is_the_scenes(read):
    for scene, caption, _ in read:
        assert {LIGHT_WORDS[word] for word in caption.split() if word in LIGHT_WORDS} <= {scene.light}, caption


def test_what_is_said_to_be_on_the_ground_or_in_the_air_is_there(read):
    ground, air = 0, 0
    for scene, caption, phrases in read:
        for place in re.finditer(rf"\b(in|on|at|over) (the|a) ({one_of([*GROUND_WORDS, 'sky', 'air'])})\b", caption):
            subject = meant(scene, [phrase for phrase in phrases if phrase.end() < place.start()][-1])
            in_air = place[1] == "over" or place[3] in ("sky", "air")
            assert subject.level == ("air" if in_air else "ground"), (caption, scene)
            ground, air = ground + (not in_air), air + in_air
    assert min(ground, air) > 500


def test_what_is_in_the_sky_above_the_others_is_above_them(told):
    thirds = [scene.things for scene, _ in told if len(scene.things) == 3]
    assert len(thirds) > 50
    for first, second, third in thirds:
        assert third.kind in FLYERS and ABOVE(third, first) and ABOVE(third, second)


# ---- the variety of the scenes


def test_every_kind_colour_count_size_ground_light_and_relation_occurs(told):
    things = [thing for scene, _ in told for thing in scene.things]
    for seen, table, least in [
        ([thing.kind for thing in things], KINDS, 20),
        ([thing.color for thing in things], COLORS, 60),
        ([thing.size for thing in things], scenes.SIZES, 100),
        ([thing.count for thing in things], scenes.COUNTS, 100),
        ([scene.ground for scene, _ in told], GROUNDS, 60),
        ([scene.light for scene, _ in told], LIGHTS, 100),
        ([scene.relation for scene, _ in told], [*scenes.RELATIONS, ""], 20),
        ([len(scene.things) for scene, _ in told], (1, 2, 3), 60),
    ]:
        counts = Counter(seen)
        assert counts.keys() == set(table) and min(counts.values()) >= least, counts


def test_every_kind_comes_in_several_colours(told):
    pairs = {(thing.kind, thing.color) for scene, _ in told for thing in scene.things}
    assert min(Counter(kind for kind, _ in pairs).values()) >= 3


def test_no_two_kinds_of_things_in_a_scene_share_their_kind_or_colour(told):
    for scene, _ in told:
        assert len({t.kind for t in scene.things}) == len({t.color for t in scene.things}) == len(scene.things)


def test_hardly_two_scenes_have_the_same_content(told):
    contents = {
        (s.ground, s.light, s.relation, *((t.kind, t.color, t.size, t.count) for t in s.things)) for s, _ in told
    }
    assert len(contents) > 0.95 * SEEDS


def pairs_of_words(caption):
    words = caption.lower().split()
    return set(zip(words, words[1:], strict=False))


def test_who_sees_the_scene_tells_it_far_better_than_who_tells_another_scene(told):
    known = [set().union(*map(pairs_of_words, captions)) for _, captions in told]
    again = [pairs_of_words(scenes.describe(scene, np.random.default_rng(k))[0]) for k, (scene, _) in enumerate(told)]

    def precision(shift):
        return np.mean([len(again[k] & known[k - shift]) / len(again[k]) for k in range(len(told))])

    assert 0.1 < precision(shift=1) < 0.4 and precision(shift=0) > precision(shift=1) + 0.3


# ---- the picture


def test_all_things_lie_within_the_picture(told):
    for scene, _ in told:
        for thing in scene.things:
            reach = np.abs(middles(thing) - 0.5).max() + thing.scale
            assert reach < 0.52, thing


def test_things_of_a_kind_do_not_cover_one_another(told):
    for scene, _ in told:
        for thing in scene.things:
            xs = np.sort(middles(thing)[0])
            assert (np.diff(xs) > 1.1 * thing.scale).all(), thing


@pytest.fixture
def drawn(monkeypatch):
    """Draws a thing, without a camera's noise: the pixels (80, 80, 3) and where they differ from the empty scene's."""
    monkeypatch.setattr(scenes, "photograph", lambda rng, image, size: image)

    def draw(kind, color, places=((0.4, 0.6),), scale=0.2):
        thing = Thing(kind, color, "big", scale, "air", places)
        with_it, without = (
            np.asarray(scenes.draw(Scene("street", "plain", 0.5, things), np.random.default_rng(3), 80), int)
            for things in ((thing,), ())
        )
        return with_it, np.abs(with_it - without).sum(2) > 30

    return draw


@pytest.mark.parametrize("kind", KINDS)
def test_a_thing_is_drawn_where_the_plan_says_and_as_large(drawn, kind):
    found = np.argwhere(drawn(kind, KINDS[kind].colors.split()[0])[1]) / 80  # (y, x)
    assert (np.abs(found - (0.6, 0.4)) < 0.27).all()
    assert np.prod(np.ptp(found, axis=0)) > 0.5 * 0.4**2


@pytest.mark.parametrize("kind", KINDS)
def test_a_thing_shows_the_colour_that_it_is_said_to_have(drawn, kind):
    for color in KINDS[kind].colors.split():
        pixels, mask = drawn(kind, color)
        nearest = np.abs(pixels[mask][:, None] - np.array(list(COLORS.values()))).sum(2)
        assert (nearest[:, list(COLORS).index(color)] < 110).mean() > 0.2, color


@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_many_things_are_drawn_as_the_plan_has_places(drawn, count):
    _, mask = drawn("ball", "red", tuple((0.2 + 0.3 * k, 0.6) for k in range(count)), 0.1)
    columns = np.concatenate([[0], mask.any(0).astype(int)])
    assert (np.diff(columns) == 1).sum() == count


def test_a_night_is_darker_than_a_day():
    scene = Scene("grass", "plain", 0.5, ())
    day, night = (scenes.draw(replace(scene, light=k), np.random.default_rng(4), 64) for k in ("plain", "night"))
    assert np.mean(night) < 0.6 * np.mean(day)
