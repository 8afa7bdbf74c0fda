"""Evaluation of a policy on a fixed set of problems.

Everything that a statement needs is kept per problem and per sample, so that
any two policies can be compared by a paired bootstrap over problems.
"""

import dataclasses
import functools
import hashlib
import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxvlm import bars
from jaxvlm.data import images
from jaxvlm.data import rows as rows_lib
from jaxvlm.data.rows import Encoder, Picture, Row
from jaxvlm.diagnostics import distinct_answers, pass_at_k
from jaxvlm.eval.drawn import Drawn, Log, read
from jaxvlm.rewards import canonical
from jaxvlm.rollout.generate import Generate
from jaxvlm.tasks import Task, score
from jaxvlm.typing import Params, Prompts


@dataclasses.dataclass(frozen=True)
class ProblemSet:
  """Encoded problems, ready to be sampled again and again.

  Attributes:
    name: where the numbers are filed, e.g. "in_domain".
    task: scores the responses; None: they are only looked at.
    rows: the problems.
    batches: (prompts, indices of their rows); the last repeats rows to fill
      its shape, with index -1.
    asked: how many problems were asked for.
    dropped: (row id, reason) of every row that cannot be used.
    digest: SHA-256 of the problems, pictures included (`digest_of`).
  """

  name: str
  task: Task | None
  rows: tuple[Row, ...]
  batches: tuple[tuple[Prompts, np.ndarray], ...]
  asked: int = 0
  dropped: tuple[tuple[str, str], ...] = ()
  digest: str = ""

  @functools.cached_property
  def prompts_digest(self) -> str:
    """SHA-256 of the prompts' tokens: texts and template together."""
    digest = hashlib.sha256()
    for prompts, _ in self.batches:
      digest.update(np.where(prompts.mask, prompts.tokens, -1).tobytes())
    return digest.hexdigest()

  def record(self) -> dict[str, Any]:
    """Returns what a run stores of its problems: plain JSON."""
    return {
      "asked": self.asked,
      "found": len(self.rows),
      "digest": self.digest,
      "dropped": [list(pair) for pair in self.dropped],
    }


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Measurements of one policy; P problems, n samples each.

  Attributes:
    name: of the problem set.
    scores: f32[P, n] by name, as the task gave them; "accuracy", if it is
      there, is 1 where the answer is right and 0 elsewhere.
    lengths: i32[P, n] completion tokens.
    finished: bool[P, n] whether the end of the turn was reached.
    entropies: f32[P, n] mean full-vocabulary entropy over completion tokens.
    neg_logprobs: f32[P, n] mean −log p of the sampled tokens.
    answers: P lists of n final answers.
  """

  name: str
  scores: Mapping[str, np.ndarray]
  lengths: np.ndarray
  finished: np.ndarray
  entropies: np.ndarray
  neg_logprobs: np.ndarray
  answers: tuple[tuple[str, ...], ...]

  def __post_init__(self):
    # They share a file with the other arrays, where each needs its own name.
    taken = sorted(_ARRAYS & self.scores.keys())
    if taken:
      raise ValueError(
        f"{self.name}: a score is called {', '.join(taken)}, expected another"
        " name: that one is taken by what every evaluation measures"
      )

  @property
  def accuracy(self) -> np.ndarray:
    """The score of that name; KeyError where the task has none."""
    return self.scores["accuracy"]

  def pass_at(self, k: int) -> np.ndarray:
    """Returns the unbiased pass@k of every problem, f64[P]."""
    n = self.accuracy.shape[1]
    return pass_at_k(n, self.accuracy.sum(1).astype(int), k)

  def entropy(self) -> np.ndarray:
    """Returns token-mean completion entropy of every problem, f64[P]."""
    return _token_mean(self.entropies, self.lengths)

  def summary(self) -> dict[str, float]:
    """Returns the means over problems that the journal logs."""
    ks = [k for k in (1, 2, 4, 8, 16) if k <= self.lengths.shape[1]]
    found = {}
    for name, values in self.scores.items():
      found[name] = float(values.mean())
      if name == "accuracy":
        found |= {f"pass@{k}": float(self.pass_at(k).mean()) for k in ks}
    total = self.lengths.sum()
    return {
      **found,
      "length": float(self.lengths.mean()),
      "finished": float(self.finished.mean()),
      "entropy": float((self.entropies * self.lengths).sum() / total),
      "neg_logprob": float((self.neg_logprobs * self.lengths).sum() / total),
      "distinct_answers": float(self.distinct_answers().mean()),
    }

  def distinct_answers(self) -> np.ndarray:
    """Returns f64[problems]: different answers to each, whatever spelling."""
    # Policies repeat themselves: each spelling is read once.
    spellings = {a for row in self.answers for a in row}
    # "" where nothing was boxed: no answer is not an answer.
    same = {a: canonical(a) or None for a in spellings}
    return np.array(
      [distinct_answers([[same[a] for a in row]]) for row in self.answers],
      np.float64,
    )

  def to_arrays(self) -> dict[str, Any]:
    """Returns what `from_arrays` restores: arrays only, nothing pickled.

    Every score is an array of its name. Answers are one text in UTF-8 and
    where each of them ends in it: an array of strings would be as wide as the
    longest of them in every place.
    """
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    fields |= fields.pop("scores")
    answers = [
      answer.encode("utf-8", "surrogatepass")
      for row in fields.pop("answers")
      for answer in row
    ]
    fields["answers_utf8"] = np.frombuffer(b"".join(answers), np.uint8)
    fields["answers_ends"] = np.cumsum([len(a) for a in answers], dtype="i8")
    return fields

  @classmethod
  def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Evaluation":
    """Returns what `to_arrays` stored; files with one string array too."""
    fields = {
      f.name: arrays[f.name]
      for f in dataclasses.fields(cls)
      if f.name not in ("scores", "answers")
    }
    fields["name"] = str(fields["name"])
    scores = {name: arrays[name] for name in arrays if name not in _ARRAYS}
    rows = (
      arrays["answers"].tolist()
      if "answers" in arrays
      else _cut(arrays, fields["lengths"].shape)
    )
    return cls(**fields, scores=scores, answers=tuple(map(tuple, rows)))


# What a file of an evaluation holds beside its scores.
_ARRAYS = {f.name for f in dataclasses.fields(Evaluation)} | {
  "answers_utf8",
  "answers_ends",
}


def _cut(
  arrays: Mapping[str, np.ndarray], shape: tuple[int, ...]
) -> list[list[str]]:
  """Returns P lists of n answers from one text and the ends of its pieces."""
  text, ends = arrays["answers_utf8"].tobytes(), arrays["answers_ends"].tolist()
  starts = [0, *ends[:-1]]
  answers = [
    text[start:end].decode("utf-8", "surrogatepass")
    for start, end in zip(starts, ends, strict=True)
  ]
  n = shape[1]
  return [answers[i : i + n] for i in range(0, len(answers), n)]


def _token_mean(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
  return (values * lengths).sum(1) / np.maximum(lengths.sum(1), 1)


def make_problem_set(
  name: str,
  rows: Sequence[Row],
  encoder: Encoder,
  batch_size: int,
  *,
  task: Task | None,
  asked: int | None = None,
  max_missing: float = 0.0,
) -> ProblemSet:
  """Encodes problems once; a worked solution takes no part in it.

  Args:
    name: where the numbers are filed.
    rows: the problems.
    encoder: static shapes.
    batch_size: problems in a batch.
    task: what will score the responses; None for rows that are only shown.
    asked: how many were wanted; default all of `rows`.
    max_missing: share of `asked` that may be absent or unusable. Whatever is
      missing changes what is measured, so by default nothing may be.

  Raises:
    ValueError: more is missing than that, with names and reasons.
  """
  asked = len(rows) if asked is None else asked
  readable, dropped = _readable(rows)
  kept, buckets = [], []
  if readable:
    found = rows_lib.survey(readable, encoder)
    dropped += found.dropped
    kept = [found.row(i) for i in range(len(found.kept))]
    buckets = found.buckets
  _check_missing(name, len(rows), len(kept), asked, dropped, max_missing)
  batches = []
  for number, bucket in enumerate(encoder.buckets):
    members = np.flatnonzero(buckets == number)
    for start in range(0, len(members), batch_size):
      chosen = members[start : start + batch_size]
      index = np.full(batch_size, -1)
      index[: len(chosen)] = chosen
      encoded = [rows_lib.encode_prompt(kept[i], encoder) for i in chosen]
      filled = [encoded[i % len(chosen)] for i in range(batch_size)]
      prompts = rows_lib.collate_prompts(filled, bucket, encoder.chat.pad_id)
      batches.append((prompts, index))
  return ProblemSet(
    name,
    task,
    tuple(kept),
    tuple(batches),
    asked,
    tuple(dropped),
    digest_of(kept),
  )


def digest_of(rows: Sequence[Row]) -> str:
  """Returns the SHA-256 of problems in their order.

  Ids, questions, references and the bytes of the pictures count; where a
  picture lies and how it is encoded does not.
  """
  digest = hashlib.sha256()
  for row in rows:
    pictures = [_digest_of_picture(picture) for picture in row.images]
    text = (row.id, row.question, row.reference_text, pictures)
    digest.update(repr(text).encode())
  return digest.hexdigest()


def _digest_of_picture(picture: Picture) -> str:
  if isinstance(picture, np.ndarray):
    header = f"{picture.dtype} {picture.shape} ".encode()
    return hashlib.sha256(header + picture.tobytes()).hexdigest()
  if not isinstance(picture, bytes):
    picture = pathlib.Path(picture).read_bytes()
  return hashlib.sha256(picture).hexdigest()


def _check_missing(
  name: str,
  given: int,
  found: int,
  asked: int,
  dropped: Sequence[tuple[str, str]],
  max_missing: float,
) -> None:
  """Says what is missing of the problems asked for; raises beyond the limit."""
  if found >= asked and found:
    return
  said = f"{name}: found {found} of the {asked} problems asked for"
  if given < asked:
    said += f"; there are only {given}"
  if dropped:
    named = "; ".join(f"{id!r}: {why}" for id, why in dropped[:8])
    more = f"; and {len(dropped) - 8} more" if len(dropped) > 8 else ""
    said += f"; {len(dropped)} cannot be used: {named}{more}"
  if not found or asked - found > max_missing * asked:
    raise ValueError(
      f"{said}. Expected at most {max_missing:.1%} to be missing: mend the"
      " data, ask for fewer, or raise max_missing"
    )
  logging.warning("%s", said)


def _readable(
  rows: Sequence[Row],
) -> tuple[list[Row], list[tuple[str, str]]]:
  """Returns rows whose pictures decode, which no header tells, and drops."""
  kept, dropped = [], []
  for row in rows:
    try:
      for picture in row.images:
        images.load(picture)
    except (ValueError, FileNotFoundError) as e:
      dropped.append((row.id, str(e)))
      continue
    kept.append(dataclasses.replace(row, responses=(), kinds=()))
  return kept, dropped


def evaluate(
  problems: ProblemSet,
  generate: Generate,
  params: Params,
  key: jax.Array,
  *,
  decode: Callable[[Sequence[int]], str],
  rounds: int = 1,
  show_progress: bool = False,
  log: Log | None = None,
) -> Evaluation:
  """Samples every problem and scores the responses, all in one batch.

  Args:
    problems: from `make_problem_set`.
    generate: samples G completions per prompt; n = G × rounds.
    params: the policy.
    key: root of the samples; the same key draws the same noise for every
      policy, which pairs the comparison.
    decode: token ids -> text.
    rounds: how often G samples are drawn.
    show_progress: show a bar.
    log: keeps the answers as they are drawn; those that it has are not drawn
      again.
  """
  work = [
    (r, prompts, index)
    for r in range(rounds)
    for prompts, index in problems.batches
  ]
  drawn: list[list[Drawn]] = [[] for _ in problems.rows]
  bar = bars.bar(work, f"evaluate {problems.name}", show=show_progress)
  for r, prompts, index in bar:
    wanted = {(r, int(p)): i for i, p in enumerate(index) if p >= 0}
    found = log.found if log else {}
    if not wanted.keys() <= found.keys():
      ids = np.where(index < 0, len(problems.rows), index).astype(np.int32)
      samples = generate(params, prompts, jax.random.fold_in(key, r), ids)
      samples = jax.device_get(samples)
      found = {at: read(samples, i, decode) for at, i in wanted.items()}
      if log:
        log.add(found)
    for at in wanted:
      drawn[at[1]] += found[at]
  rows = [
    row for row, found in zip(problems.rows, drawn, strict=True) for _ in found
  ]
  task = problems.task
  scores = score(task, [one.text for found in drawn for one in found], rows)
  shape = len(drawn), len(drawn[0])

  def stacked(name: str) -> np.ndarray:
    return np.array([[getattr(one, name) for one in row] for row in drawn])

  return Evaluation(
    name=problems.name,
    scores={name: values.reshape(shape) for name, values in scores.items()},
    lengths=stacked("length"),
    finished=stacked("finished"),
    entropies=stacked("entropy"),
    neg_logprobs=stacked("neg_logprob"),
    answers=tuple(tuple(task.answer(one.text) for one in row) for row in drawn),
  )
