"""Rows of Geometry3K as Inter-GPS stores it: <split>/<id>/data.json.

Lu et al. 2021, arXiv 2105.04165: 2,101 problems to train on, 300 to validate,
601 to test.
"""

import pathlib
from typing import Any

from jaxvlm import jsonfile
from jaxvlm.data.rows import Row
from jaxvlm.data.sources.geometry3k import INSTRUCTION, worked
from jaxvlm.data.sources.records import inside

_PICTURE = "img_diagram.png"


def has(folder: str | pathlib.Path, split: str) -> bool:
  """Whether a folder holds a split in this layout."""
  return any(pathlib.Path(folder, split).glob("*/data.json"))


def rows(folder: str | pathlib.Path, split: str) -> list[Row]:
  """Returns the problems of one split, by number.

  The question is the annotated text, as in hiyouga/geometry3k; the reference is
  the text of the right choice.

  Args:
    folder: with <split>/<id>/data.json and img_diagram.png beside it.
    split: "train", "val" or "test".

  Raises:
    FileNotFoundError: no such split.
    ValueError: a record without text, choices or the letter of one of them.
  """
  folder = pathlib.Path(folder)
  files = sorted(
    (folder / split).glob("*/data.json"),
    key=lambda file: (len(file.parent.name), file.parent.name),
  )
  if not files:
    raise FileNotFoundError(
      f"{folder / split} has no <id>/data.json: expected Geometry3K as"
      " Inter-GPS stores it"
    )
  return [_row(folder, split, file) for file in files]


def _row(folder: pathlib.Path, split: str, file: pathlib.Path) -> Row:
  record = jsonfile.read(file)
  question = record.get("annotat_text") or record.get("problem_text")
  if not isinstance(question, str):
    raise ValueError(
      f"{file}: annotat_text is {question!r}, expected the problem's text"
    )
  answer = _answer(file, record)
  kinds = record.get("problem_type_goal") or [""]
  picture = (file.parent / _PICTURE).relative_to(folder)
  return Row(
    id=f"{split}/{file.parent.name}",
    question=question + INSTRUCTION,
    reference=answer,
    images=(inside(folder, str(picture)),),
    responses=(worked(question, answer),),
    group=str(kinds[0] if isinstance(kinds, list) else kinds),
  )


def _answer(file: pathlib.Path, record: dict[str, Any]) -> str:
  """Returns the text of the right choice."""
  choices, letter = record.get("choices"), record.get("answer")
  if isinstance(choices, list) and isinstance(letter, str) and letter:
    place = ord(letter[0]) - ord("A")
    if len(letter) == 1 and 0 <= place < len(choices):
      return str(choices[place])
  raise ValueError(
    f"{file}: answer is {letter!r} of choices {choices!r}, expected the letter"
    " of one of them"
  )
