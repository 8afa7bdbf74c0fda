"""The train step: one jitted, donated function over arrays.

Objectives arrive as functions, so the step knows neither the model nor the
loss; micro-batches are scanned and exact, because every objective divides by
totals of the whole batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxvlm import metrics as metrics_lib
from jaxvlm.metrics import Mean
from jaxvlm.train import guard as guards
from jaxvlm.typing import Params, Prompts, PyTree

# (trainable, frozen, micro-batch, totals of the whole batch) -> loss, metrics
Objective = Callable[
  [Params, PyTree, PyTree, PyTree], tuple[jax.Array, dict[str, Mean]]
]
# whole batch -> normalizers
Totals = Callable[[PyTree], PyTree]


class TrainState(NamedTuple):
  """What a step changes: arrays only.

  Attributes:
    step: i32[] steps taken, skipped ones included.
    trainable: parameters under training.
    opt_state: the optimizer's state.
    guard: history that the spike detector reads.
    carry: unfinished completions of a run that carries them over, else ().
  """

  step: jax.Array
  trainable: Params
  opt_state: PyTree
  guard: guards.Guard
  carry: PyTree = ()


def init_state(
  trainable: Params, optimizer: optax.GradientTransformation
) -> TrainState:
  """Returns the state before the first step; copies the parameters."""
  trainable = jax.tree.map(jnp.array, trainable)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    trainable=trainable,
    opt_state=optimizer.init(trainable),
    guard=guards.init(),
  )


def split(tree: PyTree, count: int) -> PyTree:
  """Returns `tree` with a leading micro-batch axis: [count, N / count, …].

  M-RoPE positions carry their prompt axis second; everything else first.
  """

  def cut(x):
    n = x.shape[0]
    if n % count:
      raise ValueError(
        f"batch of {n} prompts does not split into {count} micro-batches:"
        " choose a divisor"
      )
    return x.reshape(count, n // count, *x.shape[1:])

  def cut_prompts(x):
    if not isinstance(x, Prompts):
      return cut(x)
    positions = jnp.moveaxis(cut(jnp.moveaxis(x.positions, 1, 0)), 2, 1)
    rest = x._replace(positions=x.next_position)
    return jax.tree.map(cut, rest)._replace(positions=positions)

  return jax.tree.map(
    cut_prompts, tree, is_leaf=lambda x: isinstance(x, Prompts)
  )


def make_train_step(
  objective: Objective,
  totals: Totals,
  optimizer: optax.GradientTransformation,
  *,
  micro_batches: int = 1,
) -> Callable[[TrainState, PyTree, PyTree], tuple[TrainState, dict]]:
  """Returns a jitted step (state, frozen, batch) -> (state, metrics).

  The state is donated; `frozen` (base, reference, teacher) is not. A step
  whose loss or gradient is not finite, or spikes, leaves parameters and
  optimizer untouched, advances `step`, and is counted.

  Args:
    objective: the loss; its gradient is taken in its first argument.
    totals: normalizers of the whole batch, handed to every micro-batch.
    optimizer: what turns gradients into updates.
    micro_batches: number of equal parts along the prompts.
  """

  def gradients(trainable, frozen, batch):
    whole = totals(batch)
    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    if micro_batches == 1:
      (loss, stats), grads = value_and_grad(trainable, frozen, batch, whole)
      return loss, stats, grads
    parts = split(batch, micro_batches)
    first = jax.tree.map(lambda x: x[0], parts)
    shapes = jax.eval_shape(value_and_grad, trainable, frozen, first, whole)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def body(total, part):
      one = value_and_grad(trainable, frozen, part, whole)
      return jax.tree.map(jnp.add, total, one), None

    ((loss, stats), grads), _ = jax.lax.scan(body, zero, parts)
    return loss, stats, grads

  def step(state, frozen, batch):
    loss, stats, grads = gradients(state.trainable, frozen, batch)
    norm = optax.tree.norm(grads)
    ok, guard = guards.check(state.guard, loss, norm)
    updates, opt_state = optimizer.update(
      grads, state.opt_state, state.trainable
    )
    trainable = optax.apply_updates(state.trainable, updates)

    def keep(new, old):
      return jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, old)

    new = TrainState(
      step=state.step + 1,
      trainable=keep(trainable, state.trainable),
      opt_state=keep(opt_state, state.opt_state),
      guard=guard,
      carry=state.carry,
    )
    out = {
      **metrics_lib.values(stats),
      "loss/total": loss,
      "grad/norm": norm,
      "guard/skipped": guard.skipped_total,
      "guard/skipped_in_row": guard.skipped_in_row,
    }
    return new, out

  return jax.jit(step, donate_argnums=0)
