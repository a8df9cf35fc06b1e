"""Figures in one style, drawn without a screen, independent of the user's matplotlib settings."""

import io
import re
import textwrap
import warnings

import matplotlib.figure
from matplotlib import font_manager

from common.cli import shown, write_bytes

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito: safe for color blindness
STYLE = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.3,
    "axes.prop_cycle": matplotlib.cycler(color=COLORS), "text.parse_math": False, "figure.dpi": 150,
}  # fmt: skip


def new_figure(width, height, title):
    """A matplotlib figure of `width` x `height` inches in the project's style, with a title that fits its width."""
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)
    figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
    title = re.sub(", SHA-256 [0-9a-f]+", "", title)  # of a weights or word vector file
    lines = [part for line in title.split("\n") for part in textwrap.wrap(line, int(16 * width))]
    figure.suptitle("\n".join(lines), fontsize=min(12, 112 * width / max(map(len, [" ", *lines]))))
    return figure


def learning_curves(histories, panels, title):
    """Learning curves by epoch: one row per metric and one column per model; each row shares its y axis.

    histories: {model name: {key: a list with one number per epoch}}. panels: the rows, each with a y label, a factor,
    and the lines {key: (matplotlib's color and line style, label)}.
    """
    figure = new_figure(max(8, 2.2 * len(histories)), 1.2 + 2.4 * len(panels), title)
    grid = figure.subplots(len(panels), len(histories), sharex=True, sharey="row", squeeze=False)
    legend = {}
    for row, (label, factor, lines) in zip(grid, panels, strict=True):
        for axes, (name, history) in zip(row, histories.items(), strict=True):
            for key, (style, which) in lines.items():
                values = [factor * value for value in history[key]]
                [legend[which]] = axes.plot(range(1, len(values) + 1), values, style, marker="o", markersize=3)
            axes.set(title=name, xlabel="epoch", ylabel=label)
            axes.label_outer()
    grid[0, 0].xaxis.get_major_locator().set_params(integer=True)  # for all axes: they share x
    figure.legend(legend.values(), legend, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def picture_grid(images, captions, title, columns=4):
    """A grid of pictures, each below its caption (text, marked); marked pictures have a frame."""
    columns = min(columns, len(images))
    rows = (len(images) - 1) // columns + 1
    figure, lines = new_figure(2.4 * max(columns, 2), 1, title), 0
    for k, (image, (text, marked)) in enumerate(zip(images, captions, strict=True)):
        axes = figure.add_subplot(rows, columns, k + 1, xticks=[], yticks=[])
        axes.imshow(image)
        text = "\n".join(textwrap.fill(shown(line), 34) for line in text.split("\n"))
        lines = max(lines, text.count("\n") + 1)
        axes.set_title(text, fontsize=8, color=COLORS[1] if marked else "black", weight="bold" if marked else "normal")
        axes.spines[:].set(visible=marked, color=COLORS[1], linewidth=4)
    tallest = min(1, max(axes.get_data_ratio() for axes in figure.axes))  # height / width
    figure.set_figheight((2.4 * tallest + 0.14 * lines + 0.1) * rows + 0.6)
    return figure


def drawable(names):
    """The names, cut to 30 characters. If the font lacks a letter: "class 1" and so on, and prints what they mean."""
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
        warnings.simplefilter("ignore")  # about letters that the font lacks
        figure.draw_without_rendering()  # a second layout, or long captions cover the title
        figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getbuffer())
