"""Rows of MathVista from a local folder: evaluation only.

Its authors allow use as a test set and forbid training on it (CC BY-SA 4.0 with
that condition, arXiv 2310.02255).
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from jaxvlm.data.own.example import answer_of, short, text_of
from jaxvlm.data.own.files import files_of, records
from jaxvlm.data.own.pictures import Pictures
from jaxvlm.data.rows import Row

SPLIT = "testmini"


def rows(
  folder: str | pathlib.Path, split: str = SPLIT, *, keep: Any = None
) -> list[Row]:
  """Returns the questions of the split that has answers.

  Args:
    folder: with testmini*.jsonl, .json or .parquet and images/.
    split: "testmini"; any other is refused.
    keep: as `own.read`.

  Raises:
    FileNotFoundError: no such file.
    ValueError: another split, a record that is none of MathVista.
  """
  if split != SPLIT:
    raise ValueError(
      f"split {split!r} of MathVista, expected {SPLIT!r}: it is a test set, and"
      " its authors forbid training on it"
    )
  folder = pathlib.Path(folder)
  pictures = Pictures(folder, None if keep is None else pathlib.Path(keep))
  out = []
  for file in files_of(folder, split):
    for found in records(file):
      try:
        if found.error or not isinstance(found.value, Mapping):
          raise ValueError(found.error or f"{short(found.value)} is no object")
        out.append(_row(found.value, pictures))
      except ValueError as e:
        raise ValueError(
          f"{folder}, {found.place}: {e}; expected a record of MathVista"
        ) from e
  return out


def _row(record: Mapping[str, Any], pictures: Pictures) -> Row:
  scored_by = _scored_by(record)
  metadata = record.get("metadata")
  metadata = metadata if isinstance(metadata, Mapping) else {}
  image = next(
    record[name]
    for name in ("image_file", "decoded_image", "image")
    if record.get(name)
  )
  return Row(
    id=text_of(record, "pid"),
    question=text_of(record, "query" if record.get("query") else "question"),
    reference=scored_by,
    images=(pictures.find(image),),
    group=str(metadata.get("task", "")),
    reference_text=repr(tuple(scored_by.values())),
  )


def _scored_by(record: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields of `rewards.mathvista.Question`."""
  choices = record.get("choices") or ()
  if not all(isinstance(choice, str) for choice in choices):
    raise ValueError(f"choices are {short(choices)}, expected texts")
  answer = answer_of(record, "answer")
  kinds = {
    "question_type": ("multi_choice", "free_form"),
    "answer_type": ("text", "integer", "float", "list"),
  }
  for name, known in kinds.items():
    if record.get(name) not in known:
      raise ValueError(
        f"{name} is {short(record.get(name))}, expected {' or '.join(known)}"
      )
  if record["question_type"] == "multi_choice" and answer not in choices:
    raise ValueError(f"answer {short(answer)} is none of the choices")
  precision = record.get("precision")
  if record["answer_type"] == "float" and precision is None:
    raise ValueError("precision is missing, expected that of a float")
  return {
    "answer": answer or "",
    "question_type": record["question_type"],
    "answer_type": record["answer_type"],
    "choices": tuple(choices),
    "precision": None if precision is None else int(precision),
  }
