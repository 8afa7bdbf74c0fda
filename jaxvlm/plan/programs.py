"""The programs that a run would execute, on arrays that do not exist.

Nothing here is a model of the code: these are the train step and the sampler
themselves, with their objectives, optimizer and partition tables, given
shapes and shardings in place of arrays.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxvlm import models, sharding
from jaxvlm.models import lora
from jaxvlm.models.quantize import quantize_int8
from jaxvlm.plan.setting import ON_POLICY, REFERENCED, Setting, Task
from jaxvlm.rollout import make_generate
from jaxvlm.sampling import Sampling
from jaxvlm.train import freeze, objectives
from jaxvlm.train.optimizer import make_optimizer, master_params
from jaxvlm.train.step import (
  Survey,
  init_state,
  make_train_step,
  state_sharding,
)
from jaxvlm.typing import Batch, Model, Params, Prompts, PyTree


class Program(NamedTuple):
  """A jitted function, its abstract arguments, and what these hold.

  Attributes:
    function: what to lower.
    args: `jax.ShapeDtypeStruct`s with shardings.
    trees: parameters, optimizer, frozen, batch -> their part of `args`.
    trips: runs of a `while` loop whose end depends on data, at most.
  """

  function: Callable[..., Any]
  args: tuple[PyTree, ...]
  trees: Mapping[str, PyTree]
  trips: int = 1


def build(setting: Setting, mesh: Mesh) -> Program:
  """Returns the program of a setting on a mesh; touches no memory."""
  if setting.task is Task.ROLLOUT:
    return _rollout(setting, mesh)
  return _train_step(setting, mesh)


def _sft(s: Setting, model: Model, teacher: Model | None):
  objective = objectives.sft(model, vocab_size=s.vocab_size)
  return objective, objectives.count


def _sft_c(s: Setting, model: Model, teacher: Model | None):
  objective = objectives.sft_c(
    model, vocab_size=s.vocab_size, floor=1.0, weight=1.0
  )
  return objective, objectives.sft_c_totals(model, vocab_size=s.vocab_size)


def _opd(s: Setting, model: Model, teacher: Model | None):
  objective = objectives.opd(model, teacher, vocab_size=s.vocab_size)
  return objective, objectives.count


def _dpo(s: Setting, model: Model, teacher: Model | None):
  objective = objectives.dpo(model, vocab_size=s.vocab_size, beta=0.1)
  return objective, objectives.count


def _cw_dpo(s: Setting, model: Model, teacher: Model | None):
  objective = objectives.cw_dpo(
    model, vocab_size=s.vocab_size, beta=0.1, floor=-2.0, tau=1.0
  )
  return objective, objectives.count


def _grpo(s: Setting, model: Model, teacher: Model | None):
  objective = objectives.grpo(model, vocab_size=s.vocab_size, kl_coef=s.kl_coef)
  return objective, objectives.count


# Hyper-parameters above change numbers in the program, not its shape.
_OBJECTIVES = {
  Task.SFT: _sft,
  Task.SFT_C: _sft_c,
  Task.OPD: _opd,
  Task.DPO: _dpo,
  Task.CW_DPO: _cw_dpo,
  Task.GRPO: _grpo,
}


def _train_step(s: Setting, mesh: Mesh) -> Program:
  model = _bind(s.model, s)
  teacher = _bind(s.teacher, s) if s.teacher else None
  objective, totals = _OBJECTIVES[s.task](s, model, teacher)
  rules = models.partition_rules(s.model)
  params = _params(s.model, s)
  trainable, frozen = _trained_part(s, params)
  if s.task in REFERENCED and s.lora_rank:
    objective = freeze.with_base_as_reference(objective)
  elif s.task in REFERENCED:
    frozen["reference"] = _waiting(trainable, s)
  elif s.reads_reference:  # RL is held to where it started, adapters and all
    frozen["reference"] = trainable
  if s.teacher is not None:
    frozen["teacher"] = _waiting(_params(s.teacher, s), s)
  if "base" in frozen:
    objective = freeze.with_frozen(objective)
    if isinstance(totals, Survey):
      totals = totals._replace(measure=freeze.with_frozen(totals.measure))
  optimizer = make_optimizer(s.optimizer)
  state = jax.eval_shape(
    lambda tree: init_state(master_params(s.optimizer, tree), optimizer),
    trainable,
  )
  state = _with(state, state_sharding(mesh, state, rules))
  frozen = {
    name: _placed(
      mesh,
      jax.eval_shape(lambda x: freeze.stored_as(x, jnp.bfloat16), tree),
      models.partition_rules(s.teacher) if name == "teacher" else rules,
    )
    for name, tree in frozen.items()
  }
  batch = _inputs(s, mesh)
  step = make_train_step(
    objective,
    totals,
    optimizer,
    micro_batches=s.micro_batches,
    rules=rules,
  )
  return Program(
    step,
    (state, frozen, batch),
    {
      "parameters": state.trainable,
      "optimizer": state.opt_state,
      "frozen": frozen,
      "batch": batch,
    },
  )


def _trained_part(s: Setting, params: Params) -> tuple[Params, dict]:
  """Returns (trainable, {"base": the rest} or {})."""
  if s.lora_rank:
    pattern = "model/" if s.freeze_vision else ""
    adapters = jax.eval_shape(
      lambda tree: lora.init_lora(
        tree,
        jax.random.key(0),
        rank=s.lora_rank,
        alpha=2.0 * s.lora_rank,
        pattern=pattern,
      ),
      params,
    )
    # Elsewhere the base keeps its type, as in the study: it is the policy.
    shared = s.task in REFERENCED
    return adapters, {"base": _waiting(params, s) if shared else params}
  if s.freeze_vision:
    trainable, rest = freeze.split_params(params, "visual/")
    return trainable, {"base": rest}
  return params, {}


def _rollout(s: Setting, mesh: Mesh) -> Program:
  generate = make_generate(
    _bind(s.model, s),
    group=s.group,
    sampling=Sampling(1.0),
    max_new_tokens=s.completion_tokens,
    eos_ids=(s.model.eos_token_id or 0,),
    pad_id=0,
    vocab_size=s.vocab_size,
  )
  params = jax.eval_shape(
    lambda tree: freeze.stored_as(tree, s.optimizer.master.dtype),
    _params(s.model, s),
  )
  params = _placed(mesh, params, models.partition_rules(s.model))
  prompts = _prompts(s, mesh)
  key = _everywhere(mesh, jax.eval_shape(lambda: jax.random.key(0)))
  ids = _rows(mesh, jax.ShapeDtypeStruct((s.prompts,), jnp.int32))
  return Program(
    generate,
    (params, prompts, key, ids),
    {"frozen": params, "batch": prompts},
    trips=s.completion_tokens,
  )


def _bind(config: Any, s: Setting) -> Model:
  return models.bind(config, dtype=jnp.bfloat16, remat=s.remat)


def _params(config: Any, s: Setting) -> Params:
  """Returns the shapes of a model's parameters, float32."""
  params = jax.eval_shape(lambda: models.init(config, jax.random.key(0)))
  if s.scan:
    return params
  return jax.eval_shape(models.bind(config).unstack, params)


def _waiting(params: Params, s: Setting) -> Params:
  """Returns frozen parameters in the form in which they lie in memory."""
  if not s.int8_teacher:
    return params
  return jax.eval_shape(lambda tree: quantize_int8(tree, ""), params)


def _placed(mesh: Mesh, tree: PyTree, rules: sharding.Rules) -> PyTree:
  """Returns shapes with the shardings of a model's partition table."""
  return _with(tree, sharding.partition(mesh, tree, rules))


def _everywhere(mesh: Mesh, tree: PyTree) -> PyTree:
  return _with(tree, jax.tree.map(lambda _: NamedSharding(mesh, P()), tree))


def _rows(mesh: Mesh, tree: PyTree) -> PyTree:
  """Returns shapes with prompts spread over the mesh."""
  return _with(tree, sharding.batch_sharding(mesh, tree))


def _with(tree: PyTree, shardings: PyTree) -> PyTree:
  return jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    tree,
    shardings,
  )


def _prompts(s: Setting, mesh: Mesh) -> Prompts:
  patch_values = s.model.layout.patch_values
  return _rows(
    mesh, prompt_shapes(s.prompts, s.prompt_tokens, s.patches, patch_values)
  )


def prompt_shapes(
  n: int, length: int, patches: int, patch_values: int
) -> Prompts:
  """Returns ShapeDtypeStructs of N prompts."""
  struct = jax.ShapeDtypeStruct
  return Prompts(
    tokens=struct((n, length), jnp.int32),
    mask=struct((n, length), jnp.bool_),
    positions=struct((3, n, length), jnp.int32),
    next_position=struct((n,), jnp.int32),
    image_slots=struct((n, length), jnp.int32),
    patches=struct((n, patches, patch_values), jnp.float32),
    patch_segments=struct((n, patches), jnp.int32),
    patch_positions=struct((n, patches, 2), jnp.int32),
  )


def _inputs(s: Setting, mesh: Mesh) -> PyTree:
  """Returns what the objective reads: a Batch, or an Experience."""
  shape = (s.prompts, s.group, s.completion_tokens)
  struct = jax.ShapeDtypeStruct
  tokens = _rows(mesh, struct(shape, jnp.int32))
  mask = _rows(mesh, struct(shape, jnp.bool_))
  batch = Batch(_prompts(s, mesh), tokens, mask)
  if s.task not in ON_POLICY:
    return batch
  graded = s.task is Task.GRPO
  return objectives.Experience(
    batch,
    old_logprobs=_rows(mesh, struct(shape, jnp.float32)),
    advantages=_rows(mesh, struct(shape[:2], jnp.float32)) if graded else None,
  )
