"""Figures in one style, drawn without a screen, independent of the user's matplotlib settings."""

import io
import math
import warnings

import matplotlib
import matplotlib.figure
from matplotlib import font_manager

from common.cli import shown, write_bytes

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito: distinct to all eyes
STYLE = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.3,
    "axes.prop_cycle": matplotlib.cycler(color=COLORS), "text.parse_math": False, "figure.dpi": 150,
}  # fmt: skip


def new_figure(width, height, title):
    """A matplotlib figure of that many inches with a title, in the project's style."""
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)
    figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, wrap=True)
    return figure


def learning_curves(histories, panels, title, height=4.5):
    """A panel for each measure, side by side, by epoch; a color for each training. Returns the figure and its axes.

    histories: {what was trained: {key: a list of one number an epoch}}. panels: of each the label of its y axis, a
    factor, and {key: (line style, label)}, the lines it shows.
    """
    figure = new_figure(5 * len(panels), height, title)
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (label, factor, lines) in zip(grid, panels, strict=True):
        axes.set(xlabel="epoch", ylabel=label)
        for color, (name, history) in zip(COLORS, histories.items(), strict=False):
            for key, (style, which) in lines.items():
                values = [factor * value for value in history[key]]
                epochs = range(1, len(values) + 1)
                axes.plot(epochs, values, style, color=color, label=f"{name}, {which}", marker="o", markersize=3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure, grid


def picture_grid(images, captions, title, columns=4, below=False):
    """Pictures in rows, each with its caption (text, marked) above or below it; marked ones have a frame."""
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    lines = max(text.count("\n") + 1 for text, _ in captions)
    figure = new_figure(2.4 * max(columns, 2), (2.4 + 0.175 * lines) * rows + 0.4, title)
    for k, (image, (text, marked)) in enumerate(zip(images, captions, strict=True)):
        axes = figure.add_subplot(rows, columns, k + 1)
        axes.imshow(image)
        axes.grid(False)
        axes.set(xticks=[], yticks=[])
        color, weight = (COLORS[1], "bold") if marked else ("black", "normal")
        write = axes.set_xlabel if below else axes.set_title
        write(text, fontsize=9 - below, color=color, fontweight=weight)
        for spine in axes.spines.values():
            spine.set(visible=marked, color=COLORS[1], linewidth=4)
    return figure


def drawable(names):
    """The names, cut to 30 characters; "class 1" and so on, and a line that explains them, if the font lacks one."""
    names = [shown(name, 30) for name in names]
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    if all(font.get_char_index(ord(letter)) for letter in "".join(names)):
        return names
    numbers = [f"class {k}" for k in range(1, len(names) + 1)]
    print("in the plots:", ", ".join(f"{number} is {name}" for number, name in zip(numbers, names, strict=True)))
    return numbers


def save(figure, path):
    """Writes a matplotlib figure as a PNG."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a letter that the font lacks
        figure.draw_without_rendering()  # one layout is not enough for labels below pictures: they would be cut off
        figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getbuffer())
