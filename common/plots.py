"""Figures in one style, drawn without a screen, independent of the user's matplotlib settings."""

import io
import re
import textwrap
import warnings

import matplotlib.figure
from matplotlib import font_manager

from common.cli import shown, write_bytes

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe & Ito: distinct to all eyes
STYLE = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.3,
    "axes.prop_cycle": matplotlib.cycler(color=COLORS), "text.parse_math": False, "figure.dpi": 150,
}  # fmt: skip


def new_figure(width, height, title):
    """A matplotlib figure of that many inches with a title that fits its width, in the project's style."""
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)
    figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
    title = re.sub(", SHA-256 [0-9a-f]+", "", title)  # of a file of weights or word vectors
    lines = [part for line in title.split("\n") for part in textwrap.wrap(line, int(16 * width))]
    figure.suptitle("\n".join(lines), fontsize=min(12, 112 * width / max(map(len, [" ", *lines]))))
    return figure


def learning_curves(histories, panels, title):
    """A row for each measure and a column for each training, by epoch; the columns share the scale of a row.

    histories: {what was trained: {key: a list of one number an epoch}}. panels: the rows, each a label of the y axis, a
    factor, and {key: (matplotlib's color and line style, label)}, its lines.
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
    grid[0, 0].xaxis.get_major_locator().set_params(integer=True)  # of all: they share the x axis
    figure.legend(legend.values(), legend, loc="outside lower center", ncols=4, fontsize=9)
    return figure


def picture_grid(images, captions, title, columns=4):
    """Pictures in rows, each below its caption (text, marked); marked ones have a frame."""
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
        figure.draw_without_rendering()  # one layout is not enough: long captions would cover the title
        figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getbuffer())
