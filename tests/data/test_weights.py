"""data/weights.py: weights are found in the documented order, and a file that does not fit is a one-line error."""

import json

import pytest
import torch

from common.cli import UserError
from data import weights
from data.drawn import creatures

ARCH, PUBLISHED = "shufflenet_v2_x0_5", "shufflenetv2_x0.5-f707e7126e.pth"  # torchvision's own file name


@pytest.fixture(scope="module")
def state():
    """A ShuffleNet's state dict with 10 outputs and batch-norm statistics."""
    torch.manual_seed(0)
    network = weights.build(ARCH, 10).train()
    network(torch.randn(2, 3, 32, 32))
    return network.state_dict()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with an empty folder of weights; torchvision's cache is empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path


def put(folder, content, arch=ARCH):
    """Saves `content` among the weights of a data folder."""
    torch.save(content, folder / "weights" / f"{arch}.pth")
    return folder


# ---- finding


def test_files_are_found_in_the_documented_order(folder):
    expected = [folder / "weights" / f"{ARCH}.pth", folder / "weights" / PUBLISHED]
    expected += [folder / "weights" / f"{ARCH}-12345678.pth", folder / "torch" / "hub" / "checkpoints" / PUBLISHED]
    for path in reversed(expected):
        path.touch()
        assert weights.find(ARCH, folder) == path


def test_weights_of_a_longer_name_are_not_taken(folder):
    for name in ("resnet182.pth", "wide_resnet18-12345678.pth"):
        (folder / "weights" / name).touch()
    assert weights.find("resnet18", folder) is None


def test_the_built_in_weights_come_last(folder, state):
    assert weights.load(ARCH, folder).builtin
    assert not weights.load(ARCH, put(folder, state)).builtin


def test_missing_weights_are_a_usererror_with_the_command(folder):
    with pytest.raises(UserError, match=r"--arch vgg11: .*python -m data\.download --arch vgg11 --data /"):
        weights.load("vgg11", folder)


def test_builtin_without_weights_says_to_leave_it_out():
    with pytest.raises(UserError, match="--arch vgg11: .*leave out --data builtin"):
        weights.load("vgg11", "builtin")


def test_an_unknown_architecture_is_a_usererror(folder):
    with pytest.raises(UserError, match="--arch resnet8: .*resnet18"):
        weights.load("resnet8", folder)


def test_choose_prefers_the_flag_then_the_usual_weights(folder, state):
    put(folder, state)
    assert weights.choose("squeezenet1_1", folder, True, ARCH, "vgg11").arch == "squeezenet1_1"
    assert weights.choose(None, folder, True, ARCH, "squeezenet1_1").arch == ARCH
    assert weights.choose(None, folder, True, "vgg11", "squeezenet1_1").arch == "squeezenet1_1"


def test_choose_takes_built_in_weights_for_drawings(folder, state, monkeypatch):
    monkeypatch.setattr("data.HOME", put(folder, state))
    assert weights.choose(None, None, False, "resnet18", ARCH).builtin
    assert not weights.choose(ARCH, None, False, "resnet18", ARCH).builtin
    assert not weights.choose(None, folder, False, "resnet18", ARCH).builtin


# ---- reading


def test_a_network_has_exactly_the_weights_of_the_file(folder, state):
    network = weights.load(ARCH, put(folder, state)).network()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_half_precision_becomes_float32_of_the_same_values(folder, state):
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    found = weights.load(ARCH, put(folder, half)).state
    assert all(torch.equal(found[key], value.float()) for key, value in half.items())


@pytest.mark.parametrize("arch", ["regnet_x_400mf", "googlenet", "mnasnet0_5"])
def test_networks_of_odd_construction_are_read(folder, arch):
    network = weights.load(arch, put(folder, weights.build(arch, 3).state_dict(), arch)).network()
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_files_without_batch_counters_are_read(folder, state):
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert weights.load(ARCH, put(folder, old)).network()


def test_old_names_of_densenet_and_vit_are_understood():
    old = "features.denseblock1.denselayer2.norm.1.weight", "encoder.layers.encoder_layer_0.mlp.linear_2.bias"
    new = "features.denseblock1.denselayer2.norm1.weight", "encoder.layers.encoder_layer_0.mlp.3.bias"
    assert tuple(map(weights.modern_key, old)) == new == tuple(map(weights.modern_key, new))


def test_the_name_holds_the_file_and_its_hash(folder, state):
    name = weights.load(ARCH, put(folder, state)).name
    assert name.startswith(f"{ARCH} ({ARCH}.pth, SHA-256 ") and len(name.split()[-1]) == 9


def test_the_fingerprint_changes_with_the_weights(folder, state):
    before = weights.load(ARCH, put(folder, state)).fingerprint
    assert weights.load(ARCH, put(folder, {**state, "fc.bias": state["fc.bias"] + 1})).fingerprint != before


BAD_STATES = {
    "another architecture": (lambda state: weights.build("mobilenet_v3_small", 2).state_dict(), "conv1.0.weight"),
    "a tensor missing": (lambda state: {k: v for k, v in state.items() if k != "conv5.0.weight"}, "conv5.0.weight"),
    "a tensor too many": (lambda state: {**state, "fc2.bias": torch.ones(2)}, "fc2.bias"),
    "another shape": (lambda state: {**state, "fc.bias": torch.ones(3)}, r"fc.bias is \(3,\), not \(10,\)"),
    "NaN": (lambda state: {**state, "fc.bias": state["fc.bias"] * float("nan")}, "fc.bias holds NaN"),
    "a list for a tensor": (lambda state: {**state, "fc.bias": [1.0, 2.0]}, "table of tensors"),
    "a table in a table": (lambda state: {"state_dict": state}, "table of tensors"),
    "an empty table": (lambda state: {}, "conv1.0.weight"),
    "a whole model": (lambda state: weights.build(ARCH, 10), "state_dict"),
}


@pytest.mark.parametrize("kind", BAD_STATES)
def test_weights_that_do_not_fit_are_a_usererror(folder, state, kind):
    spoil, words = BAD_STATES[kind]
    with pytest.raises(UserError, match=rf"{ARCH}\.pth: .*{words}"):
        weights.load(ARCH, put(folder, spoil(state)))


@pytest.mark.parametrize("spoil", [lambda good: b"", lambda good: b"<html>", lambda good: good[: len(good) // 2]])
def test_a_broken_file_is_one_line_with_its_name(folder, state, spoil, recwarn):
    path = put(folder, state) / "weights" / f"{ARCH}.pth"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=rf"{ARCH}\.pth: cut short, .*get it again"):
        weights.load(ARCH, folder)
    assert not recwarn


def test_only_folded_batch_norm_is_not_trainable(folder, state):
    assert weights.load(ARCH, put(folder, state)).trainable and weights.load("squeezenet1_1", "builtin").trainable
    folded = {key: torch.ones_like(value) if key.endswith("running_var") else value for key, value in state.items()}
    assert not weights.load(ARCH, put(folder, folded)).trainable


@pytest.mark.parametrize("arch, builtin, size", [("resnet18", False, 256), (ARCH, True, 146), ("vit_b_16", False, 224)])
def test_validation_photos_are_larger_where_they_may_be(arch, builtin, size):
    assert weights.Weights(arch, {}, "some weights", builtin).val_size == size


def test_the_built_in_weights_never_saw_an_ant_or_a_bee():
    classes = json.loads((weights.BUILTIN / "pretrain.json").read_text())["classes"]
    assert classes == list(creatures.PRETRAINING) and not set(classes) & set(creatures.TARGETS)


@pytest.mark.parametrize("arch, trainable", [("resnet18", True), ("squeezenet1_1", True), ("resnet50", False)])
def test_the_real_weights_load(hw2_data, arch, trainable):
    found = weights.load(arch, hw2_data)
    assert (found.trainable, found.builtin) == (trainable, False)
