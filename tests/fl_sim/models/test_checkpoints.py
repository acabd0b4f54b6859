"""Reading anyone's weights without running their code, and fitting them to a model."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model
from torchvision.transforms.v2 import Normalize

from fl_sim.models import ModelError, checkpoints, create, normalisation
from fl_sim.models.checkpoints import CheckpointError, load_into, read, write
from fl_sim.models.pretrained import load_pretrained


def build(name="resnet18", **options):
    return create(name, **{"channels": 1, "image_size": 32, "outputs": 2, **options})


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


def test_what_was_written_is_read_again(tmp_path):
    model = build(seed=1)
    write(tmp_path / "new" / "a.safetensors", model)
    assert same(read(tmp_path / "new" / "a.safetensors"), dict(model.state_dict()))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pth.tar"])
@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model."])
def test_torch_files_in_every_common_form(tmp_path, suffix, key, prefix):
    state = build("lenet").state_dict()
    named = {prefix + name: value for name, value in state.items()}
    path = tmp_path / f"a{suffix}"
    torch.save({"epoch": 3, key: named, "best": torch.tensor(0.9)} if key else named, path)
    assert same(read(path), dict(state))


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".PT", ".Pth"])
def test_endings_of_checkpoints(tmp_path, suffix):
    state = build("lenet").state_dict()
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / f"a{suffix}")
    assert same(read(tmp_path / f"a{suffix}"), dict(state))


@pytest.mark.parametrize(
    ("nests", "prefix"),
    [
        (["model", "state_dict"], "_orig_mod.module."),
        (["state_dict", "model"], "module._orig_mod."),
        (["ema"], "module."),
        (["model_ema"], "ema.module.model."),
        (["state_dict", "ema", "model"], "encoder."),
        ([], "module.encoder."),
        ([], "model.module._orig_mod.net."),
    ],
)
def test_nests_and_prefixes_in_any_order(tmp_path, nests, prefix):
    state = build("lenet").state_dict()
    content = {prefix + name: value for name, value in state.items()}
    for nest in nests[::-1]:
        content = {nest: content, "epoch": 1, "optimizer": {"state": {}, "param_groups": []}}
    torch.save(content, tmp_path / "a.pt")
    assert same(read(tmp_path / "a.pt"), dict(state))


def test_an_encoder_beside_its_head(tmp_path):
    theirs = get_model("resnet18", weights=None, num_classes=2)
    state = {
        name if name.startswith("fc.") else f"encoder.{name}": value
        for name, value in theirs.state_dict().items()
    }
    torch.save({"model": state}, tmp_path / "a.pth")
    ours = build(channels=3)
    load_into(ours, read(tmp_path / "a.pth"))
    assert torch.equal(ours.body.layer1[0].conv1.weight, theirs.layer1[0].conv1.weight)
    assert torch.equal(ours.head.weight, theirs.fc.weight)


def test_entries_of_no_layer_are_left_out(tmp_path):
    state = build("lenet").state_dict()
    one = torch.ones(1)
    more = {
        "total_ops": one, "body.conv1.total_ops": one, "body.total_params": one,
        "n_averaged": one, "op_threshs": torch.ones(18), "criterion.weight": torch.ones(2),
        "loss_fn.pos_weight": one, "pos_weight": one,
    }  # fmt: skip
    torch.save({**state, **more}, tmp_path / "a.pt")
    assert same(read(tmp_path / "a.pt"), dict(state))
    averaged = {f"module.{name}": value for name, value in state.items()}
    torch.save({"n_averaged": one, **averaged}, tmp_path / "b.pt")
    assert same(read(tmp_path / "b.pt"), dict(state))


@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_of_numpy_do_no_harm(tmp_path, zipped):
    state = build("lenet").state_dict()
    told = {"best": np.float64(0.7), "auc": np.float32(1), "epoch": np.int64(3), "ok": np.bool_(1)}
    torch.save(
        {"state_dict": state, **told}, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped
    )
    assert same(read(tmp_path / "a.pt"), dict(state))
    torch.save({"state_dict": state, "who": Path("x")}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match=r"b\.pt: holds more than plain tensors.*pathlib"):
        read(tmp_path / "b.pt")


def old_names(state):
    """DenseNet's names as torchvision had them when CheXNet was trained."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name): value
        for name, value in state.items()
    }


def test_chexnet_as_it_is_published(tmp_path):
    theirs = get_model("densenet121", weights=None)
    theirs.classifier = nn.Sequential(nn.Linear(1024, 14), nn.Sigmoid())
    state = old_names(theirs.state_dict())
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    named = {f"module.densenet121.{k}": v for k, v in state.items() if "batches" not in k}
    path = tmp_path / "m-25012018-123527.pth.tar"
    torch.save({"epoch": 1, "state_dict": named, "best_loss": np.float64(0.1)}, path)
    ours = build("densenet121", channels=3, outputs=14).eval()
    load_into(ours, read(path))
    x = torch.rand(2, 3, 32, 32)
    expected = theirs.eval()((x - ours.mean) / ours.std)
    torch.testing.assert_close(ours(x).sigmoid(), expected, rtol=1e-3, atol=1e-4)


def test_a_refusal_names_the_prefix(tmp_path):
    state = {f"student.{n}": v for n, v in build("lenet").state_dict().items()}
    state["teacher.conv.weight"] = torch.zeros(1)
    with pytest.raises(
        CheckpointError, match=r"of its \d+ arrays have 'student\.' before the model's own names"
    ):
        load_into(build("lenet"), state)


class Malicious:
    def __reduce__(self):
        return (Path.touch, (self.path,))

    def __init__(self, path):
        self.path = path


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", [".pt", ".pth.tar", ".safetensors"])
def test_nothing_is_ever_run(tmp_path, zipped, suffix):
    sign, path = tmp_path / "it ran", tmp_path / f"a{suffix}"
    content = {"state_dict": build("lenet").state_dict(), "extra": Malicious(sign)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"a\.(pt|pth\.tar|safetensors): ") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert not sign.exists()
    path.write_bytes(pickle.dumps(Malicious(sign)))
    with pytest.raises(CheckpointError):
        read(path)
    assert not sign.exists()
    pickle.loads(path.read_bytes())  # it does run where it is let
    assert sign.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pt", b"", "holds more than plain tensors, or is no checkpoint"),
        ("a.pt", b"PK\x03\x04broken", "is no checkpoint"),
        ("a.safetensors", b"text", "cannot be read as safetensors"),
        ("a.safetensors", b"", "cannot be read as safetensors"),
        ("a.onnx", b"", "allowed are files that end in .safetensors, .pt, .pth, .tar, .ckpt"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: .*{message}") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {"state_dict": {"epoch": 3}}, {}])
def test_a_file_without_arrays_is_named(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"a\.pt: holds no state dict \(but "):
        read(tmp_path / "a.pt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such file or folder"):
        read(tmp_path / "a.pt")


def test_a_run_gives_the_model_of_any_round(tmp_path):
    with pytest.raises(CheckpointError, match="holds no model; a run keeps them with checkpoints"):
        read(tmp_path)
    models = [build("lenet", seed=seed) for seed in range(3)]
    for number, model in enumerate(models):
        write(tmp_path / "checkpoints" / f"round-{number:03d}.safetensors", model)
    assert same(read(tmp_path), dict(models[2].state_dict()))
    first = checkpoints.of_round(tmp_path, 0)
    assert same(read(first), dict(models[0].state_dict()))
    with pytest.raises(CheckpointError, match="holds no model of round 7"):
        checkpoints.of_round(tmp_path, 7)


TORCHVISION = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "densenet121": "densenet121",
    "efficientnet-b0": "efficientnet_b0",
    "convnext-tiny": "convnext_tiny",
}


@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.parametrize("prefix", ["", "densenet121."])
@pytest.mark.parametrize("channels", [1, 3])
def test_torchvisions_names_fit(name, prefix, channels):
    theirs = get_model(TORCHVISION[name], weights=None, num_classes=2).eval()
    state = {prefix + k: v for k, v in theirs.state_dict().items()}
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    ours = build(name, channels=channels, seed=5).eval()
    load_into(ours, state)
    x = torch.rand(2, 3, 32, 32) if channels == 3 else torch.rand(2, 1, 32, 32)
    expected = theirs(((x - ours.mean) / ours.std).expand(-1, 3, -1, -1))
    torch.testing.assert_close(ours(x), expected, rtol=1e-3, atol=1e-4)


def test_a_head_of_another_size_can_be_left_alone():
    theirs = get_model("resnet18", weights=None).state_dict()
    ours = build()
    head = ours.head.weight.detach().clone()
    with pytest.raises(CheckpointError, match=r"head\.weight is \(1000, 512\), not \(2, 512\), he"):
        load_into(ours, theirs)
    load_into(ours, theirs, head=False)
    assert torch.equal(ours.head.weight, head)
    assert torch.equal(ours.body.bn1.weight, theirs["bn1.weight"])


def test_a_model_with_group_norm_takes_scale_and_shift_alone():
    theirs = build(seed=2)
    nn.init.uniform_(theirs.body.bn1.weight)
    ours = build(norm="group")
    load_into(ours, theirs.state_dict())
    assert torch.equal(ours.body.bn1.weight, theirs.body.bn1.weight)
    with pytest.raises(CheckpointError, match="body.bn1.running_mean is missing"):
        load_into(build(), ours.state_dict())


def test_what_does_not_fit_is_named_and_nothing_is_loaded():
    model = build()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_into(model, build("lenet", seed=3).state_dict())
    message = str(caught.value)
    assert message.startswith("does not fit the model: body.conv1.weight is missing, body.bn1.w")
    assert message.count("missing") == 3
    assert " more" in message
    assert same(before, dict(model.state_dict()))
    with pytest.raises(CheckpointError, match="extra.weight is not in the model"):
        load_into(model, {**before, "extra.weight": torch.zeros(1)})


def test_a_model_starts_from_a_file(tmp_path):
    source, model = build("lenet", seed=1), build("lenet", seed=2)
    save_file(dict(source.state_dict()), tmp_path / "a.safetensors")
    load_pretrained(str(tmp_path / "a.safetensors"), "lenet", model)
    assert same(dict(model.state_dict()), dict(source.state_dict()))
    load_pretrained("", "lenet", model)
    with pytest.raises(ModelError, match=r"model\.weights = '/nowhere\.pt': /nowhere\.pt: no such"):
        load_pretrained("/nowhere.pt", "lenet", model)


def test_a_head_of_other_outputs_stays_the_models_own(tmp_path):
    source, model = build("lenet", seed=1, outputs=14), build("lenet", seed=2)
    save_file(dict(source.state_dict()), tmp_path / "a.safetensors")
    head = model.head.weight.detach().clone()
    load_pretrained(str(tmp_path / "a.safetensors"), "lenet", model)
    assert torch.equal(model.head.weight, head)
    assert same(dict(model.body.state_dict()), dict(source.body.state_dict()))


def test_imagenet_weights_are_taken_where_they_can_be_had(monkeypatch):
    theirs = get_model("resnet18", weights=None)
    monkeypatch.setattr(
        "torchvision.models.ResNet18_Weights.get_state_dict", lambda *a, **k: theirs.state_dict()
    )
    model = build()
    load_pretrained("imagenet", "resnet18", model)
    torch.testing.assert_close(model.body.conv1.weight, theirs.conv1.weight.sum(1, keepdim=True))
    assert model.head.out_features == 2
    assert (model.mean, model.std) == (0.449, 0.226)


def test_imagenet_weights_that_cannot_be_had_are_one_line(monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models.ResNet18_Weights.get_state_dict", no_network)
    with pytest.raises(ModelError, match=r"'imagenet': https://.* \(no network\); put") as caught:
        load_pretrained("imagenet", "resnet18", build())
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="'imagenet': lenet has none; those that have are resnet"):
        load_pretrained("imagenet", "lenet", build("lenet"))


def test_the_normalisation_of_a_checkpoint():
    model = build("resnet18", channels=3).eval()
    x = torch.rand(2, 3, 32, 32)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    theirs = Normalize(mean, std)(x)
    expected = model.head(model.body(theirs).flatten(1))
    normalisation.apply(model, "0.485, 0.456, 0.406", "0.229,0.224,0.225", 3)
    torch.testing.assert_close(model(x), expected)
    assert model.double()(x.double()).dtype == torch.float64
    assert not any(name == "mean" or name == "std" for name in model.state_dict())
    normalisation.apply(model, "0.5", "", 3)
    assert model.mean == 0.5


@pytest.mark.parametrize(
    ("mean", "std", "channels", "message"),
    [
        (
            "0.1,0.2,0.3",
            "",
            1,
            r"model\.mean = '0\.1,0\.2,0\.3': must be empty, or a number \(data",
        ),
        ("0.1,0.2", "", 3, r"model\.mean = '0\.1,0\.2': must be .* or 3, one a channel"),
        ("a", "", 1, r"model\.mean = 'a': must be"),
        ("", "0", 1, r"model\.std = '0': must be empty, or a number > 0"),
        ("", "inf", 1, r"model\.std = 'inf': must be"),
    ],
)
def test_a_normalisation_that_is_none_is_named(mean, std, channels, message):
    with pytest.raises(ModelError, match=message):
        normalisation.apply(build("lenet", channels=channels), mean, std, channels)
