"""The train step: one jitted, donated function over arrays.

Objectives arrive as functions, so the step knows neither the model nor the
loss; micro-batches are scanned and exact, because every objective divides by
totals of the whole batch.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvlm import metrics as metrics_lib
from jaxvlm import sharding
from jaxvlm.metrics import Metric
from jaxvlm.sharding import (
  ROWS,
  Partition,
  check_rows,
  constrain,
  constrain_tree,
  prompt_axes,
)
from jaxvlm.train import guard as guards
from jaxvlm.typing import Params, PyTree

# (trainable, frozen, micro-batch, totals of the whole batch) -> loss, metrics
Objective = Callable[
  [Params, PyTree, PyTree, PyTree], tuple[jax.Array, dict[str, Metric]]
]
# whole batch -> normalizers
Totals = Callable[[PyTree], PyTree]


class BatchTotals(NamedTuple):
  """Totals that only the model can tell, such as a mean of the whole batch.

  Attributes:
    totals: whole batch -> normalizers; enough where the objective sees the
      whole batch at once.
    measure: (trainable, frozen, micro-batch) -> normalizers of a part, which
      add up to those of the whole; runs over all micro-batches before the
      first of them is trained on, without gradient.
  """

  totals: Totals
  measure: Callable[[Params, PyTree, PyTree], PyTree]


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
  trainable: Params,
  optimizer: optax.GradientTransformation,
  *,
  rules: Partition = (),
) -> TrainState:
  """Returns the state before the first step; copies the parameters.

  Args:
    trainable: parameters, which keep their layout.
    optimizer: as for `make_train_step`.
    rules: how the state lies on the mesh set by `jax.set_mesh`.
  """
  return _start(jax.tree.map(jnp.array, trainable), optimizer, rules)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _start(trainable, optimizer, rules) -> TrainState:
  state = TrainState(
    step=jnp.zeros((), jnp.int32),
    trainable=trainable,
    opt_state=optimizer.init(trainable),
    guard=guards.init(),
  )
  return _laid_out(state, rules)


def state_sharding(
  mesh: Mesh, state: TrainState, rules: Partition
) -> TrainState:
  """Returns a NamedSharding for every leaf of a state, abstract or not."""
  whole = NamedSharding(mesh, PartitionSpec())
  return TrainState(
    step=whole,
    trainable=sharding.partition(mesh, state.trainable, rules),
    opt_state=sharding.partition(mesh, state.opt_state, rules),
    guard=jax.tree.map(lambda _: whole, state.guard),
    carry=jax.tree.map(lambda _: whole, state.carry),
  )


def _laid_out(state: TrainState, rules: Partition) -> TrainState:
  """Returns the state in the layout of `state_sharding`, inside a program."""
  return state._replace(
    step=constrain(state.step),
    trainable=constrain_tree(state.trainable, rules),
    opt_state=constrain_tree(state.opt_state, rules),
    guard=jax.tree.map(constrain, state.guard),
  )


def split(tree: PyTree, count: int, parts: str = "micro-batches") -> PyTree:
  """Returns `tree` with a leading axis of parts: [count, N / count, …].

  Part j holds every count-th prompt from j: of a batch spread over devices,
  each keeps its own rows.

  Args:
    tree: a batch of N prompts.
    count: how many parts.
    parts: what an error calls them.

  Raises:
    ValueError: the prompts do not divide, over parts or over devices.
  """

  def cut(x, axis):
    n = x.shape[axis]
    if n % count:
      raise ValueError(
        f"batch of {n} prompts does not split into {count} {parts}: choose a"
        " divisor"
      )
    check_rows(None, n // count)
    x = x.reshape(*x.shape[:axis], n // count, count, *x.shape[axis + 1 :])
    part = jnp.moveaxis(x, axis + 1, 0)
    return constrain(part, *(None,) * (axis + 1), ROWS)

  return jax.tree.map(cut, tree, prompt_axes(tree))


def make_train_step(
  objective: Objective,
  totals: Totals | BatchTotals,
  optimizer: optax.GradientTransformation,
  *,
  minibatches: int = 1,
  micro_batches: int = 1,
  rules: Partition = (),
  norm_depth: int = 0,
) -> Callable[[TrainState, PyTree, PyTree], tuple[TrainState, dict]]:
  """Returns a jitted step (state, frozen, batch) -> (state, metrics).

  The state is donated; `frozen` (base, reference, teacher) is not. A step
  whose loss or gradient is not finite, or spikes, leaves parameters and
  optimizer untouched, advances `step`, and is counted.

  With several minibatches a step takes several optimizer steps, one on each
  part of its batch in turn (PPO, arXiv 1707.06347, section 5): the second and
  later ones train on completions of an older policy, which is what ratios,
  clipping and `policy/clip_fraction` are for. Each has totals and a guard's
  verdict of its own; learning rates count optimizer steps. `loss/total` and
  `grad/norm` are means over them. A run is resumed between steps only, so no
  checkpoint stands between two minibatches.

  Args:
    objective: the loss; its gradient is taken in its first argument.
    totals: normalizers of the whole batch, handed to every micro-batch; a
      BatchTotals where they depend on the parameters.
    optimizer: what turns gradients into updates.
    minibatches: optimizer steps on one batch, on equal parts along the
      prompts.
    micro_batches: equal parts of a minibatch, whose gradients add up to one
      optimizer step.
    rules: how parameters, gradients and optimizer state lie on the mesh set
      by `jax.set_mesh`; nothing without a mesh.
    norm_depth: logs the gradient norm of every module so many names deep in
      the tree (2: "visual/blocks"); 0 logs none.
  """

  whole_batch = (
    totals if isinstance(totals, BatchTotals) else BatchTotals(totals, None)
  )

  def gradients(trainable, frozen, batch):
    whole = whole_batch.totals(batch)
    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    if micro_batches == 1:
      (loss, stats), grads = value_and_grad(trainable, frozen, batch, whole)
      return loss, stats, constrain_tree(grads, rules)
    parts = split(batch, micro_batches)
    first = jax.tree.map(lambda x: x[0], parts)
    if whole_batch.measure is not None:
      shares = jax.lax.map(
        lambda part: whole_batch.measure(trainable, frozen, part), parts
      )
      whole = jax.tree.map(lambda x: jnp.sum(x, 0), shares)
    shapes = jax.eval_shape(value_and_grad, trainable, frozen, first, whole)
    # Sums of many bfloat16 gradients would lose the small ones.
    zero = jax.tree.map(
      lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)),
      shapes,
    )

    def body(total, part):
      (loss, stats), grads = value_and_grad(trainable, frozen, part, whole)
      (losses, seen), summed = total
      # Metrics know how to join: a mean adds, a maximum does not.
      joined = losses + loss, metrics_lib.add(seen, stats)
      summed = jax.tree.map(jnp.add, summed, constrain_tree(grads, rules))
      return (joined, constrain_tree(summed, rules)), None

    ((loss, stats), grads), _ = jax.lax.scan(body, zero, parts)
    return loss, stats, grads

  def update(state, frozen, batch):
    """One optimizer step; returns (state, loss, metrics, gradient norms)."""
    loss, stats, grads = gradients(state.trainable, frozen, batch)
    norm = _norm(grads)
    ok, guard = guards.check(state.guard, loss, norm)
    updates, opt_state = optimizer.update(
      grads, state.opt_state, state.trainable
    )
    trainable = optax.apply_updates(state.trainable, updates)

    def keep(new, old):
      return jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, old)

    new = state._replace(
      trainable=keep(trainable, state.trainable),
      opt_state=keep(opt_state, state.opt_state),
      guard=guard,
    )
    norms = {"grad/norm": norm, **module_norms(grads, norm_depth)}
    return new, loss, stats, norms

  def updates_in_turn(state, frozen, batch):
    def body(state, part):
      new, *rest = update(state, frozen, part)
      return _laid_out(new, rules), rest

    parts = split(batch, minibatches, "minibatches")
    state, (losses, stats, norms) = jax.lax.scan(body, state, parts)
    each = [jax.tree.map(lambda x: x[i], stats) for i in range(minibatches)]  # noqa: B023
    stats = functools.reduce(metrics_lib.add, each)
    return state, jnp.mean(losses), stats, jax.tree.map(jnp.mean, norms)

  def step(state, frozen, batch):
    take = update if minibatches == 1 else updates_in_turn
    new, loss, stats, norms = take(state, frozen, batch)
    in_row = new.guard.skipped_in_row
    if minibatches > 1:  # of whole steps, as the loop counts them
      in_row = in_row // minibatches
    out = {
      **metrics_lib.values(stats),
      "loss/total": loss,
      **norms,
      "guard/skipped": new.guard.skipped_total,
      "guard/skipped_in_row": in_row,
    }
    return _laid_out(new._replace(step=state.step + 1), rules), out

  return jax.jit(step, donate_argnums=0)


def module_norms(grads: PyTree, depth: int) -> dict[str, jax.Array]:
  """Returns "grad/norm/<module>" f32[] of modules `depth` names deep.

  The squares of all of them sum to the square of the whole norm; a leaf less
  deep is a module of its own.
  """
  modules: dict[str, list[jax.Array]] = {}
  for path, leaf in jax.tree.leaves_with_path(grads) if depth else ():
    name = jax.tree_util.keystr(path[:depth], simple=True, separator="/")
    modules.setdefault(name, []).append(leaf)
  return {f"grad/norm/{k}": _norm(v) for k, v in modules.items()}


def _norm(grads: PyTree) -> jax.Array:
  """Returns the global norm, f32[]: bfloat16 squares would not add up."""
  return optax.tree.norm(jax.tree.map(lambda x: x.astype(jnp.float32), grads))
