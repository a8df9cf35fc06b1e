"""Problem 2: style transfer. Paints a picture anew in the style of another one.

python style_transfer.py                                # the handout's three pictures
python style_transfer.py --content FILE --style FILE    # your own picture in your own style
python style_transfer.py --content FILE                 # your own picture in the handout's three styles
"""

if __name__ == "__main__":
    from data import catch_ctrl_c

    catch_ctrl_c()

import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import functional
from tqdm import tqdm

from data import DataError, plot, results, styles, weights
from data.files import fingerprint, sha256
from data.photos import open_photo

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
SAVE_EVERY = 20  # steps from one checkpoint to the next
TERMS = ("content", "style", "tv")
OWN_PRESET = "the_scream"  # whose numbers one's own style gets
MOST_PIXELS = 2**24  # of a picture that is painted or taken as a style: such a one takes about 20 GB


# ---- the losses


def content_loss(content_weight, content_current, content_original):
    """Lc = wc · Σ_{c,i,j} (F_cij - P_cij)², how far the picture's features are from the content's.

    content_weight: wc. content_current, content_original: F and P, features of one layer, both (N, C, H, W).
    Returns a scalar tensor. Raises ValueError where the two shapes differ.
    """
    if content_current.shape != content_original.shape:
        shapes = f"{tuple(content_current.shape)} and {tuple(content_original.shape)}"
        raise ValueError(f"content_current and content_original must have one shape, got {shapes}")
    return content_weight * (content_current - content_original).square().sum()


class Gram(torch.autograd.Function):
    """G = F Fᵀ of F (N, C, K), and its gradient dF = (dG + dGᵀ) F: one product each, where autograd takes two back."""

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
    """G_ij = Σ_k F_ik F_jk, which channels i and j are active at the same places k.

    features: F, (N, C, H, W) of any float type and strides. normalize: divide by H·W·C.
    Returns G, (N, C, C). Takes memory for H·W·C + C² numbers an image, never for C²·H·W.
    """
    gram = Gram.apply(features.flatten(2))
    return gram / features[0].numel() if normalize else gram


def style_loss(feats, style_layers, style_targets, style_weights):
    """Ls = Σ_l ws_l · Σ_{i,j} (G_lij - A_lij)², how far the Gram matrices are from the style's.

    feats: the features of every layer, as `extract_features` gives them, each (N, C_l, H_l, W_l).
    style_layers: the layers l that count. style_targets: for each of them A_l, the style's normalized Gram matrix,
    (1, C_l, C_l) or (N, C_l, C_l). style_weights: for each of them ws_l.
    Returns a scalar tensor. Raises ValueError where the three lists differ in length.
    """
    if not len(style_layers) == len(style_targets) == len(style_weights):
        lengths = f"{len(style_layers)}, {len(style_targets)} and {len(style_weights)}"
        raise ValueError(f"style_layers, style_targets and style_weights must have one length, got {lengths}")
    loss = feats[0].new_zeros(())
    for layer, target, weight in zip(style_layers, style_targets, style_weights, strict=True):
        loss = loss + weight * (gram_matrix(feats[layer]) - target).square().sum()
    return loss


def total_variation_loss(img, tv_weight):
    """Ltv = wtv · Σ_c ( Σ_{i,j} (x_{c,i,j+1} - x_cij)² + Σ_{i,j} (x_{c,i+1,j} - x_cij)² ), how rough the picture is.

    img: x, (N, 3, H, W). tv_weight: wtv. Returns a scalar tensor, 0 for a picture of one pixel.
    """
    across = img[:, :, :, 1:] - img[:, :, :, :-1]
    down = img[:, :, 1:, :] - img[:, :, :-1, :]
    return tv_weight * (across.square().sum() + down.square().sum())


# ---- the network


def feature_layers(network, last):
    """Modules 0 to `last` of a SqueezeNet's `features`, without gradients of their own, channels-last.

    A module whose output may be asked for must not be overwritten by the next, so no ReLU among them works in place.
    """
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


def open_picture(picture):
    """A picture as an RGB image: a file name, or an image that is open already."""
    return picture.convert("RGB") if isinstance(picture, Image.Image) else open_photo(picture)


def fit_size(picture, size, flag):
    """(width, height) of a picture whose shorter side is made `size` pixels. DataError, naming `flag`, if too large."""
    short, long = sorted(picture.size)
    long = int(size * long / short)
    if size * long > MOST_PIXELS:
        raise DataError(
            f"{flag} {size}: a picture of {picture.width} x {picture.height} pixels would then have more than "
            f"{MOST_PIXELS // 10**6} million; give a smaller size"
        )
    return (size, long) if picture.width <= picture.height else (long, size)


def to_image(picture, size):
    """A picture, resized to (width, height) `size`, as a normalized image (1, 3, H, W), channels-last float32."""
    pixels = functional.to_tensor(functional.resize(picture, size[::-1]))
    return functional.normalize(pixels, weights.MEAN, weights.STD)[None].to(memory_format=torch.channels_last)


def to_picture(image):
    """A normalized image (1, 3, H, W) as an RGB picture; what is darker than black or lighter than white is cut off."""
    image = image.detach().cpu()[0]
    pixels = image * torch.tensor(weights.STD).view(3, 1, 1) + torch.tensor(weights.MEAN).view(3, 1, 1)
    return Image.fromarray((255 * pixels).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def keep_colors(picture, content):
    """`picture` in the colours of `content`: its luminance with the chrominance of `content` (Gatys et al. 2016)."""
    luminance = picture.convert("YCbCr").getchannel(0)
    _, blue, red = content.resize(picture.size, Image.Resampling.BILINEAR).convert("YCbCr").split()
    return Image.merge("YCbCr", (luminance, blue, red)).convert("RGB")


# ---- the transfer


def style_transfer(
    content_image, style_image, image_size, style_size, content_layer, content_weight, style_layers, style_weights,
    tv_weight, init_random=False, *, steps=STEPS, network=None, device="cpu", seed=0, checkpoint=None, show=None,
    label="painting",
):  # fmt: skip
    """Finds the picture with the least content_loss + style_loss + total_variation_loss by Adam on its pixels.

    content_image, style_image: file names or PIL images. image_size, style_size: the shorter side that each is resized
    to, in pixels. content_layer, style_layers: numbers of modules of SqueezeNet's `features`, 0 to 12.
    content_weight, style_weights (one a style layer), tv_weight: the losses' weights, 0 or more.
    init_random: start from uniform noise, drawn from `seed`, instead of the content.
    steps: with the handout's 200 the learning rate is 3.0, from step 180 on 0.1, and the normalized pixels are clamped
    to ±1.5 before each of the steps 0 to 189; another number moves these marks in proportion.
    network: a SqueezeNet (default: with the weights that `data.weights` finds).
    checkpoint: a data.results.Checkpoint; the work goes on from what it holds and is saved there every SAVE_EVERY
    steps.
    show: called as show(step, picture) with the picture after 5, 25, 50 and 90% of the steps.
    label: what the progress bar calls it.

    Returns (picture, history): a PIL image, and a dict of lists of steps + 1 numbers, the losses after 0, 1, ... steps:
    content, style, tv and total; and seconds, one number a step.
    Raises DataError on a picture that cannot be read, or that is too small for the last layer or too large, lists of
    different lengths, a layer that is not there, a loss that is no longer finite, or a checkpoint of another run.
    """
    network = weights.load(ARCH).network() if network is None else network
    content, style = open_picture(content_image), open_picture(style_image)
    layers, sizes = check_setting(
        network, content, style, image_size, style_size, content_layer, style_layers, style_weights
    )  # fmt: skip
    layers = layers.to(device)
    content, style = (to_image(picture, size).to(device) for picture, size in zip((content, style), sizes, strict=True))
    losses = make_losses(
        layers, content, style, content_layer, content_weight, style_layers, style_weights, tv_weight
    )  # fmt: skip

    results.seed_all(seed)
    image = torch.rand(content.shape).to(device) if init_random else content.clone()
    image = image.to(memory_format=torch.channels_last).requires_grad_()
    optimizer = torch.optim.Adam([image], lr=FAST)
    history, pictures = {key: [] for key in (*TERMS, "seconds")}, {}
    if saved := checkpoint and checkpoint.load():
        with checkpoint.fits():
            results.check_history(saved["history"], history)
            history, pictures = saved["history"], saved["pictures"]
            optimizer.load_state_dict(saved["optimizer"])
            with torch.no_grad():
                image.copy_(saved["image"])
            for step, pixels in pictures.items():
                if show:
                    show(step, Image.fromarray(pixels.numpy()))

    free_from = steps * 19 // 20  # 190 of 200
    shown_after = {max(1, round(share * steps)) for share in (0.05, 0.25, 0.5, 0.9)} - {steps}
    done = len(history["seconds"])
    with tqdm(total=steps, initial=done, desc=label, unit="step", leave=False) as bar:
        for step in range(done, steps):
            started = time.perf_counter()
            if step < free_from:
                with torch.no_grad():
                    image.clamp_(-LIMIT, LIMIT)
            if step in shown_after:
                picture = to_picture(image)
                pictures[step] = torch.from_numpy(np.array(picture))
                if show:
                    show(step, picture)
            optimizer.param_groups[0]["lr"] = FAST if step < slow_from(steps) else SLOW
            note(history, take_step(image, optimizer, losses), bar)
            history["seconds"].append(time.perf_counter() - started)
            bar.update()
            if checkpoint and ((step + 1) % SAVE_EVERY == 0 or step + 1 == steps):
                checkpoint.save(
                    {"history": history, "pictures": pictures, "image": image.detach(),
                     "optimizer": optimizer.state_dict()}
                )  # fmt: skip
        with torch.no_grad():
            note(history, losses(image), bar)
    history["total"] = [sum(values) for values in zip(*(history[key] for key in TERMS), strict=True)]
    return to_picture(image), history


def slow_from(steps):
    """The step from which on the learning rate is the small one: 180 of 200."""
    return steps * 9 // 10


def take_step(image, optimizer, losses):
    """One step of `optimizer` on the sum of `losses(image)`, which it returns as they were before it."""
    optimizer.zero_grad()
    terms = losses(image)
    sum(terms.values()).backward()
    optimizer.step()
    return terms


def note(history, terms, bar):
    """Appends the losses to the history and shows their sum. Raises DataError where that is no longer a number."""
    for key, term in terms.items():
        history[key].append(term.item())
    total = sum(history[key][-1] for key in terms)
    if not math.isfinite(total):
        raise DataError(f"{bar.desc}: the loss is no longer a number; give smaller weights")
    bar.set_postfix(loss=f"{total:.4g}", refresh=False)


def check_setting(
    network, content, style, image_size, style_size, content_layer, style_layers, style_weights, **more
):  # fmt: skip
    """The layers that a setting needs and the sizes (width, height) that it gives the two pictures.

    more: what else is in a setting, which always fits.
    Raises DataError, naming the flag, where there is no such layer, the lists differ in length, or a size is too small
    for the layers or too large.
    """
    if len(style_layers) != len(style_weights):
        raise DataError(
            f"--style-layers, --style-weights: {len(style_layers)} layers but {len(style_weights)} weights; "
            "give one weight for each layer"
        )
    for flag, layer in (("--content-layer", content_layer), *(("--style-layers", layer) for layer in style_layers)):
        if layer not in range(len(network.features)):
            raise DataError(f"{flag} {layer}: no such layer; they are 0 to {len(network.features) - 1}")
    last = max([content_layer, *style_layers])
    layers, sizes = feature_layers(network, last), []
    shapes_alone = copy.deepcopy(layers).to("meta")
    for flag, size, picture in (("--size", image_size, content), ("--style-size", style_size, style)):
        sizes.append(fit_size(picture, size, flag))
        try:
            extract_features(torch.empty(1, 3, *sizes[-1][::-1], device="meta"), shapes_alone)
        except RuntimeError:
            raise DataError(
                f"{flag} {size}: {sizes[-1][0]} x {sizes[-1][1]} pixels are too few for layer {last}; "
                "give a larger size"
            ) from None
    return layers, sizes


# ---- plots


def plot_curves(history, title):
    """The total loss and each term after every step, on a logarithmic scale; a mark where the learning rate falls."""
    steps = len(history["total"]) - 1
    figure = plot.new_figure(7.5, 4.8)
    figure.suptitle(title, wrap=True)
    axes = figure.subplots()
    names = {"total": "total", "content": "content loss", "style": "style loss", "tv": "total variation loss"}
    for (key, label), color in zip(names.items(), ("black", *plot.COLORS), strict=False):
        axes.plot(history[key], color=color, label=label, linewidth=2.2 if key == "total" else 1.3)
    axes.axvline(slow_from(steps), color="grey", linestyle=":", label=f"learning rate falls from {FAST:g} to {SLOW:g}")
    axes.set(xlabel="steps of Adam", ylabel="loss (weighted, logarithmic scale)", yscale="log")
    axes.yaxis.set_major_formatter("{x:.0e}")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def plot_sheet(rows, title):
    """Pictures in rows under a title. rows: lists, all of one length, of (name, image)."""
    figure = plot.new_figure(2.6 * len(rows[0]), 2.3 * len(rows) + 0.5)
    figure.suptitle(title, wrap=True)
    panels = figure.subplots(len(rows), len(rows[0]), squeeze=False).flat
    for axes, (name, picture) in zip(panels, sum(rows, []), strict=True):
        axes.imshow(picture)
        axes.grid(False)
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, fontsize=9)
        for spine in axes.spines.values():
            spine.set(visible=False)
    return figure


# ---- the run


@dataclass(frozen=True)
class Job:
    """A picture to paint.

    names: what plots call the content and the style. setting: the numbers that `style_transfer` takes. fingerprint:
    changes with the two files.
    """

    names: tuple
    content: Image.Image
    style: Image.Image
    setting: dict
    fingerprint: str

    @property
    def title(self):
        """What plots call the result."""
        return " in the style of ".join(self.names)


def plan(args):
    """The jobs by name (the files are named after it), what to call the data, and whether all of it is drawn.

    `--content` alone is painted in every style of the set, or in that of `--preset`; `--style` makes one job, with the
    numbers of `--preset`. Raises DataError on a picture that cannot be read or a set that is not whole.
    """
    both = args.content and args.style
    pictures = None if both else styles.load(args.data, Path(args.results) / "cache")
    presets = [args.preset] if args.preset else [OWN_PRESET] if args.style else list(PRESETS)
    jobs = {}
    for preset in presets:
        paths = args.content or pictures.content, args.style or pictures.styles[preset]
        names = (
            results.shown(Path(args.content).name, 60) if args.content else pictures.content.stem,
            results.shown(Path(args.style).name, 60) if args.style else pictures.styles[preset].stem,
        )
        given = {key: getattr(args, key) for key in PRESETS[preset]}
        setting = PRESETS[preset] | {key: value for key, value in given.items() if value is not None}
        content, style = map(open_photo, paths)
        jobs["stylized" if args.style else names[1]] = Job(
            names, content, style, setting, fingerprint(*map(sha256, paths))
        )  # fmt: skip
    if args.content or args.style:
        of_all = ", ".join(job.names[1] for job in jobs.values())
        return jobs, f"{names[0]} in the style of {of_all}", False
    return jobs, pictures.name, not pictures.real


def paint(args):
    """Paints the pictures, one after the other, and writes what a grader reads."""
    device = results.pick_device(args.device)
    jobs, data, drawn = plan(args)
    pretrained = weights.load(ARCH, args.data or ("builtin" if drawn else None))
    network = pretrained.network()
    settings = {key: getattr(args, key) for key in ("steps", "init", "keep_colors", "quick")} | {"device": device.type}
    for name, job in jobs.items():
        check_setting(network, job.content, job.style, **job.setting)
        settings |= {f"{name}.{key}": value for key, value in job.setting.items()}
        settings[f"{name}.fingerprint"] = job.fingerprint
    data += ", quick look" * args.quick
    hint = "; real pictures: 'python -m data.download styles weights'" if drawn else ""
    print(f"data: {data}{hint}")
    print(f"weights: {pretrained.name}")
    if pretrained.builtin and not drawn:
        print("warning: real pictures, but weights that learned from drawings; 'python -m data.download weights' helps")

    with results.Run("style_transfer", args, data, pretrained.name, settings) as run:
        if run.finished:
            return results.show_results(run.finished, run.folder)
        rows, sheet, ways, metrics = [], [], [], {}
        for name, job in jobs.items():
            picture, history, on_the_way = paint_job(run, args, name, job, network, device)
            run.seconds[name] = sum(history.pop("seconds"))
            metrics[name] = {"width": picture.width, "height": picture.height}
            metrics[name] |= {key: rounded(values[-1]) for key, values in history.items()}
            metrics[name] |= {"history": {key: list(map(rounded, values)) for key, values in history.items()}}
            ends = history["total"][0], *(history[key][-1] for key in ("total", *TERMS))
            rows.append([job.title, f"{picture.width} x {picture.height}", *map(loss_text, ends)])
            content, style = job.names
            sheet.append([(content, job.content), (style, job.style), (f"after {args.steps} steps", picture)])
            ways.append(
                [(f"after {step} steps", image) for step, image in [*on_the_way.items(), (args.steps, picture)]]
            )
            print(f"{job.title}: total loss {rows[-1][2]}, after {args.steps} steps {rows[-1][3]}")
        run.figure(
            plot_sheet(sheet, f"Content, style and result · {data}; {ARCH}"),
            "sheet.png",
            "Content, style, result",
            "A row a picture. The result should show the content's things in the style's colours and strokes.",
        )
        run.figure(
            plot_sheet(ways, f"On the way · {data}; {ARCH}"),
            "on_the_way.png",
            "On the way",
            "The first steps are far too large and leave noise, out of which the strokes come.",
        )
        run.finish(metrics, ["picture", "pixels", "total at the start", "total in the end", *TERMS], rows)


def paint_job(run, args, name, job, network, device):
    """`style_transfer` of one job; saves its files in the run's folder.

    Returns (picture, history, on_the_way), the last a dict of the pictures on the way by their steps.
    """
    on_the_way = {}

    def save(picture, file, title, caption):
        picture = keep_colors(picture, job.content) if args.keep_colors else picture
        run.picture(picture, file, title, caption)
        return picture

    def show(step, picture):
        title = f"{job.title}, after {step} steps"
        on_the_way[step] = save(picture, f"{name}-after_{step:03d}.png", title, "A picture on the way.")

    picture, history = style_transfer(
        job.content, job.style, **job.setting, init_random=args.init == "noise", steps=args.steps, network=network,
        device=device, seed=args.seed, checkpoint=run.checkpoint(name), show=show, label=name,
    )  # fmt: skip
    picture = save(picture, f"{name}.png", job.title, "The result, at full quality.")
    run.figure(
        plot_curves(history, f"{job.title}\n{run.saved['data']}; {ARCH}"),
        f"{name}-curves.png",
        f"Learning curve, {job.title}",
        "After a wild start the style loss falls by orders of magnitude, and the content loss settles.",
    )
    return picture, history, on_the_way


def rounded(value):
    """`value` to six digits, for results.json."""
    return float(f"{value:.6g}")


def loss_text(value):
    """A loss as the table has it."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


# ---- flags


def parse_args(argv=None):
    """The flags, those whose default depends on others filled in."""
    parser = results.Parser(prog="style_transfer.py", description=__doc__.splitlines()[0])
    count, weight = results.at_least(1, below=2**31), results.at_least(0, float, below=1e15)
    layer, own = results.at_least(0), " (default: the preset's)"
    results.add_common_flags(parser, f"{QUICK_STEPS} steps, shorter side {QUICK_SIZE} pixels")
    results.add_seed_flag(parser)
    parser.add_argument("--steps", type=count, help=f"steps of Adam (default: {STEPS}; {QUICK_STEPS} with --quick)")
    parser.add_argument("--content", metavar="FILE", help="your own picture to paint anew (default: the set's)")
    parser.add_argument("--style", metavar="FILE", help="your own picture for the style (default: the set's three)")
    parser.add_argument(
        "--preset", choices=PRESETS, help="paint this one of the handout's three only; with --style: use its numbers "
        f"(default: all three; with --style {OWN_PRESET})",
    )  # fmt: skip
    parser.add_argument("--init", choices=("content", "noise"), default="content", help="what to start from")
    parser.add_argument("--keep-colors", action="store_true", help="give the result the colours of the content")
    parser.add_argument(
        "--size", dest="image_size", metavar="N", type=count,
        help=f"the result's shorter side in pixels (default: the preset's; {QUICK_SIZE} with --quick)",
    )  # fmt: skip
    parser.add_argument("--style-size", metavar="N", type=count, help=f"the style's shorter side in pixels{own}")
    parser.add_argument("--content-layer", metavar="L", type=layer, help=f"module of the features, 0 to 12{own}")
    parser.add_argument("--content-weight", metavar="W", type=weight, help=f"weight of the content loss{own}")
    parser.add_argument("--style-layers", metavar="L", nargs="+", type=layer, help=f"modules for the style loss{own}")
    parser.add_argument("--style-weights", metavar="W", nargs="+", type=weight, help=f"a weight for each of them{own}")
    parser.add_argument("--tv-weight", metavar="W", type=weight, help=f"weight of the total variation loss{own}")
    args = parser.parse_args(argv)
    args.steps = args.steps or (QUICK_STEPS if args.quick else STEPS)
    args.image_size = args.image_size or (QUICK_SIZE if args.quick else None)
    return args


def main(argv=None):
    """The script: `argv` are its flags, None those of the command line."""
    paint(parse_args(argv))


if __name__ == "__main__":
    results.run_main(main)
