"""Families that read text only: parity, folders, adapters, int8, rollouts.

What Qwen2.5-VL proves in detail of the common decoder is not proved again:
here stand the corners that only these families have.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm import models, sharding
from jaxvlm.models import lora, names
from jaxvlm.models.quantize import quantize_int8
from jaxvlm.models.rope import Linear, Llama3, Rope
from jaxvlm.rollout import make_generate, make_score
from jaxvlm.sampling import Sampling
from jaxvlm.train import objectives
from jaxvlm.train.freeze import merge_params
from tests import tiny
from tests.reference import hf, parity
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
  setup = parity.build(case)
  setup.torch.save_pretrained(tmp_path / "theirs")
  found, params = models.load_pretrained(tmp_path / "theirs")
  assert found == case.config
  jax.tree.map(np.testing.assert_array_equal, params, setup.params)
  models.save_pretrained(tmp_path / "ours", found, params)
  loaded, report = hf.transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / "ours", dtype=hf.torch.float32, output_loading_info=True
  )
  assert not any(report.values()), report
  theirs = setup.torch.state_dict()
  for name, tensor in loaded.state_dict().items():
    assert hf.torch.equal(tensor, theirs[name]), name
  again, _ = models.load_pretrained(tmp_path / "ours")
  assert again == found


@each_preset
def test_full_size_tensors_have_the_names_and_shapes_of_transformers(name):
  full = models.PRESETS[name]
  with hf.torch.device("meta"):
    theirs = hf.text_model(full).state_dict()
  shapes = {names.canonical_name(k): tuple(x.shape) for k, x in theirs.items()}
  naming = models.family_of(full).naming(full)
  for entry in names.entries_of(naming, set(shapes)):
    for tensor in entry.names:
      view = np.broadcast_to(np.int8(0), shapes[tensor])
      assert entry.transform.apply(view).shape == entry.part_shape, tensor


@each_preset
def test_full_size_parameters_are_cut_by_exactly_one_rule(name):
  full = models.PRESETS[name]
  shapes = jax.eval_shape(lambda: models.init(full, jax.random.key(0)))
  adapters = jax.eval_shape(
    lambda tree: lora.init_lora(
      tree, jax.random.key(0), rank=8, alpha=8.0, pattern=""
    ),
    shapes,
  )
  quantized = jax.eval_shape(lambda tree: quantize_int8(tree, ""), shapes)
  mesh = jax.sharding.AbstractMesh((2, 2, 2), sharding.AXES)
  rules = models.partition_rules(full)
  for tree in (shapes, adapters, quantized):
    assert sharding.fallbacks(mesh, tree, rules) == []


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


@one_family
def test_adapters_and_8_bits_compute_what_their_matrices_do(model_type):
  c, batch = tiny.TEXTS[model_type], tiny.text_batch()
  params = tiny.params(c, scale=0.1)
  forward = jax.jit(models.bind(c).forward)
  plain = forward(params, batch)
  adapters = lora.init_lora(
    params, jax.random.key(0), rank=3, alpha=6.0, pattern="model/layers"
  )
  start = forward(merge_params(params, adapters), batch)
  np.testing.assert_array_equal(start, plain)
  moved = jax.tree.map(lambda x: x + 0.05, adapters)
  adapted = forward(merge_params(params, moved), batch)
  merged = forward(lora.merge_lora(params, moved), batch)
  np.testing.assert_allclose(merged, adapted, atol=1e-5, rtol=1e-5)
  assert float(jnp.abs(adapted - plain).max()) > 0.1
  rounded = forward(quantize_int8(params, "model/layers"), batch)
  error = np.linalg.norm(rounded - plain) / np.linalg.norm(plain)
  assert 1e-5 < error < 0.02


@one_family
def test_a_rollout_has_the_statistics_of_its_tokens(model_type):
  c, batch = tiny.TEXTS[model_type], tiny.text_batch()
  model, params = models.bind(c), tiny.params(c)
  generate = make_generate(
    model,
    group=2,
    sampling=Sampling(1.0),
    max_new_tokens=5,
    eos_ids=(tiny.EOS,),
    pad_id=tiny.PAD,
    vocab_size=tiny.VOCAB,
  )
  ids = np.arange(4, dtype=np.int32)
  drawn = generate(params, batch.prompts, jax.random.key(0), ids)
  full = batch._replace(tokens=drawn.tokens, mask=drawn.mask)
  scored = make_score(model, vocab_size=tiny.VOCAB)(params, full)
  mask = np.asarray(drawn.mask)
  for name in ("logprobs", "entropies"):
    ours, want = (np.asarray(getattr(x, name)) for x in (drawn, scored))
    np.testing.assert_allclose(ours[mask], want[mask], atol=1e-5)
