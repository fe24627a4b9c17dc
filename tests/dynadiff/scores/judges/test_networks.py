"""The published architectures: names, shapes and counts of their weights, and what they give, as torchvision has them.

Digests and numbers were computed once with torchvision 0.29, and with the authors' class for Lite0, of the same made-up
weights and the same picture. torchvision itself is nowhere needed.
"""

import pytest

torch = pytest.importorskip("torch")
from dynadiff.base.errors import UserError  # noqa: E402
from dynadiff.scores.judges import alexnet, efficientnet, inception, lite, resnet  # noqa: E402
from dynadiff.scores.judges.open import _source  # noqa: E402
from dynadiff.scores.judges.weights import load_published  # noqa: E402
from dynadiff.scores.settings import DYNADIFF, MINDEYE  # noqa: E402
from support.published import listed, made_up, noise, shapes_of  # noqa: E402

CLASSIFIER = {
    "classifier.1.weight": (4096, 9216), "classifier.1.bias": (4096,), "classifier.4.weight": (4096, 4096),
    "classifier.4.bias": (4096,), "classifier.6.weight": (1000, 4096), "classifier.6.bias": (1000,),
}  # fmt: skip
FC = {"fc.weight": (1000, 2048), "fc.bias": (1000,)}
NORM = ("weight", "bias", "running_mean", "running_var")
AUX = {"AuxLogits.conv0.conv.weight": (128, 768, 1, 1), "AuxLogits.conv1.conv.weight": (768, 128, 5, 5),
       "AuxLogits.fc.weight": (1000, 768), "AuxLogits.fc.bias": (1000,),
       **{f"AuxLogits.{c}.bn.num_batches_tracked": () for c in ("conv0", "conv1")},
       **{f"AuxLogits.{c}.bn.{k}": (w,) for c, w in (("conv0", 128), ("conv1", 768)) for k in NORM}}  # fmt: skip

# network, heads that are dropped, their shapes, digest of names and shapes, parameters, side, four features, mean |f|
CASES = {
    "alexnet2": (lambda: alexnet.AlexNet(alexnet.DEPTHS["alexnet2"]), alexnet.HEADS, CLASSIFIER, "9b204a0e6319caba",
                 61_100_840, 96, (0.625671, 3.584415, 0.0, 0.001491), 1.042951),
    "alexnet5": (lambda: alexnet.AlexNet(alexnet.DEPTHS["alexnet5"]), alexnet.HEADS, CLASSIFIER, "9b204a0e6319caba",
                 61_100_840, 96, (0.0, 0.029322, 0.0, 0.148362), 0.985517),
    "swav": (resnet.ResNet50, resnet.HEADS, FC, "fe1d335c3c7786ff", 25_557_032, 96,
             (7484.365234, 5857.588379, 17844.458984, 6537.067871), 6132.224609),
    "efficientnet": (efficientnet.EfficientNetB1, efficientnet.HEADS,
                     {"classifier.1.weight": (1000, 1280), "classifier.1.bias": (1000,)}, "f993bbb712c5cc92", 7_794_184,
                     96, (-4.8e-05, 37.88868, 40.820545, 12.237141), 21.507177),
    "inception": (inception.InceptionV3, inception.HEADS, FC | AUX, "bb1903caf15217f2", 27_161_264, 96,
                  (0.036983, 1.514565, 0.0, 0.0), 0.361118),
    "lite0": (lite.EfficientNetLite0, lite.HEADS, {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)},
              "49e2faab8cee1d84", 4_652_008, 224, (0.328239, 0.32644, 0.677963, 0.668989), 1.582889),
}  # fmt: skip


@pytest.mark.parametrize("key", CASES)
def test_a_network_has_the_published_weights_and_gives_the_published_features(key):
    build, heads, dropped, digest, parameters, side, some, size = CASES[key]
    network = build()
    shapes = shapes_of(network) | dropped
    assert listed(shapes) == digest
    assert all(name.startswith(heads) for name in dropped)
    of_heads = sum(torch.Size(s).numel() for k, s in dropped.items() if not k.endswith(("_mean", "_var", "_tracked")))
    assert sum(p.numel() for p in network.parameters()) + of_heads == parameters

    load_published(network, made_up(shapes), heads, "file")
    with torch.inference_mode():
        found = network.eval()(noise(side)).flatten()
    assert found[[0, 1, len(found) // 2, -1]].tolist() == pytest.approx(some, rel=1e-3, abs=2e-5 * size)
    assert found.abs().mean().item() == pytest.approx(size, rel=1e-4)


@pytest.mark.parametrize(("setting", "sizes"), [
    (DYNADIFF, {"alexnet2": 139_968, "alexnet5": 43_264}), (MINDEYE, {"alexnet2": 184_512, "alexnet5": 57_600}),
])  # fmt: skip
def test_features_have_the_published_sizes_in_both_settings(setting, sizes):
    pooled = {"clip": 768, "inception": 2048, "efficientnet": 1280, "swav": 2048}
    for key, size in (pooled | sizes).items():
        if key == "clip":
            pytest.importorskip("transformers")
        with torch.device("meta"):
            network = _source(key, setting).network().eval().to("meta")
            found = network(torch.empty(1, 3, setting.sides[key], setting.sides[key]))
        assert found.flatten(1).shape == (1, size), key


def test_weights_of_another_network_are_refused_by_the_first_tensor_that_does_not_fit():
    alex, res = made_up(shapes_of(alexnet.AlexNet(5))), made_up(shapes_of(resnet.ResNet50()))
    for state, said in (
        (res, r"x has bn1\.bias, which is no part"),
        ({k: v for k, v in alex.items() if k != "features.3.bias"}, r"x lacks features\.3\.bias: it is of another"),
        (alex | {"features.8.weight": torch.zeros(256, 256, 3, 3)}, r"features\.8\.weight of x is \(256, 256, 3, 3\)"),
    ):
        with pytest.raises(UserError, match=said):
            load_published(alexnet.AlexNet(5), state, alexnet.HEADS, "x")


def test_how_many_batches_were_seen_may_be_missing_in_older_files():
    network = resnet.ResNet50()
    state = {k: v for k, v in made_up(shapes_of(network)).items() if not k.endswith("tracked")}
    load_published(network, state, resnet.HEADS, "x")
    assert torch.equal(network.bn1.weight, state["bn1.weight"])
