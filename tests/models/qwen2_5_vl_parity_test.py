"""Qwen2.5-VL against transformers: states, gradients, tokens, shared prefix.

Every case is a random tiny model none of whose parameters is 0 or 1, so that
a forgotten bias or norm shows. The reference runs in float32, eager, on CPU.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.data import layout
from jaxvlm.models import decoder, names, qwen2_5_vl
from jaxvlm.models.qwen2_5_vl import FAMILY, model, vision
from jaxvlm.models.remat import Remat
from jaxvlm.typing import Batch
from tests.reference import hf

GROUP, LENGTH = 3, 32
ATOL = 1e-4  # float32, values of order one
RTOL = 1e-4  # of a gradient's norm


class Case(NamedTuple):
  """A configuration and the rows that reach its corner."""

  config: qwen2_5_vl.Config
  rows: tuple[tuple[hf.Piece, ...], ...]
  side: str


CASES = {
  # Merged grid 3 × 5 under windows of 2 × 2: cut on both edges; one row has
  # no picture at all.
  "cut_windows": Case(hf.tiny_config(), ((3, (1, 6, 10), 4), (5,)), "left"),
  # Three pictures in a row, windows of 3 × 3 units, one kv head.
  "three_pictures": Case(
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
  "irregular_full": Case(
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
  "windows_only": Case(
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
  "single_row": Case(
    hf.tiny_config(
      {"patch_size": 6, "window_size": 48, "depth": 1},
      num_attention_heads=2,
      num_key_value_heads=1,
      mrope_section=(4, 3, 1),
    ),
    ((1, (1, 10, 12), 2, (1, 4, 2), 1, (1, 2, 4), 5),),
    "left",
  ),
  "text_right": Case(
    hf.tiny_config(tie_word_embeddings=False), ((9,), (4,), (1,)), "right"
  ),
  "text_left": Case(hf.tiny_config(num_hidden_layers=1), ((3,), (8,)), "left"),
}
each_case = pytest.mark.parametrize("name", CASES)


class Setup(NamedTuple):
  """A case, built."""

  config: qwen2_5_vl.Config
  torch: Any
  params: Any
  inputs: hf.Inputs
  batch: Batch


@functools.cache
def build(name: str) -> Setup:
  case = CASES[name]
  seed = sorted(CASES).index(name) + 10
  inputs = hf.random_inputs(case.config, case.rows, case.side, seed)
  torch_model = hf.random_model(case.config, seed)
  return Setup(
    case.config,
    torch_model,
    hf.to_jax(case.config, torch_model),
    inputs,
    qwen2_5_vl.batch_from_hf(case.config, *inputs),
  )


def targets(inputs: hf.Inputs) -> tuple[np.ndarray, np.ndarray]:
  """Returns (next tokens, weights) of positions whose next token is real."""
  real = inputs.attention_mask.astype(bool)
  keep = real[:, :-1] & real[:, 1:]
  weights = np.pad(keep / keep.sum(), ((0, 0), (0, 1)))
  return np.roll(inputs.input_ids, -1, axis=1), weights.astype(np.float32)


def cross_entropy(logits, tokens, weights):
  logprobs = jax.nn.log_softmax(logits)
  picked = jnp.take_along_axis(logprobs, tokens[..., None], -1)[..., 0]
  return -(picked * weights).sum()


def torch_gradients(setup: Setup, logits, tokens, weights) -> dict[str, Any]:
  """Returns the reference's gradients by its own names."""
  torch = hf.torch
  logprobs = torch.log_softmax(logits, -1)
  picked = logprobs.gather(
    -1, torch.tensor(tokens, dtype=torch.int64)[..., None]
  )
  setup.torch.zero_grad()
  (-(picked[..., 0] * torch.tensor(weights)).sum()).backward()
  return {
    name: np.zeros(x.shape, np.float32) if x.grad is None else x.grad.numpy()
    for name, x in setup.torch.named_parameters()
  }


def assert_gradients(ours: dict[str, Any], theirs: dict[str, Any], rtol=RTOL):
  assert set(ours) == set(theirs)
  for name, want in theirs.items():
    error = np.linalg.norm(np.float64(ours[name]) - want)
    scale = np.linalg.norm(np.float64(want))
    assert error <= rtol * scale, f"{name}: {error:.2e} of {scale:.2e}"


@functools.cache
def reference_states(name: str) -> tuple[hf.States, dict[str, Any]]:
  """Returns the reference's states and gradients on the prompts."""
  setup = build(name)
  states = hf.run(setup.config, setup.torch, setup.inputs)
  gradients = torch_gradients(setup, states.logits, *targets(setup.inputs))
  return states, gradients


@functools.cache
def our_states(name: str):
  """Returns (tower, layers, logits, gradients) on the prompts."""
  setup = build(name)
  config, batch = setup.config, setup.batch

  def loss(params, batch, tokens, weights):
    logits = qwen2_5_vl.logits(config, params, batch)
    return cross_entropy(logits, tokens, weights), logits

  @jax.jit
  def run(params, batch, tokens, weights):
    p = batch.prompts
    tower = None
    if p.patches.shape[1]:
      tower = vision.encode(
        config.vision,
        params["visual"],
        p.patches,
        p.patch_segments,
        p.patch_positions,
        window_slots=config.layout.window_slots,
      )
    _, layers = decoder.prompt_states(
      model.decoder(config), params, p, keep=lambda x, kv: x
    )
    gradient, logits = jax.grad(loss, has_aux=True)(
      params, batch, tokens, weights
    )
    return tower, layers[:, :, 0], logits, gradient

  return jax.device_get(run(setup.params, batch, *targets(setup.inputs)))


@each_case
def test_no_parameter_is_left_at_zero_or_one(name):
  for path, leaf in jax.tree_util.tree_leaves_with_path(build(name).params):
    assert leaf.std() > 0.01, jax.tree_util.keystr(path)


@each_case
def test_mrope_ids_are_those_of_the_reference(name):
  setup = build(name)
  tensors = setup.inputs.torch(setup.config)
  tensors.pop("pixel_values", None)
  want, delta = setup.torch.model.get_rope_index(**tensors)
  real = setup.inputs.attention_mask.astype(bool)
  ours = setup.batch.prompts
  np.testing.assert_array_equal(ours.positions[:, real], want.numpy()[:, real])
  following = real.sum(1) + delta.numpy()[:, 0]
  np.testing.assert_array_equal(ours.next_position, following)


@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith("text")])
def test_vision_tower(name):
  setup = build(name)
  states, _ = reference_states(name)
  (hidden, merged), *_ = our_states(name)
  p = setup.batch.prompts
  filled = p.patch_segments >= 0
  np.testing.assert_allclose(hidden[filled], states.vision, atol=ATOL, rtol=0)
  rows, at = np.nonzero(p.image_slots >= 0)
  picked = merged[rows, p.image_slots[rows, at]]
  np.testing.assert_allclose(picked, states.merged, atol=ATOL, rtol=0)


@each_case
def test_every_hidden_state_and_the_logits(name):
  real = build(name).inputs.attention_mask.astype(bool)
  states, _ = reference_states(name)
  _, layers, logits, _ = our_states(name)
  close = functools.partial(np.testing.assert_allclose, atol=ATOL, rtol=0)
  assert len(layers) == len(states.layers)
  for ours, want in zip(layers, states.layers, strict=True):
    close(ours[real], want[real])
  close(logits[real], states.logits.detach().numpy()[real])


@each_case
def test_gradients_of_every_tensor(name):
  _, theirs = reference_states(name)
  *_, gradient = our_states(name)
  naming = FAMILY.naming(build(name).config)
  assert_gradients(dict(names.state_dict(naming, gradient)), theirs)


@functools.cache
def decoded(name: str) -> tuple[np.ndarray, np.ndarray]:
  """Decodes GROUP completions: greedy in slot 0, given text in the others.

  Returns:
    (tokens i32[N, G, T], hidden [N, G, T, D] that predicted them).
  """
  setup = build(name)
  bound = qwen2_5_vl.bind(setup.config)
  params = bound.unstack(jax.tree.map(jnp.asarray, setup.params))
  n = len(setup.inputs.input_ids)
  text = hf.random_text((n, GROUP, LENGTH), seed=1)
  out = bound.head(params)
  last, prefix = jax.jit(bound.prefill)(params, setup.batch.prompts)
  cache = bound.init_cache(prefix, GROUP, LENGTH)
  decode = jax.jit(bound.decode)
  hidden = [jnp.broadcast_to(last[:, None], (n, GROUP, last.shape[-1]))]
  for t in range(LENGTH):
    text[:, 0, t] = jnp.argmax(hidden[-1][:, 0] @ out, -1)
    if t + 1 < LENGTH:
      token = text[..., t, None]
      state, cache = decode(params, prefix, cache, token, jnp.int32(t))
      hidden.append(state[:, :, 0])
  return text, np.stack(jax.device_get(hidden), axis=2)


@each_case
def test_greedy_tokens_are_those_of_generate(name):
  setup = build(name)
  tokens, _ = decoded(name)
  rows = [
    setup.inputs.row(setup.config, i)
    for i in range(len(setup.inputs.input_ids))
  ]
  want = [hf.greedy(setup.config, setup.torch, row, LENGTH)[0] for row in rows]
  np.testing.assert_array_equal(tokens[:, 0], want)


def test_greedy_tokens_are_those_of_batched_generate():
  setup = build("irregular_full")
  tokens, _ = decoded("irregular_full")
  want = hf.greedy(setup.config, setup.torch, setup.inputs, LENGTH)
  np.testing.assert_array_equal(tokens[:, 0], want)


def test_greedy_tokens_vary_enough_to_tell_positions_apart():
  distinct = [len(np.unique(row)) for n in CASES for row in decoded(n)[0][:, 0]]
  assert np.median(distinct) > 3, distinct


class Copied(NamedTuple):
  """Every completion behind a copy of its own prompt."""

  inputs: hf.Inputs
  at: np.ndarray  # i32[N, G, T] position that predicts the token


def copied(setup: Setup, tokens: np.ndarray) -> Copied:
  n, g, t = tokens.shape
  parts = [
    setup.inputs.row(setup.config, i, tokens[i, j])
    for i in range(n)
    for j in range(g)
  ]
  lengths = setup.inputs.attention_mask.sum(1)
  at = np.tile(lengths[:, None, None] - 1 + np.arange(t), (1, g, 1))
  return Copied(hf.stack(parts), at)


@functools.cache
def forwarded(name: str) -> np.ndarray:
  """Returns hidden [N, G, T, D] of `forward` on what `decoded` read."""
  setup = build(name)
  run = jax.jit(qwen2_5_vl.bind(setup.config).forward)
  return jax.device_get(run(setup.params, completed(name)))


def completed(name: str) -> Batch:
  """Returns the case with the completions that `decoded` read."""
  tokens, _ = decoded(name)
  assert not np.isin(tokens, (hf.IMAGE, hf.VIDEO)).any(), "pick another seed"
  batch = build(name).batch
  return batch._replace(tokens=tokens, mask=np.ones_like(tokens, bool))


@functools.cache
def reference_full(name: str):
  """Returns the reference's (states, rows, positions) on copied sequences."""
  setup = build(name)
  full = copied(setup, completed(name).tokens)
  n, g, _ = full.at.shape
  states = hf.run(setup.config, setup.torch, full.inputs)
  return full, states, np.arange(n * g).reshape(n, g, 1)


def shared_prefix_gradients(name: str):
  """Returns gradients of `forward`, of copies, and the reference's."""
  setup = build(name)
  config, batch = setup.config, completed(name)
  bound = qwen2_5_vl.bind(config)
  tokens = batch.tokens
  n, g, _ = tokens.shape
  full, states, rows = reference_full(name)
  weights = np.random.default_rng(2).uniform(size=tokens.shape)
  weights = (weights / weights.sum()).astype(np.float32)

  def loss(params, batch):
    hidden = bound.forward(params, batch)
    return cross_entropy(hidden @ bound.head(params), tokens, weights)

  def copied_loss(params, batch):
    logits = qwen2_5_vl.logits(config, params, batch)
    logits = logits.reshape(n, g, *logits.shape[1:])
    picked = jnp.take_along_axis(logits, full.at[..., None], axis=2)
    return cross_entropy(picked, tokens, weights)

  ours = jax.jit(jax.grad(loss))(setup.params, batch)
  copies = jax.jit(jax.grad(copied_loss))(
    setup.params, qwen2_5_vl.batch_from_hf(config, *full.inputs)
  )
  logits = states.logits[rows, full.at]
  theirs = torch_gradients(setup, logits, tokens, weights)
  return jax.device_get((ours, copies)), theirs


@each_case
def test_forward_equals_separate_full_sequences(name):
  full, states, rows = reference_full(name)
  want = states.normed[rows, full.at]
  np.testing.assert_allclose(forwarded(name), want, atol=ATOL, rtol=0)


@pytest.mark.parametrize("name", ["cut_windows", "text_right"])
def test_gradients_of_a_shared_prefix_equal_those_of_copies(name):
  (ours, copies), theirs = shared_prefix_gradients(name)
  named = functools.partial(names.state_dict, FAMILY.naming(build(name).config))
  ours = dict(named(ours))
  assert_gradients(ours, dict(named(copies)), rtol=2e-5)
  assert_gradients(ours, theirs)


@each_case
def test_decode_with_a_cache_equals_forward(name):
  _, hidden = decoded(name)
  np.testing.assert_allclose(hidden, forwarded(name), atol=ATOL, rtol=0)


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
      setup.config.vision,
      setup.params["visual"],
      p.patches[:, :19],
      p.patch_segments[:, :19],
      p.patch_positions[:, :19],
      window_slots=layout.VisionLayout(4, 2, 16).window_slots,
    )
