"""Programs as answers, scored by running their unit tests in a sandbox."""

import ast
import functools
import hashlib
import logging
import pathlib
import textwrap
from collections.abc import Callable, Sequence

from jaxvlm.data.rows import Row
from jaxvlm.data.sources import code as sources
from jaxvlm.data.sources.code import Reference, Style
from jaxvlm.rewards.code import Outcome, Sandbox, Tests, Verdict
from jaxvlm.tasks.task import Task

_FENCE = "```"
_LETTERS = str.maketrans("0123456789abcdef", "ghijklmnopabcdef")
_BROKEN = (Outcome.NOT_LOADED, Outcome.UNREADABLE)
METRICS = ("accuracy", "loaded", "timeout")


def humaneval(
  file: str | pathlib.Path, sandbox: Sandbox, style: Style = Style.CHAT
) -> Task:
  """Returns HumanEval, or HumanEval+, from its published file."""

  def rows(split: str) -> list[Row]:
    if split != "test":
      raise ValueError(
        f"split {split!r} of HumanEval, expected test: it is all"
      )
    return sources.humaneval(file, style)

  stop = sources.HUMANEVAL_STOP if style is Style.COMPLETION else ()
  return task("humaneval", rows, sandbox, stop)


def mbpp(
  file: str | pathlib.Path, sandbox: Sandbox, style: Style = Style.CHAT
) -> Task:
  """Returns MBPP from its published file; splits as published."""

  def rows(split: str) -> list[Row]:
    return sources.mbpp(file, split, style)

  stop = sources.MBPP_STOP if style is Style.COMPLETION else ()
  return task("mbpp", rows, sandbox, stop)


def kodcode(file: str | pathlib.Path, sandbox: Sandbox) -> Task:
  """Returns problems in KodCode's layout from <file>, whatever the split."""

  def rows(split: str) -> list[Row]:
    del split  # one file is one split
    return rewardable(sources.kodcode(file))

  return task("kodcode", rows, sandbox)


def task(
  name: str,
  rows: Callable[[str], Sequence[Row]],
  sandbox: Sandbox,
  stop: tuple[str, ...] = (),
) -> Task:
  """Returns a task whose rows have a `Reference` of unit tests.

  Args:
    name: of the task.
    rows: split -> rows.
    sandbox: an open one; the task runs its programs in it.
    stop: strings that end a completion.
  """
  return Task(
    name,
    rows,
    functools.partial(_score, sandbox),
    METRICS,
    answer=lambda response: program_name(code_block(response)),
    stop=stop,
  )


def _score(
  sandbox: Sandbox, responses: Sequence[str], rows: Sequence[Row]
) -> dict[str, list[float]]:
  jobs = [
    (program(response, row.reference), tests_of(row.reference))
    for response, row in zip(responses, rows, strict=True)
  ]
  return scores(sandbox.run(jobs))


def scores(verdicts: Sequence[Verdict]) -> dict[str, list[float]]:
  """Returns the scores of verdicts, one each.

  reward is 1 for a program that passed, and 0 where it could have forged the
  verdict: then accuracy alone counts it. loaded and timeout say why others did
  not pass.
  """
  return {
    "accuracy": [float(v.passed) for v in verdicts],
    "loaded": [float(v.outcome not in _BROKEN) for v in verdicts],
    "timeout": [float(v.outcome is Outcome.TIMEOUT) for v in verdicts],
    "reward": [float(v.passed and not v.weaker) for v in verdicts],
  }


def program(response: str, reference: Reference) -> str:
  """Returns the program that an answer makes with what stands before it."""
  for end in reference.end:
    response = response.partition(end)[0]
  if reference.end:  # a completion
    return reference.before + response
  return f"{reference.before}\n{textwrap.dedent(code_block(response))}"


def code_block(response: str) -> str:
  """Returns the last fenced block of an answer, all of it where there is none.

  A fence that is not closed counts to the end: the answer was cut off.
  """
  pieces = response.split(_FENCE)
  if len(pieces) < 2:
    return response
  last = (len(pieces) // 2) * 2 - 1
  first_line, _, rest = pieces[last].partition("\n")
  language = first_line.strip().lower()
  return rest if language in ("", "python", "py", "python3") else pieces[last]


@functools.lru_cache(maxsize=4096)
def tests_of(reference: Reference) -> Tests:
  """Returns the tests of a reference.

  Raises:
    ValueError: they cannot be run; says why.
  """
  return Tests(reference.tests, reference.entry_point)


def rewardable(rows: Sequence[Row]) -> list[Row]:
  """Returns rows whose tests can be run and forged by no program.

  The others are dropped, counted and named in the log.
  """
  kept, dropped = [], []
  for row in rows:
    try:
      weak = tests_of(row.reference).in_process
      why = "its tests need classes or helpers of the program" if weak else ""
    except ValueError as error:
      why = str(error)
    if why:
      dropped.append((row.id, why))
    else:
      kept.append(row)
  if dropped:
    logging.warning(
      "dropped %d of %d problems, whose tests cannot give a reward: %s",
      len(dropped),
      len(rows),
      "; ".join(f"{name!r}: {why}" for name, why in dropped[:8]),
    )
  return kept


def program_name(program: str) -> str:
  """Returns a name for the program, the same whatever comments and layout.

  Different programs are counted by it; "" where it is no Python.
  """
  try:
    tree = ast.dump(ast.parse(program))
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return ""
  digest = hashlib.blake2b(tree.encode(), digest_size=8).digest()
  # Letters alone: numbers are compared by their value.
  return digest.hex().translate(_LETTERS)
