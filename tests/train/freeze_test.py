"""Splitting parameters into a trained and a frozen part."""

import jax
import jax.numpy as jnp
import pytest

from jaxvlm.metrics import scalar
from jaxvlm.train.freeze import merge_params, split_params, with_frozen
from jaxvlm.train.optimizer import OptimizerConfig, make_optimizer
from jaxvlm.train.step import init_state, make_train_step

PARAMS = {
  "visual": {"patch_embed": {"kernel": 1.0}, "blocks": {"kernel": 2.0}},
  "model": {"embed_tokens": 3.0},
}


def test_the_parts_add_up_and_share_nothing():
  trainable, frozen = split_params(PARAMS, "visual/patch_embed")
  assert frozen == {"visual": {"patch_embed": {"kernel": 1.0}}}
  assert "patch_embed" not in trainable["visual"]
  assert merge_params(trainable, frozen) == PARAMS
  assert merge_params(frozen, trainable) == PARAMS


def test_a_leaf_in_both_parts_is_named():
  with pytest.raises(ValueError, match="both trees have 'embed_tokens'"):
    merge_params(PARAMS, {"model": {"embed_tokens": 4.0}})


@pytest.mark.parametrize(
  "pattern,what", [("vision", "nothing"), (".", "every")]
)
def test_a_pattern_must_freeze_a_part(pattern, what):
  with pytest.raises(ValueError, match=what):
    split_params(PARAMS, pattern)


def test_frozen_parameters_enter_the_loss_and_no_gradient():
  params = jax.tree.map(jnp.array, PARAMS)
  trainable, frozen = split_params(params, "visual/patch_embed")

  def objective(params, frozen, batch, totals):
    loss = sum(jax.tree.leaves(params)) * batch
    return loss, {"loss": scalar(loss)}

  optimizer = make_optimizer(OptimizerConfig(0.1, clip_norm=100.0))
  step = make_train_step(with_frozen(objective), lambda b: b, optimizer)
  state, metrics = step(
    init_state(trainable, optimizer), {"base": frozen}, jnp.float32(1.0)
  )
  assert metrics["loss"] == 6.0
  # Two trained scalars with gradient 1 each; a third would make it √3.
  assert abs(metrics["grad/norm"] - 2**0.5) < 1e-6
  assert state.trainable["model"]["embed_tokens"] < 3.0
  assert "patch_embed" not in state.trainable["visual"]
