"""The layers of the design: which module may import which, checked in the source."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import msgspec
import pytest

import dulproto

ROOT = Path(dulproto.__file__).parent.parent
MODULES = sorted((ROOT / "dulproto").glob("*.py"))
MWL_MODULES = sorted((ROOT / "mwl").rglob("*.py"))
MAX_LINES = 450

# Bottom to top: a module imports from lower lines only, never from its own or a higher one.
LAYERS = [
    {"errors", "uids", "status", "fsm"},
    {"dictionary"},
    {"elements", "items"},
    {"pdu"},
    {"dimse", "acse"},
    {"assembler"},
    {"events", "repeat"},
    {"service", "machine"},
    {"association"},
    {"transport"},
    {"requests", "client"},
    {"acceptor"},
    {"server"},
]
# Beside the layers: they show what the core says, and nothing of the core knows them.
TOOLS = {"describe", "cli", "__main__", "__init__"}
WITH_IO = {"transport", "requests", "acceptor", "server", "client"}
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}


def imports(path: Path, *, at_run_time: bool = True) -> list[tuple[str, str]]:
    """Module and name of each import; those under `if TYPE_CHECKING` only if asked for."""
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    if at_run_time:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                skipped.update(inner for statement in node.body for inner in ast.walk(statement))
    found = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [("." * node.level + (node.module or ""), alias.name) for alias in node.names]
    return found


def own_imports(path: Path) -> set[str]:
    """The modules of dulproto that one of them imports."""
    modules = set()
    for module, name in imports(path):
        if module.startswith("."):
            modules.add(module.strip(".") or name)
        elif module.partition(".")[0] == "dulproto":
            modules.add(module.partition(".")[2] or name)
    return modules


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_module_has_its_place() -> None:
    names = {path.stem for path in MODULES}
    assert set(LAYER_OF) <= names
    assert names <= set(LAYER_OF) | TOOLS


@pytest.mark.parametrize("path", [p for p in MODULES if p.stem in LAYER_OF], ids=lambda path: path.stem)
def test_a_module_imports_from_lower_layers_only(path: Path) -> None:
    own = own_imports(path)
    assert {name for name in own if LAYER_OF.get(name, len(LAYERS)) >= LAYER_OF[path.stem]} == set()


@pytest.mark.parametrize("path", [p for p in MODULES if p.stem not in TOOLS], ids=lambda path: path.stem)
def test_the_core_does_no_io(path: Path) -> None:
    modules = {module.partition(".")[0] for module, _ in imports(path)}
    io = {"asyncio", "socket", "ssl", "selectors", "select", "threading", "subprocess", "time", "os", "uvloop"}
    if path.stem not in WITH_IO:
        assert modules & io == set()
    else:
        assert "asyncio" in modules


def test_the_state_table_imports_nothing_of_ours() -> None:
    assert own_imports(ROOT / "dulproto" / "fsm.py") == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_dulproto_knows_nothing_of_worklists(path: Path) -> None:
    assert not [module for module, _ in imports(path, at_run_time=False) if module.partition(".")[0] == "mwl"]


@pytest.mark.parametrize("path", MWL_MODULES, ids=dotted)
def test_mwl_uses_public_names_of_dulproto_only(path: Path) -> None:
    used = {
        name for module, name in imports(path, at_run_time=False) if module.partition(".")[0] == "dulproto" and name
    }
    assert used <= {*dulproto.__all__, "__version__", *(path.stem for path in MODULES if path.stem[0] != "_")}


def test_every_value_is_frozen() -> None:
    modules = [import_module(f"dulproto.{path.stem}") for path in MODULES if path.stem in LAYER_OF]
    values = {thing for module in modules for thing in vars(module).values() if is_struct(thing)}
    assert len(values) > 25
    assert {value.__name__ for value in values if not value.__struct_config__.frozen} == set()


def is_struct(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, msgspec.Struct) and thing is not msgspec.Struct


def test_the_public_names_exist_and_are_named_once() -> None:
    assert [name for name in dulproto.__all__ if not hasattr(dulproto, name)] == []
    assert len(set(dulproto.__all__)) == len(dulproto.__all__)


@pytest.mark.parametrize("path", [*MODULES, *MWL_MODULES], ids=dotted)
def test_no_file_is_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_there_is_no_module_for_odds_and_ends() -> None:
    assert not {path.stem for path in (*MODULES, *MWL_MODULES)} & {"utils", "util", "helpers", "common", "misc"}
