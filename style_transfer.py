"""Problem 2: style transfer. Paints a picture in the style of another one.

python style_transfer.py                                # the handout's three pictures
python style_transfer.py --content FILE --style FILE    # your own picture in your own style
python style_transfer.py --content FILE                 # your own picture in the handout's three styles
"""

if __name__ == "__main__":
    from common.cli import quit_on_ctrl_c

    quit_on_ctrl_c()

import copy
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import functional
from tqdm import tqdm

from common import cli, plots
from common import run as runs
from common.cli import UserError, shown
from data import fingerprint, sha256, styles, weights
from data.images import open_photo

ARCH = "squeezenet1_1"
PRESETS = {
    "composition_vii": {
        "image_size": 192, "style_size": 512, "content_layer": 3, "content_weight": 5e-2,
        "style_layers": [1, 4, 6, 7], "style_weights": [20000.0, 500.0, 12.0, 1.0], "tv_weight": 5e-2,
    },
    "the_scream": {
        "image_size": 192, "style_size": 224, "content_layer": 3, "content_weight": 3e-2,
        "style_layers": [1, 4, 6, 7], "style_weights": [200000.0, 800.0, 12.0, 1.0], "tv_weight": 2e-2,
    },
    "starry_night": {
        "image_size": 192, "style_size": 192, "content_layer": 3, "content_weight": 6e-2,
        "style_layers": [1, 4, 6, 7], "style_weights": [300000.0, 1000.0, 15.0, 3.0], "tv_weight": 2e-2,
    },
}  # fmt: skip
STEPS, QUICK_STEPS, QUICK_SIZE = 200, 60, 96
FAST, SLOW = 3.0, 0.1  # learning rates
LIMIT = 1.5  # of normalized pixels
SAVE_EVERY = 20  # steps between checkpoints
TERMS = ("content", "style", "tv")
OWN_PRESET = "the_scream"  # whose numbers a style of one's own gets
MOST_PIXELS = 2**24  # of a picture: that many take about 20 GB


# ---- the losses


def content_loss(content_weight, content_current, content_original):
    """Lc = wc · Σ_{c,i,j} (F_cij - P_cij)²: the distance of the picture's features from the content's.

    content_weight: wc. content_current, content_original: F and P, features of one layer, both (N, C, H, W).
    Returns a scalar tensor.
    """
    return content_weight * (content_current - content_original).square().sum()


class Gram(torch.autograd.Function):
    """G = F Fᵀ of F (N, C, K), with the gradient dF = (dG + dGᵀ) F in one product, of which autograd makes two."""

    @staticmethod
    def forward(ctx, F):
        ctx.save_for_backward(F)
        return torch.bmm(F, F.mT)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dG):
        (F,) = ctx.saved_tensors
        dF = torch.empty_like(F)  # with F's strides, channels-last or not
        return torch.bmm(dG + dG.mT, F, out=dF)


def gram_matrix(features, normalize=True):
    """G_ij = Σ_k F_ik F_jk: how often channels i and j are active at the same places k.

    features: F, (N, C, H, W). normalize: divide by H·W·C. Returns G, (N, C, C).
    """
    gram = Gram.apply(features.flatten(2))
    return gram / features[0].numel() if normalize else gram


def style_loss(feats, style_layers, style_targets, style_weights):
    """Ls = Σ_l ws_l · Σ_{i,j} (G_lij - A_lij)²: the distance of the Gram matrices from the style's.

    feats: the features of every layer, from `extract_features`. style_layers: the layers l that count. style_targets:
    for each of them A_l, the style's normalized Gram matrix, (1, C_l, C_l). style_weights: for each of them ws_l.
    Returns a scalar tensor.
    """
    loss = feats[0].new_zeros(())
    for layer, target, weight in zip(style_layers, style_targets, style_weights, strict=True):
        loss = loss + weight * (gram_matrix(feats[layer]) - target).square().sum()
    return loss


def total_variation_loss(img, tv_weight):
    """Ltv = wtv · Σ_c ( Σ_{i,j} (x_{c,i,j+1} - x_cij)² + Σ_{i,j} (x_{c,i+1,j} - x_cij)² ), the roughness.

    img: x, (N, 3, H, W). tv_weight: wtv. Returns a scalar tensor.
    """
    across = img[:, :, :, 1:] - img[:, :, :, :-1]
    down = img[:, :, 1:, :] - img[:, :, :-1, :]
    return tv_weight * (across.square().sum() + down.square().sum())


# ---- the network


def feature_layers(network, last):
    """Modules 0 to `last` of a SqueezeNet's `features`, frozen and channels-last, without in-place ReLUs."""
    layers = nn.Sequential(*(nn.ReLU() if isinstance(m, nn.ReLU) else m for m in network.features[: last + 1]))
    return layers.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def extract_features(x, layers):
    """The output of each of `layers` for a batch of normalized images x, (N, 3, H, W), in order."""
    feats = []
    for layer in layers:
        x = layer(x)
        feats.append(x)
    return feats


def make_losses(layers, content, style, content_layer, content_weight, style_layers, style_weights, tv_weight):
    """A function of an image (N, 3, H, W) that returns its three losses, a dict of scalar tensors.

    layers: `feature_layers`. content, style: normalized images, whose targets are computed here, once.
    """
    with torch.no_grad():
        content_target = extract_features(content, layers)[content_layer]
        feats = extract_features(style, layers)
        style_targets = [gram_matrix(feats[layer]) for layer in style_layers]

    def losses(image):
        feats = extract_features(image, layers)
        return {
            "content": content_loss(content_weight, feats[content_layer], content_target),
            "style": style_loss(feats, style_layers, style_targets, style_weights),
            "tv": total_variation_loss(image, tv_weight),
        }

    return losses


# ---- pictures and tensors


def fit_size(picture, size, flag):
    """(width, height) of a picture resized to a shorter side of `size` pixels. UserError, naming `flag`: too large."""
    short, long = sorted(picture.size)
    long = int(size * long / short)
    if size * long > MOST_PIXELS:
        raise UserError(f"{flag} {size}: gives {size} x {long} pixels, more than {MOST_PIXELS:,}; give a smaller size")
    return (size, long) if picture.width <= picture.height else (long, size)


def to_image(picture, size):
    """A picture, resized to (width, height) `size`, as a normalized image (1, 3, H, W), channels-last float32."""
    pixels = functional.to_tensor(functional.resize(picture, size[::-1]))
    return functional.normalize(pixels, weights.MEAN, weights.STD)[None].to(memory_format=torch.channels_last)


def to_picture(image):
    """A normalized image (1, 3, H, W) as an RGB picture."""
    image = image.detach().cpu()[0]
    pixels = image * torch.tensor(weights.STD).view(3, 1, 1) + torch.tensor(weights.MEAN).view(3, 1, 1)
    return Image.fromarray((255 * pixels).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def keep_colors(picture, content):
    """`picture` in the colours of `content`: its luminance with the chrominance of `content` (Gatys et al. 2016)."""
    luminance = picture.convert("YCbCr").getchannel(0)
    _, blue, red = content.resize(picture.size, Image.Resampling.BILINEAR).convert("YCbCr").split()
    return Image.merge("YCbCr", (luminance, blue, red)).convert("RGB")


# ---- the transfer


class Canvas(nn.Module):
    """The image that is optimized, and the pictures after some of the steps, {step: uint8 (H, W, 3)}."""

    def __init__(self, image):
        super().__init__()
        self.image, self.pictures = nn.Parameter(image), {}

    def get_extra_state(self):
        return self.pictures

    def set_extra_state(self, pictures):
        self.pictures = pictures


def style_transfer(
    content_image, style_image, image_size, style_size, content_layer, content_weight, style_layers, style_weights,
    tv_weight, init_random=False, *, steps=STEPS, network=None, device="cpu", seed=0, checkpoint=None, label="painting",
):  # fmt: skip
    """Minimizes content_loss + style_loss + total_variation_loss by Adam on the pixels.

    content_image, style_image: file names or PIL images. image_size, style_size: their shorter sides in pixels.
    content_layer, style_layers: numbers of modules of SqueezeNet's `features`, 0 to 12. content_weight, style_weights,
    tv_weight: 0 or more. init_random: start from uniform noise instead of the content. steps: with the handout's 200
    the learning rate is 3.0, from step 180 on 0.1, and the normalized pixels are clamped to ±1.5 before the steps 0 to
    189; another number moves these marks in proportion. network: a SqueezeNet (default: with the weights that
    `data.weights` finds). seed, checkpoint: as in `common.run.epochs`. label: the progress bar's.

    Returns (picture, history, on_the_way): a PIL image; lists of steps + 1 losses: content, style, tv, total (and
    seconds); and {step: PIL image} after 5, 25, 50 and 90% of the steps.
    Raises UserError for a setting that does not fit the pictures or the network, and if the loss is not finite.
    """
    network = weights.load(ARCH).network() if network is None else network
    content, style = (p if isinstance(p, Image.Image) else open_photo(p) for p in (content_image, style_image))
    layers, sizes = check_setting(
        network, content, style, image_size, style_size, content_layer, style_layers, style_weights
    )  # fmt: skip
    content, style = (to_image(picture, size).to(device) for picture, size in zip((content, style), sizes, strict=True))
    losses = make_losses(
        layers.to(device), content, style, content_layer, content_weight, style_layers, style_weights, tv_weight
    )  # fmt: skip

    runs.seed_all(seed)
    start = torch.rand(content.shape).to(device) if init_random else content.clone()
    canvas, history = Canvas(start.to(memory_format=torch.channels_last)), runs.History()
    optimizer = torch.optim.Adam(canvas.parameters(), lr=FAST)
    shown_after = {max(1, round(share * steps)) for share in (0.05, 0.25, 0.5, 0.9)} - {steps}
    parts = {"canvas": canvas, "optimizer": optimizer, "history": history}
    with tqdm(total=steps, desc=label, unit="step", leave=False) as bar:
        for step in runs.epochs(steps, seed, checkpoint, SAVE_EVERY, **parts):
            started, bar.n = time.perf_counter(), step
            if step < steps * 19 // 20:  # 190 of 200
                with torch.no_grad():
                    canvas.image.clamp_(-LIMIT, LIMIT)
            if step in shown_after:
                canvas.pictures[step] = torch.from_numpy(np.array(to_picture(canvas.image)))
            optimizer.param_groups[0]["lr"] = FAST if step < slow_from(steps) else SLOW
            note(history, take_step(canvas.image, optimizer, losses), bar)
            history.add(seconds=time.perf_counter() - started)
            bar.update()
        with torch.no_grad():
            note(history, losses(canvas.image), bar)
    history["total"] = [sum(values) for values in zip(*(history[key] for key in TERMS), strict=True)]
    on_the_way = {step: Image.fromarray(pixels.numpy()) for step, pixels in canvas.pictures.items()}
    return to_picture(canvas.image), history, on_the_way


def slow_from(steps):
    """The step from which on the learning rate is the small one: 180 of 200."""
    return steps * 9 // 10


def take_step(image, optimizer, losses):
    """One step of `optimizer` on the sum of `losses(image)`; returns the losses before it."""
    optimizer.zero_grad()
    terms = losses(image)
    sum(terms.values()).backward()
    optimizer.step()
    return terms


def note(history, terms, bar):
    """Appends the losses to the history and shows their sum."""
    values = {key: term.item() for key, term in terms.items()}
    history.add(**values)
    runs.check_finite(sum(values.values()), bar.desc, "give smaller weights")
    bar.set_postfix(loss=f"{sum(values.values()):.4g}", refresh=False)


def check_setting(
    network, content, style, image_size, style_size, content_layer, style_layers, style_weights, **other
):  # fmt: skip
    """The layers that a setting needs, and the sizes (width, height) of the two pictures.

    Raises UserError, naming the flag, if there is no such layer, the lists differ in length, or a size does not fit.
    """
    if len(style_layers) != len(style_weights):
        counts = f"{len(style_layers)} layers but {len(style_weights)} weights"
        raise UserError(f"--style-layers, --style-weights: {counts}; give one weight for each layer")
    for flag, layer in (("--content-layer", content_layer), *(("--style-layers", layer) for layer in style_layers)):
        if layer not in range(len(network.features)):
            raise UserError(f"{flag} {layer}: no such layer; they are 0 to {len(network.features) - 1}")
    last, sizes = max([content_layer, *style_layers]), []
    layers = feature_layers(network, last)
    shapes_only = copy.deepcopy(layers).to("meta")
    for flag, size, picture in (("--size", image_size, content), ("--style-size", style_size, style)):
        sizes.append(fit_size(picture, size, flag))
        try:
            shapes_only(torch.empty(1, 3, *sizes[-1][::-1], device="meta"))
        except RuntimeError:
            raise UserError(f"{flag} {size}: too few pixels for layer {last}; give a larger size") from None
    return layers, sizes


# ---- plots


def plot_curves(history, title):
    """The total loss and each term after every step, on a logarithmic scale."""
    figure = plots.new_figure(7.5, 4.8, title)
    axes = figure.subplots()
    names = {"total": "total", "content": "content loss", "style": "style loss", "tv": "total variation loss"}
    for (key, label), color in zip(names.items(), ("black", *plots.COLORS), strict=False):
        axes.plot(history[key], color=color, label=label, linewidth=2.2 if key == "total" else 1.3)
    falls = f"learning rate falls from {FAST:g} to {SLOW:g}"
    axes.axvline(slow_from(len(history["total"]) - 1), color="grey", linestyle=":", label=falls)
    axes.set(xlabel="steps of Adam", ylabel="loss (weighted, logarithmic scale)", yscale="log")
    axes.yaxis.set_major_formatter("{x:.0e}")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def plot_sheet(rows, title):
    """Pictures in rows. rows: lists, all of one length, of (name, image)."""
    pictures = [(image, (name, False)) for row in rows for name, image in row]
    return plots.picture_grid(*zip(*pictures, strict=True), title, columns=len(rows[0]))


# ---- the run

Job = namedtuple("Job", "names content style setting fingerprint")  # a picture to paint; names: of content and style


def plan(content, style, preset, given, data, cache):
    """The jobs by name (files are named after it), what to call the data, and whether all of it is drawn.

    content, style, preset: the flags. given: numbers that replace the preset's, or None. `--content` is painted in
    every style of the set, or in that of `--preset`; `--style` makes one job.
    """
    pictures = None if content and style else styles.load(data, cache)
    presets = [preset] if preset else [OWN_PRESET] if style else list(PRESETS)
    jobs = {}
    for preset in presets:
        paths = Path(content or pictures.content), Path(style or pictures.styles[preset])
        names = tuple(
            shown(path.name, 60) if own else path.stem for path, own in zip(paths, (content, style), strict=True)
        )
        setting = PRESETS[preset] | {key: value for key, value in given.items() if value is not None}
        jobs["stylized" if style else names[1]] = Job(
            names, *map(open_photo, paths), setting, fingerprint(*map(sha256, paths))
        )
    if content or style:
        return jobs, f"{names[0]} in the style of {', '.join(job.names[1] for job in jobs.values())}", False
    return jobs, pictures.name, not pictures.real


def paint(run, jobs, args, network, device):
    """Paints the pictures, one after the other, and saves what a grader reads."""
    rows, sheet, ways, metrics = [], [], [], {}
    for name, job in jobs.items():
        picture, history, on_the_way = style_transfer(
            job.content, job.style, **job.setting, init_random=args.init == "noise", steps=args.steps, network=network,
            device=device, seed=args.seed, checkpoint=run.checkpoint(name), label=name,
        )  # fmt: skip
        run.seconds[name] = sum(history.pop("seconds"))
        title = " in the style of ".join(job.names)
        stages = {f"{name}-after_{step:03d}.png": image for step, image in on_the_way.items()} | {
            f"{name}.png": picture
        }
        if args.keep_colors:
            stages = {file: keep_colors(image, job.content) for file, image in stages.items()}
        steps = [f"after {step} steps" for step in (*on_the_way, args.steps)]
        for step, (file, image) in zip(steps, stages.items(), strict=True):
            run.picture(image, file, f"{title}, {step}", "Pixel by pixel, without a border.")
        caption = "After a wild start the style loss falls by orders of magnitude, and the content loss settles."
        figure = plot_curves(history, f"{title}\n{run.saved['data']}; {ARCH}")
        run.figure(figure, f"{name}-curves.png", f"Learning curve, {title}", caption)
        metrics[name] = {"width": picture.width, "height": picture.height}
        metrics[name] |= {key: rounded(values[-1]) for key, values in history.items()}
        metrics[name]["history"] = {key: list(map(rounded, values)) for key, values in history.items()}
        ends = [loss_text(value) for value in (history["total"][0], *(history[key][-1] for key in ("total", *TERMS)))]
        rows.append([title, f"{picture.width} x {picture.height}", *ends])
        ways.append(list(zip(steps, stages.values(), strict=True)))
        sheet.append([(job.names[0], job.content), (job.names[1], job.style), ways[-1][-1]])
        print(f"{title}: total loss {ends[0]}, after {args.steps} steps {ends[1]}")
    for rows_of, file, title, caption in (
        (sheet, "sheet.png", "Content, style and result", "The content's things in the style's colours and strokes."),
        (
            ways,
            "on_the_way.png",
            "On the way",
            "The first steps are far too large; out of their noise come the strokes.",
        ),
    ):
        run.figure(plot_sheet(rows_of, f"{title} · {run.saved['data']}; {ARCH}"), file, title, caption)
    run.finish(metrics, ["picture", "pixels", "total at the start", "total in the end", *TERMS], rows)


def rounded(value):
    """`value` to six digits, for results.json."""
    return float(f"{value:.6g}")


def loss_text(value):
    """A loss as the table has it."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


# ---- the command


def parse_args(argv=None):
    parser = cli.Parser(prog="style_transfer.py", description=(__doc__ or "").partition("\n")[0])
    count, weight, add = cli.number(1, below=2**31), cli.number(0, float, below=1e15), parser.add_argument
    layer, own = cli.number(0), " (default: the preset's)"
    cli.add_common_flags(parser, f"{QUICK_STEPS} steps, shorter side {QUICK_SIZE} pixels")
    cli.add_seed_flag(parser)
    add("--steps", type=count, help=f"steps of Adam (default: {STEPS}; {QUICK_STEPS} with --quick)")
    add("--content", metavar="FILE", help="your own picture to paint (default: the set's)")
    add("--style", metavar="FILE", help="your own picture for the style (default: the set's three)")
    add("--preset", choices=PRESETS, help=f"one of the handout's three (with --style: its numbers, {OWN_PRESET}'s)")
    add("--init", choices=("content", "noise"), default="content", help="what to start from")
    add("--keep-colors", action="store_true", help="give the result the colours of the content")
    add("--size", dest="image_size", metavar="N", type=count, help="the result's shorter side" + own)
    add("--style-size", metavar="N", type=count, help="the style's shorter side in pixels" + own)
    add("--content-layer", metavar="L", type=layer, help="module of the features, 0 to 12" + own)
    add("--content-weight", metavar="W", type=weight, help="weight of the content loss" + own)
    add("--style-layers", metavar="L", nargs="+", type=layer, help="modules for the style loss" + own)
    add("--style-weights", metavar="W", nargs="+", type=weight, help="a weight for each of them" + own)
    add("--tv-weight", metavar="W", type=weight, help="weight of the total variation loss" + own)
    args = parser.parse_args(argv)
    args.steps = args.steps or (QUICK_STEPS if args.quick else STEPS)
    args.image_size = args.image_size or (QUICK_SIZE if args.quick else None)
    return args


def main(argv=None):
    """The script; argv: its flags (default: the command line's)."""
    args = parse_args(argv)
    device, given = runs.pick_device(args.device), {key: getattr(args, key) for key in PRESETS[OWN_PRESET]}
    jobs, data, drawn = plan(args.content, args.style, args.preset, given, args.data, Path(args.results, "cache"))
    pretrained = weights.load(ARCH, args.data or ("builtin" if drawn else None))
    network, data = pretrained.network(), data + ", quick look" * args.quick
    settings = {key: getattr(args, key) for key in ("steps", "init", "keep_colors", "quick")} | {"device": device.type}
    for name, job in jobs.items():
        check_setting(network, job.content, job.style, **job.setting)
        settings |= {f"{name}.{key}": value for key, value in job.setting.items()}
        settings[f"{name}.fingerprint"] = job.fingerprint
    print(
        f"data: {data}{'; real pictures: python -m data.download styles weights' * drawn}\nweights: {pretrained.name}"
    )
    if pretrained.builtin and not drawn:
        print("warning: real pictures, but weights trained on drawings; 'python -m data.download weights' helps")
    with runs.Run("style_transfer", args, data, pretrained.name, settings) as run:
        paint(run, jobs, args, network, device)


if __name__ == "__main__":
    cli.run_main(main)
