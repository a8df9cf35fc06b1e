"""Drawn textures: what the built-in SqueezeNet learns beside things.

A pattern fills a plane of coordinates u, v in cells: it returns how much of a cell's colour covers the ground, 0..1,
and a number for each cell, which chooses its colour. A scatter draws many small marks with a pen instead.
"""

import numpy as np
from PIL import Image, ImageFilter

from data.drawn.canvas import OVERSAMPLE, Pen, oval_points, shade, smooth_noise, vary

DIRECTIONS, SCALES = 8, 4  # classes of the angle, modulo 180 degrees, and of the width of a cell
WIDTHS = 6.0, 40.0  # bounds of a cell's width in pixels


def wave(x):
    return 0.5 + 0.5 * np.sin(2 * np.pi * x)


def number(*parts):
    """A number for each cell that looks random: a hash of its whole coordinates."""
    return sum((np.floor(part).astype(int) + 50) * prime for part, prime in zip(parts, (7919, 104729), strict=False))


def noise(rng, shape, cells):
    return smooth_noise(rng, shape[0], max(1, int(cells)))


def stones(rng, u, v, jitter):
    """Distances of each point to the nearest of jittered middles and to the next one, and the nearest one's number."""
    first, second, own = np.full(u.shape, np.inf), np.full(u.shape, np.inf), np.zeros(u.shape, int)
    seeds = rng.uniform(0, 1, (2, 4096))
    for du, dv in np.ndindex(3, 3):
        a, b = np.floor(u) + du - 1, np.floor(v) + dv - 1
        cell = number(a, b)
        x, y = (0.5 + jitter * (seeds[k][cell % 4096] - 0.5) for k in (0, 1))
        far = np.hypot(u - a - x, v - b - y)
        own = np.where(far < first, cell, own)
        first, second = np.minimum(first, far), np.minimum(second, np.maximum(first, far))
    return first, second, own


def mosaic(rng, u, v):
    first, second, own = stones(rng, u, v, rng.uniform(0, 0.9))
    return second - first > rng.uniform(0.05, 0.25), own


def facets(rng, u, v):
    first, _, own = stones(rng, u, v, 0.9)
    return (1 - first * rng.uniform(0, 0.8)).clip(0, 1), own


def cracks(rng, u, v):
    first, second, _ = stones(rng, u, v, 0.95)
    return second - first < rng.uniform(0.05, 0.12), number(u * 0)


def pebbles(rng, u, v):
    first, _, own = stones(rng, u, v, 0.7)
    return ((rng.uniform(0.3, 0.45) - first) * 12).clip(0, 1), own


def bricks(rng, u, v):
    u = u / 2 + np.floor(v) % 2 / 2
    joint = rng.uniform(0.04, 0.12)
    return (u % 1 > joint / 2) & (v % 1 > joint), number(u, v)


def weave(rng, u, v):
    over = (np.floor(u) + np.floor(v)) % 2 == 0
    along, across = np.where(over, u, v), np.where(over, v, u)
    return np.sin(np.pi * (across % 1)) * (0.6 + 0.4 * np.sin(np.pi * (along % 1))), over + 2 * number(across * 0)


def scales(rng, u, v):
    row = np.floor(2 * v)
    x = u + row % 2 / 2
    far = np.hypot(x % 1 - 0.5, (2 * v % 1) / 2)
    return (1 - 1.6 * far).clip(0, 1), number(x, row)


def zigzag(rng, u, v):
    x = u + rng.uniform(0.4, 1.2) * np.abs(v / 2 % 1 - 0.5)
    return x % 1 < rng.uniform(0.3, 0.7), number(x)


def rings(rng, u, v):
    far = np.hypot(u % 3 - 1.5, v % 3 - 1.5) * rng.uniform(1, 2)
    return far % 1 < rng.uniform(0.3, 0.7), number(far)


def ripples(rng, u, v):
    far = np.hypot(u - rng.uniform(-4, 4), v - rng.uniform(-4, 4))
    return wave(far), number(far)


def spiral(rng, u, v):
    x, y = u - rng.uniform(-2, 2), v - rng.uniform(-2, 2)
    turn = np.hypot(x, y) + rng.integers(1, 5) * np.arctan2(y, x) / (2 * np.pi)
    return wave(turn), number(turn)


def spokes(rng, u, v):
    turn = np.arctan2(v - rng.uniform(-1, 1), u - rng.uniform(-1, 1)) * rng.integers(5, 20) / (2 * np.pi)
    return turn % 1 < 0.5, number(turn)


def swirls(rng, u, v):
    a, b = (noise(rng, u.shape, np.ptp(u) / 3) for _ in range(2))
    x = u + rng.uniform(1.5, 4) * a + 0 * b
    return wave(x), number(x)


def fur(rng, u, v):
    """Noise, drawn out along v: hair, wood, brushed metal, and with a warped plane a stream."""
    cells = rng.random((256, 256))
    length = rng.uniform(4, 14)
    a, b = np.floor(2 * u).astype(int) % 256, np.floor(v / length * 2).astype(int) % 256
    return cells[a, b], number(2 * u, v / length)


def clouds(rng, u, v):
    wide = np.ptp(u)
    field = sum(noise(rng, u.shape, wide * 2**k / 2) / 2**k for k in range(4)) / 1.875
    return ((field - 0.5) * 2.5 + 0.5).clip(0, 1), number(u * 0)


def blots(rng, u, v):
    field = noise(rng, u.shape, np.ptp(u))
    return ((field - rng.uniform(0.45, 0.6)) * 20).clip(0, 1), number(noise(rng, u.shape, np.ptp(u) / 4) * 4)


def contours(rng, u, v):
    field = noise(rng, u.shape, np.ptp(u) / 3) * 6
    return field % 1 < rng.uniform(0.2, 0.6), number(field)


def grain(rng, u, v):
    side = max(8, int(np.ptp(u) * 2))
    cells = rng.random((side, side))
    image = Image.fromarray((cells * 255).astype(np.uint8)).resize(u.shape, Image.Resampling.NEAREST)
    return np.asarray(image) / 255, number(u * 0)


def plaid(rng, u, v):
    w = rng.uniform(0.2, 0.6, 4)
    cover = (u % 1 < w[0]) * 0.5 + (v % 1 < w[1]) * 0.35 + (u * 2 % 1 < w[2] / 3) * 0.15
    return cover, number(u * 0)


PATTERNS = {
    "waves": lambda rng, u, v: (wave(u), number(u)),
    "stripes": lambda rng, u, v: (u % 1 < rng.uniform(0.2, 0.8), number(u)),
    "checks": lambda rng, u, v: ((np.floor(u) + np.floor(v)) % 2, number(u, v)),
    "tiles": lambda rng, u, v: ((u % 1 > 0.1) & (v % 1 > 0.1), number(u, v)),
    "grid": lambda rng, u, v: ((u % 1 < 0.12) | (v % 1 < 0.12), number(u * 0)),
    "dots": lambda rng, u, v: (np.hypot(u % 1 - 0.5, v % 1 - 0.5) < rng.uniform(0.2, 0.42), number(u, v)),
    "eggs": lambda rng, u, v: (wave(u) * wave(v), number(u + 0.25, v + 0.25)),
    "diamonds": lambda rng, u, v: (np.abs(u % 1 - 0.5) + np.abs(v % 1 - 0.5) < 0.45, number(u, v)),
    "plus": lambda rng, u, v: (np.minimum(abs(u % 1 - 0.5), abs(v % 1 - 0.5)) + 0.4 * np.maximum(
        abs(u % 1 - 0.5), abs(v % 1 - 0.5)) < 0.2, number(u, v)),
    "triangles": lambda rng, u, v: (u % 1 > v % 1, number(u, v)),
    "mosaic": mosaic, "facets": facets, "cracks": cracks, "pebbles": pebbles, "bricks": bricks, "weave": weave,
    "scales": scales, "zigzag": zigzag, "rings": rings, "ripples": ripples, "spiral": spiral, "spokes": spokes,
    "swirls": swirls, "fur": fur, "clouds": clouds, "blots": blots, "contours": contours, "grain": grain,
    "plaid": plaid,
}  # fmt: skip


def ridge(pen, rng, color):
    """A stroke of a stiff brush: bristles, light and dark."""
    for across in np.linspace(-0.3, 0.3, 4):
        pen.line([(-0.9, across), (0, across + rng.uniform(-0.1, 0.1)), (0.9, across)], 0.2, shade(color, rng.uniform(0.75, 1.25)))


def outlined(pen, rng, color):
    points = oval_points(0, 0, 0.35, 0.7, np.pi / 2)
    pen.polygon(points * 1.25, shade(color, 0.3))
    pen.polygon(points, color)


def shard(pen, rng, color):
    pen.polygon(rng.uniform(-0.8, 0.8, (3, 2)), color)


def glyph(pen, rng, color):
    pen.line(rng.uniform(-0.5, 0.5, (4, 2)), 0.14, color)


MARKS = {
    "brush": ridge, "seeds": outlined, "shards": shard, "glyphs": glyph,
    "hatching": lambda pen, rng, color: pen.line([(-1.2, 0), (1.2, rng.uniform(-0.1, 0.1))], 0.14, color),
    "petals": lambda pen, rng, color: pen.oval(0, 0, 0.7, 0.3, color),
    "bubbles": lambda pen, rng, color: pen.line(oval_points(0, 0, 0.6, 0.6), 0.15, color),
    "confetti": lambda pen, rng, color: pen.polygon([(-0.5, -0.25), (0.5, -0.25), (0.5, 0.25), (-0.5, 0.25)], color),
    "crosshatch": lambda pen, rng, color: [pen.line(p, 0.1, color) for p in ([(-1, 0), (1, 0)], [(0, -1), (0, 1)])],
    "streams": None,
}  # fmt: skip
TEXTURES = (*PATTERNS, *MARKS)
ROUND = ("pebbles", "facets", "cracks", "clouds", "blots", "contours", "grain", "ripples", "spiral", "spokes",
         "rings", "swirls", "mosaic", "shards", "glyphs", "bubbles")  # without a direction  # fmt: skip


def palette(rng):
    """Five colours, often akin, of any tone."""
    base, spread = rng.uniform(20, 235, 3), rng.choice((70, 130, 220))
    return [tuple(int(c) for c in (base + rng.uniform(-spread, spread, 3)).clip(0, 255)) for _ in range(5)]


def scatter(rng, mark, size, angle, width, colors):
    """A ground, covered with marks whose direction bends slowly around `angle`, or with long lines along it."""
    image = Image.new("RGB", (size, size), colors[0])
    turn, bend = smooth_noise(rng, size, int(rng.integers(1, 5))), rng.uniform(0, 3)
    hue = smooth_noise(rng, size, 6)
    heading = lambda x, y: angle + bend * (turn[int(np.clip(y, 0, size - 1)), int(np.clip(x, 0, size - 1))] - 0.5)
    count = int(min(2500, rng.uniform(0.6, 2.5) * (size / width) ** 2))
    for x, y in rng.uniform(0, size, (count if mark else count // 3, 2)):
        mix = hue[int(y), int(x)] * 5 + rng.normal(0, 0.6)
        color = vary(rng, colors[1 + int(mix) % 4], 8)
        if mark:
            mark(Pen(image, (x, y), width * rng.uniform(0.7, 1.2), heading(x, y) + rng.normal(0, 0.12)), rng, color)
            continue
        path = [(x, y)]
        for _ in range(14):
            a = heading(*path[-1])
            path.append((path[-1][0] + 0.6 * width * np.cos(a), path[-1][1] + 0.6 * width * np.sin(a)))
        pen = Pen(image, (0, 0), 1, 0)
        pen.line(path, 0.55 * width, shade(color, 0.35))
        pen.line(path, 0.35 * width, color)
    return image


def draw_texture(name, rng, size):
    """A picture of `size` x `size` pixels of TEXTURES[name], its direction and its scale (classes; -1 for none)."""
    large = size * OVERSAMPLE
    angle, part = rng.uniform(0, np.pi), rng.random()
    width = WIDTHS[0] * (WIDTHS[1] / WIDTHS[0]) ** part * OVERSAMPLE
    colors = palette(rng)
    if name in PATTERNS:
        y, x = np.indices((large, large)) - large * rng.uniform(0.3, 0.7)
        u, v = (np.cos(angle) * x + np.sin(angle) * y) / width, (np.cos(angle) * y - np.sin(angle) * x) / width
        if rng.random() < 0.5:
            strength, cells = rng.uniform(0, 1.5), int(rng.integers(1, 6))
            u, v = (w + strength * (smooth_noise(rng, large, cells) - 0.5) * 2 for w in (u, v))
        cover, cell = PATTERNS[name](rng, u, v)
        cover = np.asarray(cover, np.float32)[..., None]
        image = np.array(colors[1:])[cell % rng.integers(1, 5)] * cover + np.array(colors[0]) * (1 - cover)
        image = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    else:
        image = scatter(rng, MARKS[name], large, angle, width, colors)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 3)))
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32)
    pixels = pixels + rng.normal(0, 8 * rng.random() ** 2, pixels.shape)
    direction = -1 if name in ROUND else int(angle / np.pi * DIRECTIONS) % DIRECTIONS
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), direction, int(part * SCALES)
