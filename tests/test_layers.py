"""Who may import whom: the table of docs/architecture.md, checked on the source."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "fastdet"

EVERYONE = {"registry", "utils"}
ALLOWED: dict[str, set[str]] = {
    "utils": set(),
    "registry": set(),
    "structures": set(),
    "ops": set(),
    "config": set(),
    "data": {"structures", "ops", "config"},
    "models": {"structures", "ops"},
    "evaluation": {"structures"},
    "engine": {"structures", "config"},
    "deploy": {"structures", "ops", "models", "data"},
    "visualization": {"structures"},
    "compat": {"config"},
}
# Command lines and glue see everything; `data.__main__` is the `fastdet data` verb.
ENTRY_POINTS = {
    "train",
    "training",
    "test",
    "evaluating",
    "predict",
    "export",
    "exporting",
    "calibrating",
    "proving",
    "benching",
    "bench",
    "build",
    "doctor",
    "api",
    "tools",
    "__main__",
    "__init__",
}
# `utils.environment` tries the built ops on a known case, inside functions.
EXCEPTIONS = {("data.__main__", "compat"), ("data.__main__", "build"), ("utils.environment", "ops")}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module] if node.module != "fastdet" else [f"fastdet.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level > 0:
            package = path.relative_to(PACKAGE.parent).parent.parts
            base = package[: len(package) - (node.level - 1)]
            if node.module:
                names = [".".join((*base, node.module))]
            else:
                names = [".".join((*base, alias.name)) for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("fastdet.")}
    return rooms


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: module_name(p))
def test_imports_follow_the_table(path: Path) -> None:
    name = module_name(path)
    room = name.split(".")[0]
    if room in ENTRY_POINTS:
        return
    assert room in ALLOWED, f"{name}: a new room needs a line in the table of docs/architecture.md and here"
    allowed = ALLOWED[room] | EVERYONE | {room, "__version__", "_C", "_ops", "_ops_cuda"}
    extra = {r for r in imported_rooms(path) - allowed if (name, r) not in EXCEPTIONS}
    assert not extra, f"{name} imports {sorted(extra)}; allowed: {sorted(allowed)}"
