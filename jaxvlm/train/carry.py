"""Unfinished completions go on in the next step.

A few prompts more than a step trains on are under way. As soon as enough of
them have all their completions, the step takes those; the others wait with
what they have: tokens, and the statistics of the policy that drew them. The
slowest completion of a batch is no longer what a step waits for (partial
rollouts, arXiv:2509.18521).

The order of completion is an order by length: the first steps train on shorter
completions than they would without a carry, and the prompts under way when the
run ends, the longest, are never trained on.

A waiting prompt is named by the step that brought it and its place there. The
data is a pure function of the step, so pictures are not carried but loaded
again, and a resumed run goes on to the bit.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxvlm.data.rows import HostBatch
from jaxvlm.rollout.refill import Refill, complete
from jaxvlm.sampling import Samples
from jaxvlm.sharding import prompt_axes
from jaxvlm.typing import Params

# step -> its prompts, of one static shape
Source = Callable[[int], HostBatch]


class Carry(NamedTuple):
  """What waits, C prompts: a part of the train state.

  Attributes:
    steps: i32[C] the step that brought a prompt.
    places: i32[C] its place in that step's batch.
    samples: [C, G, T] its completions so far.
  """

  steps: Array
  places: Array
  samples: Samples


class Rollout(NamedTuple):
  """The prompts of one step, N of them, complete.

  Attributes:
    host: prompts and rows, oldest first.
    samples: [N, G, T].
    drawn: bool[N, G, T] tokens of the policy at hand; the others are older.
    tokens: i32[] drawn by it, those of prompts that wait too.
    carry: for the next step.
  """

  host: HostBatch
  samples: Samples
  drawn: Array
  tokens: Array
  carry: Carry


def begin(samples: Samples) -> Carry:
  """Returns the carry before the first step: rows of batch 0, untouched.

  Args:
    samples: that have not begun, [C, G, T]; C prompts more than a step
      trains on are under way.
  """
  extra = len(samples.tokens)
  return Carry(
    jnp.zeros((extra,), jnp.int32), jnp.arange(extra, dtype=jnp.int32), samples
  )


def roll_out(
  refill: Refill,
  params: Params,
  source: Source,
  carry: Carry,
  step: int,
  key: Array,
) -> Rollout:
  """Draws until N prompts are complete, and keeps the others.

  Args:
    refill: from `make_refill` with `enough=N`.
    params: the policy.
    source: batches of N prompts; that of step s + 1 comes with step s, the
      carry began with that of step 0.
    carry: of the last step.
    step: counted from 0.
    key: of the stage; prompts fold in the step that brought them, so that a
      completion goes on with its own randomness.
  """
  count = len(source(step + 1).rows)
  steps = np.concatenate([carry.steps, np.full(count, step + 1)])
  places = np.concatenate([carry.places, np.arange(count)]).astype(np.int32)
  # Steps ascend, here and in the carry: a batch of each is loaded once.
  host = _join(
    [_select(source(s), places[steps == s]) for s in np.unique(steps)]
  )
  earlier = _begun(carry.samples, count)
  keys = jax.vmap(functools.partial(jax.random.fold_in, key))(steps)
  samples = refill(params, host.batch.prompts, keys, places, earlier)
  drawn = samples.mask & ~earlier.mask
  ready = np.asarray(complete(samples).all(axis=1))
  order = np.argsort(~ready, kind="stable")
  taken, waiting = np.sort(order[:count]), np.sort(order[count:])
  return Rollout(
    _select(host, taken),
    _rows(samples, taken),
    drawn[taken],
    drawn.sum(),
    Carry(
      jnp.asarray(steps[waiting], jnp.int32),
      jnp.asarray(places[waiting]),
      _rows(samples, waiting)._replace(slot_steps=jnp.zeros((), jnp.int32)),
    ),
  )


def _rows(samples: Samples, rows: np.ndarray) -> Samples:
  return jax.tree.map(lambda x: x[rows] if jnp.ndim(x) else x, samples)


def _begun(samples: Samples, count: int) -> Samples:
  """Returns the samples with `count` more prompts that have not begun."""

  def pad(x):
    return jnp.pad(x, [(0, count)] + [(0, 0)] * (x.ndim - 1)) if x.ndim else x

  return jax.tree.map(pad, samples)


def _select(host: HostBatch, places: np.ndarray) -> HostBatch:
  """Returns some rows of a batch, in the order asked for."""
  batch = jax.tree.map(
    lambda x, axis: np.take(x, places, axis),
    host.batch,
    prompt_axes(host.batch),
  )
  rows = tuple(host.rows[i] for i in places)
  return HostBatch(batch, rows, host.replaced)


def _join(hosts: Sequence[HostBatch]) -> HostBatch:
  """Returns one batch of the rows of several of one shape."""
  batches = [host.batch for host in hosts]
  joined = jax.tree.map(
    lambda axis, *parts: np.concatenate(parts, axis),
    prompt_axes(batches[0]),
    *batches,
  )
  return HostBatch(
    joined,
    tuple(row for host in hosts for row in host.rows),
    tuple(pair for host in hosts for pair in host.replaced),
  )
