"""FLOPs in closed form beside those counted in the model's own jaxpr."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jaxvlm import models
from jaxvlm.models import flops
from jaxvlm.models.qwen2_5_vl import presets
from jaxvlm.plan import jaxpr_flops
from jaxvlm.plan.programs import prompt_shapes
from jaxvlm.tokenstats import token_stats
from jaxvlm.typing import Batch
from tests import tiny

SHAPES = flops.Shapes(
  prompts=3, group=2, prompt_tokens=24, completion_tokens=9, patches=32
)


def _batch(s: flops.Shapes, vision=tiny.CONFIG.layout) -> Batch:
  struct = jax.ShapeDtypeStruct
  n, length, p = s.prompts, s.prompt_tokens, s.patches
  return Batch(
    prompt_shapes(vision, n, length, p),
    tokens=struct((n, s.group, s.completion_tokens), jnp.int32),
    mask=struct((n, s.group, s.completion_tokens), jnp.bool_),
  )


def _program(config):
  model = models.bind(config)

  def score(params, batch):
    hidden, head = model.forward(params, batch), model.head(params)
    stats = token_stats(
      hidden, head, batch.tokens, batch.mask, vocab_size=tiny.VOCAB
    )
    return stats.logprobs.sum()

  params = jax.eval_shape(lambda: models.init(config, jax.random.key(0)))
  return score, params


@pytest.mark.parametrize("tied", [False, True])
def test_both_counters_agree_on_a_forward_pass(tied):
  config = dataclasses.replace(tiny.CONFIG, tie_word_embeddings=tied)
  score, params = _program(config)
  vision = config.vision
  full = len(vision.fullatt_block_indexes) / vision.depth
  counted = jaxpr_flops.count(
    score, params, _batch(SHAPES), shares=(1 - full, full)
  )
  formula = models.forward_flops(
    config, SHAPES, vocab_size=tiny.VOCAB, attention=flops.Attention.SQUARE
  )
  # Rotary angles and masks multiply vectors, not matrices: nothing is left.
  assert counted == pytest.approx(formula.total, rel=1e-6)


def test_both_counters_agree_on_a_tower_without_windows():
  config = tiny.QWEN3
  score, params = _program(config)
  counted = jaxpr_flops.count(score, params, _batch(SHAPES, config.layout))
  formula = models.forward_flops(
    config, SHAPES, vocab_size=tiny.VOCAB, attention=flops.Attention.SQUARE
  )
  assert counted == pytest.approx(formula.total, rel=1e-6)


@pytest.mark.parametrize("config", tiny.TEXTS.values(), ids=tiny.TEXTS)
def test_both_counters_agree_on_a_model_of_text(config):
  score, params = _program(config)
  counted = jaxpr_flops.count(score, params, _batch(SHAPES, None))
  formula = models.forward_flops(
    config, SHAPES, vocab_size=tiny.VOCAB, attention=flops.Attention.SQUARE
  )
  assert formula.vision == 0
  assert counted == pytest.approx(formula.total, rel=1e-6)


def test_both_counters_agree_on_the_backward_pass():
  config = tiny.CONFIG
  score, params = _program(config)
  full = len(config.vision.fullatt_block_indexes) / config.vision.depth
  counted = jaxpr_flops.count(
    jax.grad(score), params, _batch(SHAPES), shares=(1 - full, full)
  )
  formula = models.forward_flops(
    config, SHAPES, vocab_size=tiny.VOCAB, attention=flops.Attention.SQUARE
  )
  # Pixels take no gradient: the patch projection costs 2 and not 3.
  patches = SHAPES.prompts * SHAPES.patches * config.layout.patch_values
  embed = 2 * patches * config.vision.hidden_size
  assert counted == pytest.approx(3 * formula.total - embed, rel=0.01)


def test_the_prompt_is_counted_once_for_its_group():
  config = presets.QWEN_7B
  one = models.forward_flops(config, _with(group=1), vocab_size=151665)
  eight = models.forward_flops(config, _with(group=8), vocab_size=151665)
  assert eight.vision == one.vision
  assert eight.head == 8 * one.head
  assert eight.decoder < 8 * one.decoder


def test_a_causal_mask_halves_the_square():
  config = presets.QWEN_3B
  causal, square = (
    models.forward_flops(
      config, _with(), vocab_size=151665, attention=kind
    ).decoder
    for kind in (flops.Attention.CAUSAL, flops.Attention.SQUARE)
  )
  s, t = 1024, 1023
  hidden = s * (s - 1) / 2 + t * (t - 1) / 2
  layers, width = config.num_hidden_layers, config.hidden_size
  assert square - causal == 4 * hidden * width * layers


def test_the_7b_model_costs_two_flops_a_parameter_and_token():
  """The rule of thumb, for the decoder's matrices."""
  config = presets.QWEN_7B
  per_token = flops.layer_matrices(config) * config.num_hidden_layers
  assert per_token == pytest.approx(2 * 6.53e9, rel=0.01)


def test_a_rollout_reads_the_head_once_for_the_first_token():
  config = presets.QWEN_3B
  shapes = _with(group=8, completion_tokens=1)
  sampled = models.rollout_flops(config, shapes, vocab_size=100)
  assert sampled.head == 2 * config.hidden_size * 100


def _with(**changes) -> flops.Shapes:
  one = flops.Shapes(
    prompts=1,
    group=1,
    prompt_tokens=1024,
    completion_tokens=1024,
    patches=1024,
  )
  return dataclasses.replace(one, **changes)
