"""What the documentation says of the code is so: names, tables, commands, and which test runs them."""

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
OURS = ("realtime", "dynadiff")
TOOLS = ("git", "ruff", "mypy", "lint-imports", "pre-commit")
PROGRAMS = (*OURS, *TOOLS, "make", "python", "pytest", "accelerate", "torchrun", "pip")
TOP = ("dynadiff", "realtime", "replay", "exporters", "benchmarks", "docs", "tests", ".ci")
# What a run leaves behind, or what belongs to somebody else: named in the documentation, and no file of the repository.
OUTPUTS = {
    "summary.json", "run.json", "feed.rec", "volumes.jsonl", "montage.png", "decode.mp4", "vol-0008.png",
    "store.json", "plan.json", "NAME.json", "STAGE-STEP.png", "STAGE.jsonl", "STAGE.safetensors",
    "pytorch_model.bin.index.json", "model.safetensors.index.json", "scores.json", "test-trials.png",
    "fold-NN.json", "haxby.json",
}  # fmt: skip
TO_COME = {"realtime/scanner/"}  # said to be planned: take the word back once it is there
NOT_COMMANDS = ("<!-- packages -->", "<!-- floors -->")  # blocks whose lines begin with the name of a package
USAGE_ERROR = typer.BadParameter.__mro__[1]  # click's, or that of the copy of click that typer brings
BLOCK = re.compile(r"(?P<before>[^\n]*)\n```(?P<kind>[^\n]*)\n(?P<text>.*?)\n```", re.DOTALL)


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def packages():
    """The script docs/packages.py as a module."""
    spec = importlib.util.spec_from_file_location("packages", ROOT / "docs" / "packages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def between(text: str, name: str) -> list[str]:
    """The lines of the fenced block after a marker."""
    block = re.search(rf"<!-- {name} -->\n```\n(.*?)\n```", text, re.DOTALL)
    assert block is not None, f"there is no block {name}"
    return block[1].split("\n")


def blocks(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The line before each fenced block, and its commands: continued lines joined, comments cut off."""
    for block in BLOCK.finditer("\n" + path.read_text("utf-8")):
        if block["before"] in NOT_COMMANDS:
            continue
        lines = (re.split(r"\s+#\s", line)[0] for line in block["text"].replace("\\\n", " ").split("\n"))
        found = [c.strip() for line in lines for c in line.split(" & ") if is_command(c.strip().removesuffix("&"))]
        if found:
            yield block["before"], [command.removesuffix("&").strip() for command in found]


def words_of(command: str) -> list[str]:
    """Without variables before it and without the folder of its environment."""
    words = shlex.split(command)
    while words and re.fullmatch(r"[A-Z_]+=\S+", words[0]):
        words.pop(0)
    return [re.sub(r"^\.venv-\w+/bin/", "", words[0]), *words[1:]] if words else []


def is_command(line: str) -> bool:
    first = re.sub(r"^([A-Z_]+=\S+ )*(\.venv-\w+/bin/)?", "", line).split(" ")
    return len(first) > 1 and first[0] in PROGRAMS


def inline(path: Path) -> Iterator[str]:
    """Commands that stand in a sentence."""
    prose = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    for code in re.findall(r"`([^`]+)`", prose):
        line = " ".join(code.split())
        if is_command(line.removesuffix("&").strip()):
            yield line.removesuffix("&").strip()


def commands_of(program: str) -> dict[str, Any]:
    if program == "realtime":
        from realtime.cli import app
    else:
        from dynadiff.cli.main import app
    return typer.main.get_command(app).commands


def options_of(command: Any) -> set[str]:
    names = (name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts))
    return {"--help", *names}


def check_ours(words: list[str], whole: bool) -> None:
    """Parse a command of ours, starting nothing; of one that is left open, its name and options are looked up."""
    commands = commands_of(words[0])
    assert words[1] in commands, f"there is no command {words[1]}"
    command = commands[words[1]]
    if whole and "…" not in words:
        try:
            command.make_context(words[1], words[2:])
        except USAGE_ERROR as wrong:
            raise AssertionError(f"{' '.join(words)}: {wrong}") from wrong
        return
    unknown = {word.partition("=")[0] for word in words[2:] if word.startswith("--")} - options_of(command)
    assert not unknown, f"{words[1]} has no {unknown}"


def check(command: str, whole: bool = True) -> None:
    words = words_of(command)
    match words[0]:
        case "realtime" | "dynadiff":
            check_ours(words, whole)
        case "make":
            targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
            assert [w for w in words[1:] if "=" not in w and w not in targets] == []
        case "python" if words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file()
            options = {word for word in words[2:] if word.startswith("--")}
            assert all(option in (ROOT / words[1]).read_text() for option in options)
        case "accelerate" | "torchrun":
            assert words[words.index("-m") + 1] == "dynadiff"
            check_ours(["dynadiff", *words[words.index("-m") + 2 :]], whole)
        case "pip":
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            for asked in re.findall(r"\[([\w,-]+)\]", command):
                assert set(asked.split(",")) <= extras.keys()
        case "pytest":
            assert all((ROOT / word).exists() for word in words[1:] if word.startswith("tests"))


def names(text: str) -> Iterator[str]:
    """What looks like a file or folder of the repository: a known ending, or a path below one of its folders."""
    top = "|".join(re.escape(name) for name in TOP)
    for token in re.findall(r"(?<![\w/.:@-])(\.?[\w][\w./*-]*)", text):
        path = token.rstrip(".")
        if re.search(r"\.(py|md|png|toml|cff|json|jsonl|rec|mp4|tsv|yml|yaml)$", path) or re.match(f"({top})/.", path):
            yield path


def code_of(path: Path) -> str:
    """All that stands in backticks, in fenced blocks without commands' arguments, and the targets of links."""
    text = path.read_text("utf-8")
    fenced = [block["text"] for block in BLOCK.finditer("\n" + text)]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return "\n".join([*fenced, *re.findall(r"`([^`]+)`", prose)])


def is_there(name: str, page: Path) -> bool:
    if "/" in name:
        return any((folder / name).exists() for folder in (ROOT, page.parent))
    return name in {path.name for path in files()}


def files() -> list[Path]:
    return [path for top in TOP for path in (ROOT / top).rglob("*") if path.is_file()] + [
        path for path in ROOT.iterdir() if path.is_file()
    ]


def defines(path: Path, dotted: str) -> bool:
    """Whether a file defines a name, as ``decode`` or ``RunDecoder.volume``."""
    body: list[ast.stmt] = ast.parse(path.read_text("utf-8")).body
    for part in dotted.split("."):
        found = next((node for node in body if part in bound(node)), None)
        if found is None:
            return False
        body = getattr(found, "body", [])
    return True


def bound(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_nothing_is_left_to_be_filled_in(page):
    prose = re.sub(r"```.*?```|`[^`]+`", "", page.read_text("utf-8"), flags=re.DOTALL)
    assert re.findall(r"\b(?:[A-Z]+_[A-Z]+|TODO|FIXME|XXX|TBD)\b", prose) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_file_that_is_named_exists(page):
    asked = set(names(code_of(page))) - TO_COME
    assert sorted(name for name in asked if Path(name).name not in OUTPUTS and not is_there(name, page)) == []


def test_what_is_to_come_has_not_come_and_what_a_run_leaves_is_no_file_of_ours():
    assert not [name for name in TO_COME if (ROOT / name).exists()]
    assert not OUTPUTS & {path.name for path in files()}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.is_file(), target
        headings = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE) if anchor else []
        slugs = {re.sub(r"[^\w -]", "", heading).strip(" ").lower().replace(" ", "-") for heading in headings}
        assert not anchor or anchor.rstrip("-") in {slug.rstrip("-") for slug in slugs}, target


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_dotted_names_are_modules_and_what_they_define(page):
    for name in re.findall(r"(?<![\w/.-])((?:dynadiff|realtime|replay|exporters)(?:\.\w+)+)", code_of(page)):
        to_come = name.replace(".", "/") + "/" in TO_COME
        if to_come or name.rpartition(".")[2] in ("jsonl", "safetensors", "main:main"):
            continue
        parts = name.split(".")
        known = next(k for k in range(len(parts), 0, -1) if is_module(parts[:k]))
        assert known > 1, name
        assert known == len(parts) or defines(module_file(parts[:known]), ".".join(parts[known:])), name


def is_module(parts: list[str]) -> bool:
    return module_file(parts).is_file()


def module_file(parts: list[str]) -> Path:
    package = ROOT.joinpath(*parts)
    return package / "__init__.py" if package.is_dir() else package.with_name(package.name + ".py")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_a_name_after_a_file_is_defined_in_it(page):
    for path, name in re.findall(r"([\w./-]+\.py)::([\w.]+)", page.read_text()):
        assert defines(ROOT / path, name.rstrip(".")), f"{path} has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_no_module_is_named_where_it_lay_before(page):
    """Anywhere in the text: version 0.1.0 had all modules side by side in two folders."""
    named = re.findall(r"(?<![\w/])((?:dynadiff|realtime)/\w+\.py)", page.read_text("utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_architecture_shows_who_uses_whom():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    shown = "\n".join(between(text, "packages"))
    assert shown == packages().table()
    printed = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "packages.py")], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == shown


def test_architecture_shows_the_floors_of_the_contract():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    lines = between((ROOT / "docs" / "architecture.md").read_text("utf-8"), "floors")
    assert [re.split(r"\s{2,}", line)[0] for line in lines] == contract["layers"]


def test_the_readme_lists_every_package_with_its_own_first_sentence_top_floor_first():
    text = (ROOT / "README.md").read_text("utf-8").partition("## The packages")[2]
    found = BLOCK.search(text)
    assert found is not None
    shown = dict(re.split(r"/\s+", line, maxsplit=1) for line in found["text"].split("\n"))
    ours = [path.parent for house in TOP[:4] for path in (ROOT / house).rglob("__init__.py")]
    names = {path.relative_to(ROOT).as_posix(): path for path in ours} | {"dynadiff": None}
    assert {name for name in shown if name not in ("benchmarks", "docs", "tests")} == names.keys() - {"dynadiff"}
    for name, path in names.items():
        if path is not None:
            said = " ".join((ast.get_docstring(ast.parse((path / "__init__.py").read_text())) or "").split())
            assert said.partition(". ")[0].rstrip(".") + "." == shown[name]
    order = [name.replace("/", ".") for name in shown]
    for name, uses in packages().used().items():
        if name != "dynadiff":
            assert {other for other in uses if other not in order[order.index(name) :]} == set(), name


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_in_a_block_parses_and_says_which_test_runs_it(page):
    for before, commands in blocks(page):
        for command in commands:
            check(command)
        marker = re.fullmatch(r"<!-- (?:not run here: (?P<why>.+)|run by (?P<tests>[\w/., ]+)) -->", before)
        assert marker is not None, f"what runs {commands[0]!r}, or why does nothing?"
        if marker["tests"]:
            sources = [(ROOT / name).read_text() for name in marker["tests"].split(", ")]
            for words in map(words_of, commands):
                name = f'"{words[1]}"' if words[0] in OURS else Path(words[1]).name
                assert any(name in source for source in sources), f"{marker['tests']} runs no {words[1]}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_in_a_sentence_is_one(page):
    for command in inline(page):
        check(command, whole=False)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_option_in_a_sentence_is_one_of_ours(page):
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    asked = {word.strip("`").partition("=")[0] for word in re.findall(r"`--[\w-]+", prose)}
    every = [command for program in OURS for command in commands_of(program).values()]
    assert asked - {option for command in every for option in options_of(command)} == set()


def test_the_list_of_commands_is_whole():
    said = {tuple(words_of(c)[:2]) for _, found in blocks(ROOT / "docs" / "commands.md") for c in found}
    ours = {(program, name) for program in OURS for name in commands_of(program)}
    assert ours - said == set()


def test_a_command_that_is_wrong_is_noticed():
    """Else the tests above prove little."""
    for wrong in (
        "realtime decode --engin onnx", "realtime replay --run twelve", "realtime dcode --headless",
        "dynadiff train -v",
        "dynadiff train --sbjects 1 …", "make demon", "python docs/package.py", "pip install '.[tran]'",
        "pytest tests/nothing", "accelerate launch -m dynadif train",
    ):  # fmt: skip
        with pytest.raises(AssertionError):
            check(wrong)
    page = ROOT / "README.md"
    assert not is_there("dynadiff/engine.py", page)
    assert not defines(ROOT / "realtime" / "feed" / "order.py", "Position.before")
    assert list(names("see realtime/feed/wire.py, wire.json and realtime/feed.")) == [
        "realtime/feed/wire.py", "wire.json", "realtime/feed",
    ]  # fmt: skip


def test_citation_changelog_and_package_agree_on_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "cff-version: 1.2.0" in citation
    said = pytest.importorskip("yaml").safe_load(citation)
    assert {"message", "title", "authors", "version", "license", "references"} <= said.keys()
    assert str(said["version"]) == version
    assert all(reference["authors"] and reference["title"] for reference in said["references"])
