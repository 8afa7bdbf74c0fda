"""Evaluation of a policy on a fixed set of problems.

Everything that a statement needs is kept per problem and per sample, so that
any two policies can be compared by a paired bootstrap over problems.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxvlm.data import images
from jaxvlm.data import rows as rows_lib
from jaxvlm.data.rows import Encoder, Row
from jaxvlm.diagnostics import distinct_answers, pass_at_k
from jaxvlm.journal import progress
from jaxvlm.rewards import extract_boxed
from jaxvlm.rollout.generate import Generate
from jaxvlm.typing import Params, Prompts

# (response, answer) -> {"overall", "format", "accuracy"}
Reward = Callable[[str, str], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class ProblemSet:
  """Encoded problems, ready to be sampled again and again.

  Attributes:
    name: where the numbers are filed, e.g. "in_domain".
    rows: the problems.
    batches: (prompts, indices of their rows); the last repeats rows to fill
      its shape, with index -1.
  """

  name: str
  rows: tuple[Row, ...]
  batches: tuple[tuple[Prompts, np.ndarray], ...]


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Measurements of one policy; P problems, n samples each.

  Attributes:
    name: of the problem set.
    accuracy: f32[P, n] 1 where the boxed answer is right.
    format: f32[P, n] 1 where the format is kept.
    reward: f32[P, n] overall reward.
    lengths: i32[P, n] completion tokens.
    finished: bool[P, n] whether the end of the turn was reached.
    entropies: f32[P, n] mean full-vocabulary entropy over completion tokens.
    neg_logprobs: f32[P, n] mean −log p of the sampled tokens.
    answers: P lists of n final answers.
  """

  name: str
  accuracy: np.ndarray
  format: np.ndarray
  reward: np.ndarray
  lengths: np.ndarray
  finished: np.ndarray
  entropies: np.ndarray
  neg_logprobs: np.ndarray
  answers: tuple[tuple[str, ...], ...]

  def pass_at(self, k: int) -> np.ndarray:
    """Returns the unbiased pass@k of every problem, f64[P]."""
    n = self.accuracy.shape[1]
    return pass_at_k(n, self.accuracy.sum(1).astype(int), k)

  def entropy(self) -> np.ndarray:
    """Returns token-mean completion entropy of every problem, f64[P]."""
    return _token_mean(self.entropies, self.lengths)

  def summary(self) -> dict[str, float]:
    """Returns the means over problems that the journal logs."""
    n = self.accuracy.shape[1]
    ks = [k for k in (1, 2, 4, 8, 16) if k <= n]
    total = self.lengths.sum()
    return {
      "accuracy": float(self.accuracy.mean()),
      **{f"pass@{k}": float(self.pass_at(k).mean()) for k in ks},
      "format": float(self.format.mean()),
      "reward": float(self.reward.mean()),
      "length": float(self.lengths.mean()),
      "finished": float(self.finished.mean()),
      "entropy": float((self.entropies * self.lengths).sum() / total),
      "neg_logprob": float((self.neg_logprobs * self.lengths).sum() / total),
      "distinct_answers": float(
        distinct_answers([[a or None for a in row] for row in self.answers])
      ),
    }

  def to_arrays(self) -> dict[str, Any]:
    """Returns what `from_arrays` restores: arrays only, nothing pickled."""
    fields = dataclasses.asdict(self)
    fields["answers"] = np.array(self.answers, np.str_)
    return fields

  @classmethod
  def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Evaluation":
    fields = {f.name: arrays[f.name] for f in dataclasses.fields(cls)}
    fields["name"] = str(fields["name"])
    fields["answers"] = tuple(tuple(row) for row in fields["answers"].tolist())
    return cls(**fields)


def _token_mean(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
  return (values * lengths).sum(1) / np.maximum(lengths.sum(1), 1)


def make_problem_set(
  name: str, rows: Sequence[Row], encoder: Encoder, batch_size: int
) -> ProblemSet:
  """Encodes problems once; rows that do not fit are dropped and counted."""
  found = rows_lib.survey(_readable(rows), encoder)
  kept = [found.row(i) for i in range(len(found.kept))]
  batches = []
  for number, bucket in enumerate(encoder.buckets):
    members = np.flatnonzero(found.buckets == number)
    for start in range(0, len(members), batch_size):
      chosen = members[start : start + batch_size]
      index = np.full(batch_size, -1)
      index[: len(chosen)] = chosen
      encoded = [rows_lib.encode_prompt(kept[i], encoder) for i in chosen]
      filled = [encoded[i % len(chosen)] for i in range(batch_size)]
      prompts = rows_lib.collate_prompts(filled, bucket, encoder.chat.pad_id)
      batches.append((prompts, index))
  return ProblemSet(name, tuple(kept), tuple(batches))


def _readable(rows: Sequence[Row]) -> list[Row]:
  """Returns the rows whose pictures decode, which no header tells."""
  kept = []
  for row in rows:
    try:
      for picture in row.images:
        images.load(picture)
    except (ValueError, FileNotFoundError) as e:
      logging.warning("dropped %s: %s", row.id, e)
      continue
    kept.append(row)
  return kept


def evaluate(
  problems: ProblemSet,
  generate: Generate,
  params: Params,
  key: jax.Array,
  *,
  decode: Callable[[Sequence[int]], str],
  reward: Reward,
  rounds: int = 1,
  show_progress: bool = False,
) -> Evaluation:
  """Samples every problem and grades the answers.

  Args:
    problems: from `make_problem_set`.
    generate: samples G completions per prompt; n = G × rounds.
    params: the policy.
    key: root of the samples; the same key draws the same noise for every
      policy, which pairs the comparison.
    decode: token ids -> text.
    reward: grades a response.
    rounds: how often G samples are drawn.
    show_progress: show a bar.
  """
  work = [
    (r, prompts, index)
    for r in range(rounds)
    for prompts, index in problems.batches
  ]
  results: list[list[dict[str, Any]]] = [[] for _ in problems.rows]
  bar = progress(work, f"evaluate {problems.name}") if show_progress else work
  for r, prompts, index in bar:
    ids = np.where(index < 0, len(problems.rows), index).astype(np.int32)
    samples = generate(params, prompts, jax.random.fold_in(key, r), ids)
    samples = jax.device_get(samples)
    for row, problem in enumerate(index):
      if problem < 0:
        continue
      answer = problems.rows[problem].answer
      for g in range(samples.tokens.shape[1]):
        results[problem].append(
          _measure(samples, row, g, answer, decode, reward)
        )
  stacked = {
    name: np.array([[sample[name] for sample in row] for row in results])
    for name in results[0][0]
    if name != "answers"
  }
  answers = tuple(tuple(s["answers"] for s in row) for row in results)
  return Evaluation(name=problems.name, answers=answers, **stacked)


def _measure(samples, row, g, answer, decode, reward) -> dict[str, Any]:
  length = int(samples.mask[row, g].sum())
  text = decode(samples.tokens[row, g, :length].tolist())
  graded = reward(text, answer)
  weight = max(length, 1)
  return {
    "accuracy": np.float32(graded["accuracy"]),
    "format": np.float32(graded["format"]),
    "reward": np.float32(graded["overall"]),
    "lengths": length,
    "finished": bool(samples.finished[row, g]),
    "entropies": np.float32(samples.entropies[row, g].sum() / weight),
    "neg_logprobs": np.float32(-samples.logprobs[row, g].sum() / weight),
    "answers": extract_boxed(text) or "",
  }
