"""Runs that train a part: adapters on a base, a decoder under a tower."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from jaxvlm.models import qwen2_5_vl
from jaxvlm.models.lora import init_lora
from jaxvlm.models.quantize import quantize_int8
from jaxvlm.train import objectives
from jaxvlm.train.checkpoint import Checkpoints
from jaxvlm.train.freeze import (
  split_params,
  with_base_as_reference,
  with_frozen,
)
from jaxvlm.train.optimizer import OptimizerConfig, make_optimizer
from jaxvlm.train.step import init_state, make_train_step
from tests import tiny

MODEL = qwen2_5_vl.bind(tiny.CONFIG)
PARAMS = tiny.params()
OPTIMIZER = make_optimizer(OptimizerConfig(1e-2))
CUT = {"vocab_size": tiny.VOCAB}


def adapters():
  return init_lora(
    PARAMS, jax.random.key(0), rank=2, alpha=4.0, pattern="model/layers"
  )


def text(batch):
  """Returns the batch without its pictures, and so without the tower."""
  prompts = batch.prompts
  return batch._replace(
    prompts=prompts._replace(patches=prompts.patches[:, :0])
  )


def names(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator="/")
    for path, _ in jax.tree_util.tree_leaves_with_path(tree)
  }


@pytest.mark.slow
def test_a_lora_run_trains_adapters_against_an_int8_base_and_itself():
  """CW-DPO of 72B in small: base int8, reference the same, loss log 2."""
  batch = text(tiny.batch(length=3))
  base = quantize_int8(PARAMS, "model/layers")
  objective = objectives.cw_dpo(MODEL, beta=0.3, floor=-6.0, tau=1.0, **CUT)
  step = make_train_step(
    with_frozen(with_base_as_reference(objective)),
    objectives.count,
    OPTIMIZER,
  )
  state = init_state(adapters(), OPTIMIZER)
  before = jax.device_get(state.trainable)
  losses = []
  for _ in range(2):
    state, metrics = step(state, {"base": base}, batch)
    losses.append(float(metrics["loss/total"]))
    assert metrics["guard/skipped"] == 0
  assert losses[0] == pytest.approx(np.log(2), rel=1e-4)
  assert losses[1] < losses[0] - 1e-3
  for (path, old), new in zip(
    jax.tree_util.tree_leaves_with_path(before),
    jax.tree.leaves(state.trainable),
    strict=True,
  ):
    # At first B = 0, so that A takes no gradient, and moves at the second.
    moved = bool(jnp.any(new != old))
    assert moved == (path[-1].key != "lora_scale"), path


def test_a_checkpoint_of_a_lora_run_holds_adapters_alone(tmp_path):
  state = init_state(adapters(), OPTIMIZER)
  stored = names({"trainable": state.trainable, "moments": state.opt_state})
  arrays = {n for n in stored if "count" not in n}
  assert all(n.rsplit("/")[-1].startswith("lora_") for n in arrays)
  assert {n for n in arrays if n.startswith("trainable")} == {
    f"trainable/model/layers/{linear}/lora_{leaf}"
    for linear in (
      *(f"{x}_proj" for x in "qkvo"),
      *(f"mlp/{x}_proj" for x in ("gate", "up", "down")),
    )
    for leaf in ("a", "b", "scale")
  }
  checkpoints = Checkpoints(tmp_path, identity={"config": "x"})
  checkpoints.save(1, state)
  other = init_state(jax.tree.map(jnp.zeros_like, adapters()), OPTIMIZER)
  restored = checkpoints.restore(other)
  jax.tree.map(
    np.testing.assert_array_equal, restored.state.trainable, state.trainable
  )


def flops(function, *args):
  """Returns FLOPs of matrix products; the body of a scan counts each time."""

  def of(jaxpr):
    total = 0
    for eqn in jaxpr.eqns:
      times = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
      if eqn.primitive.name == "dot_general":
        (contract, _), _ = eqn.params["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        inner = np.prod([shape[i] for i in contract], dtype=int)
        total += 2 * int(inner) * eqn.outvars[0].aval.size
      for sub in jaxprs_in_params(eqn.params):
        total += times * of(sub)
    return total

  return of(jax.make_jaxpr(function)(*args).jaxpr)


def test_a_frozen_tower_takes_no_optimizer_memory_and_no_backward_pass():
  """What pictures cost in a step is the tower's forward pass, once."""
  batch = tiny.batch(length=3)
  objective = objectives.sft(MODEL, **CUT)
  decoder, tower = split_params(PARAMS, "visual/")
  assert not any("visual" in n for n in names(OPTIMIZER.init(decoder)))
  count = objectives.count(batch)

  def cost(objective, trainable, frozen):
    """Returns the FLOPs of a step that are due to pictures."""
    run = jax.value_and_grad(objective, has_aux=True)
    with_pictures, without = (
      flops(run, trainable, frozen, inputs, count)
      for inputs in (batch, text(batch))
    )
    return with_pictures - without

  once = flops(lambda p: MODEL.forward(p, batch), PARAMS) - flops(
    lambda p: MODEL.forward(p, text(batch)), PARAMS
  )
  frozen = cost(with_frozen(objective), decoder, {"base": tower})
  trained = cost(objective, PARAMS, None)
  assert frozen == once > 0
  assert trained > 2.2 * once  # pixels take no gradient
