"""Batches by step through grain: prefetched, and the same for any workers.

The elements of the data set *are* whole batches, indexed by step; workers
only decide who computes which element. This is the one data module that
imports grain (and through it jax).
"""

from collections.abc import Iterator, Sequence

import grain

from jaxvlm.data import rows
from jaxvlm.data.order import Plan
from jaxvlm.data.rows import Encoder, HostBatch, Survey


class BatchSource(grain.sources.RandomAccessDataSource):
  """Steps as records: `source[step]` is the batch of that step.

  Args:
    survey: the rows.
    plan: their order.
    encoder: how to encode them.
    steps: length of the run.
    places: which rows of every batch to load, None for all. Several processes
      that each load their own places hold, together, the batch of one.
  """

  def __init__(
    self,
    survey: Survey,
    plan: Plan,
    encoder: Encoder,
    steps: int,
    *,
    places: Sequence[int] | None = None,
  ):
    self._survey = survey
    self._plan = plan
    self._encoder = encoder
    self._steps = steps
    whole = range(plan.batch_size)
    self._places = tuple(whole if places is None else map(int, places))

  def __len__(self) -> int:
    return self._steps

  def __getitem__(self, step: int) -> HostBatch:
    numbers, bucket = self._plan.batch(step)

    def spare(failure: int) -> rows.Row:
      attempt, place = divmod(failure, len(self._places))
      number = self._places[place] + attempt * self._plan.batch_size
      return self._survey.row(self._plan.spare(step, number))

    return rows.make_batch(
      [self._survey.row(numbers[place]) for place in self._places],
      spare,
      self._encoder.buckets[bucket],
      self._encoder,
    )

  def row_ids(self, step: int) -> list[str]:
    """Returns the planned rows of a whole batch, those of all processes."""
    numbers, _ = self._plan.batch(step)
    return [self._survey.row(number).id for number in numbers]


def batches(
  source: BatchSource, *, start: int = 0, workers: int = 0
) -> Iterator[HostBatch]:
  """Yields the batches of steps start, start + 1, …

  Args:
    source: steps as records.
    start: first step; a resumed run passes the restored one.
    workers: processes that prepare batches; 0 prefetches in threads. To start
      them grain reads absl flags: a program without `absl.app.run` calls
      `flags.FLAGS.mark_as_parsed()` before, and its main module is importable.
  """
  # A batch is large: a few in flight hide the work, more only take memory.
  options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
  data = grain.MapDataset.source(source).slice(slice(start, len(source)))
  stream = data.to_iter_dataset(options)
  if workers:
    stream = stream.mp_prefetch(grain.MultiprocessingOptions(workers, 2))
  return iter(stream)
