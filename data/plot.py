"""Figures: in one style, drawn without a screen, saved whole or not at all."""

import io
import math

from data.files import write_bytes
from data.tensors import quiet

# Okabe & Ito: distinct to colour-blind eyes
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def new_figure(width, height):
    """A matplotlib figure of that many inches, drawn without a screen, in the project's style."""
    import matplotlib.figure  # only here: it takes half a second, and wrong input needs no figure

    matplotlib.rcParams.update(
        {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3,
         "axes.prop_cycle": matplotlib.cycler(color=COLORS), "figure.facecolor": "white", "axes.axisbelow": True,
         "text.parse_math": False}
    )  # fmt: skip
    return matplotlib.figure.Figure(figsize=(width, height), layout="constrained")


def learning_curves(histories, panels, title, height=4.5):
    """A panel a measure, side by side, by epoch; a colour for each of several trainings.

    histories: {what was trained: {key: a list of one number an epoch}}. panels: of each the label of its y axis, a
    factor, and {key: (line style, label)}, whose lines it shows.
    Returns the figure and its axes, without a legend.
    """
    figure = new_figure(5 * len(panels), height)
    figure.suptitle(title, wrap=True)
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


def picture_grid(images, captions, title, below=False):
    """Pictures, four a row, each with its caption (text, marked) above or below; marked ones have a frame."""
    columns = min(4, len(images))
    rows = math.ceil(len(images) / columns)
    lines = max(text.count("\n") + 1 for text, _ in captions)
    figure = new_figure(2.4 * max(columns, 2), (2.4 + 0.175 * lines) * rows + 0.4)
    figure.suptitle(title, wrap=True)
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


def save_figure(figure, path):
    """Writes a matplotlib figure as a PNG, whole or not at all."""
    buffer = io.BytesIO()
    with quiet():  # of a letter that the font lacks: it is drawn as a box
        figure.set_dpi(150)
        figure.draw_without_rendering()  # one layout is not enough for labels below pictures: they would be cut off
        figure.savefig(buffer, format="png", dpi=150)
    write_bytes(path, buffer.getbuffer())
