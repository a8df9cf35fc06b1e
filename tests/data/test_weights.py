"""data/weights.py: files are found in the documented order, and an unusable file gives a one-line error."""

import json

import numpy as np
import pytest
import torch
from torchvision import transforms

from common.cli import UserError
from data import weights
from data.drawn import creatures
from tests.conftest import ARCH, random_state

PUBLISHED = "shufflenetv2_x0.5-f707e7126e.pth"  # torchvision's own file name


@pytest.fixture(scope="module")
def state():
    return random_state(ARCH)


def put(folder, content, arch=ARCH):
    (folder / "weights").mkdir(exist_ok=True)
    torch.save(content, folder / "weights" / f"{arch}.pth")
    return folder


def test_files_are_found_in_the_documented_order(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    put(tmp_path, {}, f"wide_{ARCH}-12345678")  # of another network
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    others = [f"weights/{ARCH}{ending}" for ending in (".pt", "-best.pth.tar", "-12345678.pth")]
    for name in (f"hub/checkpoints/{PUBLISHED}", *others, f"weights/{PUBLISHED}"):
        (tmp_path / name).touch()
        assert weights.find(ARCH, tmp_path) == tmp_path / name
    assert weights.find(ARCH, put(tmp_path, {})) == tmp_path / "weights" / f"{ARCH}.pth"


def test_pixels_are_normalized_as_published_and_restored():
    image = torch.rand(3, 4, 5)
    normalized = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(image)
    assert torch.allclose(transforms.Normalize(weights.MEAN, weights.STD)(image), normalized)
    np.testing.assert_allclose(weights.to_pixels(normalized), image.permute(1, 2, 0), atol=1e-6)


def test_weights_that_are_not_built_in_raise_a_user_error():
    with pytest.raises(UserError, match="--arch vgg11: .*leave out --data builtin"):
        weights.load("vgg11", "builtin")


def test_choose_prefers_the_flag_then_the_default_weights(tmp_path, state, capsys):
    put(tmp_path, state)
    assert weights.choose("squeezenet1_1", tmp_path, True, ARCH, "vgg11").arch == "squeezenet1_1"
    assert weights.choose(None, tmp_path, True, ARCH, "squeezenet1_1").arch == ARCH
    assert weights.choose(None, tmp_path, True, "vgg11", "squeezenet1_1").builtin
    assert f"no file whose name begins with vgg11; it holds {ARCH}.pth" in capsys.readouterr().out


def test_choose_takes_built_in_weights_for_drawings(tmp_path, state, monkeypatch):
    monkeypatch.setattr("data.HOME", put(tmp_path, state))
    assert weights.choose(None, None, False, "resnet18", ARCH).builtin
    assert not weights.choose(ARCH, None, False, "resnet18", ARCH).builtin
    assert not weights.choose(None, tmp_path, False, "resnet18", ARCH).builtin


FILES = {
    "as torchvision saves it": lambda state: state,
    "half precision": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
    "no batch counters": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
    "a checkpoint": lambda state: {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}},
    "a model": lambda state: {"model": {"state_dict": {f"module._orig_mod.{k}": v for k, v in state.items()}}},
}


@pytest.mark.parametrize("kind", FILES)
def test_networks_have_exactly_the_weights_of_the_file(tmp_path, state, kind):
    saved = FILES[kind](state)
    found = weights.load(ARCH, put(tmp_path, saved)).network().state_dict()
    saved = FILES[kind](state) if "a " not in kind else state
    assert all((found[key] == value).all() for key, value in saved.items())


@pytest.mark.parametrize("arch", ["regnet_x_400mf", "googlenet", "mnasnet0_5"])
def test_networks_with_unusual_constructors_are_read(tmp_path, arch):
    network = weights.load(arch, put(tmp_path, weights.build(arch, 3).state_dict(), arch)).network()
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_old_names_of_densenet_and_vit_are_converted():
    old = "features.denseblock1.denselayer2.norm.1.weight", "encoder.layers.encoder_layer_0.mlp.linear_2.bias"
    new = "features.denseblock1.denselayer2.norm1.weight", "encoder.layers.encoder_layer_0.mlp.3.bias"
    assert tuple(map(weights.modern_key, old)) == new == tuple(map(weights.modern_key, new))


def test_other_weights_have_a_new_name_and_fingerprint(tmp_path, state):
    first = weights.load(ARCH, put(tmp_path, state))
    other = weights.load(ARCH, put(tmp_path, {**state, "fc.bias": state["fc.bias"] + 1}))
    assert first.name != other.name and first.name.startswith(f"{ARCH} ({ARCH}.pth, SHA-256 ")
    assert first.fingerprint != other.fingerprint


BAD_STATES = {
    "another architecture": (lambda state: weights.build("mobilenet_v3_small", 2).state_dict(), "conv1.0.weight"),
    "a tensor missing": (lambda state: {k: v for k, v in state.items() if k != "conv5.0.weight"}, "conv5.0.weight"),
    "a tensor too many": (lambda state: {**state, "fc2.bias": torch.ones(2)}, "fc2.bias"),
    "another shape": (lambda state: {**state, "fc.bias": torch.ones(3)}, r"fc.bias is \(3,\), not \(10,\)"),
    "NaN": (lambda state: {**state, "fc.bias": state["fc.bias"] * float("nan")}, "fc.bias holds NaN"),
    "an empty table": (lambda state: {}, "conv1.0.weight"),
    "a whole model": (lambda state: weights.build(ARCH, 10), "state_dict"),
}


@pytest.mark.parametrize("spoil, words", BAD_STATES.values(), ids=BAD_STATES)
def test_weights_that_do_not_fit_raise_a_user_error(tmp_path, state, spoil, words):
    with pytest.raises(UserError, match=rf"{ARCH}\.pth: .*{words}"):
        weights.load(ARCH, put(tmp_path, spoil(state)))


@pytest.mark.parametrize("spoil", [lambda good: b"", lambda good: b"<html>", lambda good: good[: len(good) // 2]])
def test_a_broken_file_gives_one_line_with_its_name(tmp_path, state, spoil, recwarn):
    path = put(tmp_path, state) / "weights" / f"{ARCH}.pth"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=rf"{ARCH}\.pth: cut short, .*get it again"):
        weights.load(ARCH, tmp_path)
    assert not recwarn


def test_only_folded_batch_norm_is_not_trainable(tmp_path, state):
    assert weights.load(ARCH, put(tmp_path, state)).trainable and weights.load("squeezenet1_1", "builtin").trainable
    folded = {key: torch.ones_like(value) if key.endswith("running_var") else value for key, value in state.items()}
    assert not weights.load(ARCH, put(tmp_path, folded)).trainable


@pytest.mark.parametrize("arch, builtin, size", [("resnet18", False, 256), (ARCH, True, 146), ("vit_b_16", False, 224)])
def test_validation_photos_are_larger_if_the_network_allows(arch, builtin, size):
    assert weights.Weights(arch, {}, "some weights", builtin).val_size == size


def test_built_in_weights_were_not_trained_on_ants_or_bees():
    classes = json.loads((weights.BUILTIN / "pretrain.json").read_text())["classes"]
    assert classes == list(creatures.PRETRAINING) and not set(classes) & set(creatures.TARGETS)


@pytest.mark.parametrize("arch, trainable", [("resnet18", True), ("squeezenet1_1", True), ("resnet50", False)])
def test_the_real_weights_load(hw2_data, arch, trainable):
    found = weights.load(arch, hw2_data)
    assert (found.trainable, found.builtin) == (trainable, False)
