"""Unit tests as text, and what they need of the program under test."""

import ast
import builtins
import dataclasses
import functools
import json
import symtable
import sys
from typing import NamedTuple

from jaxvlm.rewards.code.candidate import NAME

_MAX_CHARACTERS = 1 << 20


@dataclasses.dataclass(frozen=True)
class Tests:
  """Unit tests of a program.

  Three published forms are read, alone or together: assertions at the top
  (MBPP), `def check(candidate)` (HumanEval, with an entry point), functions
  and methods named test… (KodCode, which imports the program as `solution`).

  Attributes:
    source: Python that only needs the standard library.
    entry_point: the function under test. Without it, the tests say: what they
      use and neither define nor import is the program's.
  """

  source: str
  entry_point: str = ""
  __test__ = False  # pytest looks for classes of this name

  def __post_init__(self):
    _read(self)  # what cannot be run is said here, not in a worker

  @property
  def names(self) -> tuple[str, ...]:
    """What the tests use of the program, sorted."""
    return _read(self).names

  @property
  def in_process(self) -> bool:
    """Whether the tests need more of the program than calls of one function.

    Its classes cannot be called by value, and its other functions, or itself,
    as a measure of it can agree with it on anything. Such tests run in the
    program's own process, where it can deceive them.
    """
    return _read(self).in_process

  def pack(self) -> bytes:
    """Returns what the process that runs them needs."""
    return json.dumps(
      {
        "source": self.source,
        "entry_point": self.entry_point,
        "names": self.names,
        "modules": _read(self).modules,
      }
    ).encode()


class _Needs(NamedTuple):
  """What tests need: names of the program, modules they do not import."""

  names: tuple[str, ...]
  modules: tuple[str, ...]
  in_process: bool


@functools.lru_cache(maxsize=4096)
def _read(tests: Tests) -> _Needs:
  """Returns what tests need.

  Raises:
    ValueError: no Python, no test in it, or nothing of the program is used.
  """
  tree = _parse(tests.source)
  functions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
  checks = "check" in functions
  if checks and not tests.entry_point:
    raise ValueError(
      "tests: def check(candidate) without an entry_point, expected the name"
      " of the function to check, as HumanEval's records give it"
    )
  if not (checks or any(_is_test(node) for node in tree.body)):
    raise ValueError(
      f"tests: {tests.source[:60]!r} holds no test, expected an assertion, def"
      " check(candidate), or a function whose name begins with test"
    )
  _check_imports(tree)
  free = _free(tests.source) | _imported(tree)
  # MBPP's tests use modules that the reference solution has imported.
  modules = free & sys.stdlib_module_names
  modules = modules if tests.entry_point or free - modules else set()
  free -= modules
  names = free | ({tests.entry_point} if tests.entry_point else set())
  if not names:
    raise ValueError(
      f"tests: {tests.source[:60]!r} uses nothing of the program, expected a"
      " call of a function that the tests do not define; give entry_point where"
      " it has the name of a builtin"
    )
  # check(candidate) is handed the one function that it needs.
  more = bool(free) if checks else len(names) > 1
  return _Needs(tuple(sorted(names)), tuple(sorted(modules)), more)


def _parse(source: str) -> ast.Module:
  if len(source) > _MAX_CHARACTERS:
    raise ValueError(
      f"tests: {len(source)} characters, expected at most {_MAX_CHARACTERS}"
    )
  try:
    return ast.parse(source)
  except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
    raise ValueError(
      f"tests: {type(error).__name__} {error}, expected Python that this"
      f" interpreter ({sys.version.split()[0]}) reads"
    ) from error


def _is_test(node: ast.stmt) -> bool:
  if isinstance(node, ast.FunctionDef):
    return node.name.startswith("test")
  if isinstance(node, ast.ClassDef):
    return node.name.startswith("Test") and any(map(_is_test, node.body))
  return any(isinstance(part, ast.Assert) for part in ast.walk(node))


def _check_imports(tree: ast.Module) -> None:
  for node in ast.walk(tree):
    found: list[str] = []
    if isinstance(node, ast.Import):
      found = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      found = [node.module or "."]
    for name in found:
      top = name.split(".")[0]
      if top not in sys.stdlib_module_names | {NAME, "numpy"}:
        raise ValueError(
          f"tests: import {name}, expected the standard library alone (and"
          " numpy.allclose): nothing else is there inside the sandbox"
        )


def _imported(tree: ast.Module) -> set[str]:
  """Returns what is imported from the program, `*` left out."""
  return {
    alias.name
    for node in ast.walk(tree)
    if isinstance(node, ast.ImportFrom) and node.module == NAME
    for alias in node.names
  } - {"*"}


def _free(source: str) -> set[str]:
  """Returns global names that are read and never bound, but builtins."""
  top = symtable.symtable(source, "<tests>", "exec")
  bound = {child.get_name() for child in top.get_children()}
  for symbol in top.get_symbols():
    if symbol.is_assigned() or symbol.is_imported():
      bound.add(symbol.get_name())
  used: set[str] = set()
  tables = [top]
  while tables:
    table = tables.pop()
    tables += table.get_children()
    for symbol in table.get_symbols():
      is_global = table is top or symbol.is_global()
      if is_global and symbol.is_assigned() and table is not top:
        bound.add(symbol.get_name())
      if is_global and symbol.is_referenced():
        used.add(symbol.get_name())
  return used - bound - set(vars(builtins)) - {"__name__", "__file__"}
