"""Where no brain answers to any picture, no decoder may find one: the null phantom, every decoder, every metric."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from dynadiff.evaluation import run  # noqa: E402
from dynadiff.evaluation.evaluate import How  # noqa: E402
from dynadiff.evaluation.scored import Cell, Column, Evaluation  # noqa: E402
from dynadiff.phantom.tree import write_tree  # noqa: E402
from dynadiff.training.presets import PHANTOM  # noqa: E402
from dynadiff.training.recipe import train_recipe  # noqa: E402
from dynadiff.training.request import Recipe  # noqa: E402
from support.phantoms import SHAPES  # noqa: E402

TRAINED = replace(
    PHANTOM, width=16, batch=32, warm_start=60, warmup=5, steps=4, precision="no", sampling_steps=3, online=1.0,
)  # fmt: skip
CEILING = "ceiling: the picture's own tokens"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    home = tmp_path_factory.mktemp("null")
    write_tree(home / "tree", [1], [1, 2, 3], [1], shapes=SHAPES, null=True)
    train_recipe(
        Recipe(
            "phantom", TRAINED, home / "tree", (1,), home / "model", "embedded", sessions=(1, 2, 3), allow_missing=True
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynadiff.evaluation.columns.DRAWS", 20)
        patch.setattr(run, "has_lite0", lambda: False)  # it looks at 224 pixels, which takes seconds
        return run.run_evaluation(run.Asked([home / "model"], lambda *_: home / "tree", How()))[0]


def test_no_decoder_is_above_chance_in_any_metric(found: Evaluation) -> None:
    rows = [row for row in found.subjects[0].rows if row.decoder != CEILING]
    assert len(rows) >= 5
    for column in found.columns:
        cells = [cell for row in rows if (cell := row.cell(column.key))]
        assert cells
        if column.title.startswith("two-way"):
            for cell in cells:
                assert abs(cell.mean - 0.5) < 2 * (cell.high - cell.low), (column, cell)
    levels = [_beyond(cell, found.column(cell.column)) for row in rows for cell in row.cells if cell.chance is not None]
    assert len(levels) > 30
    assert np.mean(levels) < 0.2  # the level is one that chance itself passes once in twenty times


def test_what_is_decoded_from_the_picture_itself_is(found: Evaluation) -> None:
    ceiling = found.subjects[0].row(CEILING)
    assert ceiling is not None
    assert all(_beyond(cell, found.column(cell.column)) for cell in ceiling.cells if cell.chance is not None)


def _beyond(cell: Cell, column: Column) -> bool:
    assert cell.chance is not None
    return cell.mean > cell.chance if column.higher_is_better else cell.mean < cell.chance
