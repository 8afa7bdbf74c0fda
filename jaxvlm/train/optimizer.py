"""AdamW or Adafactor with warm-up, clipping, and decay on matrices only."""

import dataclasses
import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxvlm.config import setting
from jaxvlm.typing import Params


class Rule(enum.Enum):
  """How a gradient becomes an update.

  Attributes:
    ADAMW: arXiv:1711.05101; two moments per parameter.
    ADAFACTOR: arXiv:1804.04235 without momentum and without relative steps, so
      that `peak_lr` means what it means to AdamW: the second moment of a
      matrix of 128 rows and columns or more is a row and a column, of anything
      smaller a full array.
  """

  ADAMW = enum.auto()
  ADAFACTOR = enum.auto()


class Precision(enum.Enum):
  """Floating-point format of something stored."""

  FLOAT32 = enum.auto()
  BFLOAT16 = enum.auto()

  @property
  def dtype(self) -> jnp.dtype:
    """The format's dtype."""
    return jnp.dtype(self.name.lower())


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """Settings of the optimizer; steps are optimizer steps.

  Bytes per trained parameter that live between steps (a gradient adds as much
  as the master weight, 4 with micro-batches):

    rule       first_moment   master FLOAT32        master BFLOAT16
    ADAMW      FLOAT32        4 + 4 + 4 = 12        2 + 4 + 4 = 10
    ADAMW      BFLOAT16       4 + 2 + 4 = 10        2 + 2 + 4 = 8
    ADAFACTOR                 4 + 4/in + 4/out      2 + 4/in + 4/out

  The second moment stays float32: one step of b2 = 0.999 moves it by less
  than the spacing of bfloat16 (2⁻⁸), so that it would never decay. (optax has
  no dtype of its own for it; left alone, it takes the parameters'.)

  BFLOAT16 masters have the same defect: an update below 2⁻⁹ of a weight is
  rounded away, always, because rounding is to the nearest. At learning rates
  around 1e-6 most weights never move. Meant for large learning rates, and for
  the planner's lower bound.

  Attributes:
    peak_lr: learning rate after warm-up.
    warmup_steps: linear warm-up, from peak_lr / warmup_steps.
    decay_steps: cosine decay to `end_lr` over so many steps after warm-up; 0
      keeps the rate constant.
    end_lr: learning rate at the end of the decay.
    b1: decay of the first moment (AdamW).
    b2: decay of the second moment (AdamW; Adafactor's is 1 − t^−0.8).
    weight_decay: decoupled decay, on arrays of two axes or more per layer.
    clip_norm: global norm to which gradients are clipped.
    rule: what turns gradients into updates.
    first_moment: format in which AdamW keeps its first moment.
    master: format of the trained parameters (`master_params`).
  """

  peak_lr: float = setting("learning rate after warm-up", 1e-4)
  warmup_steps: int = setting("optimizer steps of linear warm-up", 0)
  decay_steps: int = setting("of cosine decay after it; 0: constant", 0)
  end_lr: float = setting("learning rate at the end of the decay", 0.0)
  b1: float = setting("decay of the first moment", 0.9)
  b2: float = setting("decay of the second moment", 0.999)
  weight_decay: float = setting("decoupled decay, on matrices only", 0.01)
  clip_norm: float = setting("global norm that gradients are clipped to", 1.0)
  rule: Rule = setting("what makes updates of gradients", Rule.ADAMW)
  first_moment: Precision = setting(
    "how AdamW keeps its first moment", Precision.FLOAT32
  )
  master: Precision = setting(
    "how trained parameters are kept", Precision.FLOAT32
  )


def check(config: OptimizerConfig) -> None:
  """Raises ValueError for settings that no training survives.

  Numbers are judged as float32 sees them: a rate of 1e-50 is 0 there, and a
  b2 of 1 − 1e-9 is 1, which divides by zero.
  """

  def need(ok: bool, name: str, expected: str):
    if not ok:
      value = getattr(config, name)
      raise ValueError(f"{name} is {value}, expected {expected}")

  names = ("peak_lr", "end_lr", "b1", "b2", "weight_decay", "clip_norm")
  with np.errstate(over="ignore"):
    single = {name: np.float32(getattr(config, name)) for name in names}
  most = np.finfo(np.float32).max
  least = np.finfo(np.float32).tiny  # smaller ones may be flushed to zero
  need(least <= single["peak_lr"] <= most, "peak_lr", "a positive number")
  need(config.warmup_steps >= 0, "warmup_steps", "0 (none) or more steps")
  need(config.decay_steps >= 0, "decay_steps", "0 (none) or more steps")
  need(
    0 <= single["end_lr"] <= single["peak_lr"],
    "end_lr",
    f"0 to peak_lr, {config.peak_lr}",
  )
  for name in ("b1", "b2"):
    need(0 <= single[name] < 1, name, "0 or more, below 1 in float32")
  need(0 <= single["weight_decay"] <= most, "weight_decay", "0 (none) or more")
  need(
    least <= single["clip_norm"] <= most,
    "clip_norm",
    "a positive norm; a large one, such as 1e9, never clips",
  )
  if config.rule is not Rule.ADAMW and (
    config.first_moment is not Precision.FLOAT32
  ):
    raise ValueError(
      f"first_moment is {config.first_moment.name} and rule is ADAFACTOR,"
      " which keeps no first moment: leave it FLOAT32"
    )


def master_params(config: OptimizerConfig, params: Params) -> Params:
  """Returns the trained parameters in the format of `config.master`."""
  return jax.tree.map(lambda x: jnp.asarray(x, config.master.dtype), params)


def schedule(config: OptimizerConfig) -> optax.Schedule:
  """Returns the learning rate as a function of the optimizer step."""
  after = (
    optax.cosine_decay_schedule(
      config.peak_lr, config.decay_steps, config.end_lr / config.peak_lr
    )
    if config.decay_steps
    else optax.constant_schedule(config.peak_lr)
  )
  if not config.warmup_steps:
    return after
  # From peak/warm-up, not 0: the first step should not be wasted.
  first = config.peak_lr / config.warmup_steps
  ramp = optax.linear_schedule(
    first, config.peak_lr, max(config.warmup_steps - 1, 1)
  )
  return optax.join_schedules([ramp, after], [config.warmup_steps])


def decayed(params: Any) -> Any:
  """Returns which leaves take weight decay: matrices, not norms or biases."""

  def is_matrix(path, _):
    name = jax.tree_util.keystr(path[-1:], simple=True)
    return name not in ("weight", "bias", "lora_scale")

  return jax.tree_util.tree_map_with_path(is_matrix, params)


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
  """Returns clip by global norm, then the rule with the schedule.

  Computes in float32 whatever the gradients and parameters are.

  Raises:
    ValueError: a setting out of its range (`check`).
  """
  check(config)
  if config.rule is Rule.ADAMW:
    update = optax.adamw(
      schedule(config),
      b1=config.b1,
      b2=config.b2,
      weight_decay=config.weight_decay,
      mask=decayed,
      mu_dtype=config.first_moment.dtype,
    )
  else:
    update = optax.chain(
      optax.scale_by_factored_rms(),
      optax.clip_by_block_rms(1.0),
      # Not optax.adafactor: its decay is not scaled by the learning rate.
      optax.add_decayed_weights(config.weight_decay, decayed),
      optax.scale_by_learning_rate(schedule(config)),
    )
  return _in_float32(
    optax.chain(optax.clip_by_global_norm(config.clip_norm), update)
  )


def _in_float32(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """Returns `inner` with float32 gradients, parameters and moments."""

  def widen(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)

  def init(params):
    return inner.init(widen(params))

  def update(grads, state, params):
    return inner.update(widen(grads), state, widen(params))

  return optax.GradientTransformation(init, update)
