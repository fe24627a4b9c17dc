"""The identity of an engine: whatever its numbers depend on changes the key, and a foreign plan is refused."""

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiff.base.documents import read_document
from dynadiff.base.errors import UserError
from dynadiff.engines.build import Build, Machine, Network, parse_specification, refuse_foreign, specification, system

NETWORK = Network({"latent": "float32[1,4,8,8]"}, {"next": "float32[1,4,8,8]"})
BUILD = Build(
    weights={"brain.safetensors": "a", "lora.safetensors": "b", "generator/unet/model.safetensors": "c"},
    graphs={"step.onnx": "d", "step.data": "e"},
    networks={"brain": NETWORK, "step": NETWORK, "decoder": NETWORK},
    precision="float32",
    choices={"lora_scale": 1.0, "guidance": "both halves", "opset": 23, "level": 3},
    libraries={"tensorrt": "11.4.0.106", "onnx": "1.23.2"},
    exporter=1,
    gpu="NVIDIA L4",
    targets=("8.9",),
    system=system(),
)
HERE = Machine("tensorrt", "11.4.0.106", "NVIDIA L4", "8.9")


def leaves(value: object, path: tuple = ()) -> list[tuple]:
    if isinstance(value, dict):
        return [found for key in value for found in leaves(value[key], (*path, key))]
    return [path]


def changed(raw: dict, path: tuple, key: bool) -> dict:
    copied = json.loads(json.dumps(raw))
    place = copied
    for name in path[:-1]:
        place = place[name]
    if key:
        place[path[-1] + "x"] = place.pop(path[-1])
    else:
        place[path[-1]] = [*place[path[-1]], "1.0"] if isinstance(place[path[-1]], list) else str(place[path[-1]]) + "1"
    return copied


RAW = json.loads(json.dumps(asdict(BUILD)))


@pytest.mark.parametrize("path", leaves(RAW), ids="/".join)
def test_every_part_of_the_record_changes_the_key(path: tuple) -> None:
    assert Build(**changed(RAW, path, key=False)).key() != BUILD.key()
    if len(path) > 1:
        assert Build(**changed(RAW, path, key=True)).key() != BUILD.key()


@given(st.permutations(list(RAW)), st.permutations(list(RAW["weights"])))
def test_the_key_does_not_depend_on_the_order_of_anything(order: list[str], names: list[str]) -> None:
    shuffled = {name: RAW[name] for name in order}
    shuffled["weights"] = {name: RAW["weights"][name] for name in names}
    assert read_document(json.dumps(shuffled), Build) == BUILD
    assert read_document(json.dumps(shuffled), Build).key() == BUILD.key()


@given(st.sampled_from(["float32", "uint8"]), st.lists(st.integers(1, 99), max_size=5))
def test_specifications_are_read_as_written(dtype: str, shape: list[int]) -> None:
    assert parse_specification(specification(dtype, tuple(shape))) == (dtype, tuple(shape))


@pytest.mark.parametrize(
    "raw", [None, [], {}, RAW | {"surprise": 1}, RAW | {"precision": "int3"}, RAW | {"networks": {}}]
)
def test_what_is_no_record_is_not_read(raw: object) -> None:
    with pytest.raises(ValueError, match=r"^Expected|missing|^keys|^Invalid enum|^its networks are"):
        read_document(json.dumps(raw), Build)


def parts(value: object, path: tuple = ()) -> list[tuple]:
    """Paths to everything in a JSON value, the elements of lists included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, part in inside for found in ((*path, key), *parts(part, (*path, key)))]


@pytest.mark.parametrize("other", [None, [[]], {"a": None}], ids=["null", "list", "object"])
@pytest.mark.parametrize("name", RAW)
def test_a_record_with_a_part_of_another_kind_is_not_read(name: str, other: object) -> None:
    for path in parts({name: RAW[name]}):
        spoilt = json.loads(json.dumps(RAW))
        place = spoilt
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = other
        with pytest.raises(ValueError, match=r"^Expected|missing|^keys|^Invalid enum"):
            read_document(json.dumps(spoilt), Build)


@pytest.mark.parametrize("name", RAW)
def test_a_record_without_a_part_is_not_read(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        read_document(json.dumps({key: part for key, part in RAW.items() if key != name}), Build)


def test_the_machine_it_was_built_for_is_not_refused() -> None:
    refuse_foreign(BUILD, HERE, "again")
    refuse_foreign(replace(BUILD, gpu=""), replace(HERE, gpu="any"), "again")  # built ahead of time


@pytest.mark.parametrize(
    ("build", "machine", "said"),
    [
        ({}, {"version": "11.5"}, "with tensorrt 11.4.0.106, and 11.5 is installed"),
        ({}, {"library": "tensorrt_rtx", "version": "1.7"}, "with tensorrt_rtx None, and 1.7 is installed"),
        ({"system": "win32-AMD64"}, {}, f"for win32-AMD64, and this is {system()}"),
        ({"targets": ("8.6", "8.0")}, {}, "for compute capability 8.6, 8.0, and NVIDIA L4 has 8.9"),
        ({}, {"gpu": "NVIDIA L40"}, "on NVIDIA L4, and this machine has NVIDIA L40"),
    ],
)
def test_any_other_machine_is_refused_with_what_to_do(build: dict, machine: dict, said: str) -> None:
    with pytest.raises(UserError, match=said + r": build it again with `again`"):
        refuse_foreign(replace(BUILD, **build), replace(HERE, **machine), "again")
