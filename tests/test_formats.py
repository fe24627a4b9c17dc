"""What an earlier version left on disk is read, and what it lacked is as stated; what a later one will is refused.

``tests/support/old`` holds a small document of each format and version, as it was written by the software of its time.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from dynadiff.base.documents import read_document, write_document
from dynadiff.base.errors import UserError
from dynadiff.engines.contract import Manifest
from dynadiff.engines.sampler import ddim
from dynadiff.evaluation.scored import load_evaluation
from dynadiff.recordings.masks import MASK, save_mask
from dynadiff.studies.haxby.kept import load_fold
from dynadiff.trials.prepare import prepare
from dynadiff.trials.store import VERSIONS, Plan, StoredRun, open_store
from realtime.feed.recording import Recording
from realtime.feed.wire import RunEnd
from realtime.records.resume import VERSIONS as RECORDS
from realtime.records.resume import check_same, earlier

OLD = Path(__file__).parent / "support" / "old"


def open_model(folder: Path) -> object:
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from dynadiff.networks.model_folder import load_config

    return load_config(folder)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with all that the first version left."""
    for name in ("model.json", "engine.json", "store.json", "run.json", "summary.json", "feed.rec"):
        stem, _, kind = name.partition(".")
        shutil.copyfile(OLD / f"{stem}-1.{kind}", tmp_path / name)
    save_mask(tmp_path / MASK, np.ones((2, 3, 2), np.bool_), np.eye(4))
    return tmp_path


def test_a_model_of_the_first_version_says_what_it_said(old: Path) -> None:
    said, known = json.loads((OLD / "model-1.json").read_text()), json.loads(write_document(open_model(old)))
    assert {key: known[key] for key in said} == said
    assert known["held_out"] is None


def test_a_model_of_the_second_version_has_no_trials_to_choose_by(old: Path) -> None:
    shutil.copyfile(OLD / "model-2.json", old / "model.json")
    said, known = json.loads((OLD / "model-2.json").read_text()), json.loads(write_document(open_model(old)))
    assert known == {key: value for key, value in said.items() if key != "version"} | {
        "held_out": said["held_out"] | {"validation": None},
        "spacing": "leading",
    }


def test_a_model_of_the_third_version_samples_at_evenly_spaced_timesteps(old: Path) -> None:
    shutil.copyfile(OLD / "model-3.json", old / "model.json")
    said, known = json.loads((OLD / "model-3.json").read_text()), json.loads(write_document(open_model(old)))
    assert known == {key: value for key, value in said.items() if key != "version"} | {"spacing": "leading"}
    for spoil in ({"spacing": "leading"}, {"guidance": [5.0] * 20}):  # which only later ones have
        (old / "model.json").write_text(json.dumps(said | spoil))
        with pytest.raises(UserError, match="not a model of this version"):
            open_model(old)


def test_an_evaluation_of_the_first_version_was_of_the_test() -> None:
    said, known = json.loads((OLD / "scores-1.json").read_text()), load_evaluation(OLD / "scores-1.json")
    assert known.on == "test"
    subjects = [subject | {"averaged": None, "sampling": ""} for subject in said["subjects"]]
    assert json.loads(write_document(known)) == {key: value for key, value in said.items() if key != "version"} | {
        "on": "test",
        "subjects": subjects,
    }


def test_an_evaluation_of_the_second_version_did_not_say_how_pictures_were_sampled(tmp_path: Path) -> None:
    said, known = json.loads((OLD / "scores-2.json").read_text()), load_evaluation(OLD / "scores-2.json")
    assert [subject.sampling for subject in known.subjects] == [""] * len(known.subjects)
    lacked = {"subjects": [subject | {"sampling": ""} for subject in said["subjects"]]}
    assert json.loads(write_document(known)) == {key: value for key, value in said.items() if key != "version"} | lacked
    (tmp_path / "scores.json").write_text(json.dumps(said | lacked))
    with pytest.raises(UserError, match="is no evaluation of this version"):
        load_evaluation(tmp_path)


def test_an_engine_of_the_first_version_samples_by_ddim_evenly_and_guided_alike(old: Path) -> None:
    said = json.loads((OLD / "engine-1.json").read_text())
    manifest = Manifest.load(old)
    assert (said["steps"], said["guidance"]) == (manifest.steps, manifest.guidance) == (20, 5.0)
    assert [row.timestep for row in manifest.sampler] == list(range(951, 0, -50))
    assert [[row.x, row.eps] for row in manifest.sampler] == manifest.schedule.ddim(
        manifest.schedule.timesteps(20)
    ).tolist()
    assert manifest.sampler == ddim(manifest.schedule, 20, 5.0)
    assert (manifest.spacing, manifest.evaluations) == ("leading", (2,) * 20)


def test_an_engine_of_the_second_version_keeps_its_table_and_has_no_network_of_one_half(old: Path) -> None:
    said = json.loads((OLD / "engine-2.json").read_text())
    rows = [row | {"guidance": 1.0} for row in said["sampler"][:2]] + said["sampler"][2:]
    moved = [said["sampler"][0] | {"timestep": 999}, *said["sampler"][1:]]
    for table, spacing in ((said["sampler"], "leading"), (rows, "leading"), (moved, "listed")):
        (old / "engine.json").write_text(json.dumps(said | {"sampler": table}))
        manifest = Manifest.load(old)
        assert [asdict(row) for row in manifest.sampler] == table
        assert (manifest.spacing, manifest.networks) == (spacing, ("brain", "step", "decoder"))
        assert manifest.evaluations == (2,) * 4  # its one step computes both halves, whatever the guidance
    (old / "engine.json").write_text(json.dumps(said | {"spacing": "leading"}))
    with pytest.raises(UserError, match="not an engine manifest of this version"):
        Manifest.load(old)


@pytest.mark.parametrize(
    "spoil",
    [
        {"steps": "many"},
        {"steps": 0},
        {"steps": 1000},
        {"schedule": {"beta_start": -1.0}},
        {"schedule": {"steps_offset": 999}},
        {},
    ],
)
def test_an_engine_that_says_it_is_of_the_first_version_and_is_not_is_one_sentence(spoil: dict, old: Path) -> None:
    said = json.loads((OLD / "engine-1.json").read_text()) | spoil
    if not spoil:
        del said["guidance"]
    (old / "engine.json").write_text(json.dumps(said))
    with pytest.raises(UserError, match="not an engine manifest of this version"):
        Manifest.load(old)


def test_a_store_of_the_first_version_is_opened(old: Path) -> None:
    store = open_store(old)
    assert (store.plan.kinds, store.plan.picture_size, store.tr) == (("offline",), 64, 4 / 3)
    assert [event.picture for event in store.runs[0].events] == ["7"]
    plan, record = ((OLD / f"{name}-1.json").read_bytes() for name in ("plan", "record"))
    assert read_document(VERSIONS.current(plan, "plan.json"), Plan) == store.plan
    assert read_document(VERSIONS.current(record, "record.json"), StoredRun) == store.runs[0]


def test_a_recording_of_the_first_version_is_read_to_its_end() -> None:
    *_, last = recorded = list(Recording(OLD / "feed-1.rec"))
    assert isinstance(last, RunEnd)
    assert (len(recorded), last.n_volumes, last.reason) == (4, 2, "complete")


def test_a_decode_of_the_first_version_is_gone_on_with(old: Path) -> None:
    before = earlier(old)
    assert (before.resumes, before.header.options["seed"], before.recording.position.n_volumes) == (2, 7, 2)
    now = json.loads((OLD / "run-1.json").read_text())
    del now["options"]["features"]  # what compares pictures is no choice any more, and changes none of them
    check_same(before, now)


def test_a_summary_of_the_first_version_was_scored_once_at_the_end() -> None:
    said = json.loads((OLD / "summary-1.json").read_text())
    lacked = {"identification_beside": [], "identification_running": []}
    assert json.loads(RECORDS.current(json.dumps(said), "summary.json")) == said | lacked
    header = json.loads((OLD / "run-1.json").read_text())
    assert json.loads(RECORDS.current(json.dumps(header), "run.json")) == header


def from_the_future(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99, "shape": "unheard of"}))


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("model.json", open_model),
        ("engine.json", Manifest.load),
        ("store.json", open_store),
        ("run.json", earlier),
        ("summary.json", earlier),
    ],
)
def test_a_version_yet_to_come_is_refused_in_one_sentence(name: str, read: Callable[[Path], object], old: Path) -> None:
    from_the_future(old / name)
    with pytest.raises(UserError, match=rf"{name} is of version 99 .*: install a newer dynadiff-realtime$"):
        read(old)


def test_a_fold_of_the_first_version_has_what_it_had() -> None:
    fold, said = load_fold(OLD / "fold-1.json"), json.loads((OLD / "fold-1.json").read_text())
    assert json.loads(write_document(fold)) == {key: value for key, value in said.items() if key != "version"}
    assert fold.categories[fold.shown[0]] == "face"
    assert len(fold.scores["Dynadiff's pictures"]) == 2


def test_a_store_that_a_newer_version_began_is_not_gone_on_with(tmp_path: Path) -> None:
    plan = read_document(VERSIONS.current((OLD / "plan-1.json").read_bytes(), "plan.json"), Plan)
    shutil.copyfile(OLD / "plan-1.json", tmp_path / "plan.json")
    from_the_future(tmp_path / "plan.json")
    with pytest.raises(UserError, match=r"plan\.json is of version 99 .*: install a newer"):
        prepare(None, 1, [], plan, tmp_path)


def test_the_page_tells_the_newest_version_of_each_format() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from dynadiff.engines import versions
    from dynadiff.evaluation import scored
    from dynadiff.networks import model_folder
    from dynadiff.studies.haxby import kept
    from dynadiff.trials import store
    from realtime.feed import recording
    from realtime.records import resume

    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
    rows = page.split("<!-- versions -->")[1].split("<!-- /versions -->")[0].strip().split("\n")[2:]
    told = {row.split("`")[-2]: int(row.split("|")[3]) for row in rows}
    known = {
        "dynadiff/networks/model_folder.py": model_folder.VERSIONS.newest,
        "dynadiff/engines/versions.py": versions.VERSIONS.newest,
        "dynadiff/trials/store.py": store.VERSIONS.newest,
        "realtime/records/resume.py": resume.VERSIONS.newest,
        "dynadiff/evaluation/scored.py": scored.VERSIONS.newest,
        "dynadiff/studies/haxby/kept.py": kept.VERSIONS.newest,
        "realtime/feed/recording.py": recording.VERSION,
    }
    assert told == known
    documents = (
        "model-1.json",
        "model-2.json",
        "model-3.json",
        "scores-1.json",
        "scores-2.json",
        "fold-1.json",
        "engine-1.json",
        "engine-2.json",
        "store-1.json",
        "run-1.json",
        "feed-1.rec",
    )
    assert all((OLD / name).exists() for name in documents)
