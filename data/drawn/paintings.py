"""Problem 2's built-in pictures (RGB). side: shorter side in pixels. One unit is the picture's height; y runs down."""

import numpy as np
from PIL import Image, ImageFilter

from data.drawn.canvas import OVERSAMPLE, Pen, shade, smooth_noise, vary

SIDE = 512
WALLS = ((236, 224, 196), (226, 178, 120), (206, 132, 112), (176, 196, 208), (244, 240, 230), (214, 196, 132))
ROOFS = ((150, 70, 50), (120, 62, 52), (172, 92, 60), (98, 74, 76))
LEAVES = ((64, 100, 50), (86, 124, 56), (108, 138, 70))
JOINT, PANE = (112, 104, 94), (248, 246, 240)


def draw_town(rng, side=SIDE):
    """Gabled houses and a church on a quay in front of hills and clouds, reflected in a river. 4:3."""
    width, height = side * 4 // 3 * OVERSAMPLE, side * OVERSAMPLE
    image = sky(rng, width, height)
    pen = Pen(image, (0, 0), height, 0)
    x = np.linspace(0, 4 / 3, 60)
    for base, swing, color in ((0.42, 0.05, (140, 160, 166)), (0.48, 0.04, (104, 130, 104))):  # hills
        top = base - swing * np.sin(2.5 * x + rng.uniform(0, 6)) - swing / 4 * np.sin(11 * x + rng.uniform(0, 6))
        pen.polygon([*zip(x, top, strict=True), (4 / 3, 0.8), (0, 0.8)], color)
    draw_church(pen, 0.93)
    for x in np.arange(-0.05, 1.4, 0.035):  # trees between the houses and the hills
        draw_tree(pen, rng, x, 0.54, 0.045)
    left = -0.04
    while left < 4 / 3:
        left = draw_house(pen, rng, left, 0.7)
    box(pen, 0, 0.68, 1.34, 0.76, (150, 140, 124))
    for x in np.arange(0, 1.34, 0.03):  # the joints between two rows of stones
        pen.line([(x, 0.68), (x, 0.72), (x + 0.015, 0.72), (x + 0.015, 0.76)], 0.003, JOINT)
    pen.line([(0, 0.72), (1.34, 0.72)], 0.003, JOINT)
    for x in (0.14, 0.2, 1.16):
        draw_tree(pen, rng, x, 0.6, 0.07)
    image.paste(reflection(rng, image, round(0.76 * height)), (0, round(0.76 * height)))
    draw_boat(pen, 0.46, 0.87)
    image = image.resize((width // OVERSAMPLE, height // OVERSAMPLE), Image.Resampling.BOX)
    grain = rng.normal(0, 3, (image.height, image.width, 1))
    return Image.fromarray((np.asarray(image, np.float32) + grain).clip(0, 255).astype(np.uint8))


def box(pen, left, top, right, bottom, color):
    pen.polygon([(left, bottom), (left, top), (right, top), (right, bottom)], color)


def sky(rng, width, height):
    """A sky with clouds, blue at the top and pale at the horizon."""
    down = np.linspace(0, 1, height)[:, None, None]
    blue = np.array((92, 148, 212)) * (1 - down) + np.array((232, 230, 220)) * down
    clouds = sum(smooth_noise(rng, width, cells) / k for k, cells in ((1.6, 4), (4, 9), (8, 22)))[:height, :, None]
    cover = ((clouds - 0.52) * 5).clip(0, 1)
    return Image.fromarray((blue * (1 - cover) + np.array((250, 248, 244)) * cover).astype(np.uint8))


def draw_church(pen, x):
    box(pen, x - 0.05, 0.3, x + 0.05, 0.6, (222, 208, 176))
    box(pen, x + 0.01, 0.3, x + 0.05, 0.6, (186, 170, 142))
    pen.polygon([(x - 0.065, 0.3), (x, 0.06), (x + 0.065, 0.3)], (88, 104, 104))
    pen.polygon([(x, 0.06), (x + 0.065, 0.3), (x + 0.01, 0.3)], (64, 78, 80))
    pen.oval(x - 0.005, 0.36, 0.022, 0.022, (250, 244, 220))
    for tip in ((x - 0.005, 0.345), (x + 0.007, 0.365)):
        pen.line([(x - 0.005, 0.36), tip], 0.004, (30, 30, 30))
    for dx in (-0.03, 0.0, 0.03):
        box(pen, x + dx - 0.007, 0.42, x + dx + 0.007, 0.47, (60, 56, 60))


def draw_tree(pen, rng, x, y, size):
    """A treetop of many small ovals, lit from the left."""
    for _ in range(45):
        dx, dy = rng.normal(0, 0.45, 2).clip(-1, 1) * size
        color = shade(vary(rng, LEAVES[rng.integers(len(LEAVES))], 8), 1.05 - 0.5 * dx / size)
        pen.oval(x + dx, y + dy, size * 0.22, size * 0.18, color, rng.uniform(0, 3))


def draw_house(pen, rng, left, ground):
    """A wall with windows and a door, with a gable or a long roof. Returns its right edge."""
    right, wall = left + rng.uniform(0.1, 0.17), rng.uniform(0.17, 0.27)
    top, width, middle = ground - wall, right - left, (left + right) / 2
    color, roof = vary(rng, WALLS[rng.integers(len(WALLS))], 8), vary(rng, ROOFS[rng.integers(len(ROOFS))], 8)
    box(pen, left, top, right, ground, color)
    if rng.random() < 0.6:
        peak = top - rng.uniform(0.08, 0.13)
        pen.polygon([(left, top), (middle, peak), (right, top)], color)
        for side in (left - 0.006, right + 0.006):
            pen.line([(side, top + 0.006), (middle, peak - 0.004)], 0.014, roof)
        draw_window(pen, middle, top - 0.02, 0.016)
    else:
        peak = top - rng.uniform(0.05, 0.09)
        pen.polygon([(left - 0.006, top), (left + 0.02, peak), (right - 0.02, peak), (right + 0.006, top)], roof)
        for y in np.linspace(peak, top, 6)[1:-1]:
            pen.line([(left, y), (right, y)], 0.003, shade(roof, 0.8))
        x = left + width * rng.uniform(0.25, 0.75)
        box(pen, x, peak - 0.03, x + 0.016, peak + 0.01, ROOFS[3])
    columns, rows = int(rng.integers(2, 5)), max(2, round(wall / 0.075))
    for row, column in np.ndindex(rows, columns):
        x, y = left + width * (column + 0.5) / columns, top + wall * (row + 0.45) / rows
        if row == rows - 1 and column == columns // 2:
            box(pen, x - 0.012, y - 0.02, x + 0.012, ground, vary(rng, (96, 66, 44)))
        else:
            draw_window(pen, x, y, 0.017)
    pen.line([(right, ground), (right, top)], 0.005, shade(color, 0.6))
    return right


def draw_window(pen, x, y, half_height):
    for grow, color in ((0.004, PANE), (0, (66, 76, 92))):
        box(pen, x - 0.011 - grow, y - half_height - grow, x + 0.011 + grow, y + half_height + grow, color)
    pen.line([(x, y - half_height), (x, y + half_height)], 0.003, PANE)


def draw_boat(pen, x, y):
    """A boat with two people, and its wake."""
    for k in (1, 2, 3):
        pen.line([(x - 0.16 - 0.03 * k, y + 0.012 * k), (x + 0.16, y + 0.02 + 0.01 * k)], 0.004, (206, 214, 210))
    bow, stern = (x - 0.17, y - 0.025), (x + 0.17, y - 0.025)
    pen.polygon([bow, stern, (x + 0.13, y + 0.02), (x - 0.13, y + 0.02)], (84, 52, 34))
    pen.line([bow, stern], 0.008, (150, 104, 66))
    for dx, coat in ((-0.06, (196, 52, 44)), (0.06, (240, 236, 226))):
        pen.oval(x + dx, y - 0.045, 0.02, 0.03, coat)
        pen.oval(x + dx, y - 0.085, 0.013, 0.015, (226, 180, 148))
    pen.line([(x + 0.1, y + 0.03), (x + 0.19, y - 0.2)], 0.005, (70, 54, 40))


def reflection(rng, image, shore):
    """The river below the row `shore`: the picture above it upside down, darker and with ripples."""
    rows = image.height - shore
    down = np.arange(rows)
    source = shore - 1 - down * 2  # seen at an angle, the river shows more than its own height
    ripple = 0.006 * image.height * np.sin(down / 5 + 2 * smooth_noise(rng, rows, 9)[:, 0]) * (0.3 + down / rows)
    columns = (np.arange(image.width) + ripple[:, None]).round().astype(int).clip(0, image.width - 1)
    mirrored = np.asarray(image, np.float32)[source.clip(0)[:, None], columns]
    return Image.fromarray((mirrored * 0.62 + np.array((34, 52, 52))).clip(0, 255).astype(np.uint8))


def draw_mosaic(rng, side=SIDE):
    """Tiles of colored stone in dark grout, in rings of gold, red, turquoise and blue around two suns."""
    stones = np.array(((232, 184, 60), (196, 50, 38), (40, 160, 150), (30, 64, 140), (242, 232, 204)), np.float32)
    cells, large = 24, side * OVERSAMPLE
    size = large / cells
    corners = np.indices((cells + 2, cells + 2)).transpose(1, 2, 0) - 1  # one extra cell on each side
    middles = (corners + rng.uniform(0.18, 0.82, corners.shape)) * size  # (y, x) of each tile
    suns = np.array(((0.36, 0.3), (0.75, 0.78))) * large
    near = np.linalg.norm(middles[:, :, None] - suns, axis=3)
    bands = (near.min(2) / (1.7 * size)).astype(int)
    colors = stones[np.where(near.argmin(2) == 0, bands, bands + 3) % 5] * rng.uniform(0.72, 1.18, (*bands.shape, 1))
    y, x = np.indices((large, large))
    row, column = (y // size).astype(int), (x // size).astype(int)
    first, second = np.full((2, large, large), np.inf)  # distances to the nearest and the second nearest tile
    own = np.zeros((large, large, 3))  # the color of the nearest tile
    for dy, dx in np.ndindex(3, 3):
        middle = middles[row + dy, column + dx]
        far = np.hypot(y - middle[..., 0], x - middle[..., 1])
        own = np.where((far < first)[..., None], colors[row + dy, column + dx], own)
        first, second = np.minimum(first, far), np.minimum(second, np.maximum(first, far))
    light = 1 + 0.25 * (first / size - 0.35)  # each stone is slightly hollow
    pixels = np.where((second - first < 0.13 * size)[..., None], (38, 30, 30), own * light[..., None])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize((side, side), Image.Resampling.BOX)


def draw_lines(rng, side=SIDE):
    """Long parallel lines that flow and curl, with dark edges: navy, blue, white and yellow."""
    large = side * OVERSAMPLE
    palette = ((22, 34, 84), (38, 78, 158), (92, 152, 206), (222, 232, 226), (244, 206, 72))
    image = Image.new("RGB", (large, large), palette[0])
    pen = Pen(image, (0, 0), large, 0)
    eyes = np.array(((0.28, 0.3, 1), (0.72, 0.52, -1), (0.35, 0.8, 1)))  # x, y, direction of rotation
    tone = smooth_noise(rng, large, 5)

    def heading(points):
        """The direction of the flow at points (K, 2): to the right, and around nearby eyes."""
        flow = np.stack([np.ones(len(points)), 0.5 * np.sin(7 * points[:, 0])], 1)
        for x, y, turn in eyes:
            away = points - (x, y)
            pull = 6 * np.exp(-((np.linalg.norm(away, axis=1, keepdims=True) / 0.15) ** 2))
            flow += pull * turn * np.stack([-away[:, 1], away[:, 0]], 1) / 0.15
        return flow / np.linalg.norm(flow, axis=1, keepdims=True)

    path = [rng.uniform(-0.05, 1.05, (1100, 2))]
    for _ in range(26):
        path.append(path[-1] + 0.009 * heading(path[-1]))
    for line in np.stack(path[::2], 1):
        column, row = (line[6].clip(0, 0.999) * large).astype(int)
        near_eye = np.exp(-((np.linalg.norm(eyes[:, :2] - line[6], axis=1).min() / 0.09) ** 2))
        level = 0.75 * tone[row, column] + 0.55 * near_eye + rng.normal(0, 0.12)
        color = vary(rng, palette[int(np.clip(level * 5 - 0.4, 0, 4))], 7)
        pen.line(line, 0.028, (14, 20, 50))
        pen.line(line, 0.019, color)
    return image.resize((side, side), Image.Resampling.BOX)


def draw_strokes(rng, side=SIDE):
    """Short thick brush strokes in orange, rose, violet and olive, in patches of one direction each."""
    large = side * OVERSAMPLE
    palette = ((238, 122, 42), (226, 84, 92), (246, 196, 96), (120, 60, 118), (132, 140, 52), (250, 224, 190))
    image = Image.new("RGB", (large, large), palette[0])
    hue, turn = smooth_noise(rng, large, 7), smooth_noise(rng, large, 4)
    for long in (0.13, 0.1, 0.07):
        for x, y in rng.uniform(0, 1, (round(2.6 / long**2), 2)):
            row, column = int(y * large), int(x * large)
            color = vary(rng, palette[int((hue[row, column] * 9 + rng.normal(0, 0.45)) % len(palette))], 10)
            pen = Pen(image, (x * large, y * large), long * large, 7 * turn[row, column] + rng.normal(0, 0.25))
            for across in np.linspace(-0.3, 0.3, 5):  # bristles: light and dark ridges of paint
                bend, ridge = rng.uniform(-0.1, 0.1), shade(color, rng.uniform(0.78, 1.22))
                ends = -1 + rng.uniform(0, 0.2), 1 - rng.uniform(0, 0.3)
                pen.line([(ends[0], across), (0, across + bend), (ends[1], across)], 0.15, ridge)
    return image.filter(ImageFilter.UnsharpMask(3, 60)).resize((side, side), Image.Resampling.BOX)
