"""Drawn creatures and things: ants and bees for problem 1, and the training classes of the built-in weights.

No single feature decides a class: colors and poses overlap, ants sometimes have wings. Body shape is what differs.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from data.drawn.canvas import OVERSAMPLE, Pen, background, clutter, oval_points, photograph, put, shade, vary

BLACK, BROWN, RED, AMBER, GREEN, BLUE, STRAW, GREY = (
    (34, 30, 30), (96, 62, 38), (140, 52, 34), (196, 132, 44), (74, 118, 52), (52, 84, 132), (206, 184, 120),
    (120, 116, 110),
)  # fmt: skip
BRIGHT = ((214, 92, 40), (232, 186, 52), (84, 120, 196), (176, 70, 130), (236, 232, 220), (120, 60, 40))


class Insect(NamedTuple):
    """The build of an insect, in units of half its length; y runs from the head (-1) to the tail (1)."""

    parts: tuple  # (y, half width, half length) from tail to head; later parts are drawn over earlier ones
    colors: tuple  # one is chosen per picture and varied
    leg_length: float
    antenna: float  # length, 0 for none
    wings: tuple = ()  # pairs: (y of the joint, length, half width, angle from the tail in radians)
    legs: int = 3  # pairs
    wing_chance: float = 1.0
    bright: bool = False  # bright wings instead of clear ones
    marking: str = "plain"  # of the largest part: plain, stripes, spots, seam
    elbow: bool = False  # bent antennae
    hair: float = 0.0  # length of the fuzz


INSECTS = {
    "ants": Insect(((0.52, 0.25, 0.34), (0.1, 0.05, 0.08), (-0.2, 0.13, 0.26), (-0.66, 0.2, 0.2)),
                   (BLACK, BROWN, RED, AMBER), 0.85, 0.6, ((-0.3, 0.9, 0.14, 0.45),), wing_chance=0.15, elbow=True),
    "bees": Insect(((0.42, 0.28, 0.42), (-0.22, 0.25, 0.26), (-0.64, 0.19, 0.16)), (BLACK, BROWN, AMBER, STRAW), 0.6,
                   0.35, ((-0.25, 0.85, 0.18, 0.95), (-0.1, 0.6, 0.14, 0.6)), wing_chance=0.9, marking="stripes",
                   elbow=True, hair=0.09),
    "beetle": Insect(((0.3, 0.4, 0.6), (-0.38, 0.3, 0.2), (-0.66, 0.18, 0.16)), (BLACK, GREEN, BROWN, BLUE), 0.65,
                     0.4, marking="seam"),
    "ladybird": Insect(((0.1, 0.6, 0.65), (-0.56, 0.34, 0.18), (-0.74, 0.18, 0.12)), (RED, AMBER, BLACK, STRAW), 0.7,
                       0.2, marking="spots"),
    "butterfly": Insect(((0.35, 0.07, 0.5), (-0.2, 0.09, 0.2), (-0.45, 0.08, 0.08)), (BLACK, BROWN), 0.25, 0.6,
                        ((-0.05, 0.8, 0.34, 0.9), (-0.25, 1.0, 0.42, 1.9)), bright=True),
    "moth": Insect(((0.3, 0.15, 0.45), (-0.25, 0.18, 0.22), (-0.5, 0.12, 0.1)), (BROWN, GREY, STRAW), 0.3, 0.35,
                   ((-0.1, 0.7, 0.3, 0.55), (-0.25, 0.95, 0.32, 0.85)), bright=True, hair=0.07),
    "dragonfly": Insect(((0.45, 0.06, 0.7), (-0.3, 0.14, 0.22), (-0.58, 0.16, 0.1)), (BLUE, GREEN, RED, BROWN), 0.3,
                        0.1, ((-0.15, 1.0, 0.12, 1.3), (-0.32, 1.0, 0.12, 1.75)), marking="stripes"),
    "fly": Insect(((0.3, 0.26, 0.34), (-0.2, 0.26, 0.26), (-0.54, 0.24, 0.14)), (BLACK, GREY, GREEN, BLUE), 0.7, 0.0,
                  ((-0.2, 0.95, 0.2, 0.5),), hair=0.03),
    "crane fly": Insect(((0.3, 0.06, 0.55), (-0.3, 0.1, 0.16), (-0.52, 0.07, 0.08)), (BROWN, GREY, STRAW), 1.7, 0.25,
                        ((-0.3, 0.95, 0.12, 0.9),)),
    "grasshopper": Insect(((0.25, 0.15, 0.75), (-0.45, 0.17, 0.25), (-0.78, 0.14, 0.16)), (GREEN, BROWN, STRAW), 1.05,
                          0.7, ((-0.35, 1.25, 0.1, 0.12),)),
    "earwig": Insect(((0.3, 0.17, 0.5), (-0.3, 0.15, 0.2), (-0.6, 0.13, 0.13)), (BROWN, RED, BLACK), 0.5, 0.7,
                     marking="stripes"),
    "shield bug": Insect(((0.2, 0.46, 0.55), (-0.3, 0.5, 0.22), (-0.6, 0.16, 0.14)), (GREEN, BROWN, GREY), 0.75, 0.6),
    "spider": Insect(((0.3, 0.3, 0.38), (-0.25, 0.2, 0.22)), (BLACK, BROWN, GREY), 1.25, 0.2, legs=4),
    "tick": Insect(((0.1, 0.45, 0.5), (-0.5, 0.12, 0.1)), (BROWN, RED, GREY), 0.55, 0.1, legs=4),
    "wood louse": Insect(((0.05, 0.42, 0.75), (-0.7, 0.2, 0.14)), (GREY, BROWN, BLACK), 0.45, 0.3, legs=6,
                         marking="stripes"),
}  # fmt: skip


def draw_insect(pen, rng, kind):
    """Draws an insect of `INSECTS[kind]` with slightly random sizes and colors."""
    plan = INSECTS[kind]
    color = vary(rng, plan.colors[rng.integers(len(plan.colors))])
    parts = [tuple(np.array(part) * (1, *rng.uniform(0.82, 1.2, 2))) for part in plan.parts]
    draw_legs(pen, rng, plan.legs, plan.leg_length, parts[-2], shade(color, 0.75))
    if plan.antenna:
        draw_antennae(pen, rng, plan, parts[-1], shade(color, 0.75))
    if plan.hair:
        for y, width, length in parts[:2]:
            for x, at in oval_points(0, y, width, length, count=70) + rng.normal(0, 0.015, (70, 2)):
                tip = x * (1 + plan.hair / width), y + (at - y) * (1 + plan.hair / length)
                pen.line([(x, at), tip], 0.015, shade(color, 1.3))
    for y, width, length in parts:
        pen.oval(0, y, width, length, color)
        pen.oval(-width * 0.25, y - length * 0.2, width * 0.5, length * 0.5, shade(color, rng.uniform(1.1, 1.45)))
    mark(pen, rng, plan.marking, max(parts, key=lambda part: part[1] * part[2]), color)
    if plan.wings and rng.random() < plan.wing_chance:
        draw_wings(pen, rng, plan)


def draw_legs(pen, rng, pairs, leg_length, front, color):
    """Pairs of jointed legs, fanned out from their body part."""
    y, width, length = front
    for k, spread in enumerate(np.linspace(-0.9, 0.9, pairs)):
        for side in (-1, 1):
            reach = leg_length * rng.uniform(0.8, 1.15)
            hip = np.array([side * width * 0.6, y + spread * length * 0.8 + 0.05 * k])
            knee = hip + reach * 0.5 * np.array([side, spread * 0.7 + rng.normal(0, 0.12)])
            foot = knee + reach * 0.5 * np.array([side * 0.55, spread * 0.9 + rng.uniform(0.1, 0.45)])
            pen.line([hip, knee, foot], 0.035, color)


def draw_antennae(pen, rng, plan, head, color):
    y, width, length = head
    for side in (-1, 1):
        root = np.array([side * width * 0.4, y - length * 0.7])
        out = rng.uniform(0.3, 0.7) + 0.5 * plan.elbow
        elbow = root + plan.antenna * 0.5 * np.array([side * out, -0.6])
        tip = elbow + plan.antenna * 0.5 * np.array([side * (0.1 if plan.elbow else out), -1])
        pen.line([root, elbow, tip], 0.03, color)


def draw_wings(pen, rng, plan):
    """Pairs of wings, opened by 0.55 to 1.15 times the plan's angle."""
    opening = rng.uniform(0.55, 1.15)
    color = vary(rng, BRIGHT[rng.integers(len(BRIGHT))]) if plan.bright else (225, 228, 232)
    alpha = 255 if plan.bright else int(rng.uniform(70, 150))
    for y, length, width, angle in plan.wings:
        for side in (-1, 1):
            turn = side * angle * opening
            middle = np.array([side * 0.08 + np.sin(turn) * length / 2, y + np.cos(turn) * length / 2])
            pen.oval(*middle, width, length / 2, (*color, alpha), -turn)
            if plan.bright:
                pen.oval(*(middle * 1.15), width * 0.4, length * 0.2, shade(color, 0.6), -turn)
            else:
                pen.line([(side * 0.08, y), middle * 1.6 - (side * 0.04, y * 0.6)], 0.012, (90, 80, 70, 160))


def mark(pen, rng, marking, part, color):
    """The marking of the largest part. Stripes are sometimes faint, so that they do not identify bees."""
    y, width, length = part
    other = shade(color, rng.uniform(0.35, 0.75)) if np.mean(color) > 70 else shade(color, rng.uniform(1.6, 3.2))
    if marking == "stripes":
        for at in np.linspace(-0.65, 0.75, int(rng.integers(3, 6))):
            reach, end = width * np.sqrt(max(0.05, 1 - at**2)) * 0.98, y + at * length
            pen.line([(-reach, end), (0, end + 0.12 * length), (reach, end)], 0.2 * length, other)
    elif marking == "spots":
        for _ in range(int(rng.integers(4, 10))):
            angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.75)
            pen.oval(far * width * np.cos(angle), y + far * length * np.sin(angle), 0.09, 0.09, other)
    elif marking == "seam":
        pen.line([(0, y - length * 0.9), (0, y + length * 0.95)], 0.03, other)


WORMS = {  # number of beads, half width of a bead, length of the feet
    "caterpillar": (9, 0.2, 0.3), "centipede": (16, 0.1, 0.4), "snake": (40, 0.1, 0), "earthworm": (30, 0.06, 0),
}  # fmt: skip


def draw_worm(pen, rng, kind):
    """A caterpillar, centipede, snake or earthworm: beads along a bent line."""
    count, width, feet = WORMS[kind]
    color = vary(rng, (GREEN, BROWN, RED, STRAW, GREY)[rng.integers(5)])
    t = np.linspace(-1, 1, count)
    bend, waves, phase = rng.uniform(0.1, 0.4), rng.uniform(1, 2.5) * (2 if kind == "snake" else 1), rng.uniform(0, 6)
    for k, (x, y) in enumerate(zip(bend * np.sin(waves * t * 1.6 + phase), t, strict=True)):
        for side in (-1, 1) if feet else ():
            pen.line([(x, y), (x + side * (width + feet * 0.4), y + 0.08)], 0.03, shade(color, 0.7))
        tone = 0.8 if k % 2 and kind != "earthworm" else 1.1
        pen.oval(x, y, width * (1.25 if k == 0 else 1), width, shade(color, tone))


def draw_snail(pen, rng, kind):
    shell, body = vary(rng, (AMBER, BROWN, STRAW, GREY)[rng.integers(4)]), vary(rng, STRAW)
    pen.oval(0, 0.1, 0.2, 0.9, body)
    for side in (-1, 1):
        pen.line([(side * 0.08, -0.7), (side * 0.25, -1.05)], 0.04, body)
    for k, radius in enumerate(np.linspace(0.55, 0.1, 6)):
        pen.oval(0.03 * k, 0.2 - 0.03 * k, radius, radius, shade(shell, 1.25 if k % 2 else 0.8))


def draw_fish(pen, rng, kind):
    color = vary(rng, (BLUE, AMBER, GREY, RED)[rng.integers(4)])
    pen.polygon([(0, 0.5), (-0.35, 1), (0, 0.85), (0.35, 1)], shade(color, 0.8))
    pen.polygon([(0, -0.2), (0.55, 0.2), (0, 0.35), (-0.45, 0.2)], shade(color, 0.85))
    pen.oval(0, -0.1, rng.uniform(0.25, 0.36), 0.75, color)
    mark(pen, rng, "stripes" if rng.random() < 0.5 else "plain", (0.0, 0.3, 0.6), color)
    pen.oval(0.1, -0.6, 0.06, 0.06, (240, 240, 235))


def draw_flower(pen, rng, kind):
    color, count = vary(rng, BRIGHT[rng.integers(len(BRIGHT))]), int(rng.integers(5, 12))
    for turn in np.arange(count) * 2 * np.pi / count:
        petal = shade(color, rng.uniform(0.85, 1.15))
        pen.oval(0.55 * np.sin(turn), -0.55 * np.cos(turn), 1.3 / count, 0.42, petal, turn)
    pen.oval(0, 0, 0.25, 0.25, vary(rng, AMBER))


def draw_leaf(pen, rng, kind):
    color, width = vary(rng, (GREEN, AMBER, RED, BROWN)[rng.integers(4)]), rng.uniform(0.25, 0.55)
    t = np.linspace(0, np.pi, 20)
    edge = np.stack([width * np.sin(t) ** 1.2, -0.9 * np.cos(t)], 1)
    pen.polygon(np.concatenate([edge, edge[::-1] * (-1, 1)]), color)
    pen.line([(0, -0.85), (0, 1.1)], 0.04, shade(color, 0.7))
    for y in np.linspace(-0.5, 0.5, 5):
        for side in (-1, 1):
            pen.line([(0, y + 0.2), (side * width * 0.7, y - 0.1)], 0.02, shade(color, 0.75))


def draw_mushroom(pen, rng, kind):
    cap = vary(rng, (RED, BROWN, STRAW, GREY)[rng.integers(4)])
    pen.polygon([(-0.14, 0), (0.14, 0), (0.2, 0.95), (-0.2, 0.95)], vary(rng, (225, 215, 195)))
    t = np.linspace(np.pi, 2 * np.pi, 20)
    pen.polygon(np.stack([0.75 * np.cos(t), 0.1 + rng.uniform(0.6, 0.95) * np.sin(t)], 1), cap)
    for _ in range(int(rng.integers(0, 7))):
        pen.oval(rng.uniform(-0.45, 0.45), rng.uniform(-0.45, -0.05), 0.08, 0.07, shade(cap, 1.6))


def draw_star(pen, rng, kind):
    color, arms = vary(rng, (AMBER, RED, BLUE, STRAW)[rng.integers(4)]), int(rng.integers(5, 8))
    turn = np.arange(2 * arms) * np.pi / arms
    points = np.stack([np.sin(turn), -np.cos(turn)], 1)
    points[1::2] *= rng.uniform(0.25, 0.45)
    pen.polygon(points, color)
    pen.polygon(0.5 * points, shade(color, 1.25))


def draw_crab(pen, rng, kind):
    color = vary(rng, (RED, AMBER, GREY, BROWN)[rng.integers(4)])
    draw_legs(pen, rng, 4, 0.9, (0.1, 0.6, 0.3), shade(color, 0.8))
    for side in (-1, 1):
        pen.line([(side * 0.4, -0.2), (side * 0.8, -0.5), (side * 0.55, -0.85)], 0.1, color)
        pen.oval(side * 0.5, -0.85, 0.16, 0.24, color, side * 0.5)
    pen.oval(0, 0.05, 0.6, 0.42, color)
    pen.oval(-0.1, -0.05, 0.35, 0.2, shade(color, 1.25))


def draw_feather(pen, rng, kind):
    color = vary(rng, (GREY, STRAW, BLUE, BROWN)[rng.integers(4)])
    for y in np.linspace(-0.9, 0.6, 34):
        for side in (-1, 1):
            tip = side * 0.3 * np.sqrt(1 - (y / 1.05) ** 2), y - 0.22
            pen.line([(0, y), tip], 0.05, shade(color, rng.uniform(0.8, 1.2)))
    pen.line([(0, -0.95), (0, 1.05)], 0.04, shade(color, 0.6))


CREATURES = dict.fromkeys(INSECTS, draw_insect) | dict.fromkeys(WORMS, draw_worm) | {
    "snail": draw_snail, "fish": draw_fish, "flower": draw_flower, "leaf": draw_leaf, "mushroom": draw_mushroom,
    "star": draw_star, "crab": draw_crab, "feather": draw_feather,
}  # fmt: skip

TARGETS = ("ants", "bees")  # problem 1's classes, never used to train the built-in weights
PRETRAINING = tuple(sorted(CREATURES.keys() - set(TARGETS)))  # the 25 classes of `data.drawn.pretrain`


def draw_photo(kind, rng, size=160, half_length=(0.16, 0.42), off_center=0.25, litter=20):
    """A `size` x `size` RGB image of one (sometimes two) of `kind`, in any direction, on a cluttered ground.

    half_length: bounds of half the creature's length; off_center: bound of its offset from the middle; both as shares
    of the side. litter: maximum number of things on the ground; a second creature needs a litter above 10.
    """
    large = size * OVERSAMPLE
    image = background(rng, large, litter)
    for _ in range(1 + (rng.random() < 0.15 * (litter > 10))):
        layer = Image.new("RGBA", image.size)
        place = (0.5 + rng.uniform(-off_center, off_center, 2)) * large
        pen = Pen(layer, place, large * rng.uniform(*half_length), rng.uniform(0, 2 * np.pi))
        CREATURES[kind](pen, rng, kind)
        put(image, layer, rng)
    clutter(rng, image, int(rng.integers(1 + litter // 5)))  # in front of it
    return photograph(rng, image, size)
