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
from jaxvlm.data.layout import VisionLayout
from jaxvlm.plan.setting import ON_POLICY, Objective, Setting
from jaxvlm.rollout import Generate, make_generate
from jaxvlm.sampling import Sampling
from jaxvlm.train import assemble, freeze, objectives
from jaxvlm.train.step import state_sharding
from jaxvlm.typing import Batch, Model, Prompts, PyTree


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
  if setting.objective is Objective.ROLLOUT:
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
  Objective.SFT: _sft,
  Objective.SFT_C: _sft_c,
  Objective.OPD: _opd,
  Objective.DPO: _dpo,
  Objective.CW_DPO: _cw_dpo,
  Objective.GRPO: _grpo,
}


def _train_step(s: Setting, mesh: Mesh) -> Program:
  model = assemble.functions(s.model, s.form)
  teacher = assemble.functions(s.teacher, s.form) if s.teacher else None
  objective, totals = _OBJECTIVES[s.objective](s, model, teacher)
  stage = assemble.assemble(
    objective,
    totals,
    s.form,
    s.optimizer,
    rules=models.partition_rules(s.model),
    reference=s.reference,
    micro_batches=s.micro_batches,
  )
  return train_program(stage, s.form, s.model, s.teacher, inputs(s, mesh), mesh)


def train_program(
  stage: assemble.Assembly,
  form: assemble.Form,
  student: Any,
  teacher: Any,
  batch: PyTree,
  mesh: Mesh,
) -> Program:
  """Returns the step of a stage on shapes.

  Args:
    stage: what the run assembled.
    form: of its parameters.
    student: configuration of the policy.
    teacher: configuration of the teacher, or None.
    batch: shapes with shardings; what the objective reads.
    mesh: where the run's arrays would lie.
  """
  rules = models.partition_rules(student)
  params = jax.eval_shape(
    lambda: assemble.with_adapters(
      form, models.init(student, jax.random.key(0))
    )
  )
  state = jax.eval_shape(stage.state, params)
  state = _with(state, state_sharding(mesh, state, rules))
  taught = teacher and jax.eval_shape(
    lambda: assemble.stored(form, models.init(teacher, jax.random.key(0)))
  )
  frozen = {
    name: _placed(
      mesh,
      tree,
      models.partition_rules(teacher) if name == "teacher" else rules,
    )
    for name, tree in jax.eval_shape(stage.frozen, params, taught).items()
  }
  return Program(
    stage.step,
    (state, frozen, batch),
    {
      "parameters": state.trainable,
      "optimizer": state.opt_state,
      "frozen": frozen,
      "batch": batch,
    },
  )


def _rollout(s: Setting, mesh: Mesh) -> Program:
  return rollout_program(_sampler(s), s, mesh)


def _sampler(s: Setting) -> Generate:
  return make_generate(
    assemble.functions(s.model, s.form),
    group=s.group,
    sampling=Sampling(1.0),
    max_new_tokens=s.completion_tokens,
    eos_ids=(s.model.eos_token_id or 0,),
    pad_id=0,
    vocab_size=s.vocab_size,
  )


def rollout_program(generate: Generate, s: Setting, mesh: Mesh) -> Program:
  """Returns a sampler on the shapes of a setting.

  Args:
    generate: what the run samples with.
    s: the sizes, and the format of the weights.
    mesh: where the run's arrays would lie.
  """
  params = jax.eval_shape(
    lambda: freeze.stored_as(
      models.init(s.model, jax.random.key(0)), s.optimizer.master.dtype
    )
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


def _placed(mesh: Mesh, tree: PyTree, rules: sharding.Partition) -> PyTree:
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
  return _rows(
    mesh,
    prompt_shapes(s.model.layout, s.prompts, s.prompt_tokens, s.patches),
  )


def prompt_shapes(
  vision: VisionLayout | None, n: int, length: int, patches: int
) -> Prompts:
  """Returns ShapeDtypeStructs of N prompts.

  Args:
    vision: geometry of pictures; None where the model reads text only.
    n: N.
    length: S.
    patches: P.
  """
  struct = jax.ShapeDtypeStruct
  text = Prompts(
    tokens=struct((n, length), jnp.int32),
    mask=struct((n, length), jnp.bool_),
    positions=struct((1 if vision is None else 3, n, length), jnp.int32),
    next_position=struct((n,), jnp.int32),
  )
  if vision is None:
    return text
  return text._replace(
    image_slots=struct((n, length), jnp.int32),
    patches=struct((n, patches, vision.patch_values), jnp.float32),
    patch_segments=struct((n, patches), jnp.int32),
    patch_positions=struct((n, patches, 2), jnp.int32),
  )


def inputs(s: Setting, mesh: Mesh) -> PyTree:
  """Returns what the objective reads: a Batch, or an Experience."""
  shape = (s.prompts, s.group, s.completion_tokens)
  struct = jax.ShapeDtypeStruct
  tokens = _rows(mesh, struct(shape, jnp.int32))
  mask = _rows(mesh, struct(shape, jnp.bool_))
  batch = Batch(_prompts(s, mesh), tokens, mask)
  if s.objective not in ON_POLICY:
    return batch
  graded = s.objective is Objective.GRPO
  return objectives.Experience(
    batch,
    old_logprobs=_rows(mesh, struct(shape, jnp.float32)),
    advantages=_rows(mesh, struct(shape[:2], jnp.float32)) if graded else None,
  )
