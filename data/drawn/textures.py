"""Drawn textures: what the built-in SqueezeNet learns beside things.

A pattern fills a plane of coordinates u, v, (H, W) each, in cells: it returns how much of a cell's color covers the
ground, 0..1, and a number for each cell, which chooses its color. Marks are drawn with a pen, many to a picture.
"""

import numpy as np
from PIL import Image, ImageFilter

from data.drawn.canvas import OVERSAMPLE, Pen, oval_points, shade, smooth_noise, vary

DIRECTIONS, SCALES = 8, 4  # classes of the angle, modulo 180 degrees, and of the width of a cell


def wave(x):
    return 0.5 + 0.5 * np.sin(2 * np.pi * x)


def number(u, v=-50):
    """A number for each cell that looks random: a hash of the whole parts of its coordinates."""
    return (np.floor(u).astype(int) + 50) * 7919 + (np.floor(v).astype(int) + 50) * 104729


ONE = number(0)  # of a pattern whose cells all have one color


def off(u):
    """The distance from the middle of the cell, 0 to 0.5."""
    return abs(u % 1 - 0.5)


def noise(rng, u, width):
    """A field of soft blotches in 0..1, about `width` cells wide each, of the shape of u."""
    return smooth_noise(rng, len(u), max(1, int(np.ptp(u) / width)))


def stones(rng, u, v, jitter, cover):
    """A pattern of the cells around jittered middles. cover: of the distances to the nearest and the next middle."""
    du, dv = np.indices((3, 3)).reshape(2, 9, 1, 1) - 1
    a, b = np.floor(u) + du, np.floor(v) + dv  # (9, H, W)
    cells = number(a, b)
    x, y = 0.5 + jitter * (rng.random((2, 4096))[:, cells % 4096] - 0.5)
    far = np.hypot(u - a - x, v - b - y)
    nearest = np.take_along_axis(cells, far.argmin(0)[None], 0)[0]
    return cover(*np.partition(far, 1, 0)[:2]), nearest


def bands(x, share):
    return x % 1 < share, number(x)


def waves(x):
    return wave(x), number(x)


def bricks(rng, u, v):
    u = u / 2 + np.floor(v) % 2 / 2
    joint = rng.uniform(0.04, 0.12)
    return (u % 1 > joint / 2) & (v % 1 > joint), number(u, v)


def weave(rng, u, v):
    over = (np.floor(u) + np.floor(v)) % 2 == 0
    along, across = np.where(over, u, v), np.where(over, v, u)
    return np.sin(np.pi * (across % 1)) * (0.6 + 0.4 * np.sin(np.pi * (along % 1))), over + 2 * ONE


def scales(rng, u, v):
    row = np.floor(2 * v)
    x = u + row % 2 / 2
    return (1 - 1.6 * np.hypot(off(x), (2 * v % 1) / 2)).clip(0, 1), number(x, row)


def spiral(rng, u, v):
    x, y = u - rng.uniform(-2, 2), v - rng.uniform(-2, 2)
    return waves(np.hypot(x, y) + rng.integers(1, 5) * np.arctan2(y, x) / (2 * np.pi))


def swirls(rng, u, v):
    bend = noise(rng, u, 3)
    noise(rng, u, 3)  # unused: later random numbers, and so the built-in weights, depend on it
    return waves(u + rng.uniform(1.5, 4) * bend)


def fur(rng, u, v):
    """Noise, drawn out along v: hair, wood, brushed metal, and with a warped plane a stream."""
    cells, length = rng.random((256, 256)), rng.uniform(4, 14)
    a, b = np.floor(2 * u).astype(int) % 256, np.floor(v / length * 2).astype(int) % 256
    return cells[a, b], number(2 * u, v / length)


def clouds(rng, u, v):
    field = sum(noise(rng, u, 2 / 2**k) / 2**k for k in range(4)) / 1.875
    return ((field - 0.5) * 2.5 + 0.5).clip(0, 1), ONE


def grain(rng, u, v):
    side = max(8, int(np.ptp(u) * 2))
    image = Image.fromarray((rng.random((side, side)) * 255).astype(np.uint8))
    return np.asarray(image.resize(u.shape, Image.Resampling.NEAREST)) / 255, ONE


def plaid(rng, u, v):
    a, b, c, _ = rng.uniform(0.2, 0.6, 4)
    return (u % 1 < a) * 0.5 + (v % 1 < b) * 0.35 + (u * 2 % 1 < c / 3) * 0.15, ONE


PATTERNS = {
    "waves": lambda rng, u, v: waves(u),
    "stripes": lambda rng, u, v: bands(u, rng.uniform(0.2, 0.8)),
    "checks": lambda rng, u, v: ((np.floor(u) + np.floor(v)) % 2, number(u, v)),
    "tiles": lambda rng, u, v: ((u % 1 > 0.1) & (v % 1 > 0.1), number(u, v)),
    "grid": lambda rng, u, v: ((u % 1 < 0.12) | (v % 1 < 0.12), ONE),
    "dots": lambda rng, u, v: (np.hypot(off(u), off(v)) < rng.uniform(0.2, 0.42), number(u, v)),
    "eggs": lambda rng, u, v: (wave(u) * wave(v), number(u + 0.25, v + 0.25)),
    "diamonds": lambda rng, u, v: (off(u) + off(v) < 0.45, number(u, v)),
    "plus": lambda rng, u, v: (np.minimum(off(u), off(v)) + 0.4 * np.maximum(off(u), off(v)) < 0.2, number(u, v)),
    "triangles": lambda rng, u, v: (u % 1 > v % 1, number(u, v)),
    "mosaic": lambda rng, u, v: stones(rng, u, v, rng.uniform(0, 0.9), lambda a, b: b - a > rng.uniform(0.05, 0.25)),
    "facets": lambda rng, u, v: stones(rng, u, v, 0.9, lambda a, b: (1 - a * rng.uniform(0, 0.8)).clip(0, 1)),
    "cracks": lambda rng, u, v: (stones(rng, u, v, 0.95, lambda a, b: b - a < rng.uniform(0.05, 0.12))[0], ONE),
    "pebbles": lambda rng, u, v: stones(rng, u, v, 0.7, lambda a, b: ((rng.uniform(0.3, 0.45) - a) * 12).clip(0, 1)),
    "bricks": bricks, "weave": weave, "scales": scales,
    "zigzag": lambda rng, u, v: bands(u + rng.uniform(0.4, 1.2) * off(v / 2), rng.uniform(0.3, 0.7)),
    "rings": lambda rng, u, v: bands(np.hypot(u % 3 - 1.5, v % 3 - 1.5) * rng.uniform(1, 2), rng.uniform(0.3, 0.7)),
    "ripples": lambda rng, u, v: waves(np.hypot(u - rng.uniform(-4, 4), v - rng.uniform(-4, 4))),
    "spiral": spiral,
    "spokes": lambda rng, u, v: bands(
        np.arctan2(v - rng.uniform(-1, 1), u - rng.uniform(-1, 1)) * rng.integers(5, 20) / (2 * np.pi), 0.5),
    "swirls": swirls, "fur": fur, "clouds": clouds,
    "blots": lambda rng, u, v: (
        ((noise(rng, u, 1) - rng.uniform(0.45, 0.6)) * 20).clip(0, 1), number(noise(rng, u, 4) * 4)),
    "contours": lambda rng, u, v: bands(noise(rng, u, 3) * 6, rng.uniform(0.2, 0.6)),
    "grain": grain, "plaid": plaid,
}  # fmt: skip


def brush(pen, rng, color):
    """A stroke of a stiff brush: bristles, light and dark."""
    for y in np.linspace(-0.3, 0.3, 4):
        bend = y + rng.uniform(-0.1, 0.1)
        pen.line([(-0.9, y), (0, bend), (0.9, y)], 0.2, shade(color, rng.uniform(0.75, 1.25)))


def seed(pen, rng, color):
    points = oval_points(0, 0, 0.35, 0.7, np.pi / 2)
    pen.polygon(points * 1.25, shade(color, 0.3))
    pen.polygon(points, color)


MARKS = {
    "brush": brush, "seeds": seed,
    "shards": lambda pen, rng, color: pen.polygon(rng.uniform(-0.8, 0.8, (3, 2)), color),
    "glyphs": lambda pen, rng, color: pen.line(rng.uniform(-0.5, 0.5, (4, 2)), 0.14, color),
    "hatching": lambda pen, rng, color: pen.line([(-1.2, 0), (1.2, rng.uniform(-0.1, 0.1))], 0.14, color),
    "petals": lambda pen, rng, color: pen.oval(0, 0, 0.7, 0.3, color),
    "bubbles": lambda pen, rng, color: pen.line(oval_points(0, 0, 0.6, 0.6), 0.15, color),
    "confetti": lambda pen, rng, color: pen.polygon([(-0.5, -0.25), (0.5, -0.25), (0.5, 0.25), (-0.5, 0.25)], color),
    "crosshatch": lambda pen, rng, color: [pen.line(p, 0.1, color) for p in ([(-1, 0), (1, 0)], [(0, -1), (0, 1)])],
}  # fmt: skip
TEXTURES = (*PATTERNS, *MARKS, "streams")
ISOTROPIC = {
    "pebbles", "facets", "cracks", "clouds", "blots", "contours", "grain", "ripples", "spiral", "spokes", "rings",
    "swirls", "mosaic", "shards", "glyphs", "bubbles",
}  # fmt: skip  # without a direction


def pave(rng, pattern, size, angle, width, colors):
    """A pattern of cells `width` pixels wide, turned by `angle`, on a plane that may be warped. RGB image."""
    y, x = np.indices((size, size)) - size * rng.uniform(0.3, 0.7)
    u, v = (np.cos(angle) * x + np.sin(angle) * y) / width, (np.cos(angle) * y - np.sin(angle) * x) / width
    if rng.random() < 0.5:
        strength, blotches = rng.uniform(0, 1.5), int(rng.integers(1, 6))
        u, v = (w + strength * (smooth_noise(rng, size, blotches) - 0.5) * 2 for w in (u, v))
    cover, cell = pattern(rng, u, v)
    cover = np.asarray(cover, np.float32)[..., None]
    image = colors[1:][cell % rng.integers(1, 5)] * cover + colors[0] * (1 - cover)
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def scatter(rng, mark, size, angle, width, colors):
    """A ground, covered with marks, or for None with long lines, whose direction bends slowly around `angle`."""
    image = Image.new("RGB", (size, size), tuple(colors[0].tolist()))
    heading = angle + (smooth_noise(rng, size, int(rng.integers(1, 5))) - 0.5) * rng.uniform(0, 3)  # at each pixel
    hue = smooth_noise(rng, size, 6)
    count = int(min(2500, rng.uniform(0.6, 2.5) * (size / width) ** 2))
    for place in rng.uniform(0, size, (count if mark else count // 3, 2)):
        x, y = place.astype(int)
        color = vary(rng, colors[1 + int(hue[y, x] * 5 + rng.normal(0, 0.6)) % 4], 8)
        if mark:
            mark(Pen(image, place, width * rng.uniform(0.7, 1.2), heading[y, x] + rng.normal(0, 0.12)), rng, color)
        else:
            stream(image, heading, place, width, color)
    return image


def stream(image, heading, place, width, color):
    """A line from `place` that follows `heading`, with dark edges."""
    path = [place]
    for _ in range(14):
        x, y = path[-1].clip(0, len(heading) - 1).astype(int)
        path.append(path[-1] + 0.6 * width * np.array([np.cos(heading[y, x]), np.sin(heading[y, x])]))
    pen = Pen(image, (0, 0), 1, 0)
    pen.line(path, 0.55 * width, shade(color, 0.35))
    pen.line(path, 0.35 * width, color)


def draw_texture(name, rng, size):
    """A picture of `size` x `size` pixels of TEXTURES[name], its direction and its scale (classes; -1 for none)."""
    angle, part = rng.uniform(0, np.pi), rng.random()
    width = 6 * (40 / 6) ** part * OVERSAMPLE  # of a cell or mark: 6 to 40 pixels
    base, spread = rng.uniform(20, 235, 3), rng.choice((70, 130, 220))
    colors = (base + rng.uniform(-spread, spread, (5, 3))).clip(0, 255).astype(int)  # the ground's, then the cells'
    draw, kind = (pave, PATTERNS[name]) if name in PATTERNS else (scatter, MARKS.get(name))
    image = draw(rng, kind, size * OVERSAMPLE, angle, width, colors)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 3)))
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32)
    pixels = pixels + rng.normal(0, 8 * rng.random() ** 2, pixels.shape)
    direction = -1 if name in ISOTROPIC else int(angle / np.pi * DIRECTIONS) % DIRECTIONS
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), direction, int(part * SCALES)
