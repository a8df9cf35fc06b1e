"""Drawing by code: a pen, backgrounds, light. All random numbers come from the generator `rng` that is passed in."""

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

OVERSAMPLE = 2  # pictures are drawn this much larger and then shrunk, which smooths edges


class Pen:
    """Draws on an image in units of `size` pixels; x right, y down, origin `place` (pixels), rotated by `angle` rad."""

    def __init__(self, image, place, size, angle):
        self.draw = ImageDraw.Draw(image)
        cos, sin = np.cos(angle), np.sin(angle)
        self.matrix, self.place, self.size = size * np.array([[cos, -sin], [sin, cos]]), np.asarray(place), size

    def pixels(self, points):
        return [tuple(p) for p in (np.asarray(points, float) @ self.matrix.T + self.place).tolist()]

    def polygon(self, points, color):
        self.draw.polygon(self.pixels(points), fill=color)

    def line(self, points, width, color):
        self.draw.line(self.pixels(points), fill=color, width=max(1, round(width * self.size)), joint="curve")

    def oval(self, x, y, half_width, half_length, color, turn=0.0):
        """An ellipse around (x, y), rotated by `turn` radians."""
        self.polygon(oval_points(x, y, half_width, half_length, turn), color)


def oval_points(x, y, half_width, half_length, turn=0.0, count=28):
    """`count` points on an ellipse around (x, y), (count, 2)."""
    t = np.linspace(0, 2 * np.pi, count, endpoint=False)
    across, along, cos, sin = half_width * np.cos(t), half_length * np.sin(t), np.cos(turn), np.sin(turn)
    return np.stack([x + across * cos - along * sin, y + across * sin + along * cos], 1)


def shade(color, factor):
    """An RGB(A) color made darker (factor < 1) or lighter (factor > 1)."""
    return tuple(int(np.clip(c * factor, 0, 255)) for c in color[:3]) + tuple(color[3:])


def vary(rng, color, amount=18):
    """An RGB color near `color`: each channel moves by up to `amount`, and all together by up to twice that."""
    move = rng.uniform(-amount, amount, 3) + rng.uniform(-2 * amount, 2 * amount)
    return tuple(int(np.clip(c + m, 0, 255)) for c, m in zip(color, move, strict=True))


def smooth_noise(rng, size, cells):
    """A field of soft blotches in 0..1, (size, size) float32, with `cells` blotches per side."""
    grid = (rng.random((cells + 2, cells + 2)) * 255).astype(np.uint8)
    return np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255


GROUNDS = (
    (92, 128, 58), (138, 112, 78), (168, 158, 142), (214, 206, 190), (196, 150, 160), (70, 88, 60), (190, 178, 96),
)  # fmt: skip


def background(rng, size, litter):
    """A blurred garden: blotches of two ground colors with up to `litter` blades, pebbles and petals. RGB image."""
    first, second = (np.array(vary(rng, GROUNDS[i])) for i in rng.choice(len(GROUNDS), 2, replace=False))
    mix = smooth_noise(rng, size, int(rng.integers(1, 7)))[..., None]
    mix = 0.7 * mix + 0.3 * smooth_noise(rng, size, int(rng.integers(12, 40)))[..., None]
    image = Image.fromarray((first * mix + second * (1 - mix)).clip(0, 255).astype(np.uint8))
    clutter(rng, image, int(rng.integers(litter + 1)))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2.5)))


def clutter(rng, image, count):
    """Draws `count` blades, pebbles and petals on `image`, some of them dark and shaped like a body."""
    for _ in range(count):
        color = vary(rng, GROUNDS[rng.integers(len(GROUNDS))]) if rng.random() < 0.7 else vary(rng, (60, 45, 35))
        place, size = rng.uniform(0, image.width, 2), image.width * rng.uniform(0.04, 0.3)
        pen = Pen(image, place, size, rng.uniform(0, 2 * np.pi))
        if rng.random() < 0.5:
            bend = rng.uniform(-0.5, 0.5)
            pen.line([(0, -1), (bend / 2, -0.3), (bend, 0.3), (bend * 1.5, 1)], rng.uniform(0.03, 0.14), color)
        else:
            width = rng.uniform(0.15, 0.5)
            pen.oval(0, 0, width, 0.5, color)
            pen.oval(-width / 4, -0.1, width / 2, 0.3, shade(color, rng.uniform(0.85, 1.25)))


def put(image, layer, rng):
    """Pastes an RGBA `layer` on `image` with a soft shadow from a light above it."""
    alpha = layer.getchannel("A")
    reach = image.width * 0.03
    shadow = ImageChops.offset(alpha, *(int(v) for v in rng.uniform(-reach, reach, 2)))
    shadow = shadow.filter(ImageFilter.GaussianBlur(reach / 2)).point(lambda v: int(v * 0.5))
    image.paste((20, 18, 16), mask=shadow)
    image.paste(layer.convert("RGB"), mask=alpha)


def photograph(rng, image, size):
    """Adds camera effects: uneven light, a color cast, contrast, blur, noise. Shrinks to `size` pixels."""
    image = image.resize((size, size), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
    pixels = np.asarray(image, np.float32)
    line, angle = np.linspace(-1, 1, size), rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0, 0.35) * (np.cos(angle) * line + np.sin(angle) * line[:, None])
    cast, contrast, brightness = rng.uniform(0.88, 1.12, 3), rng.uniform(0.65, 1.2), rng.uniform(-30, 30)
    noise = rng.normal(0, rng.uniform(1, 9), pixels.shape)
    pixels = (pixels * light[..., None] * cast - 128) * contrast + 128 + brightness + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
