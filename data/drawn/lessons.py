"""The pictures from which the built-in SqueezeNet learns: a texture, or one to three things in a quarter each.

A quarter's labels are a class of each of GROUPS, -1 where there is none to learn. The things are the creatures of
`creatures.PRETRAINING` and invented ones: no picture shows ants or bees, or is drawn by `scenes` or `paintings`.
"""

import functools

import numpy as np
from PIL import Image

from data.drawn.canvas import OVERSAMPLE, Pen, background, oval_points, photograph, put, shade, vary
from data.drawn.creatures import CREATURES, PRETRAINING
from data.drawn.textures import DIRECTIONS, SCALES, TEXTURES, draw_texture

SIDE, KINDS = 128, len(PRETRAINING) + 80  # pixels; the creatures and 80 invented things
COLORS = (
    (205, 40, 40), (235, 200, 50), (60, 150, 60), (50, 90, 200), (140, 60, 170), (235, 130, 40), (240, 240, 236),
    (36, 34, 38), (120, 80, 45), (130, 130, 130),
)  # fmt: skip
GROUPS = {  # classes of each; kind 0: nothing is here
    "kind": KINDS + 1, "color": len(COLORS), "texture": len(TEXTURES), "direction": DIRECTIONS, "scale": SCALES,
}  # fmt: skip


@functools.cache
def invented(number):
    """The parts of an invented thing: (a color, or how bright its own is; points; the width of a line or None)."""
    rng, parts = np.random.default_rng([5, number]), []
    for k in range(int(rng.integers(3, 8))):
        reach = rng.uniform(0.15, 0.6) if k else 0.9
        x, y = rng.uniform(-0.6, 0.6, 2) if k else (0, 0)
        tone = COLORS[rng.integers(len(COLORS))] if k and rng.random() < 0.3 else rng.choice((0.5, 0.75, 1, 1, 1.3))
        shape, width = rng.integers(5), None
        if shape == 0:  # an oval
            points = oval_points(x, y, reach, reach * rng.uniform(0.4, 1), rng.uniform(0, 3), count=20)
        elif shape == 1:  # a polygon
            points = oval_points(x, y, reach, reach * rng.uniform(0.5, 1), count=int(rng.integers(3, 7)))
        elif shape == 2:  # a box
            points = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * reach * rng.uniform(0.3, 1, 2) + (x, y)
        elif shape == 3:  # a bent line
            points, width = np.array([*rng.uniform(-0.9, 0.9, (2, 2)), (x, y)]), rng.uniform(0.06, 0.2)
        else:  # a star
            points = oval_points(x, y, reach, reach, count=2 * int(rng.integers(4, 8)))
            points[1::2] = (points[1::2] - (x, y)) * rng.uniform(0.3, 0.6) + (x, y)
        mirrored = k and rng.random() < 0.5
        parts += [(tone, points, width), (tone, points * (-1, 1), width)][: 1 + mirrored]
    return parts


def draw_thing(pen, rng, kind):
    """Draws a creature, or an invented thing in one of COLORS. Returns the color's class, -1 for a creature's."""
    if kind < len(PRETRAINING):
        CREATURES[PRETRAINING[kind]](pen, rng, PRETRAINING[kind])
        return -1
    label = int(rng.integers(len(COLORS)))
    own = vary(rng, COLORS[label], 12)
    for tone, points, width in invented(kind - len(PRETRAINING)):
        color = tone if isinstance(tone, tuple) else shade(own, tone)
        pen.polygon(points, color) if width is None else pen.line(points, width, color)
    return label


def draw_lesson(rng, k):
    """Picture k, an RGB image of SIDE x SIDE pixels, and the labels of its quarters, int8 (4, len(GROUPS)).

    Odd ones are textures, even ones show things, half of them on a pale texture.
    """
    labels, texture, large = np.full((4, len(GROUPS)), -1, np.int8), int(rng.integers(len(TEXTURES))), SIDE * OVERSAMPLE
    labels[:, 0] = 0
    if k % 2 or rng.random() < 0.5:
        image, *aim = draw_texture(TEXTURES[texture], rng, SIDE)
        labels[:, 2:] = texture, *aim
        if k % 2:
            return image, labels
        veil = Image.new("RGB", (large, large), vary(rng, (150, 140, 130), 60))
        image = Image.blend(image.resize(veil.size, Image.Resampling.BICUBIC), veil, rng.uniform(0, 0.7))
    else:
        image = background(rng, large, int(rng.integers(14)))
    for quarter in rng.permutation(4)[: int(rng.integers(1, 4))]:
        layer, kind = Image.new("RGBA", image.size), int(rng.integers(KINDS))
        place = (np.array((quarter % 2, quarter // 2)) / 2 + 0.25 + rng.uniform(-0.08, 0.08, 2)) * large
        turn = rng.uniform(-0.4, 0.4) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
        color = draw_thing(Pen(layer, place, large * rng.uniform(0.13, 0.26), turn), rng, kind)
        put(image, layer, rng)
        labels[quarter, :2] = kind + 1, color
    image = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return Image.blend(image, photograph(rng, image, SIDE), 1 if rng.random() < 0.5 else 0.4), labels
