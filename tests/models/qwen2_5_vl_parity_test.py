"""Qwen2.5-VL against transformers: states, gradients, tokens, shared prefix."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.models import qwen2_5_vl
from jaxvlm.models.qwen2_5_vl import vision
from jaxvlm.models.remat import Remat
from jaxvlm.typing import Batch
from tests.reference import hf, parity
from tests.reference.parity import Case, Setup, decoded

# name -> (configuration, rows, side)
_CASES = {
  # Merged grid 3 × 5 under windows of 2 × 2: cut on both edges; one row has
  # no picture at all.
  "cut_windows": (hf.tiny_config(), ((3, (1, 6, 10), 4), (5,)), "left"),
  # Three pictures in a row, windows of 3 × 3 units, one kv head.
  "three_pictures": (
    hf.tiny_config(
      {"window_size": 24, "fullatt_block_indexes": (0,)},
      num_key_value_heads=1,
      mrope_section=(2, 1, 1),
      tie_word_embeddings=False,
    ),
    (((1, 8, 4), 2, (1, 2, 2), 1, (1, 4, 14), 3), (4, (1, 6, 6), 1), (2, 5)),
    "right",
  ),
  # Full attention in an irregular pattern, as many kv heads as heads.
  "irregular_full": (
    hf.tiny_config(
      {"depth": 4, "fullatt_block_indexes": (0, 2, 3), "hidden_size": 24},
      hidden_size=48,
      num_key_value_heads=4,
      mrope_section=(2, 2, 2),
      num_hidden_layers=3,
    ),
    ((2, (1, 10, 6), 3), ((1, 4, 4), 6), (7, (1, 2, 12), 2, (1, 8, 8), 1)),
    "left",
  ),
  # No full attention: two windows never see each other.
  "windows_only": (
    hf.tiny_config(
      {"depth": 2, "fullatt_block_indexes": (), "num_heads": 4},
      rope_theta=1e4,
      rms_norm_eps=1e-5,
      mrope_section=(0, 2, 2),
      tie_word_embeddings=False,
    ),
    (((1, 8, 8), 4), (1, (1, 2, 2), 2)),
    "right",
  ),
  # One row that needs no padding; larger patches, two wide heads.
  "single_row": (
    hf.tiny_config(
      {"patch_size": 6, "window_size": 48, "depth": 1},
      num_attention_heads=2,
      num_key_value_heads=1,
      mrope_section=(4, 3, 1),
    ),
    ((1, (1, 10, 12), 2, (1, 4, 2), 1, (1, 2, 4), 5),),
    "left",
  ),
  "text_right": (
    hf.tiny_config(tie_word_embeddings=False),
    ((9,), (4,), (1,)),
    "right",
  ),
  "text_left": (hf.tiny_config(num_hidden_layers=1), ((3,), (8,)), "left"),
}


# A seed of its own for each, in the order of names.
CASES = {
  name: Case(*_CASES[name], seed)
  for seed, name in enumerate(sorted(_CASES), start=10)
}
# A row alone and windows alone meet no path that the others do not.
_SLOW = ("single_row", "windows_only")


def _marked(names):
  return [
    pytest.param(n, marks=pytest.mark.slow) if n in _SLOW else n for n in names
  ]


each_case = pytest.mark.parametrize("name", _marked(CASES))


def build(name: str) -> Setup:
  return parity.build(CASES[name])


def our_states(name: str):
  return parity.our_states(CASES[name])


@each_case
def test_no_parameter_is_left_at_zero_or_one(name):
  parity.check_no_parameter_is_left_at_zero_or_one(CASES[name])


@each_case
def test_every_hidden_state_and_the_logits(name):
  parity.check_every_hidden_state_and_the_logits(CASES[name])


@each_case
def test_gradients_of_every_tensor(name):
  parity.check_gradients_of_every_tensor(CASES[name])


@each_case
def test_greedy_tokens_are_those_of_generate(name):
  parity.check_greedy_tokens_are_those_of_generate(CASES[name])


@each_case
def test_forward_equals_separate_full_sequences(name):
  parity.check_forward_equals_separate_full_sequences(CASES[name])


@each_case
def test_decode_with_a_cache_equals_forward(name):
  parity.check_decode_with_a_cache_equals_forward(CASES[name])


@pytest.mark.parametrize(
  "name", ["cut_windows", pytest.param("text_right", marks=pytest.mark.slow)]
)
def test_gradients_of_a_shared_prefix_equal_those_of_copies(name):
  parity.check_gradients_of_a_shared_prefix(CASES[name])


@each_case
def test_mrope_ids_are_those_of_the_reference(name):
  parity.check_mrope_ids(CASES[name])


@pytest.mark.parametrize(
  "name", _marked(n for n in CASES if not n.startswith("text"))
)
def test_vision_tower(name):
  parity.check_vision_tower(CASES[name])


def test_greedy_tokens_are_those_of_batched_generate():
  setup = build("irregular_full")
  tokens, _ = decoded(CASES["irregular_full"])
  want = hf.greedy(setup.config, setup.torch, setup.inputs, parity.LENGTH)
  np.testing.assert_array_equal(tokens[:, 0], want)


def test_greedy_tokens_vary_enough_to_tell_positions_apart():
  distinct = [
    len(np.unique(row))
    for case in CASES.values()
    for row in decoded(case)[0][:, 0]
  ]
  assert np.median(distinct) > 3, distinct


SMALL = "cut_windows"


@functools.cache
def small_batch(name: str) -> Batch:
  """Returns the case with two completions of four tokens."""
  setup = build(name)
  tokens = hf.random_text((len(setup.inputs.input_ids), 2, 4), seed=3)
  return setup.batch._replace(tokens=tokens, mask=np.ones_like(tokens, bool))


def value_and_gradient(bound, params, batch):
  """Returns `forward` and the gradient of a loss on it, one program."""

  def loss(params):
    hidden = bound.forward(params, batch)
    return jnp.sum(jnp.sin(hidden.astype(jnp.float32))), hidden

  return jax.device_get(jax.jit(jax.grad(loss, has_aux=True))(params))


@functools.cache
def plain():
  bound = qwen2_5_vl.bind(build(SMALL).config)
  return value_and_gradient(bound, build(SMALL).params, small_batch(SMALL))


def test_unstacked_parameters_give_the_same():
  bound = qwen2_5_vl.bind(build(SMALL).config)
  params = bound.unstack(build(SMALL).params)
  assert isinstance(params["model"]["layers"], tuple)
  hidden = jax.jit(bound.forward)(params, small_batch(SMALL))
  np.testing.assert_allclose(hidden, plain()[1], atol=1e-5)


def test_remat_changes_nothing():
  bound = qwen2_5_vl.bind(build(SMALL).config, remat=Remat.FULL)
  got = value_and_gradient(bound, build(SMALL).params, small_batch(SMALL))
  np.testing.assert_allclose(got[1], plain()[1], atol=1e-5)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5 * np.abs(y).max()),
    got[0],
    plain()[0],
  )


def test_remat_traces_with_unstacked_parameters():
  bound = qwen2_5_vl.bind(build(SMALL).config, remat=Remat.FULL)
  params = bound.unstack(build(SMALL).params)
  gradient = jax.eval_shape(
    jax.grad(lambda x: bound.forward(x, small_batch(SMALL)).sum()), params
  )
  assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, params)


@pytest.mark.slow
def test_bfloat16_runs_close_to_float32():
  # bfloat16 has 8 bits: every matrix product rounds to 2⁻⁹ = 0.2 %, and some
  # forty roundings of random sign stand between input and output.
  bound = qwen2_5_vl.bind(build(SMALL).config, dtype=jnp.bfloat16)
  want_gradient, want = plain()
  gradient, hidden = value_and_gradient(
    bound, build(SMALL).params, small_batch(SMALL)
  )
  assert hidden.dtype == jnp.bfloat16
  error = np.linalg.norm(np.float32(hidden) - want) / np.linalg.norm(want)
  assert 1e-4 < error < 0.03
  ours, theirs = (
    np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    for tree in (gradient, want_gradient)
  )
  assert np.linalg.norm(ours - theirs) < 0.1 * np.linalg.norm(theirs)


def test_padding_values_and_side_do_not_matter():
  name = "cut_windows"
  setup = build(name)
  config, inputs = setup.config, setup.inputs
  rows = [inputs.row(config, i) for i in range(len(inputs.input_ids))]
  right = hf.stack(rows)
  noisy = right._replace(
    input_ids=np.where(right.attention_mask > 0, right.input_ids, 7)
  )
  run = jax.jit(functools.partial(qwen2_5_vl.logits, config))
  left_logits = our_states(name)[2][inputs.attention_mask > 0]
  for other in (right, noisy):
    logits = run(setup.params, qwen2_5_vl.batch_from_hf(config, *other))
    np.testing.assert_allclose(
      logits[other.attention_mask > 0], left_logits, atol=1e-5
    )


def test_empty_slots_and_pixels_of_padding_do_not_matter():
  name = "cut_windows"
  setup = build(name)
  p = setup.batch.prompts
  empty = p.patch_segments < 0
  assert empty.any()
  patches = np.where(empty[..., None], np.float32(50), p.patches)
  run = jax.jit(functools.partial(qwen2_5_vl.logits, setup.config))
  dirty = run(
    setup.params, setup.batch._replace(prompts=p._replace(patches=patches))
  )
  real = setup.inputs.attention_mask > 0
  np.testing.assert_allclose(dirty[real], our_states(name)[2][real], atol=1e-5)


def test_layout_slots_must_be_whole_windows():
  setup = build("cut_windows")
  p = setup.batch.prompts
  with pytest.raises(ValueError, match=r"19 slots.*window's 16.*arrange"):
    vision.encode(
      setup.config,
      setup.params["visual"],
      p._replace(patches=p.patches[:, :19]),
    )
