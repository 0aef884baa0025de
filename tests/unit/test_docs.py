"""What the documentation says is there: links, paths, keys, commands, names."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import regard
from regard import registry
from regard.cli import verbs
from regard.recipe import Recipe, builtin_names, json_schema
from regard.recipe.faults import all_keys
from regard.recipe.schema import key_rows

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "regard"
GUIDE = ROOT / "docs" / "guide"
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    fence = rf"^```{language}\n(.*?)^```$"
    return re.findall(fence, text_of(path), flags=re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    return re.sub(r"^```.*?^```$", "", text_of(path), flags=re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


pages = pytest.mark.parametrize("page", PAGES, ids=name)


def anchors(path: Path) -> set[str]:
    """The headings of a page as links name them."""
    titles = re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        goal = (page.parent / file).resolve() if file else page
        assert goal.exists(), f"{name(page)}: {link}"
        assert goal.is_relative_to(ROOT), f"{name(page)}: {link}"
        if anchor:
            assert anchor in anchors(goal), f"{name(page)}: {link}"


@pages
def test_no_page_speaks_of_a_machine(page: Path) -> None:
    assert not re.search(r"/(root|home|work|tmp|Users)/|localhost|127\.0\.0\.1", text_of(page))


def commands(page: Path) -> list[list[str]]:
    """The words of each call of regard in a page's shell blocks."""
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    calls = [re.split(r" \| ", line)[-1] for line in lines]
    return [shlex.split(call, comments=True)[1:] for call in calls if call.startswith("regard ")]


@pages
def test_commands_are_known(page: Path) -> None:
    keys = set(all_keys())
    for verb, *rest in commands(page):
        command, words = verbs.load(verb), rest
        if hasattr(command, "commands") and words and not words[0].startswith("-"):
            command, words = command.commands[words[0]], words[1:]
        assert command.make_context(verb, list(words)), (verb, rest)
        for word in words if verb in ("train", "check", "cost") else ():
            key = word.partition("=")[0]
            assert "=" not in word or key in keys or key.startswith("model."), word


@pages
def test_settings_in_pages_are_toml(page: Path) -> None:
    for block in blocks(page, "toml"):
        settings = tomllib.loads(block)
        needed = {"task": "translation", "training": {"max_steps": 1}}
        Recipe.from_settings({**needed, **settings}).check()


@pages
def test_python_in_pages_names_what_exists(page: Path) -> None:
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom | ast.Import):
                exec(compile(ast.Module([node], []), name(page), "exec"), {})
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.value.id != "regard" or hasattr(regard, node.attr), ast.unparse(node)


# What is written by a program is as the program writes it now


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs" / "make.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_written_parts_are_current(make: ModuleType) -> None:
    for path in make.PARTS:
        assert make.renewed(path, text_of(path)) == text_of(path), "run: python docs/make.py"


def test_every_recipe_key_is_documented(make: ModuleType) -> None:
    page = text_of(GUIDE / "recipes.md")
    rows = key_rows(json_schema())
    assert len(rows) > 100
    for key, *_ in rows:
        assert f"| `{key}` |" in page or f"| `{make.twin_of(key)}` |" in page, key
    for key in all_keys():
        if key not in ("model", *(f"data.{split}" for split in ("train", "valid", "test"))):
            assert key in [row[0] for row in rows], key


# Kinds and their pages


@pytest.mark.parametrize(
    ("group", "page"),
    [
        ("schedules", "training.md"),
        ("optimizers", "training.md"),
        ("tokenizers", "data.md"),
        ("positions", "recipes.md"),
        ("activations", "recipes.md"),
    ],
)
def test_every_kind_is_told_of(group: str, page: str) -> None:
    for kind in registry.names(group):
        assert re.search(rf"\b{kind}\b", text_of(GUIDE / page)), kind


def test_every_builtin_recipe_and_verb_is_told_of() -> None:
    told = "".join(text_of(page) for page in [ROOT / "README.md", *GUIDE.glob("*.md")])
    for recipe in builtin_names():
        assert f"`{recipe}`" in told, recipe
    for verb in verbs.VERBS:
        assert f"regard {verb}" in told, verb


# The paper beside the code


def paper_rows() -> list[str]:
    rows = re.findall(r"^\| (?:\d|Appendix).*$", text_of(ROOT / "docs/paper.md"), re.MULTILINE)
    assert len(rows) > 15
    return rows


@pytest.mark.parametrize("row", paper_rows(), ids=lambda row: row[2:40])
def test_the_paper_names_what_is_there(row: str) -> None:
    linked = [(ROOT / "docs" / link).resolve() for link in LINK.findall(row)]
    files = [f for path in linked for f in ([path] if path.is_file() else path.rglob("*.py"))]
    beside = {path.name for file in files for path in file.parent.iterdir()}
    texts = "\n".join(text_of(path) for path in files)
    for span in SPAN.findall(row):
        if span.endswith((".py", "/")):
            assert span in beside or (SOURCE / span).exists() or (ROOT / span).exists(), span
        elif re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*", span):
            owner, *parts = span.split(".")
            homes = [texts] if _defines(texts, owner) else _homes(owner)
            assert homes, f"{span}: nothing of that name"
            last = (parts or [owner])[-1]
            assert any(re.search(rf"\b{last}\b", home) for home in homes), span


def _defines(text: str, what: str) -> bool:
    return bool(re.search(rf"^(class|def) {what}\b", text, re.MULTILINE))


def _homes(what: str) -> list[str]:
    texts = (text_of(path) for path in SOURCE.rglob("*.py"))
    return [text for text in texts if _defines(text, what)]


def test_what_is_tracked_is_small() -> None:
    listed = subprocess.run(["git", "ls-files", "docs"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git here")
    for path in map(ROOT.joinpath, listed.stdout.splitlines()):
        assert path.stat().st_size < 100_000, name(path)
