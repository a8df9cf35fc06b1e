"""python docs/judge.py DATA: the losses that SqueezeNet with ImageNet weights gives the built-in drawings' results.

Reads what docs/reproduce.sh has painted under results/docs, with the built-in and with the ImageNet weights, and
writes docs/style_transfer-judge.json: {style: {weights: {content, style}}}, with the handout's numbers for each style.
"""

import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

import style_transfer as st  # noqa: E402
from common.cli import Parser, UserError, run_main  # noqa: E402
from common.run import write_json  # noqa: E402
from data import styles, weights  # noqa: E402
from data.images import open_photo  # noqa: E402

RESULTS = REPO / "results" / "docs"


def main(argv=None):
    parser = Parser(prog="python docs/judge.py", description=(__doc__ or "").partition(": ")[2].partition("\n")[0])
    parser.add_argument("data", metavar="DATA", help="folder with the real data")
    data = parser.parse_args(argv).data
    pretrained = weights.load(st.ARCH, data)
    if pretrained.builtin:
        raise UserError(f"{data}: has no ImageNet weights; get them: python -m data.download weights --data {data}")
    layers = st.feature_layers(pretrained.network(), 7)
    pictures, judged = styles.load("builtin", RESULTS / "cache"), {}
    for preset, path in pictures.styles.items():
        setting = dict(st.PRESETS[preset])
        sizes, images = (setting.pop("image_size"), setting.pop("style_size")), []
        for picture, size in zip(map(open_photo, (pictures.content, path)), sizes, strict=True):
            images.append(st.to_image(picture, st.fit_size(picture, size, "")))
        losses = st.make_losses(layers, *images, **setting)
        results = {
            "builtin": RESULTS / "style_transfer-builtin" / "style_transfer" / f"{path.stem}.png",
            "imagenet": RESULTS / f"style_transfer-imagenet-{path.stem}" / "style_transfer" / "stylized.png",
        }
        judged[path.stem] = {
            name: {
                term: round(loss.item())
                for term, loss in losses(st.to_image(open_photo(file), images[0].shape[:1:-1])).items()
                if term != "tv"
            }
            for name, file in results.items()
        }
    write_json(REPO / "docs" / "style_transfer-judge.json", judged)
    print(judged)


if __name__ == "__main__":
    run_main(main)
