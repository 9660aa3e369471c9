"""The floor plan: which room may look into which. What lies lower knows nothing of what lies above it.

Every import counts, also those inside functions: a circle that is hidden in a function is a circle. Imports for types
alone (TYPE_CHECKING) do not count.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "platform" / "posegen"

# From the ground up. A module belongs to its longest prefix here; modules of one floor may import each other.
FLOORS = [
    ["errors", "lazy", "extras", "seeds", "counter", "registry", "arguments", "devices", "machine", "proxies",
     "folders", "config_types", "scene", "files", "parallel", "loops", "progress", "noise"],
    ["adversarial.config", "arms.config", "atlas.config", "estimator.config", "feedback.config", "finetune.config",
     "generator.config", "renderer.field.config", "target.config", "config"],
    ["assets", "body", "compiled"],
    ["shards"],
    ["renderer"],
    ["estimator", "finetune.relative_adam"],
    ["feedback"],
    ["scenes"],
    ["benchmarks"],
    ["tracking.report.pictures", "tracking.report.gallery"],
    ["target"],
    ["generator"],
    ["finetune"],
    ["adversarial", "pretrain"],
    ["arms"],
    ["experiment"],
    ["tracking"],
    ["atlas"],
    ["engine"],
    ["doctor", "commandline"],
    ["cli"],
]  # fmt: skip
# The command lines of rooms stand on the top floor: they put together what a user asks for.
COMMANDS = {"command", "export_command", "show_command", "suite_command", "sweep_command", "sync_command"}
TOP = len(FLOORS)
# (importing module, imported module): why it may.
EXCEPTIONS = {
    ("config.compose", "estimator"): "image_size=auto asks the estimator for its size",
}


def floor_of(module: str) -> int:
    if module.rpartition(".")[2] in COMMANDS:
        return TOP - 1
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        for floor, rooms in enumerate(FLOORS):
            if prefix in rooms:
                return floor
    raise AssertionError(f"{module} stands on no floor: name its room in FLOORS")


def imports_of(tree: ast.AST) -> list[str]:
    """All modules of posegen that a module imports, wherever in it, without those for types alone."""
    found: list[str] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            first, _, rest = node.module.partition(".")
            if first == "posegen":
                found += [rest] if rest else [alias.name for alias in node.names if not alias.name.startswith("__")]
        elif isinstance(node, ast.Import):
            found += [alias.name.removeprefix("posegen.") for alias in node.names if alias.name.startswith("posegen.")]
        waiting += ast.iter_child_nodes(node)
    return found


def modules() -> dict[str, list[str]]:
    table = {}
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            table[name] = imports_of(ast.parse(file.read_text()))
    return table


def test_no_room_looks_into_one_above_it():
    wrong = [
        f"{name} imports {used}"
        for name, imports in modules().items()
        for used in imports
        if floor_of(used) > floor_of(name) and (name, used) not in EXCEPTIONS
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_engine_and_what_asks_for_it_imports_ray():
    allowed = ("engine", "doctor.")
    wrong = []
    for file in sorted(ROOT.rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(n == "ray" or n.startswith("ray.") for n in names) and not name.startswith(allowed):
                wrong.append(name)
    assert not wrong


def test_the_plan_sees_a_circle_that_is_hidden_in_a_function():
    source = "def f():\n    from posegen.engine import train\n    import posegen.cli\n"
    assert sorted(imports_of(ast.parse(source))) == ["cli", "engine"]
    assert floor_of("engine") > floor_of("scenes.world") and floor_of("benchmarks.command") == TOP - 1
