"""Rows of a data set, encoded and collated into static-shape batches.

A `Row` is what a source yields: text, reference, pictures by path. One pass
over row metadata (`survey`) reads picture headers, counts tokens and decides
drops and buckets before the first step; nothing is decoded for it.
"""

import collections
import dataclasses
import hashlib
import itertools
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxvlm import bars
from jaxvlm.data import completions, images, layout, negatives
from jaxvlm.data.chat import Chat
from jaxvlm.data.completions import Response
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.layout import Grid
from jaxvlm.data.prompts import (
  EncodedPrompt,
  lay_out,
  lay_out_text,
  pad_prompts,
)
from jaxvlm.data.turns import Turn
from jaxvlm.typing import Batch, Prompts

Picture = str | pathlib.Path | bytes | np.ndarray
# Spares tried for one place of a batch: so many unreadable rows are no accident
# but a folder that is gone.
_SPARES = 8


@dataclasses.dataclass(frozen=True)
class Row:
  """One problem.

  Attributes:
    id: names the row in messages and logs.
    question: the user's text.
    reference: what the row's task scores a response by: a text, a number,
      several captions, unit tests. Only the task looks into it.
    images: where the pictures are, in the order in which the prompt speaks of
      them; loaded when the row is used.
    responses: texts to learn from (SFT), in the order of the G completions.
    kinds: what each response is: "" a right one, else the kind of a wrong one
      (`data.negatives`). Empty: none is wrong.
    group: a label to report by (family, category).
    reference_text: what digests and people see of `reference`, the same
      whenever the row is read. A text is its own; for anything else it must be
      given. Blank: there is nothing to score by, and the row is dropped.
    before: what was said before the question: a system prompt, earlier turns.
  """

  id: str
  question: str
  reference: Any
  images: tuple[Picture, ...] = ()
  responses: tuple[Response, ...] = ()
  group: str = ""
  reference_text: str | None = None
  kinds: tuple[str, ...] = ()
  before: tuple[Turn, ...] = ()

  def __post_init__(self):
    if isinstance(self.reference, str):
      object.__setattr__(self, "reference_text", self.reference)
    if self.reference_text is None:
      raise ValueError(
        f"row {self.id!r}: reference is a {type(self.reference).__name__},"
        " expected a text, or reference_text beside it, such as json.dumps of"
        " it: digests need a text that stays the same"
      )
    # A text is a sequence too, of its letters, and an array one of its rows.
    for name in ("images", "responses"):
      found = getattr(self, name)
      if not isinstance(found, tuple | list):
        raise ValueError(
          f"row {self.id!r}: {name} is one {type(found).__name__}, expected a"
          f" tuple; write {name}=(…,)"
        )
    if self.kinds and len(self.kinds) != len(self.responses):
      raise ValueError(
        f"row {self.id!r}: {len(self.kinds)} kinds of {len(self.responses)}"
        " responses, expected one for each, or none"
      )

  @property
  def texts(self) -> tuple[Any, ...]:
    """All that digests see of the row but its pictures."""
    said = (self.id, self.question, self.reference_text, self.responses)
    # Rows without earlier turns have the digests that they always had.
    return (*said, self.before) if self.before else said


class Bucket(NamedTuple):
  """A static shape: S prompt tokens, P patch slots."""

  prompt_tokens: int
  patch_slots: int


def check_buckets(buckets: Sequence[Bucket]) -> None:
  """Raises ValueError unless buckets hold a prompt and do not shrink."""
  for bucket in buckets:
    if bucket.prompt_tokens < 1 or bucket.patch_slots < 0:
      raise ValueError(
        f"a bucket has {bucket.prompt_tokens} prompt_tokens and"
        f" {bucket.patch_slots} patch_slots, expected at least 1 token and 0"
        " slots (text only) or more"
      )
  for small, large in itertools.pairwise(buckets):
    if not (
      small.prompt_tokens <= large.prompt_tokens
      and small.patch_slots <= large.patch_slots
    ):
      raise ValueError(
        f"buckets: ({small.prompt_tokens}, {small.patch_slots}) is followed by"
        f" ({large.prompt_tokens}, {large.patch_slots}) (prompt_tokens,"
        " patch_slots), expected none to shrink: a row takes the first that"
        " fits"
      )


@dataclasses.dataclass(frozen=True)
class Encoder:
  """Turns rows into arrays; everything that decides a row's shape.

  Attributes:
    chat: tokenizer, template, geometry.
    budget: size of pictures.
    buckets: allowed prompt shapes, smallest first.
    max_new_tokens: T; longer responses make a row drop.
  """

  chat: Chat
  budget: PixelBudget
  buckets: tuple[Bucket, ...]
  max_new_tokens: int

  def __post_init__(self):
    check_buckets(self.buckets)
    if self.max_new_tokens < 1:
      raise ValueError(
        f"max_new_tokens is {self.max_new_tokens}, expected at least 1"
      )

  def grids(self, row: Row) -> list[Grid]:
    """Returns the patch grids of a row's pictures; as `grids_of`."""
    return grids_of(row, self.chat, self.budget)


def grids_of(row: Row, chat: Chat, budget: PixelBudget) -> list[Grid]:
  """Returns the patch grids of a row's pictures from their headers.

  Raises:
    FileNotFoundError, ValueError: a picture that cannot be read, or any where
      the model reads text only.
  """
  if not row.images:
    return []
  if chat.layout is None:
    raise ValueError(
      f"the problem has {len(row.images)} picture(s) and the model reads text"
      " only, expected none: take a model with a vision tower, or problems"
      " without pictures"
    )
  sizes = [images.size_of(picture) for picture in row.images]
  return [images.grid_of(chat.layout, w, h, budget) for w, h in sizes]


class Survey(NamedTuple):
  """What one pass over the metadata found.

  Attributes:
    rows: all rows; a lazy sequence is never held in memory.
    kept: i64[K] indices of the rows that fit.
    buckets: i64[K] index into the encoder's buckets.
    dropped: (row id, reason) of every row that does not fit.
    digest: identifies the text of the rows, order and buckets; stored with
      a run. Pixels are not read for it.
  """

  rows: Sequence[Row]
  kept: np.ndarray
  buckets: np.ndarray
  dropped: tuple[tuple[str, str], ...]
  digest: str

  def row(self, number: int) -> Row:
    """Returns kept row `number`."""
    return self.rows[int(self.kept[number])]


def survey(rows: Sequence[Row], encoder: Encoder) -> Survey:
  """Decides drops and buckets from metadata alone.

  A row is dropped, counted and named when its picture cannot be read, its
  reference is empty, or it does not fit a bucket; image tokens are never cut.

  Raises:
    ValueError: no row is left, or rows differ in their number of responses.
  """
  kept, buckets, dropped, animated = [], [], [], []
  counts: dict[int, str] = {}  # number of responses -> the first such row
  digest = hashlib.sha256(repr(encoder.buckets).encode())
  bar = bars.bar(
    rows, "survey", total=len(rows), leave=False, delay=bars.PATIENCE
  )
  for index, row in enumerate(bar):
    try:
      bucket = bucket_of(row, encoder)
    except (ValueError, FileNotFoundError) as e:
      dropped.append((row.id, str(e)))
      continue
    kept.append(index)
    buckets.append(bucket)
    if any(map(images.is_animated, row.images)):
      animated.append(row.id)
    counts.setdefault(len(row.responses), row.id)
    digest.update(repr((*row.texts, bucket)).encode())
  if not kept:
    why = dropped[0] if dropped else ("-", "the data set is empty")
    raise ValueError(
      f"none of {len(rows)} rows is usable; the first, {why[0]!r}: {why[1]}"
    )
  if len(counts) > 1:
    raise ValueError(
      f"rows differ in their number of responses, such as {counts}: expected"
      " the same number in every row, because G is a static shape"
    )
  found = Survey(
    rows, np.array(kept), np.array(buckets), tuple(dropped), digest.hexdigest()
  )
  warn_of_drops(found)
  if animated:
    logging.warning(
      "the pictures of %d rows are animated, such as that of %r: their first"
      " frame is used",
      len(animated),
      animated[0],
    )
  return found


def warn_of_drops(found: Survey) -> None:
  """Logs how many rows were dropped, which, and why."""
  if not found.dropped:
    return
  reasons = collections.Counter(reason for _, reason in found.dropped)
  logging.warning(
    "dropped %d of %d rows, the first: %s; most common reason: %s",
    len(found.dropped),
    len(found.rows),
    ", ".join(id for id, _ in found.dropped[:8]),
    reasons.most_common(1)[0][0],
  )


def bucket_of(row: Row, encoder: Encoder) -> int:
  """Returns the smallest bucket that holds the row, from its metadata.

  Raises:
    ValueError, FileNotFoundError: why it must be dropped.
  """
  if not (row.reference_text or "").strip():
    raise ValueError("the reference is empty: nothing to score an answer by")
  check_pair(row)
  grids = encoder.grids(row)
  chat = encoder.chat
  prompt = len(chat.prompt(row.question, grids, row.before))
  vision = chat.layout
  patches = sum(layout.slots(vision, grid) for grid in grids) if vision else 0
  for text in row.responses:
    count = len(completions.stream(chat, text).ids)
    if count > encoder.max_new_tokens:
      raise ValueError(
        f"a response has {count} tokens, expected at most"
        f" {encoder.max_new_tokens}: raise max_new_tokens"
      )
  for i, bucket in enumerate(encoder.buckets):
    if prompt <= bucket.prompt_tokens and patches <= bucket.patch_slots:
      return i
  raise ValueError(
    f"the prompt needs {prompt} tokens and {patches} patch slots, expected at"
    f" most {tuple(encoder.buckets[-1])}: raise the largest bucket or lower"
    " max_pixels"
  )


def check_pair(row: Row) -> None:
  """Raises ValueError if a wrong response is the right one."""
  # Without kinds, none is known to be wrong.
  each = [
    (response, kind)
    for response, kind in zip(row.responses, row.kinds, strict=False)
    if isinstance(response, str)
  ]
  right = [text for text, kind in each if not kind]
  for text, kind in each:
    if kind and any(negatives.same(text, other) for other in right):
      raise ValueError(
        f"the rejected response ({kind}) is the chosen one: {text[:60]!r};"
        " expected two different texts"
      )


def encode_prompt(row: Row, encoder: Encoder) -> EncodedPrompt:
  """Loads the pictures of a row and lays everything out.

  Raises:
    ValueError, FileNotFoundError: a picture cannot be read.
  """
  chat = encoder.chat
  vision = chat.layout
  if vision is None or chat.image_token_id is None:
    encoder.grids(row)  # there are none, or it says so
    return lay_out_text(
      np.array(chat.prompt(row.question, (), row.before), np.int32)
    )
  loaded = [
    images.patchify(
      vision, images.load(picture), encoder.budget, chat.pictures.colors
    )
    for picture in row.images
  ]
  grids = [grid for _, grid in loaded]
  tokens = np.array(chat.prompt(row.question, grids, row.before), np.int32)
  pixels = [patches for patches, _ in loaded]
  return lay_out(vision, tokens, grids, pixels, chat.image_token_id)


def _fitting(encoded: EncodedPrompt, bucket: Bucket) -> EncodedPrompt:
  """Raises ValueError if a prompt outgrew the bucket the survey gave it."""
  needs = Bucket(len(encoded.tokens), encoded.patch_count)
  if any(n > most for n, most in zip(needs, bucket, strict=True)):
    raise ValueError(
      f"the prompt needs {needs.prompt_tokens} tokens and {needs.patch_slots}"
      f" patch slots, expected at most {tuple(bucket)}: a picture changed since"
      " the survey; start the run again"
    )
  return encoded


def collate_prompts(
  encoded: Sequence[EncodedPrompt], bucket: Bucket, pad_id: int
) -> Prompts:
  """Pads prompts on the left and patches on the right to one bucket."""
  first = [bucket.prompt_tokens - len(e.tokens) for e in encoded]
  mask = np.arange(bucket.prompt_tokens) >= np.array(first)[:, None]
  return pad_prompts(encoded, mask, bucket.patch_slots, pad_id)


class HostBatch(NamedTuple):
  """A batch with the rows it came from.

  Attributes:
    batch: NumPy arrays.
    rows: N rows in order.
    replaced: (row id, reason) of rows whose picture failed late.
  """

  batch: Batch
  rows: tuple[Row, ...]
  replaced: tuple[tuple[str, str], ...] = ()


def make_batch(
  candidates: Sequence[Row],
  spares: Callable[[int], Row],
  bucket: Bucket,
  encoder: Encoder,
) -> HostBatch:
  """Builds one batch; a row that fails to load is replaced by a spare.

  Args:
    candidates: N rows.
    spares: number of the failure -> the row to use instead; a pure function,
      so that a resumed run replaces alike. The number is place + N × failures
      before at this place, so that no row depends on its neighbors.
    bucket: static shape.
    encoder: how to encode.
  """
  rows, encoded, replaced = [], [], []
  for place, candidate in enumerate(candidates):
    row = candidate
    for attempt in itertools.count():
      try:
        encoded.append(_fitting(encode_prompt(row, encoder), bucket))
        break
      except (ValueError, FileNotFoundError) as e:
        replaced.append((row.id, str(e)))
        if attempt == _SPARES:
          raise ValueError(
            f"{candidate.id!r} and {_SPARES} spares after it failed to load,"
            f" the last {row.id!r}: {e}; check the data folder"
          ) from e
        row = spares(place + attempt * len(candidates))
    rows.append(row)
  pad = encoder.chat.pad_id
  prompts = collate_prompts(encoded, bucket, pad)
  said = completions.empty(len(rows), pad)
  if any(row.responses for row in rows):
    said = completions.collate(
      [row.responses for row in rows], encoder.chat, encoder.max_new_tokens
    )
  return HostBatch(Batch(prompts, *said), tuple(rows), tuple(replaced))
