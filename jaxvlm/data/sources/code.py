"""Rows of published code problems: HumanEval(+), MBPP, and KodCode's layout.

Their files are JSONL, packed with gzip or not. Nothing in them is run here.
"""

import ast
import enum
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxvlm.data.rows import Row
from jaxvlm.data.sources.records import records

# MBPP's own split, by task_id.
_MBPP = {
  "prompt": (1, 10),
  "test": (11, 510),
  "validation": (511, 600),
  "train": (601, 974),
}


class Style(enum.Enum):
  """How a problem is put to a model."""

  CHAT = "chat"  # a request; the program is the last block of code
  COMPLETION = "completion"  # the published prompt; the model goes on


class Reference(NamedTuple):
  """What a program is scored by.

  Attributes:
    tests: source of the unit tests.
    entry_point: the function that they test.
    before: source in front of the answer: what a completion completes, or the
      imports and helpers that a whole program may rely on.
    end: strings that end an answer, and do not belong to it.
  """

  tests: str
  entry_point: str
  before: str = ""
  end: tuple[str, ...] = ()


# Chen et al. (2021, arXiv 2107.03374), section 3.2, and Austin et al. (2021,
# arXiv 2108.07732), section 3.1.
HUMANEVAL_STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
MBPP_STOP = ("[DONE]",)


def humaneval(file: str | pathlib.Path, style: Style) -> list[Row]:
  """Returns the problems of HumanEval's file, or of HumanEval+'s.

  Args:
    file: JSONL of task_id, prompt, entry_point, test, canonical_solution.
    style: COMPLETION gives the prompt alone and ends an answer at the published
      stop strings.

  Raises:
    ValueError: a record that is none of these; names file and line.
  """

  def row(record: dict) -> Row:
    prompt, name = record["prompt"], record["entry_point"]
    body = record["canonical_solution"]
    if style is Style.COMPLETION:
      reference = Reference(record["test"], name, prompt, HUMANEVAL_STOP)
      return _row(record["task_id"], prompt, reference, body)
    question = (
      "Complete this Python function. Answer with the whole function in one"
      f" ```python block.\n\n{_fenced(prompt)}"
    )
    before = prompt[: _start_of(prompt, name)]
    answer = prompt[len(before) :] + body
    reference = Reference(record["test"], name, before)
    return _row(record["task_id"], question, reference, _fenced(answer))

  return _read(file, row, "task_id, prompt, entry_point, test")


def mbpp(
  file: str | pathlib.Path, split: str, style: Style, *, shots: int = 3
) -> list[Row]:
  """Returns MBPP's problems of one split.

  Args:
    file: JSONL of task_id, text, code, test_list, test_setup_code.
    split: prompt, test, validation or train.
    style: COMPLETION is the published prompt with [BEGIN] and [DONE].
    shots: worked problems in front of each, from the split "prompt".

  Raises:
    ValueError: no such split or record.
  """
  if split not in _MBPP:
    raise ValueError(
      f"split {split!r} of MBPP is not known, expected {', '.join(_MBPP)}"
    )

  def identity(record: dict) -> dict:
    _plain(record["text"], record["code"], *record["test_list"])
    return record

  every = _read(file, identity, "task_id, text, code, test_list")
  first, last = _MBPP[split]
  # The paper's shots are problems 2, 3 and 4.
  worked = [r for r in every if 2 <= r["task_id"] < 2 + shots]
  chosen = [r for r in every if first <= r["task_id"] <= last]
  lead = "".join(_asked(r) + _shown(r["code"]) + "\n\n" for r in worked)
  return [_mbpp_row(record, style, lead) for record in chosen]


def _mbpp_row(record: dict, style: Style, lead: str) -> Row:
  code = _lines(record["code"])
  tests = "\n".join(
    [
      _lines(record.get("test_setup_code", "")),
      *map(_lines, record["test_list"]),
      *map(_lines, record.get("challenge_test_list", ())),
    ]
  )
  reference = Reference(tests, _tested(code, record["test_list"]))
  name = f"MBPP/{record['task_id']}"
  if style is Style.COMPLETION:
    reference = reference._replace(end=MBPP_STOP)
    question = lead + _asked(record) + "[BEGIN]\n"
    return _row(name, question, reference, code + "\n[DONE]")
  question = _asked(record) + "Answer with one ```python block."
  return _row(name, question, reference, _fenced(code))


def _asked(record: dict) -> str:
  tests = "\n".join(map(_lines, record["test_list"]))
  return (
    "You are an expert Python programmer, and here is your task:"
    f" {record['text']} Your code should pass these tests:\n\n{tests}\n"
  )


def _shown(code: str) -> str:
  return f"[BEGIN]\n{_lines(code)}\n[DONE]"


def kodcode(file: str | pathlib.Path) -> list[Row]:
  """Returns problems in KodCode's layout: question, solution, unit tests.

  Args:
    file: JSONL of question, solution and test, as published: tests import the
      program as `solution`. question_id names a problem, test_info[0]
      ["function_declaration"] is shown where it is there.

  Raises:
    ValueError: a record that is none of these.
  """

  def row(record: dict) -> Row:
    asked, info = record["question"], record.get("test_info") or [{}]
    declared = info[0].get("function_declaration", "")
    if declared:
      asked += f"\n\nBegin with this line:\n{_fenced(declared)}"
    asked += "\n\nAnswer with one ```python block."
    reference = Reference(record["test"], info[0].get("function_name", ""))
    name = record.get("question_id", record["question"][:40])
    return _row(name, asked, reference, _fenced(record["solution"]))

  return _read(file, row, "question, solution, test")


def _row(name: str, question: str, reference: Reference, answer: str) -> Row:
  _plain(name, question, answer, *reference[:3])
  text = json.dumps(reference)
  return Row(name, question, reference, (), (answer,), reference_text=text)


def _read(
  file: str | pathlib.Path, make: Callable[[dict], Row], fields: str
) -> list:
  file = pathlib.Path(file)
  if not file.is_file():
    raise FileNotFoundError(f"{file} does not exist: expected a file of JSONL")
  out = []
  for number, record in records(file):
    try:
      out.append(make(record))
    except (LookupError, TypeError, AttributeError, SyntaxError) as error:
      raise ValueError(
        f"{file}, line {number}: {type(error).__name__} {error}; expected a"
        f" JSON object with {fields}"
      ) from error
  return out


def _plain(*texts: str) -> None:
  for text in texts:
    if not isinstance(text, str):
      raise TypeError(f"{text!r} is no text")


def _lines(text: str) -> str:
  """MBPP's lines end as on Windows; a program's do not."""
  return text.replace("\r\n", "\n").replace("\r", "\n")


def _fenced(code: str) -> str:
  return f"```python\n{code.rstrip()}\n```"


def _start_of(prompt: str, name: str) -> int:
  """Returns where the definition of a function begins in a prompt."""
  return max(prompt.rfind(f"def {name}("), 0)


def _tested(code: str, tests: Sequence[str]) -> str:
  """Returns the function that tests call: MBPP names it nowhere."""
  defined = [
    node.name
    for node in ast.parse(code).body
    if isinstance(node, ast.FunctionDef)
  ]
  used = {
    node.id
    for test in tests
    for node in ast.walk(ast.parse(_lines(test)))
    if isinstance(node, ast.Name)
  }
  # The last one defined is the answer; others help it.
  return next((name for name in reversed(defined) if name in used), "")
