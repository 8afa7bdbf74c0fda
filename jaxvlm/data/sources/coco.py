"""Rows of COCO captions in the Karpathy split, from a local folder."""

import dataclasses
import json
import logging
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from jaxvlm import jsonfile
from jaxvlm.data import negatives, preferences
from jaxvlm.data.negatives import Kind
from jaxvlm.data.rows import Row
from jaxvlm.data.sources.geometry3k import inside

QUESTION = "Describe the picture in one short sentence."

KARPATHY = "dataset_coco.json"  # as its author published the split
PLAIN = "images.json"  # a list of records: file, captions, split
SPLITS = ("train", "val", "test")

# Split of a record -> where it is used; the split's author trains on what is
# left of val2014, too.
_USED = {"train": "train", "restval": "train", "val": "val", "test": "test"}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def rows(folder: str | pathlib.Path, split: str) -> list[Row]:
  """Returns the pictures of one split, each with its captions as reference.

  Reads dataset_coco.json (`images`: filepath, filename, cocoid, split,
  sentences[].raw) or else images.json (image_id, file, karpathy_split,
  captions). Captions that are empty or hold control characters are left out,
  with a warning that counts them; a picture without any other is dropped by the
  survey, which names it.

  Raises:
    FileNotFoundError: neither file is there.
    ValueError: no such split, a record that is none of these, a path that
      leaves the folder.
  """
  folder = pathlib.Path(folder)
  if split not in SPLITS:
    raise ValueError(f"split {split!r}, expected one of {', '.join(SPLITS)}")
  file, read = _layout(folder)
  stored = jsonfile.read(file, (dict, list))
  records = stored.get("images") if isinstance(stored, dict) else stored
  if not isinstance(records, list):
    raise ValueError(f"{file} has no list of images, expected one")
  out, left_out = [], []
  for number, record in enumerate(records):
    try:
      id, picture, where, captions = read(record)
      if _USED[where] != split:
        continue
      if not all(isinstance(text, str) for text in (picture, *captions)):
        raise TypeError("a text is no string")
    except (KeyError, TypeError) as e:
      raise ValueError(
        f"{file}, image {number}: {type(e).__name__} {e}; expected an object"
        " with its id, file, split and captions"
      ) from e
    kept = tuple(" ".join(c.split()) for c in captions if _is_caption(c))
    left_out += [f"{split}/{id}"] * (len(captions) - len(kept))
    out.append(
      Row(
        id=f"{split}/{id}",
        question=QUESTION,
        reference=kept,
        reference_text=json.dumps(kept) if kept else "",
        images=(inside(folder, picture),),
        group=split,
      )
    )
  if left_out:
    logging.warning(
      "%s: left out %d captions that are empty or hold control characters, of"
      " %s",
      file,
      len(left_out),
      ", ".join(list(dict.fromkeys(left_out))[:8]),
    )
  return out


def _layout(folder: pathlib.Path) -> tuple[pathlib.Path, Callable]:
  for name, read in ((KARPATHY, _karpathy), (PLAIN, _plain)):
    if (folder / name).is_file():
      return folder / name, read
  raise FileNotFoundError(
    f"{folder} has neither {KARPATHY} nor {PLAIN}: expected one of them beside"
    " the folders of the pictures; point --data_dir at it"
  )


def _karpathy(record: dict[str, Any]) -> tuple[Any, str, str, list[str]]:
  """Returns id, path, split and captions of a record of the split's author."""
  picture = f"{record['filepath']}/{record['filename']}"
  captions = [sentence["raw"] for sentence in record["sentences"]]
  return record["cocoid"], picture, record["split"], captions


def _plain(record: dict[str, Any]) -> tuple[Any, str, str, list[str]]:
  split, captions = record["karpathy_split"], record["captions"]
  return record["image_id"], record["file"], split, captions


def _is_caption(text: str) -> bool:
  return bool(text.strip()) and not _CONTROL.search(text)


def taught(rows: Sequence[Row]) -> list[Row]:
  """Returns a row for every caption of every picture, to learn from (SFT).

  Args:
    rows: of `rows`; those without captions stay, to be dropped by name.
  """
  return [
    dataclasses.replace(row, id=f"{row.id}#{at}", responses=(text,))
    for row in rows
    for at, text in enumerate(row.reference or ("",))
  ]


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Makes pairs of a caption and a wrong one (DPO, SFT-C).

  Attributes:
    kinds: of the negatives (`preferences.contrasted`).
    seed: root of the draws.
  """

  kinds: tuple[Kind, ...] = negatives.GENTLE
  seed: int = 0

  def __call__(self, rows: Sequence[Row]) -> list[Row]:
    """Returns rows with two responses, chosen and rejected, for each caption.

    No caption of the same picture is a negative.

    Args:
      rows: of `rows`; pictures without captions are left out.

    Raises:
      ValueError: as `preferences.contrasted`.
    """
    return preferences.contrasted(
      taught([row for row in rows if row.reference]),
      self.kinds,
      seed=self.seed,
      right=lambda row: row.reference,
    )
