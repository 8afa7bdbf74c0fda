"""One assembly: settings of a run to its step, its state and what is frozen.

Studies, the planner and commands get all three here, so that what is planned
is what is trained. What an assembly gives are pure functions of parameters: a
run calls them on arrays, the planner on shapes.

Which reference a run is held to is decided by what it is for (`Reference`),
which of a model's matrices have adapters by `Form.adapted`.
"""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxvlm import models
from jaxvlm.metrics import Metric
from jaxvlm.models.lora import init_lora
from jaxvlm.models.quantize import quantize_int8
from jaxvlm.models.remat import Remat
from jaxvlm.sharding import Partition
from jaxvlm.train import freeze
from jaxvlm.train.optimizer import (
  OptimizerConfig,
  make_optimizer,
  master_params,
)
from jaxvlm.train.step import (
  BatchTotals,
  Objective,
  Totals,
  TrainState,
  init_state,
  make_train_step,
)
from jaxvlm.typing import Model, Params, PyTree


class Reference(enum.Enum):
  """What a run is held to.

  NONE: nothing.
  ENTRY: the policy with which the run begins, as far as it is trained. RL's:
    with adapters it has those of the warm start, whose bare base would pull
    every arm back over it.
  BASE: the model before training. That of preference losses: with adapters it
    is their base, which lies in memory anyway and is what they start from.
  """

  NONE = enum.auto()
  ENTRY = enum.auto()
  BASE = enum.auto()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
  """In which form a model is trained, kept and multiplied.

  Attributes:
    lora_rank: train adapters of this rank only; 0: the matrices themselves.
    lora_alpha: adapters count by lora_alpha / lora_rank.
    freeze_vision: leave the vision tower as it is.
    int8: what is read only, the teacher and the base or copy that is a
      reference, as 8-bit matrices.
    bfloat16: products, and all that is never trained.
    scan: layers in a loop; False unrolls them.
    remat: what a layer keeps for its backward pass.
  """

  lora_rank: int = 0
  lora_alpha: float = 32.0
  freeze_vision: bool = False
  int8: bool = False
  bfloat16: bool = False
  scan: bool = False
  remat: Remat = Remat.NONE

  @property
  def compute_type(self) -> Any:
    """The type of products, and of all that is never trained."""
    return jnp.bfloat16 if self.bfloat16 else jnp.float32

  @property
  def adapted(self) -> str:
    """Regular expression of the matrices that get adapters."""
    return "model/" if self.freeze_vision else ""

  @property
  def untrained(self) -> str:
    """Regular expression of the parameters that stay; empty: none."""
    if self.lora_rank:
      return "(?!.*/lora_(?:a|b|scale)$)"  # all but the adapters
    return "visual/" if self.freeze_vision else ""


def functions(config: Any, form: Form) -> Model:
  """Returns a model's functions, unrolled where a scan does not pay."""
  bound = models.bind(config, dtype=form.compute_type, remat=form.remat)
  if form.scan:
    return bound
  return bound._replace(forward=lambda p, b: bound.forward(bound.unstack(p), b))


def adapters(form: Form, params: Params) -> Params:
  """Returns adapters that change nothing yet: alike for all seeds.

  Raises:
    ValueError: a rank that a matrix of the model has not.
  """
  return init_lora(
    params,
    jax.random.key(0),
    rank=form.lora_rank,
    alpha=form.lora_alpha,
    pattern=form.adapted,
  )


def with_adapters(form: Form, params: Params) -> Params:
  """Returns the model with the adapters of the form, if it has any."""
  if not form.lora_rank:
    return params
  return freeze.merge_params(params, adapters(form, params))


def stored(form: Form, params: Params) -> Params:
  """Returns a model that is only read, such as a teacher, as it is kept."""
  if form.int8:
    params = quantize_int8(params, "")
  return freeze.stored_as(params, form.compute_type)


class Assembly(NamedTuple):
  """A stage: its jitted step, and what the step is given besides a batch.

  Attributes:
    step: as `make_train_step` returns it.
    state: whole parameters -> the state before the first step.
    frozen: (whole parameters at the start, teacher as `stored` or None) ->
      frozen trees of the step.
    whole: (trained part, frozen trees) -> whole parameters.
    measure: (trained part, frozen trees, batch) -> the objective's metrics,
      jitted, without gradient: of rows that are not trained on.
  """

  step: Callable[[TrainState, PyTree, PyTree], tuple[TrainState, dict]]
  state: Callable[[Params], TrainState]
  frozen: Callable[..., dict[str, Params]]
  whole: Callable[[Params, dict[str, Params]], Params]
  measure: Callable[[Params, PyTree, PyTree], dict[str, Metric]]


def assemble(
  objective: Objective,
  totals: Totals | BatchTotals,
  form: Form,
  optimizer: OptimizerConfig,
  *,
  rules: Partition,
  reference: Reference = Reference.NONE,
  minibatches: int = 1,
  micro_batches: int = 1,
  norm_depth: int = 0,
) -> Assembly:
  """Returns a stage of training.

  Args:
    objective: of a whole model; the part that is trained is completed here.
    totals: normalizers of a batch.
    form: which part is trained, and how all is kept.
    optimizer: rule, rates, and the format of what it keeps.
    rules: how the policy's parameters are cut.
    reference: what `frozen["reference"]` of the objective is.
    minibatches: optimizer steps on one batch.
    micro_batches: parts of a minibatch whose gradients add up.
    norm_depth: as for `make_train_step`.
  """
  base_is_reference = reference is Reference.BASE and form.lora_rank > 0
  if base_is_reference:
    objective = freeze.with_base_as_reference(objective)
  if form.untrained:
    objective = freeze.with_frozen(objective)
    if isinstance(totals, BatchTotals):
      totals = totals._replace(measure=freeze.with_frozen(totals.measure))
  update = make_optimizer(optimizer)

  def parts(params):
    if not form.untrained:
      return params, {}
    return freeze.split_params(params, form.untrained)

  def state(params):
    trained, _ = parts(params)
    return init_state(master_params(optimizer, trained), update, rules=rules)

  def frozen(params, teacher=None):
    trained, rest = parts(params)
    kept = {}
    if reference is Reference.ENTRY:
      kept["reference"] = freeze.stored_as(trained, form.compute_type)
    elif reference is Reference.BASE and not base_is_reference:
      kept["reference"] = stored(form, trained)
    if rest:  # elsewhere the base keeps its matrices: it is the policy
      kept["base"] = (
        stored(form, rest)
        if base_is_reference
        else freeze.stored_as(rest, form.compute_type)
      )
    if teacher is not None:
      kept["teacher"] = teacher
    return kept

  def whole(trained, frozen):
    return freeze.merge_params(trained, frozen.get("base", {}))

  @jax.jit
  def measure(trained, frozen, batch):
    of = totals.totals if isinstance(totals, BatchTotals) else totals
    _, found = objective(trained, frozen, batch, of(batch))
    return found

  step = make_train_step(
    objective,
    totals,
    update,
    minibatches=minibatches,
    micro_batches=micro_batches,
    rules=rules,
    norm_depth=norm_depth,
  )
  return Assembly(step, state, frozen, whole, measure)
