"""A reward that the user wrote: `module:function`, named on a command line.

    def reward(response, reference, prompt, images):
      return 1.0 if reference in response else 0.0

The function names the arguments that it wants, of these: `response`, the
answer's text; `reference`, the row's; `prompt`, the question; `images`, a list
of the pictures' paths (the encoded bytes, where the data hold them); `id`, the
row's. It returns a number. One that returns several, a dict of names to
numbers with "reward" among them, says the other names beforehand, because all
processes of a run must know them: `reward.scores = ("accuracy", "format")`.

A call that raises, whose number is not finite, or that takes longer than a
limit counts 0 and 1 in the score `failed`; the row is named in a warning.
"""

import hashlib
import importlib
import importlib.util
import inspect
import logging
import math
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxvlm.data.rows import Row
from jaxvlm.tasks import deadline
from jaxvlm.tasks.task import Reward

FAILED = "failed"
# Longest that one call may take by default. An answer is scored in
# milliseconds; a step waits for some hundred of them.
SECONDS = 10.0
_ARGUMENTS: Mapping[str, Callable[[str, Row], Any]] = {
  "response": lambda response, row: response,
  "reference": lambda response, row: row.reference,
  "prompt": lambda response, row: row.question,
  "images": lambda response, row: [
    image if isinstance(image, bytes) else str(image) for image in row.images
  ],
  "id": lambda response, row: row.id,
}
# A function that fails always would fill the terminal.
_WARNINGS = 20


def find(spec: str) -> Callable[..., Any]:
  """Returns the function that `module:function` or `file.py:function` names.

  Modules are looked for in the working folder first.

  Raises:
    ValueError: nothing can be imported there, it is no function, or it wants
      arguments that there are not.
  """
  place, _, name = spec.rpartition(":")
  told = f"reward is {spec!r}"
  expected = "expected module:function or path/to/file.py:function"
  if not place or not name:
    raise ValueError(f"{told}, {expected}")
  try:
    module = _module(place)
  except (Exception, SystemExit) as error:  # whatever a user's module does
    raise ValueError(
      f"{told}, and {place} cannot be imported: {type(error).__name__}:"
      f" {error}; {expected}"
    ) from error
  function = getattr(module, name, None)
  if not callable(function):
    raise ValueError(
      f"{told}, and {place} has no function {name!r}; {expected}"
    )
  _wanted(spec, function)
  return function


def version(function: Callable[..., Any]) -> str:
  """Returns a digest of the file that a function stands in."""
  file = inspect.getsourcefile(inspect.unwrap(function))
  if file is None:
    raise ValueError(f"{function!r} stands in no file: write it into one")
  return hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()


def scores(function: Callable[..., Any]) -> tuple[str, ...]:
  """Returns the names of the scores that a function gives."""
  others = getattr(function, "scores", ())
  others = (others,) if isinstance(others, str) else tuple(others)
  return ("reward", *(name for name in others if name != "reward"))


def reward(
  spec: str, function: Callable[..., Any], seconds: float = SECONDS
) -> Reward:
  """Returns the function as the reward of a task.

  Args:
    spec: what the user called it.
    function: from `find`.
    seconds: longest that a call may take (`tasks.deadline`).

  Returns:
    (responses, rows) -> its scores and `failed`. Raises ValueError if every
    call of the first batch fails.
  """
  if not seconds > 0:
    raise ValueError(f"reward_seconds is {seconds}, expected more than 0")
  wanted, names = _wanted(spec, function), scores(function)
  failures = _Failures(spec)

  def one(response: str, row: Row) -> dict[str, float]:
    given = {name: _ARGUMENTS[name](response, row) for name in wanted}
    try:
      found = deadline.call(lambda: function(**given), seconds)
      return {**_numbers(found, names), FAILED: 0.0}
    except Exception as error:  # whatever a user's function raises
      failures.add(row.id, error)
      return {**dict.fromkeys(names, 0.0), FAILED: 1.0}

  def whole(
    responses: Sequence[str], rows: Sequence[Row]
  ) -> dict[str, list[float]]:
    found = [one(*pair) for pair in zip(responses, rows, strict=True)]
    failures.judge([each[FAILED] for each in found])
    return {name: [each[name] for each in found] for name in (*names, FAILED)}

  return whole


def _module(place: str) -> Any:
  if place.endswith(".py"):
    path = pathlib.Path(place).expanduser()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
      raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
  here = str(pathlib.Path.cwd())
  sys.path.insert(0, here)
  try:
    return importlib.import_module(place)
  finally:
    sys.path.remove(here)


def _wanted(spec: str, function: Callable[..., Any]) -> tuple[str, ...]:
  """Returns the names of the arguments that a function is called with."""
  parameters = inspect.signature(function).parameters.values()
  if any(p.kind is p.VAR_KEYWORD for p in parameters):
    return tuple(_ARGUMENTS)
  unknown = [
    p.name
    for p in parameters
    if p.name not in _ARGUMENTS and p.default is p.empty
  ]
  if unknown or any(p.kind is p.POSITIONAL_ONLY for p in parameters):
    raise ValueError(
      f"reward is {spec!r}, and it takes {', '.join(unknown) or 'arguments'}"
      " by another name or place; expected keyword arguments, of"
      f" {', '.join(_ARGUMENTS)}"
    )
  return tuple(p.name for p in parameters if p.name in _ARGUMENTS)


def _numbers(found: Any, names: Sequence[str]) -> dict[str, float]:
  """Returns what a function gave as finite numbers; raises otherwise."""
  given = found if isinstance(found, Mapping) else {"reward": found}
  lacking = [name for name in names if name not in given]
  if lacking:
    raise TypeError(f"returned {found!r}, without {', '.join(lacking)}")
  numbers = {name: float(given[name]) for name in names}
  if not all(math.isfinite(number) for number in numbers.values()):
    raise ValueError(f"returned {found!r}, expected finite numbers")
  return numbers


class _Failures:
  """Names rows whose reward failed; ends a run in which all of them do."""

  def __init__(self, spec: str):
    self._spec, self._count, self._first, self._judged = spec, 0, "", False

  def add(self, row: str, error: Exception) -> None:
    text = f"row {row!r}: {type(error).__name__}: {error}"
    self._first = self._first or text
    self._count += 1
    if self._count <= _WARNINGS:
      logging.warning("reward %s failed and counts 0, %s", self._spec, text)
    if self._count == _WARNINGS:
      logging.warning("further failures are counted in reward/%s", FAILED)

  def judge(self, failed: Sequence[float]) -> None:
    if failed and not self._judged and all(failed):
      raise ValueError(
        f"reward {self._spec!r} failed on all {len(failed)} responses of the"
        f" first batch; the first, {self._first}; expected a function that"
        " scores whatever text a model writes"
      )
    self._judged = True
