"""The floors of the house: who may import whom (WORKSPACE.md)."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Module prefix -> floor; a module imports lower floors and its own room.
FLOORS = {
  "jaxvlm.typing": -1,  # tuples only, imports nothing
  "jaxvlm.bars": -1,
  "jaxvlm.metrics": 0,
  "jaxvlm.config": 0,
  "jaxvlm.program": 0,
  "jaxvlm.distributed": 0,
  "jaxvlm.lock": 0,
  "jaxvlm.sharding": 0,
  "jaxvlm.logitstats": -1,  # the part of tokenstats that sees one chunk
  "jaxvlm.headlayout": -1,  # … and the part that knows of a mesh
  "jaxvlm.tokenstats": 0,
  "jaxvlm.assets": 0,
  "jaxvlm.jsonfile": 0,
  "jaxvlm.wholefile": 0,
  "jaxvlm.digests": 0,
  "jaxvlm.losses": 1,
  "jaxvlm.rewards": 1,
  "jaxvlm.diagnostics": 1,
  "jaxvlm.data": 1,
  "jaxvlm.journal": 1,
  "jaxvlm.wandb_board": 2,
  "jaxvlm.tasks": 2,
  "jaxvlm.models": 2,
  "jaxvlm.sampling": 2,
  "jaxvlm.rollout": 3,
  "jaxvlm.train": 4,
  "jaxvlm.eval": 4,
  "jaxvlm.plan": 5,
  "jaxvlm.study": 6,
  "jaxvlm.tools": 7,
  "experiments": 7,
}
# Third-party package -> the rooms that may import it.
ONLY = {
  "flax": ("jaxvlm.models",),
  "absl": (
    "jaxvlm.config",
    "jaxvlm.program",
    "jaxvlm.study",
    "jaxvlm.tools",
    "experiments",
  ),
  "grain": ("jaxvlm.data.pipeline",),
  "transformers": ("jaxvlm.data.chat",),
  "orbax": ("jaxvlm.train.checkpoint",),
  "matplotlib": ("jaxvlm.eval",),
  "wandb": ("jaxvlm.wandb_board",),
  "torch": (),
  "pickle": (),
}
NO_JAX = ("jaxvlm.data", "jaxvlm.rewards", "jaxvlm.tasks")


def _modules():
  for top in ("jaxvlm", "experiments"):
    for path in sorted((ROOT / top).rglob("*.py")):
      parts = path.relative_to(ROOT).with_suffix("").parts
      yield ".".join(p for p in parts if p != "__init__"), path


def _imports(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
      assert not node.level, f"{path}: relative import"
      yield node.module
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _room(module):
  names = [n for n in FLOORS if module == n or module.startswith(n + ".")]
  return max(names, key=len, default=None)


def _within(module, rooms):
  return any(module == r or module.startswith(r + ".") for r in rooms)


@pytest.mark.parametrize("module,path", list(_modules()))
def test_imports_go_down(module, path):
  room = _room(module)
  if room is None:
    assert module == "jaxvlm", f"{module} belongs to no room: add it to FLOORS"
    return
  for name in _imports(path):
    other = _room(name)
    if other and other != room:
      assert FLOORS[other] < FLOORS[room], f"{module} imports {name}"
    package = name.split(".")[0]
    if package in ONLY:
      assert _within(module, ONLY[package]), f"{module} imports {name}"
    if package == "jax" and _within(module, NO_JAX):
      raise AssertionError(f"{module} imports {name}: no jax in this room")


def test_nothing_above_the_models_names_a_family():
  """Above them, a model is what `jaxvlm.models` makes of its config.json."""
  # A size such as qwen2.5-coder-3b is no family.
  families = re.compile(r"\b(?:qwen2_5_vl|qwen3_vl|qwen2(?!\.5)|llama)\b")
  for module, path in _modules():
    if _room(module) != "jaxvlm.models":
      found = families.findall(path.read_text())
      assert not found, f"{module} names {found}"


# What runs inside the sandbox's processes, and nowhere else.
SANDBOXED = ("jaxvlm.rewards.code.candidate", "jaxvlm.rewards.code.checker")


def test_nothing_is_evaluated():
  for module, path in _modules():
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "exec" and module in SANDBOXED:
          continue
        assert node.func.id not in ("eval", "exec"), f"{module}: {node.func.id}"
      if isinstance(node, ast.Attribute):
        assert node.attr not in ("allow_pickle",), module


@pytest.mark.parametrize(
  "room,forbidden",
  [
    (
      "jaxvlm.losses",
      "flax transformers absl orbax grain numpyro jaxvlm.models",
    ),
    ("jaxvlm.tokenstats", "flax transformers absl orbax grain"),
    ("jaxvlm.rewards", "jax flax torch"),
    ("jaxvlm.rewards.code", "jax flax torch numpy"),
    ("jaxvlm.data.rows", "jax flax torch grain"),
    ("jaxvlm.tasks.world", "jax flax torch grain"),
    ("jaxvlm.data.diagrams", "jax flax torch PIL"),
    ("jaxvlm.sampling", "flax transformers jaxvlm.models"),
  ],
)
def test_fresh_interpreter(room, forbidden):
  code = (
    f"import sys, {room}; "
    f"print(*[m for m in {forbidden.split()!r} if m in sys.modules])"
  )
  done = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    check=True,
    cwd=ROOT,
  )
  assert done.stdout.split() == [], f"{room} brings along {done.stdout}"
