"""What an evaluation decodes, paints and scores online of a trial knows no volume after the trial's window.

Two things are of later ones, by what they are, and their names say so: the row of offline cleaning, and the two-way
score in the direction that Dynadiff published, where a reconstruction competes with those of all other trials.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from dynadiff.evaluation.columns import Eyes  # noqa: E402
from dynadiff.evaluation.evaluate import How, Judged, decoded, evaluate, judged  # noqa: E402
from dynadiff.evaluation.scored import Column, Subject  # noqa: E402
from dynadiff.networks.brain import BrainConfig  # noqa: E402
from dynadiff.networks.generator import save_generator  # noqa: E402
from dynadiff.networks.model import ModelConfig, new_model  # noqa: E402
from dynadiff.networks.model_folder import save_model  # noqa: E402
from dynadiff.recordings.held_out import TEST, HeldOut, Trial, listed, write_trials  # noqa: E402
from dynadiff.recordings.masks import mask_digest  # noqa: E402
from dynadiff.signal.cleaning import Cleaning  # noqa: E402
from support.changing_tree import SPEC, ChangingTree  # noqa: E402
from support.look_ahead import SAME_ROWS, Acquired, Emission, LookAhead, check_no_look_ahead  # noqa: E402
from support.small_models import small_generator  # noqa: E402

FEW = {name: SAME_ROWS[name] for name in ("other values", "no numbers")}
Emit = Callable[[Acquired], Iterator[Emission]]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> ChangingTree:
    return ChangingTree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def model(tree: ChangingTree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model, of which the run that changes was held out."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    generator = small_generator()
    save_generator(generator, None, folder / "generator")
    trials = [Trial.of(tree.run.name, event) for event in tree.run.events]
    held = HeldOut("time-resolved", 0, None, ("01",), listed(trials))
    brain = BrainConfig(int(tree.mask.sum()), SPEC.length, 8, generator.tokens)
    config = ModelConfig(
        "01", 4 / 3, mask_digest(tree.mask), SPEC, Cleaning(), brain, "generator", steps=1, held_out=held
    )
    save_model(new_model(config, generator, tree.mask, np.eye(4)), folder)
    write_trials(folder / TEST, trials)
    return folder


@pytest.fixture
def given(tree: ChangingTree, model: Path) -> Callable[[Acquired], Judged]:
    """The model, and what it is judged on where the run is another one."""
    return lambda acquired: judged(model, lambda *_: tree.acquire(acquired).root, How())


def test_windows_that_are_decoded_online_do_not_look_ahead(given, tree: ChangingTree) -> None:
    def emit(kind: str, acquired: Acquired) -> Iterator[Emission]:
        yield from tree.of_trials("window", getattr(given(acquired), kind))

    after = [tree.last_rows()[k] for k in (0, 4)]
    check_no_look_ahead(lambda acquired: emit("online", acquired), tree.first, FEW, after)
    with pytest.raises(LookAhead):
        check_no_look_ahead(lambda acquired: emit("offline", acquired), tree.first, FEW, after)


@pytest.fixture
def evaluated(given, tree: ChangingTree, monkeypatch: pytest.MonkeyPatch):
    """An emitter: pictures of all decoders that are chosen, and those of their scores that are."""
    monkeypatch.setattr("dynadiff.evaluation.columns.DRAWS", 5)
    monkeypatch.setattr("dynadiff.evaluation.columns.score_pictures", lambda *given: ())  # of 425 pixels, a second each
    found: dict[bytes, tuple[Subject, list[Column], dict[str, np.ndarray]]] = {}

    def run(acquired: Acquired):
        key = b"".join(volume.tobytes() for volume in acquired.values())
        if key not in found:
            found[key] = evaluate(given(acquired), Eyes({}), How())
        return found[key]

    def emitter(decoder: Callable[[str], bool], column: Callable[[Column], bool]) -> Emit:
        def emit(acquired: Acquired) -> Iterator[Emission]:
            subject, columns, painted = run(acquired)
            assert subject.trials == tuple(event.picture for event in tree.run.events)
            for row in (row for row in subject.rows if decoder(row.decoder)):
                yield from tree.of_trials(f"picture of {row.decoder}", painted[row.decoder])
                for cell in (cell for one in columns if column(one) for cell in row.cells if cell.column == one.key):
                    yield from tree.of_trials(f"{cell.column} of {row.decoder}", cell.per_trial)

        return emit

    return emitter


def of_its_own(column: Column) -> bool:
    """Whether a trial's score is of its own reconstruction, and of what was shown."""
    return column.title != "two-way"


def test_what_is_called_online_is_painted_and_scored_without_what_comes_later(evaluated, tree: ChangingTree) -> None:
    after = [tree.last_rows()[4]]
    check_no_look_ahead(evaluated(lambda decoder: "online" in decoder, of_its_own), tree.first, FEW, after)
    with pytest.raises(LookAhead, match="of Dynadiff, offline cleaning"):
        check_no_look_ahead(evaluated(lambda decoder: "offline" in decoder, of_its_own), tree.first, FEW, after)
    with pytest.raises(LookAhead, match="two-way of nearest neighbour, online"):
        check_no_look_ahead(
            evaluated(lambda decoder: decoder.startswith("nearest"), lambda c: True), tree.first, FEW, after
        )


def test_a_score_that_reads_the_offline_windows_is_found(given, tree: ChangingTree) -> None:
    """Leak: in place of the online windows, which the row of that name says, those of the whole run are decoded."""

    def emit(acquired: Acquired) -> Iterator[Emission]:
        one = given(acquired)
        yield from tree.of_trials("picture", decoded(one.model, one.offline))

    with pytest.raises(LookAhead, match="picture of row"):
        check_no_look_ahead(emit, tree.first, {"one spike": SAME_ROWS["one spike"]}, [tree.last_rows()[4]])
