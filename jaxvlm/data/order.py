"""The order of data: a pure function from (seed, step) to rows.

No iterator state exists, so there is none to save: a resumed run asks for the
next step and gets what the undisturbed run would have got.
"""

import dataclasses
import functools

import numpy as np


@dataclasses.dataclass(frozen=True)
class Plan:
  """Shuffled batches, each from one bucket, epoch after epoch.

  Within an epoch every row is used once. What does not fill a batch in its
  bucket moves up to the next larger one, which holds it too; what is left in
  the largest is completed with the rows that the epoch shuffled first, which
  are other ones as long as there are N rows.

  Attributes:
    buckets: bucket of every row, as a tuple (hashable).
    batch_size: N.
    seed: root of the shuffles.
  """

  buckets: tuple[int, ...]
  batch_size: int
  seed: int

  def __post_init__(self):
    if self.batch_size < 1 or not self.buckets:
      raise ValueError(
        f"plan of {len(self.buckets)} rows with batch size {self.batch_size}:"
        " expected at least one row and a positive batch size"
      )

  @property
  def steps_per_epoch(self) -> int:
    return len(_epoch(self, 0)[0])

  def batch(self, step: int) -> tuple[np.ndarray, int]:
    """Returns (row indices i64[N], bucket) of a step, counted from 0."""
    epoch, within = divmod(step, self.steps_per_epoch)
    rows, buckets = _epoch(self, epoch)
    return rows[within], int(buckets[within])

  def spare(self, step: int, number: int) -> int:
    """Returns the row that replaces failure `number` of a step."""
    _, bucket = self.batch(step)
    same = np.flatnonzero(np.array(self.buckets) <= bucket)
    rng = np.random.default_rng((self.seed, 1, step, number))
    return int(rng.choice(same))


@functools.lru_cache(maxsize=4)
def _epoch(plan: Plan, epoch: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns (rows [steps, N], bucket [steps]) of one epoch."""
  rng = np.random.default_rng((plan.seed, 0, epoch))
  bucket_of = np.array(plan.buckets)
  batches: list[np.ndarray] = []
  buckets: list[int] = []
  waiting = np.zeros(0, np.int64)
  names = np.unique(bucket_of)
  for name in names:
    rows = rng.permutation(np.flatnonzero(bucket_of == name))
    rows = np.concatenate([waiting, rows])
    full = len(rows) // plan.batch_size * plan.batch_size
    if name == names[-1] and full < len(rows):
      missing = plan.batch_size - (len(rows) - full)
      shuffled = np.concatenate([*batches, rows])
      rows = np.concatenate([rows, np.resize(shuffled, missing)])
      full = len(rows)
    batches.extend(rows[:full].reshape(-1, plan.batch_size))
    buckets.extend([name] * (full // plan.batch_size))
    waiting = rows[full:]
  order = rng.permutation(len(batches))
  return np.stack(batches)[order], np.array(buckets)[order]
