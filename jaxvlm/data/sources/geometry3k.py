"""Rows of Geometry3K from a local folder: <split>.jsonl and images/."""

import pathlib

from jaxvlm.data.rows import Row
from jaxvlm.data.sources.records import answer_text, inside, records

# Appended to the question, as in the public Geometry3K recipes: reason first,
# box the answer. The wording is ours.
INSTRUCTION = (
  " Think step by step inside <think> </think> first, then give the final"
  " answer in \\boxed{}."
)


def rows(folder: str | pathlib.Path, split: str) -> list[Row]:
  """Returns the problems of one split.

  A record needs `id`, `image` (relative to the folder), `problem_text` and
  `answer`; a worked solution in `response` or, failing that, `text_full`
  becomes the text to learn from. An answer is a text, a number or a list of
  one of these (`records.answer_text`). Whether pictures and answers are usable
  is decided, row by row, by the survey.

  Raises:
    FileNotFoundError: no such split.
    ValueError: a line that is not such a record, or a path that leaves the
      folder.
  """
  folder = pathlib.Path(folder)
  file = folder / f"{split}.jsonl"
  if not file.is_file():
    raise FileNotFoundError(
      f"{file} does not exist: expected a folder with {split}.jsonl and"
      " images/; point --data_dir at it"
    )
  out = []
  for number, record in records(file):
    try:
      question, answer = record["problem_text"], answer_text(record["answer"])
      image, name = record["image"], f"{split}/{record['id']}"
      work = record.get("response") or _worked(record, answer)
      if not all(isinstance(text, str) for text in (question, image, work)):
        raise TypeError("a text is no string")
    except (KeyError, TypeError) as e:
      raise ValueError(
        f"{file}, line {number}: {type(e).__name__} {e}; expected a JSON object"
        " with id, image, problem_text, answer"
      ) from e
    out.append(
      Row(
        id=name,
        question=question + INSTRUCTION,
        reference=answer,
        images=(inside(folder, image),),
        responses=(work,),
        group=str(record.get("answer_kind", "")),
      )
    )
  return out


def _worked(record: dict, answer: str) -> str:
  given = record.get("text_full") or record["problem_text"]
  if not isinstance(given, str):
    raise TypeError(f"text_full is {given!r}, expected a text")
  return worked(given, answer)


def worked(text: str, answer: str) -> str:
  """Returns a text to learn from where nobody worked the problem out."""
  return f"<think>{text}</think> \\boxed{{{answer}}}"
