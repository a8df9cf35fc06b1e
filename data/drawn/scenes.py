"""Drawn scenes for problem 5. Each scene has five captions. All are true; each omits something: a color, the light."""

from functools import cache
from itertools import islice
from string import Formatter
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.drawn.canvas import OVERSAMPLE, Pen, oval_points, photograph, shade, smooth_noise, vary

COLORS = {
    "red": (212, 36, 34), "yellow": (248, 208, 30), "green": (26, 132, 54), "blue": (34, 80, 214),
    "purple": (146, 50, 176), "white": (246, 246, 242), "black": (30, 30, 34), "brown": (128, 76, 34),
}  # fmt: skip
FIXED = {
    "skin": (236, 190, 154), "hair": (92, 56, 30), "wood": (112, 74, 44), "stem": (56, 120, 44), "dark": (36, 34, 38),
    "glass": (196, 224, 236), "light": (248, 246, 238), "beak": (240, 140, 30), "cream": (238, 222, 186),
    "cloth": (74, 78, 96), "roof": (98, 58, 52), "pink": (226, 130, 140),
}  # fmt: skip


@cache
def read_drawing(text):
    """The parts of a drawing: (tone, points (K, 2), and a width for lines), in units of half the drawing's side.

    text: "oval TONE X Y HALF-WIDTH HALF-HEIGHT [TURN]", "dome" (an oval's upper half), "poly TONE X Y X Y ...", "line
    TONE WIDTH X Y X Y ...". "both" before a part also draws its mirror image. Numbers are hundredths; y runs down, the
    feet are at 100. TONE is a key of FIXED, or a factor that makes the part lighter or darker than the thing's color.
    """
    parts = []
    for words in map(str.split, text.split(";")):
        mirrored = words[0] == "both"
        shape, tone, *numbers = words[mirrored:]
        tone, numbers = tone if tone in FIXED else float(tone), np.array(numbers, float)
        if shape in ("oval", "dome"):
            points, width = oval_points(*numbers[:4] / 100, *numbers[4:], count=24)[: 13 if shape == "dome" else 24], []
        else:
            width, points = np.split(numbers / 100, [shape == "line"])  # one number for a line, none for a polygon
            points = points.reshape(-1, 2)
        parts += [(tone, points, *width), (tone, points * (-1, 1), *width)][: 1 + mirrored]
    return parts


class Kind(NamedTuple):
    """A kind of thing: its words and its drawing. Lists of words are strings."""

    names: str  # singular/plural
    verbs: str  # keys of VERBS
    colors: str  # possible colors, keys of COLORS
    drawing: str
    dressed: bool = False  # "a girl in red" instead of "a red girl"
    top: float = -1.0  # y of the roof that something can stand on


FUR, PAINT = "black white brown yellow", "red yellow green blue purple white black"
PETAL = "red yellow blue purple white"
PETALS = "; ".join(f"oval 1 {42 * np.sin(t)} {-35 - 42 * np.cos(t)} 20 27 {t}" for t in np.arange(7) * 2 * np.pi / 7)

KINDS = {
    "dog": Kind("dog/dogs", "stand", FUR, """
        line 0.75 17 -50 30 -42 95; line 0.75 17 40 30 32 95; line 1 14 -62 15 -92 -20 -90 -55; line 1 19 -60 20 -68 98;
        line 1 19 50 20 54 98; oval 1 -8 20 70 33; poly 1 20 20 57 35 78 -40 30 -50; oval 1 52 -52 35 31;
        oval 1.2 82 -41 25 16; oval 0.6 30 -40 14 36 0.2; oval dark 101 -48 8 7; oval light 62 -60 8 8;
        oval dark 64 -60 4.8 4.8"""),
    "cat": Kind("cat/cats", "sit", FUR, """
        line 0.8 16 30 90 75 82 85 40 70 10 85 -15; oval 1 0 45 48 55; both poly 1 -50 -40 -48 -100 -5 -70;
        both poly pink -42 -60 -42 -86 -22 -70; oval 1 0 -38 52 41; both oval beak -20 -45 12 12;
        both oval dark -20 -45 5 11; oval pink 0 -26 8 6; both line 0.5 4 -20 -22 -75 -30;
        both line 0.5 4 -20 -16 -72 -8; both oval 1.25 -20 92 20 12"""),
    "girl": Kind("girl/girls child/children", "stand", PETAL, """
        oval hair 0 -55 42 45; poly hair -42 -55 42 -55 48 0 -48 0; both line skin 15 -16 50 -18 90;
        both oval dark -22 95 15 8; both line skin 14 -22 -10 -68 30; poly 1 -25 -22 25 -22 70 66 -70 66;
        both oval 1 -26 -10 18 14; oval skin 0 -52 31 33; poly hair -36 -60 -20 -92 20 -92 36 -60 0 -72;
        both oval dark -12 -50 4 5; line pink 5 -10 -34 0 -30 10 -34""", dressed=True),
    "man": Kind("man/men person/people", "stand", PETAL + " green black", """
        both line cloth 27 -17 30 -20 93; both oval dark -26 95 20 8; both line 0.85 22 -36 -20 -56 30;
        both oval skin -57 36 11 11; poly 1 -48 -30 48 -30 38 42 -38 42; oval skin 0 -57 25 30;
        poly 0.8 -26 -68 -24 -100 24 -100 26 -68; line 0.8 9 -45 -68 45 -68; both oval dark -10 -55 4 4;
        line hair 6 -12 -40 12 -40""", dressed=True),
    "snail": Kind("snail/snails", "crawl", PETAL + " brown green", """
        line cream 30 -85 84 55 84 78 30; poly cream -110 98 -80 70 0 98; oval cream 80 22 20 20;
        line cream 7 75 10 65 -30; line cream 7 88 10 98 -28; oval dark 65 -33 7 7; oval dark 98 -31 7 7;
        oval 1 -20 10 66 66; oval 0.6 -17 13 47 47; oval 1 -15 14 35 35; oval 0.6 -12 12 20 20; oval 1 -11 13 9 9"""),
    "crab": Kind("crab/crabs", "crawl", "red blue purple brown green", """
        both line 0.75 10 -50 40 -95 40 -105 85; both line 0.75 10 -45 50 -75 60 -80 98;
        both line 0.75 10 -30 60 -45 75 -45 100; both line 1 16 -50 20 -90 0 -80 -40; both oval 1 -72 -55 25 33 0.3;
        both poly light -72 -50 -78 -95 -52 -90; both line 1 7 -20 0 -20 -30; both oval light -20 -35 12 12;
        both oval dark -20 -35 6 6; oval 1 0 35 70 42; oval 1.25 0 22 45 17; line 0.5 6 -22 52 0 58 22 52"""),
    "flower": Kind("flower/flowers", "grow", PETAL, """
        line stem 11 0 -30 5 40 0 100; oval stem 30 62 32 13 -0.5; oval stem -28 75 30 12 0.5; """ + PETALS + """;
        oval beak 0 -35 21 21; oval wood 0 -35 13 13"""),
    "mushroom": Kind("mushroom/mushrooms", "grow", "red brown purple yellow", """
        poly cream -22 -10 22 -10 34 100 -34 100; oval cream 0 2 80 16; dome 1 0 0 92 90 3.141592653589793;
        both oval light -46 -30 14 13; oval light 0 -55 18 15; oval light 5 -15 11 9"""),
    "tree": Kind("tree/trees", "stand grow", "green yellow red", """
        poly wood -13 0 13 0 22 100 -22 100; line wood 10 0 40 40 0; both oval 0.85 -48 -12 45 36;
        both oval 1 -36 -45 45 40; oval 1 0 -25 50 42; oval 1.1 -5 -68 42 33; oval 1.2 -25 -55 22 16"""),
    "house": Kind("house/houses", "stand", PAINT, """
        poly wood 40 -100 62 -100 62 -50 40 -50; poly 1 -82 -20 82 -20 82 100 -82 100;
        poly roof -105 -12 -60 -80 60 -80 105 -12; poly wood -18 35 18 35 18 100 -18 100;
        both poly light -70 12 -32 12 -32 56 -70 56; both poly glass -66 16 -36 16 -36 52 -66 52;
        oval beak 10 68 5 5""", top=-0.8),
    "car": Kind("car/cars", "park stand", PAINT, """
        poly 1 -60 25 -38 -30 32 -30 62 25; poly glass -44 20 -30 -17 -5 -17 -5 20; poly glass 5 20 5 -17 27 -17 46 20;
        poly 1 -105 75 -105 35 -90 20 75 20 105 42 105 75; line 0.65 5 0 22 0 72; oval beak 98 48 7 8;
        oval dark -58 74 26 26; oval glass -58 74 11 11; oval dark 58 74 26 26; oval glass 58 74 11 11""", top=-0.3),
    "bus": Kind("bus/buses", "park stand", "red yellow green blue white", """
        poly 1 -110 78 -110 -50 -100 -62 100 -62 110 -50 110 78; poly 0.65 -110 30 110 30 110 42 -110 42;
        poly glass -100 -40 -66 -40 -66 8 -100 8; poly glass -56 -40 -22 -40 -22 8 -56 8;
        poly glass -12 -40 22 -40 22 8 -12 8; poly glass 40 -40 66 -40 66 72 40 72;
        poly glass 80 -40 106 -40 106 12 80 12; line dark 4 53 -40 53 72; oval dark -60 74 26 26;
        oval glass -60 74 11 11; oval dark 10 74 26 26; oval glass 10 74 11 11; oval beak 104 55 6 7""", top=-0.62),
    "ball": Kind("ball/balls", "lie", "red yellow green blue purple", """
        oval 1 0 20 80 80; oval light 0 20 50 79; oval 1 0 20 20 79; oval light 5 -50 15 10"""),
    "butterfly": Kind("butterfly/butterflies", "fly", PETAL, """
        both oval 1 -55 -35 50 42 0.6; both oval 0.8 -45 40 38 36 -0.5; both oval 1.4 -62 -42 20 18;
        both oval 0.4 -45 45 12 12; oval 0.4 0 5 10 62; both line 0.4 6 0 -50 -25 -95"""),
    "bird": Kind("bird/birds", "fly", "red yellow green white black brown", """
        poly 0.75 -55 20 -110 5 -105 50; poly 0.75 -30 10 -5 -95 35 5; oval 1 -5 25 65 32; oval 1 60 -2 27 26;
        poly beak 80 -12 115 3 80 12; oval light 66 -8 8 8; oval dark 68 -8 4.8 4.8; poly 0.85 -40 20 -55 -85 20 15"""),
    "kite": Kind("kite/kites", "fly", "red yellow green purple white", """
        line dark 5 0 35 15 60 -10 80 10 105; poly 0.75 -5 50 29 70 29 50 -5 70; poly 0.75 -22 73 12 93 12 73 -22 93;
        poly 1 0 -100 70 -40 0 45 -70 -40; poly 1.35 0 -100 70 -40 0 -40; poly 1.35 0 45 -70 -40 0 -40;
        line dark 5 0 -100 0 45; line dark 5 -70 -40 70 -40"""),
    "balloon": Kind("balloon/balloons", "float fly", "red yellow green purple white", """
        line dark 5 0 30 8 60 -6 80 3 105; poly 0.75 -12 45 12 45 0 28; oval 1 0 -35 58 68;
        oval 1.5 -22 -62 12 18 0.4"""),
    "fish": Kind("fish/fish", "swim", "red yellow green purple white black", """
        poly 0.8 -50 20 -110 -30 -95 20 -110 75; poly 0.8 -35 -10 0 -55 40 -5; poly 0.8 -20 50 0 85 25 50;
        oval 1 15 20 78 44; line 0.6 9 -25 -10 -33 20 -25 50; line 0.6 9 2 -10 -6 20 2 50; poly 0.7 15 20 -10 40 15 45;
        oval light 60 10 12 12; oval dark 62 10 7.2 7.2; line 0.5 5 90 28 72 36"""),
    "duck": Kind("duck/ducks", "swim", "white yellow brown black", """
        poly 1 -60 30 -110 0 -90 75; oval 1 -15 55 82 44; poly 1 15 50 60 50 72 -40 32 -40; oval 1 50 -50 33 32;
        poly beak 75 -58 115 -42 76 -32; oval light 58 -58 8 8; oval dark 60 -58 4.8 4.8;
        oval 0.75 -30 50 46 22 0.2"""),
    "boat": Kind("boat/boats", "sail", "red yellow green purple white black brown", """
        line wood 8 0 -100 0 50; poly light 8 -95 85 30 8 30; poly 1 -8 -75 -65 30 -8 30;
        poly 1 -110 42 110 42 75 98 -75 98; line 0.65 7 -103 53 103 53"""),
}  # fmt: skip

FLYERS, WALKERS = ("butterfly", "bird", "kite", "balloon"), ("dog", "cat", "girl", "man")
SMALL = (*WALKERS, "snail", "flower", "mushroom", "ball")  # can stand in front of something large


class Ground(NamedTuple):
    """The place of a scene. unlike: colors that would not be visible, share: relative frequency."""

    color: tuple  # RGB
    horizon: tuple  # bounds of its height in the picture, 0 at the top and 1 at the bottom
    kinds: tuple  # kinds found there
    places: tuple  # phrases for it
    unlike: str = ""
    mark: tuple = ((0, 0), (0, 0))  # the line that is scattered on it
    shades: tuple = (0.8, 1.2)  # bounds of the line's tone
    rough: float = 1.0
    share: float = 1.0


GROUNDS = {
    "grass": Ground((150, 190, 92), (0.45, 0.62), ("dog", "girl", "snail", "flower", "mushroom", "tree", "house"),
                    ("on the grass", "in the grass", "in a field"), "", ((0, 0.5), (0.15, -0.5)), share=1.5),
    "sand": Ground((230, 208, 158), (0.4, 0.6), ("dog", "man", "girl", "crab", "ball"),
                   ("on the sand", "on the beach", "at the beach"), "yellow", ((-0.1, 0), (0.1, 0))),
    "snow": Ground((230, 238, 250), (0.45, 0.62), ("dog", "cat", "man", "girl", "tree", "house", "car"),
                   ("in the snow", "on the snow"), "white", ((-1, 0), (1, 0)), (0.9, 0.97), 0.4),
    "water": Ground((84, 148, 196), (0.3, 0.45), ("fish", "duck", "boat"), ("in the water", "in the sea"), "blue",
                    ((-1, 0.2), (-0.5, -0.2), (0, 0.2), (0.5, -0.2), (1, 0.2)), (1.1, 1.35), 0.4),
    "street": Ground((150, 148, 150), (0.45, 0.6), ("cat", "man", "ball", "car", "bus"),
                     ("on the street", "on the road"), "", ((-0.8, 0), (0.8, 0)), (1.4, 1.6), 0.3),
    "sky": Ground((0, 0, 0), (1.1, 1.2), FLYERS, ("in the sky", "in the air"), share=0.6),
}  # fmt: skip


class Light(NamedTuple):
    sky: tuple  # RGB
    phrases: tuple = ()
    unlike: str = ""
    dim: float = 1.0  # of the ground
    share: float = 1.0


LIGHTS = {
    "plain": Light((172, 210, 240), share=2),
    "sun": Light((134, 194, 246), ("on a sunny day", "in the sun")),
    "clouds": Light((160, 172, 188), ("on a cloudy day", "under a cloudy sky"), "white"),
    "night": Light((30, 34, 78), ("at night", "in the dark"), "black blue", dim=0.5),
}


class Thing(NamedTuple):
    """One to three identical things of one kind."""

    kind: str
    color: str
    size: str
    scale: float  # half its side, as a share of the picture's side
    level: str  # ground, air, or top (of another thing)
    places: tuple = ()  # (x, y) of each middle, as shares of the picture's side

    @property
    def count(self):
        return len(self.places)


class Scene(NamedTuple):
    ground: str
    light: str
    horizon: float
    things: tuple  # one to three: the main thing, another one, something in the sky
    relations: tuple = ()  # of the first thing to the second, and of the second to the first: keys of RELATIONS


def pick(rng, options):
    return options[int(rng.random() * len(options))]


def pick_by_share(rng, table):
    """A random key of `table`, with probability proportional to its row's `share`."""
    sums = np.cumsum([row.share for row in table.values()])
    return list(table)[np.searchsorted(sums, rng.random() * sums[-1], side="right")]


def row(rng, things, counts, loose=0.8):
    """All side by side, each in its own cell. Returns a list of (x, y) for each thing, as do the next three."""
    width, foot, height = 1 / sum(counts), rng.uniform(0.83, 0.95), rng.uniform(0.32, 0.5)
    places, cells = [], iter(width * (np.arange(sum(counts)) + 0.5))
    for thing, count in zip(things, counts, strict=True):
        free = max(0, width / 2 - 1.15 * thing.scale) * loose
        xs = list(islice(cells, count)) + rng.uniform(-free, free, count)
        ys = (height if thing.level == "air" else foot - thing.scale) + rng.uniform(-0.03, 0.03, count)
        places.append(list(zip(xs.tolist(), ys.tolist(), strict=True)))
    return places


def stack(rng, things, counts):
    """The first thing high up, the second below it."""
    heights = rng.uniform(0.18, 0.2), rng.uniform(0.9, 0.95) - things[1].scale
    jobs = zip(things, counts, heights, strict=True)
    return [[(x, y) for x, _ in row(rng, [thing], [count], 0.25)[0]] for thing, count, y in jobs]


def climb(rng, things, counts):
    """The first thing on the roof of the second."""
    ((x, y),) = row(rng, things[1:], [1], 0.5)[0]
    roof = y + KINDS[things[1].kind].top * things[1].scale
    return [(x + rng.uniform(-0.3, 0.3) * things[1].scale, roof - things[0].scale)], [(x, y)]


def approach(rng, things, counts):
    """One or two small things at the foot of the second, slightly closer to the viewer."""
    ((x, y),) = row(rng, things[1:], [1], 0.5)[0]
    sides = (-1, 1) if counts[0] == 2 else (pick(rng, (-1, 1)),)
    foot = min(y + things[1].scale + 0.04, 0.97)
    return [(x + side * rng.uniform(0.45, 0.6) * things[1].scale, foot - things[0].scale) for side in sides], [(x, y)]


SIZES = {"small": (0.115, 0.125), "medium": (0.15, 0.17), "big": (0.21, 0.235)}  # bounds of the scale
ALL, UNEQUAL = tuple(SIZES), (("small",), ("big",))


class Layout(NamedTuple):
    """The arrangement of one or two kinds of things."""

    arrange: object  # one of the functions above
    counts: tuple  # possible counts of the first and the second
    pools: tuple  # kinds for the first and the second; None: the kinds of the ground
    sizes: tuple = (ALL, ALL)
    relations: tuple = ()  # of the first to the second, and of the second to the first: keys of RELATIONS
    share: float = 1.0


LAYOUTS = {
    "single": Layout(row, ((1,), (2,), (3,)), (None,), share=3),
    "aloft": Layout(row, ((1,), (2,), (3,)), (FLYERS,), share=0.6),
    "beside": Layout(row, ((1, 1), (1, 1), (2, 1)), (None, None), (ALL, ALL), ("left of", "right of"), 4),
    "above": Layout(stack, ((1, 1), (2, 1), (3, 1), (1, 2)), (FLYERS, None), (ALL[:2], ALL), ("above", "below"), 1.5),
    "roof": Layout(climb, ((1, 1),), (WALKERS, ("house", "car", "bus")), UNEQUAL, ("on", "below"), 2),
    "shade": Layout(approach, ((1, 1), (2, 1)), (SMALL, ("tree",)), UNEQUAL, ("below", "above"), 1.5),
    "front": Layout(approach, ((1, 1), (2, 1)), (SMALL, ("house", "bus")), UNEQUAL, ("in front of", "behind"), 2),
}


def plan_scene(rng):
    """A random `Scene`, not drawn yet."""
    ground, light = pick_by_share(rng, GROUNDS), pick_by_share(rng, LIGHTS)
    home, things = GROUNDS[ground], []
    pools = {n: [[k for k in p or home.kinds if k in home.kinds + FLYERS] for p in v.pools] for n, v in LAYOUTS.items()}
    name = pick_by_share(rng, {n: layout for n, layout in LAYOUTS.items() if all(pools[n])})
    arrange, counts, _, sizes, relations, _ = LAYOUTS[name]
    counts = pick(rng, counts)

    def new(pool, sizes, room):
        """A thing of a kind and color that the others do not have, with a scale of at most `room`."""
        unlike = {thing.color for thing in things}.union(home.unlike.split(), LIGHTS[light].unlike.split())
        kind = pick(rng, [k for k in pool if k not in {thing.kind for thing in things}])
        color = pick(rng, [c for c in KINDS[kind].colors.split() if c not in unlike])
        size = pick(rng, [s for s in sizes if SIZES[s][0] <= room])
        return Thing(kind, color, size, min(rng.uniform(*SIZES[size]), room), "air" if kind in FLYERS else "ground")

    for count, pool, choice in zip(counts, pools[name], sizes, strict=False):
        things.append(new(pool, choice, 0.455 / (sum(counts) if arrange is row else count)))
    if "on" in relations:
        things[0] = things[0]._replace(level="top")
    things = [t._replace(places=tuple(p)) for t, p in zip(things, arrange(rng, things, counts), strict=True)]
    if len(things) == 2 and rng.random() < 0.5:  # described the other way around
        things, relations = things[::-1], relations[::-1]
    if name == "beside" and ground != "sky" and rng.random() < 0.3:
        places = ((rng.uniform(0.2, 0.8), rng.uniform(0.13, 0.16)),)
        things.append(new(FLYERS, ALL[:1], 1)._replace(places=places))
    return Scene(ground, light, rng.uniform(*home.horizon), tuple(things), relations)


def tint(color, tone):
    """The RGB of a part. Dark colors become lighter where others become darker, so that the parts are visible."""
    if tone in FIXED:
        return FIXED[tone]
    tone = 1 + abs(tone - 1) if sum(color) < 200 else tone
    return shade(color, tone) if tone <= 1 else tuple(int(c + (255 - c) * (tone - 1)) for c in color)


def draw_sky(image, rng, scene):
    """Draws the sun, clouds, or the moon and stars."""
    side = pick(rng, (0.1, 0.9)) + rng.uniform(-0.04, 0.04)
    pen = Pen(image, (0, 0), image.width, 0)
    if scene.light == "sun":
        for turn in np.arange(12) * np.pi / 6:
            pen.line([(side, 0.1), (side + 0.15 * np.cos(turn), 0.1 + 0.15 * np.sin(turn))], 0.015, (255, 226, 90))
        pen.oval(side, 0.1, 0.09, 0.09, (255, 232, 110))
    elif scene.light == "night":
        for x, y in rng.random((25, 2)) * (1, scene.horizon - 0.03):
            pen.oval(x, y, 0.006, 0.006, (250, 248, 220))
        outer = oval_points(0, 0, 0.08, 0.08, np.pi / 2)[:15]  # squeezed, also the inner edge
        pen.polygon(np.concatenate([outer, outer[::-1] * (0.4, 1)]) + (side + 0.03, 0.1), (250, 244, 206))
    elif scene.light == "clouds":
        for x, y, r in rng.uniform((0, 0.02, 0.05), (1, 0.3, 0.09), (5, 3)):
            for dx, grow in ((-1.2, 0.7), (1.2, 0.8), (0, 1)):
                pen.oval(x + dx * r, y, r * 1.2 * grow, r * 0.7 * grow, (226, 230, 236))


def backdrop(scene, rng, size):
    """Sky and ground without things: an RGB image of `size` x `size` pixels."""
    home, light, few = GROUNDS[scene.ground], LIGHTS[scene.light], size // 4  # low resolution is enough
    down = np.linspace(0, 1, few)[:, None, None]
    hills = 0.02 * home.rough * np.sin(np.linspace(0, rng.uniform(3, 9), few) + rng.uniform(0, 6))[None, :, None]
    sky = np.array(vary(rng, light.sky, 6)) * (0.92 + 0.25 * down)
    color = vary(rng, home.color, 7)
    blotches = smooth_noise(rng, few, int(rng.integers(3, 16)))[..., None]
    ground = np.array(color) * light.dim * (1 + 0.24 * home.rough * (blotches - 0.5))
    below = ((down - scene.horizon - hills) * few).clip(0, 1)
    image = Image.fromarray((ground * below + sky * (1 - below)).clip(0, 255).astype(np.uint8))
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    draw_sky(image, rng, scene)
    strewn = rng.uniform((0, min(1, scene.horizon + 0.05)), 1, (int(rng.integers(10, 40)), 2))
    lane = [(x, (0.7 + scene.horizon) / 1.7) for x in np.arange(rng.random() * 0.2, 1.1, 0.2)]
    for x, y in lane if scene.ground == "street" else strewn:
        tone = shade(color, light.dim * rng.uniform(*home.shades))
        Pen(image, (x * size, y * size), size * 0.08 * y * y, 0).line(home.mark, 0.12, tone)
    return image


def draw(scene, rng, size=160):
    """The scene as an RGB image of `size` x `size` pixels; a thing may be mirrored, turned and stretched."""
    large = size * OVERSAMPLE
    image = backdrop(scene, rng, large)
    for y, x, thing in sorted(((y, x, t) for t in scene.things for x, y in t.places), key=lambda i: i[0] + i[2].scale):
        place, scale = (x * large, y * large), thing.scale * large
        if thing.level == "ground" and scene.ground != "water":
            shadow = shade(GROUNDS[scene.ground].color, 0.72 * LIGHTS[scene.light].dim)
            Pen(image, place, scale, 0).oval(0.05, 0.97, 0.95, 0.12, shadow)
        color = vary(rng, COLORS[thing.color], 7)
        pen = Pen(image, place, scale, rng.uniform(-1, 1) * (0.25 if thing.kind in FLYERS else 0.05))
        pen.matrix = pen.matrix * (pick(rng, (-1, 1)) * rng.uniform(0.88, 1.02), rng.uniform(0.92, 1.03))
        for tone, points, *width in read_drawing(KINDS[thing.kind].drawing):
            (pen.line if width else pen.polygon)(points, *width, tint(color, tone))
    image = image.resize((size, size), Image.Resampling.BOX)
    return Image.blend(image, photograph(rng, image, size), 0.45)  # about half of the camera effects: colors stay clear


VERBS = {verb: (verb + "s", verb, verb + "ing") for verb in ("stand", "crawl", "grow", "float", "sail")} | {
    "sit": ("sits", "sit", "sitting"), "lie": ("lies", "lie", "lying"), "fly": ("flies", "fly", "flying"),
    "swim": ("swims", "swim", "swimming"), "park": ("is parked", "are parked", "parked"),
}  # fmt: skip
NEAR = ("next to", "beside", "near")
RELATIONS = {
    "left of": ("to the left of", "left of", *NEAR), "right of": ("to the right of", "right of", *NEAR),
    "above": ("above", "over"), "below": ("below", "under"), "on": ("on", "on top of"),
    "in front of": ("in front of",), "behind": ("behind",),
}  # fmt: skip
COUNTS = {1: ("a", "a", "a", "a", "one"), 2: ("two", "a pair of", "some"), 3: ("three", "a group of", "some")}
SIZE_WORDS = {"small": ("small", "little"), "medium": (), "big": ("big", "large")}
TEMPLATES = (
    "{main} {main_place}",
    "{main} {main_verb} {main_place}",
    "{main} {main_are} {main_doing} {main_place}",
    "{main} {main_doing} {main_place} {light}",
    "{main} {main_place} {light}",
    "there {main_are} {main} {main_place}",
    "a picture of {main} {main_place}",
    "you can see {main} {main_doing} {main_place}",
    "{main} {relation} {other}",
    "{main} {main_verb} {relation} {other}",
    "{main} {main_doing} {relation} {other} {light}",
    "{main} {main_are} {relation} {other}",
    "there {main_are} {main} {relation} {other}",
    "{other} {other_verb} {inverse} {main}",
    "{other} {other_are} {inverse} {main}",
    "{other} {other_doing} {other_place} {light}",
    "you can see {other} {other_place}",
    "{main} and {other} {together}",
    "a picture of {main} and {other}",
    "{main} and {other} with {extra} in the sky",
    "{extra} {extra_verb} over {main} and {other}",
    "{main} {main_place} with {extra} above",
)


def noun_phrase(rng, thing):
    """For example 'two small red cars', 'a girl in blue', 'some dogs'; omits parts at random."""
    kind = KINDS[thing.kind]
    words = [pick(rng, COUNTS[thing.count])]
    if SIZE_WORDS[thing.size] and rng.random() < 0.5:
        words.append(pick(rng, SIZE_WORDS[thing.size]))
    noun = pick(rng, kind.names.split()).split("/")[thing.count > 1]
    color = [thing.color] if rng.random() < 0.75 else []
    return " ".join([*words, noun, *(["in"] if color else []), *color] if kind.dressed else [*words, *color, noun])


def phrases(scene, rng):
    """Phrases for the fields of templates in this scene, by name; fields that would not be true are missing."""
    found = {}
    for role, thing in zip(("main", "other", "extra"), scene.things, strict=False):
        one, many, doing = VERBS[pick(rng, KINDS[thing.kind].verbs.split())]
        verb, are = (many, "are") if thing.count > 1 else (one, "is")
        found |= {role: noun_phrase(rng, thing), f"{role}_verb": verb, f"{role}_are": are, f"{role}_doing": doing}
        place = pick(rng, GROUNDS[scene.ground].places)
        if thing.level == "air" and scene.ground != "sky":
            place = pick(rng, ("in the sky", "in the air", "over " + place.split(maxsplit=1)[1]))
        if thing.level != "top":
            found[f"{role}_place"] = place
    if LIGHTS[scene.light].phrases:
        found["light"] = pick(rng, LIGHTS[scene.light].phrases)
    if scene.relations:
        found["relation"], found["inverse"] = (pick(rng, RELATIONS[relation]) for relation in scene.relations)
        if scene.things[0].level == scene.things[1].level:
            found["together"] = found["main_place"]
    return found


def describe(scene, rng):
    """Five captions, words separated by spaces, each from a different template: 'Two dogs stand on the grass .'"""
    known = phrases(scene, rng).keys()
    fitting = [t for t in TEMPLATES if {field for _, field, _, _ in Formatter().parse(t) if field} <= known]
    written = (t.format(**phrases(scene, rng)) + " ." for t in rng.permutation(fitting))
    captions = islice((c for c in written if len(c.split()) <= 16), 5)
    return [c if rng.random() < 0.1 else c[0].upper() + c[1:] for c in captions]


def draw_scene(rng, size=160):
    """A random scene: an RGB image of `size` x `size` pixels and its five captions, which do not depend on the size."""
    scene = plan_scene(rng)
    captions = describe(scene, rng)
    return draw(scene, rng, size), captions
