"""data/weights.py: weights are found in the promised order, checked whole, and never run code."""

import json

import pytest
import torch

from data import DataError, weights
from data.builtin import creatures
from tests.conftest import ARCH, Bomb, random_state
from tests.runs import check_one_error

PUBLISHED = "shufflenetv2_x0.5-f707e7126e.pth"  # torchvision's file of ARCH


@pytest.fixture(scope="module")
def state():
    return random_state(ARCH)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weights").mkdir()
    return tmp_path


def put(folder, content, name=f"{ARCH}.pth"):
    """Saves `content` among the weights of a data folder."""
    path = folder / "weights" / name
    torch.save(content, path)
    return path


# ---- finding


def test_the_file_named_after_the_architecture_comes_before_torchvisions(folder):
    (folder / "weights" / PUBLISHED).touch()
    (folder / "weights" / f"{ARCH}.pth").touch()
    assert weights.find(ARCH, folder) == folder / "weights" / f"{ARCH}.pth"


def test_a_file_under_torchvisions_published_name_is_found(folder):
    (folder / "weights" / PUBLISHED).touch()
    assert weights.find(ARCH, folder) == folder / "weights" / PUBLISHED


def test_a_file_in_torchvisions_own_cache_is_found(folder, monkeypatch):
    cache = folder / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / PUBLISHED).touch()
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    assert weights.find(ARCH, folder) == cache / PUBLISHED


def test_a_cache_that_cannot_be_entered_is_as_good_as_none(monkeypatch):
    monkeypatch.setenv("TORCH_HOME", "/" + "n" * 300)
    assert weights.find(ARCH) is None


def test_the_data_folder_comes_before_torchvisions_cache(folder, monkeypatch):
    (folder / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    for path in (folder / "torch" / "hub" / "checkpoints" / PUBLISHED, folder / "weights" / PUBLISHED):
        path.touch()
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    assert weights.find(ARCH, folder) == folder / "weights" / PUBLISHED


def test_the_weights_of_a_longer_named_architecture_are_not_taken(folder):
    (folder / "weights" / "resnet182.pth").touch()
    (folder / "weights" / "wide_resnet18-12345678.pth").touch()
    assert weights.find("resnet18", folder) is None


def test_the_built_in_weights_are_found_without_a_data_folder_only_when_asked_for(folder, state, monkeypatch):
    monkeypatch.setattr(weights, "BUILTIN", folder / "weights")
    put(folder, state)
    assert weights.load(ARCH, "builtin").builtin and weights.load(ARCH, "builtin").image_size == 128


def test_no_weights_anywhere_is_a_dataerror_with_the_download_command(folder, monkeypatch):
    monkeypatch.setattr(weights, "BUILTIN", folder)
    with pytest.raises(DataError, match=r"--arch vgg11: .*python -m data\.download --arch vgg11"):
        weights.load("vgg11", folder)


def test_an_architecture_without_built_in_weights_is_a_dataerror_that_names_those_that_have_them(folder, monkeypatch):
    monkeypatch.setattr(weights, "BUILTIN", folder / "weights")
    (folder / "weights" / f"{ARCH}.pth").touch()
    with pytest.raises(DataError, match=f"--arch vgg11: .*{ARCH}"):
        weights.load("vgg11", "builtin")


def test_a_missing_data_folder_is_a_dataerror_and_no_reason_to_take_other_weights(folder):
    with pytest.raises(DataError, match="--data .*nosuch"):
        weights.load(ARCH, folder / "nosuch")


@pytest.mark.parametrize("arch, builtin, size", [("resnet18", False, 256), (ARCH, True, 146), ("vit_b_16", False, 224)])
def test_validation_photos_are_8_sevenths_as_large_as_training_photos_where_the_network_takes_any(arch, builtin, size):
    assert weights.Weights(arch, {}, "some weights", builtin).val_size == size


def test_an_unknown_architecture_is_a_dataerror_that_names_the_flag(folder):
    with pytest.raises(DataError, match="--arch nosuch: "):
        weights.load("nosuch", folder)


# ---- reading


def test_a_network_computes_with_exactly_the_weights_of_the_file(folder, state):
    network = weights.read(put(folder, state), ARCH).network()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert not weights.read(put(folder, state), ARCH).builtin


def test_half_precision_becomes_float32_of_the_same_values(folder, state):
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    read = weights.read(put(folder, half), ARCH).state
    assert {value.dtype for value in read.values()} == {torch.float32, torch.int64}
    assert all(torch.equal(read[key], value.to(read[key].dtype)) for key, value in half.items())


def test_the_network_has_as_many_outputs_as_the_weights(folder):
    network = weights.read(put(folder, random_state(ARCH, outputs=7)), ARCH).network()
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize("arch", ["regnet_x_400mf", "googlenet"])
def test_architectures_of_odd_construction_are_read(folder, arch):
    state = {key: torch.ones_like(value) for key, value in weights.build(arch, 3).state_dict().items()}
    assert weights.read(put(folder, state, f"{arch}.pth"), arch).network().training


def test_files_from_before_batch_norm_counted_its_batches_are_read(folder, state):
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    weights.read(put(folder, old), ARCH).network()


def test_the_name_tells_the_file_and_its_hash_and_not_its_folder(folder, state):
    name = weights.read(put(folder, state), ARCH).name
    assert f"{ARCH}.pth" in name and "SHA-256" in name and str(folder) not in name


def test_other_weights_have_another_name(folder, state):
    first = weights.read(put(folder, state), ARCH).name
    assert weights.read(put(folder, random_state(ARCH, seed=1)), ARCH).name != first


def changed(state, **changes):
    return {**state, **{key.replace("__", "."): value for key, value in changes.items()}}


BAD_STATES = {
    "of another architecture": (lambda state: random_state("mobilenet_v3_small"), "conv1.0.weight"),
    "without a layer": (lambda state: {k: v for k, v in state.items() if k != "conv5.0.weight"}, "conv5.0.weight"),
    "with a layer too many": (lambda state: changed(state, fc2__bias=torch.ones(2)), "fc2.bias"),
    "with a layer of another shape": (lambda state: changed(state, conv1__0__weight=torch.ones(24, 3, 5, 5)), "shape"),
    "with NaN": (lambda state: changed(state, fc__bias=state["fc.bias"] * float("nan")), "fc.bias holds NaN"),
    "with infinity": (lambda state: changed(state, fc__bias=state["fc.bias"] / 0), "fc.bias holds NaN or infinity"),
    "with numbers for tensors": (lambda state: changed(state, fc__bias=[1.0, 2.0]), "table of tensors"),
    "wrapped in another table": (lambda state: {"state_dict": state}, "table of tensors"),
    "that are a list": (lambda state: list(state.values()), "table of tensors"),
    "that are one tensor": (lambda state: torch.ones(3), "table of tensors"),
    "that are an empty table": (lambda state: {}, "has no"),
}


@pytest.mark.parametrize("kind", BAD_STATES)
def test_a_file_with_weights_that_do_not_fit_is_a_dataerror_that_says_why(folder, state, kind):
    make, word = BAD_STATES[kind]
    path = put(folder, make(state))
    check_one_error(lambda: weights.load(ARCH, folder), path, word)


def test_a_layer_too_many_whose_name_has_two_lines_is_refused_in_one(folder, state):
    put(folder, {**state, "a\nb": torch.ones(2)})
    check_one_error(lambda: weights.load(ARCH, folder), r"has a\nb, which")


BAD_BYTES = {
    "empty": lambda good: b"",
    "text": lambda good: b"<html>404 not found</html>",
    "cut short at the end": lambda good: good[:-100],
    "cut short in the middle": lambda good: good[: len(good) // 2],
}


@pytest.mark.parametrize("kind", BAD_BYTES)
def test_a_broken_file_is_a_dataerror_that_names_it(folder, state, kind):
    path = put(folder, state)
    path.write_bytes(BAD_BYTES[kind](path.read_bytes()))
    check_one_error(lambda: weights.load(ARCH, folder), path)


def test_a_saved_python_object_is_refused_and_does_not_run(folder, state):
    put(folder, {**state, "extra": Bomb(folder / "mark")})
    with pytest.raises(DataError, match="could run code"):
        weights.load(ARCH, folder)
    assert not (folder / "mark").exists()


def test_a_folder_in_the_place_of_a_weights_file_is_a_dataerror_that_names_it(folder):
    (folder / "weights" / f"{ARCH}.pth").mkdir()
    with pytest.raises(DataError, match=rf"{ARCH}\.pth"):
        weights.load(ARCH, folder)


def test_weights_whose_network_looks_up_a_version_load(folder):
    torch.save(weights.build("mnasnet0_5", 4).state_dict(), folder / "weights" / "mnasnet0_5.pth")
    assert weights.load("mnasnet0_5", folder).network()


def test_the_names_that_published_files_of_densenet_and_vit_have_are_understood():
    old = "features.denseblock1.denselayer2.norm.1.weight", "encoder.layers.encoder_layer_0.mlp.linear_2.bias"
    new = "features.denseblock1.denselayer2.norm1.weight", "encoder.layers.encoder_layer_0.mlp.3.bias"
    assert tuple(map(weights.modern_key, old)) == new == tuple(map(weights.modern_key, new))


@pytest.mark.parametrize(
    "key, value", [("fc.weight", torch.ones(10, 1024, dtype=torch.int64)), ("fc.bias", torch.ones(3))]
)
def test_weights_of_another_type_or_shape_are_a_dataerror_that_names_the_tensor(folder, key, value):
    state = {**random_state(ARCH), key: value}
    torch.save(state, folder / "weights" / f"{ARCH}.pth")
    with pytest.raises(DataError, match=key):
        weights.load(ARCH, folder)


# ---- what may be trained


def folded(state):
    """What folding leaves of the batch norms: means 0, variances 1."""
    plain = {"running_mean": torch.zeros_like, "running_var": torch.ones_like}
    return {key: plain.get(key.rpartition(".")[2], torch.clone)(value) for key, value in state.items()}


def test_weights_with_batch_norm_statistics_are_trainable(folder, state):
    assert weights.read(put(folder, state), ARCH).trainable


def test_weights_whose_batch_norm_is_folded_away_are_not_trainable(folder, state):
    assert not weights.read(put(folder, folded(state)), ARCH).trainable


def test_weights_of_a_network_without_batch_norm_are_trainable(folder):
    torch.manual_seed(0)
    state = weights.build("squeezenet1_1", 4).state_dict()
    assert weights.read(put(folder, state, "squeezenet1_1.pth"), "squeezenet1_1").trainable


# ---- the committed weights and the real ones


@pytest.mark.parametrize("arch", [ARCH, "squeezenet1_1"])
def test_the_built_in_weights_load_are_trainable_and_hold_half_precision(arch):
    assert weights.load(arch, "builtin").trainable
    stored = torch.load(weights.BUILTIN / f"{arch}.pth", weights_only=True)
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {torch.float16}


def test_the_built_in_weights_take_6_megabytes_at_most_together():
    sizes = [path.stat().st_size for path in weights.BUILTIN.glob("*.pth")]
    assert sizes and sum(sizes) <= 6_000_000


def test_the_built_in_weights_never_saw_an_ant_or_a_bee():
    classes = json.loads((weights.BUILTIN / "pretrain.json").read_text())["classes"]
    assert classes == list(creatures.PRETRAINING) and not set(classes) & set(creatures.TARGETS)


@pytest.mark.parametrize("arch", ["resnet18", "squeezenet1_1"])
def test_the_real_weights_load_and_may_be_trained(hw2_data, arch):
    found = weights.load(arch, hw2_data)
    assert (found.trainable, found.builtin, found.image_size) == (True, False, 224)


def test_the_real_resnet50_serves_evaluation_only(hw2_data):
    assert not weights.load("resnet50", hw2_data).trainable
