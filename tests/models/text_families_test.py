"""Families that read text only: parity, folders, adapters, int8, rollouts.

What Qwen2.5-VL proves in detail of the common decoder is not proved again:
here stand the corners that only these families have.
"""

import dataclasses

import jax
import numpy as np
import pytest

from jaxvlm import models
from jaxvlm.models.rope import Linear, Llama3, Rope
from jaxvlm.train import objectives
from tests import tiny
from tests.reference import families, hf, parity
from tests.reference.parity import Case


def config(model_type, **changes):
  """Returns a tiny configuration; positions turn as in published models."""
  base = dataclasses.replace(
    tiny.TEXTS[model_type], vocab_size=hf.VOCAB, rope=Rope(1e6)
  )
  return dataclasses.replace(base, **changes)


CASES = {
  "qwen2_tied": Case(config("qwen2"), ((9,), (4,), (1,)), "left", 31),
  "qwen2_untied": Case(
    config(
      "qwen2",
      num_hidden_layers=3,
      num_key_value_heads=1,
      rms_norm_eps=1e-5,
      rope=Rope(1e4),
      tie_word_embeddings=False,
    ),
    ((3,), (8,)),
    "right",
    32,
  ),
  # As DeepSeek-Coder: no bias, as many kv heads as heads, linear scaling.
  "llama_linear": Case(
    config(
      "llama",
      head_dim=8,
      rope=Rope(1e5, Linear(4.0)),
      qkv_bias=False,
      o_bias=False,
      mlp_bias=False,
    ),
    ((9,), (4,), (1,)),
    "left",
    33,
  ),
  # All biases, heads wider than the stream, and pairs in all three ranges of
  # Llama 3's rule: of 32 positions they turn 5.1, 1.8, 0.6 … times.
  "llama_3": Case(
    config(
      "llama",
      num_key_value_heads=2,
      rope=Rope(5e3, Llama3(8.0, 1.0, 4.0, 32)),
      tie_word_embeddings=True,
    ),
    ((3,), (8,)),
    "right",
    34,
  ),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_family = pytest.mark.parametrize("model_type", tiny.TEXTS)
# Families share the path of what is tested here: one runs fast, all run slow.
one_family = pytest.mark.parametrize(
  "model_type",
  [
    pytest.param(name, marks=pytest.mark.slow if number else ())
    for number, name in enumerate(tiny.TEXTS)
  ],
)
each_preset = pytest.mark.parametrize(
  "name", [n for n, c in models.PRESETS.items() if c.layout is None]
)


@each_case
def test_no_parameter_is_left_at_zero_or_one(case):
  parity.check_no_parameter_is_left_at_zero_or_one(case)


@each_case
def test_every_hidden_state_and_the_logits(case):
  parity.check_every_hidden_state_and_the_logits(case)


@each_case
def test_gradients_of_every_tensor(case):
  parity.check_gradients_of_every_tensor(case)


@each_case
def test_greedy_tokens_are_those_of_generate(case):
  parity.check_greedy_tokens_are_those_of_generate(case)


@each_case
def test_forward_equals_separate_full_sequences(case):
  parity.check_forward_equals_separate_full_sequences(case)


@each_case
def test_decode_with_a_cache_equals_forward(case):
  parity.check_decode_with_a_cache_equals_forward(case)


@each_case
def test_folders_go_both_ways(tmp_path, case):
  families.check_folders_go_both_ways(tmp_path, case)


@each_preset
def test_full_size_tensors_have_the_names_and_shapes_of_transformers(name):
  families.check_full_size_tensors(models.PRESETS[name])


@each_preset
def test_full_size_parameters_are_cut_by_exactly_one_rule(name):
  families.check_full_size_cuts(models.PRESETS[name], (2, 2, 2))


@each_family
def test_a_batch_of_text_carries_no_array_of_pictures(model_type):
  batch = tiny.text_batch()
  assert len(jax.tree.leaves(batch)) == 6  # tokens, mask, positions, next; two
  params = tiny.params(tiny.TEXTS[model_type])
  forward = models.bind(tiny.TEXTS[model_type]).forward
  made = jax.make_jaxpr(forward)(params, batch)
  assert len(made.jaxpr.invars) == len(jax.tree.leaves(params)) + 6


def test_a_model_that_sees_reads_batches_of_text():
  """A teacher with a tower, of a student without; and a student's shapes."""
  batch, params = tiny.text_batch(), tiny.params()
  forward = jax.jit(models.bind(tiny.CONFIG).forward)
  p = batch.prompts
  n, s = p.tokens.shape
  wide = p._replace(
    positions=np.repeat(p.positions, 3, axis=0),
    image_slots=np.full((n, s), -1, np.int32),
    patches=np.zeros((n, 0, tiny.CONFIG.layout.patch_values), np.float32),
    patch_segments=np.zeros((n, 0), np.int32),
    patch_positions=np.zeros((n, 0, 2), np.int32),
  )
  found = forward(params, batch)
  np.testing.assert_array_equal(
    found, forward(params, batch._replace(prompts=wide))
  )
  student = tiny.TEXTS["qwen2"]
  objective = objectives.opd(
    models.bind(student), models.bind(tiny.CONFIG), vocab_size=tiny.VOCAB
  )
  loss, _ = jax.eval_shape(
    objective,
    tiny.params(student),
    {"teacher": params},
    batch,
    objectives.count(batch),
  )
  assert loss.shape == ()


@pytest.mark.slow  # in the fast suite a model that sees stands for all
@each_family
def test_adapters_and_8_bits_compute_what_their_matrices_do(model_type):
  families.check_adapters_and_8_bits(
    tiny.TEXTS[model_type], tiny.text_batch(), "model/layers"
  )


@one_family
def test_a_rollout_has_the_statistics_of_its_tokens(model_type):
  families.check_a_rollout_has_the_statistics_of_its_tokens(
    tiny.TEXTS[model_type], tiny.text_batch()
  )
