"""Parity with transformers on random tiny models: states, gradients, tokens.

Every case is a model none of whose parameters is 0 or 1, so that a forgotten
bias or norm shows. The reference runs in float32, eager, on CPU. What a case
costs is computed once, whichever test asks for it.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvlm import models
from jaxvlm.models import decoder, names, qwen2_5_vl, qwen3_vl
from jaxvlm.typing import Batch
from tests.reference import hf

GROUP, LENGTH = 3, 32
ATOL = 1e-4  # float32, values of order one
RTOL = 1e-4  # of a gradient's norm
TOWERS = {
  family.Config.model_type: family.vision.encode
  for family in (qwen2_5_vl, qwen3_vl)
}


class Case(NamedTuple):
  """A configuration and the rows that reach its corner."""

  config: Any
  rows: tuple[tuple[hf.Piece, ...], ...]
  side: str
  seed: int


class Setup(NamedTuple):
  """A case, built."""

  config: Any
  torch: Any
  params: Any
  inputs: hf.Inputs
  batch: Batch


@functools.cache
def build(case: Case) -> Setup:
  config, seed = case.config, case.seed
  inputs = hf.random_inputs(config, case.rows, case.side, seed)
  torch_model = hf.random_model(config, seed)
  return Setup(
    config,
    torch_model,
    hf.to_jax(config, torch_model),
    inputs,
    models.batch_from_hf(config, *inputs),
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
def reference_states(case: Case) -> tuple[hf.States, dict[str, Any]]:
  """Returns the reference's states and gradients on the prompts."""
  setup = build(case)
  states = hf.run(setup.config, setup.torch, setup.inputs)
  gradients = torch_gradients(setup, states.logits, *targets(setup.inputs))
  return states, gradients


@functools.cache
def our_states(case: Case):
  """Returns (tower, layers, logits, gradients) on the prompts."""
  setup = build(case)
  config, batch = setup.config, setup.batch

  def loss(params, batch, tokens, weights):
    logits = models.logits(config, params, batch)
    return cross_entropy(logits, tokens, weights), logits

  @jax.jit
  def run(params, batch, tokens, weights):
    p = batch.prompts
    tower = None
    if p.patches is not None and p.patches.shape[1]:
      tower = TOWERS[config.model_type](config, params["visual"], p)
    _, layers = decoder.prompt_states(
      models.family_of(config).decoder(config),
      params,
      p,
      keep=lambda x, kv: x,
    )
    gradient, logits = jax.grad(loss, has_aux=True)(
      params, batch, tokens, weights
    )
    return tower, layers[:, :, 0], logits, gradient

  return jax.device_get(run(setup.params, batch, *targets(setup.inputs)))


@functools.cache
def decoded(case: Case) -> tuple[np.ndarray, np.ndarray]:
  """Decodes GROUP completions: greedy in slot 0, given text in the others.

  Returns:
    (tokens i32[N, G, T], hidden [N, G, T, D] that predicted them).
  """
  setup = build(case)
  bound = models.bind(setup.config)
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
def forwarded(case: Case) -> np.ndarray:
  """Returns hidden [N, G, T, D] of `forward` on what `decoded` read."""
  setup = build(case)
  run = jax.jit(models.bind(setup.config).forward)
  return jax.device_get(run(setup.params, completed(case)))


def completed(case: Case) -> Batch:
  """Returns the case with the completions that `decoded` read."""
  tokens, _ = decoded(case)
  if build(case).config.layout is not None:
    assert not np.isin(tokens, (hf.IMAGE, hf.VIDEO)).any(), "pick another seed"
  batch = build(case).batch
  return batch._replace(tokens=tokens, mask=np.ones_like(tokens, bool))


@functools.cache
def reference_full(case: Case):
  """Returns the reference's (states, rows, positions) on copied sequences."""
  setup = build(case)
  full = copied(setup, completed(case).tokens)
  n, g, _ = full.at.shape
  states = hf.run(setup.config, setup.torch, full.inputs)
  return full, states, np.arange(n * g).reshape(n, g, 1)


def shared_prefix_gradients(case: Case):
  """Returns gradients of `forward`, of copies, and the reference's."""
  setup = build(case)
  config, batch = setup.config, completed(case)
  bound = models.bind(config)
  tokens = batch.tokens
  n, g, _ = tokens.shape
  full, states, rows = reference_full(case)
  weights = np.random.default_rng(2).uniform(size=tokens.shape)
  weights = (weights / weights.sum()).astype(np.float32)

  def loss(params, batch):
    hidden = bound.forward(params, batch)
    return cross_entropy(hidden @ bound.head(params), tokens, weights)

  def copied_loss(params, batch):
    logits = models.logits(config, params, batch)
    logits = logits.reshape(n, g, *logits.shape[1:])
    picked = jnp.take_along_axis(logits, full.at[..., None], axis=2)
    return cross_entropy(picked, tokens, weights)

  ours = jax.jit(jax.grad(loss))(setup.params, batch)
  copies = jax.jit(jax.grad(copied_loss))(
    setup.params, models.batch_from_hf(config, *full.inputs)
  )
  logits = states.logits[rows, full.at]
  theirs = torch_gradients(setup, logits, tokens, weights)
  return jax.device_get((ours, copies)), theirs


def check_no_parameter_is_left_at_zero_or_one(case: Case) -> None:
  for path, leaf in jax.tree_util.tree_leaves_with_path(build(case).params):
    assert leaf.std() > 0.01, jax.tree_util.keystr(path)


def check_every_hidden_state_and_the_logits(case: Case) -> None:
  real = build(case).inputs.attention_mask.astype(bool)
  states, _ = reference_states(case)
  _, layers, logits, _ = our_states(case)
  close = functools.partial(np.testing.assert_allclose, atol=ATOL, rtol=0)
  assert len(layers) == len(states.layers)
  for ours, want in zip(layers, states.layers, strict=True):
    close(ours[real], want[real])
  close(logits[real], states.logits.detach().numpy()[real])


def check_vision_tower(case: Case) -> None:
  """Its last states, the image tokens, and DeepStack's features."""
  states, _ = reference_states(case)
  (hidden, merged, features), *_ = our_states(case)
  p = build(case).batch.prompts
  close = functools.partial(np.testing.assert_allclose, atol=ATOL, rtol=0)
  close(hidden[p.patch_segments >= 0], states.vision)
  rows, at = np.nonzero(p.image_slots >= 0)
  slots = p.image_slots[rows, at]
  close(merged[rows, slots], states.merged)
  assert (features is None) == (states.features is None)
  if features is not None:
    close(features[:, rows, slots], states.features)


def check_mrope_ids(case: Case) -> None:
  setup = build(case)
  tensors = setup.inputs.torch(setup.config)
  tensors.pop("pixel_values", None)
  want, delta = setup.torch.model.get_rope_index(**tensors)
  real = setup.inputs.attention_mask.astype(bool)
  ours = setup.batch.prompts
  np.testing.assert_array_equal(ours.positions[:, real], want.numpy()[:, real])
  following = real.sum(1) + delta.numpy()[:, 0]
  np.testing.assert_array_equal(ours.next_position, following)


def check_gradients_of_every_tensor(case: Case) -> None:
  _, theirs = reference_states(case)
  *_, gradient = our_states(case)
  assert_gradients(by_name(build(case).config, gradient), theirs)


def by_name(config: Any, tree: Any) -> Mapping[str, np.ndarray]:
  """Returns parameters or gradients by transformers' names."""
  naming = models.family_of(config).naming(config)
  return dict(names.state_dict(naming, tree))


def check_greedy_tokens_are_those_of_generate(case: Case) -> None:
  setup = build(case)
  tokens, _ = decoded(case)
  rows = [
    setup.inputs.row(setup.config, i)
    for i in range(len(setup.inputs.input_ids))
  ]
  want = [hf.greedy(setup.config, setup.torch, row, LENGTH)[0] for row in rows]
  np.testing.assert_array_equal(tokens[:, 0], want)


def check_forward_equals_separate_full_sequences(case: Case) -> None:
  full, states, rows = reference_full(case)
  want = states.normed[rows, full.at]
  np.testing.assert_allclose(forwarded(case), want, atol=ATOL, rtol=0)


def check_decode_with_a_cache_equals_forward(case: Case) -> None:
  _, hidden = decoded(case)
  np.testing.assert_allclose(hidden, forwarded(case), atol=ATOL, rtol=0)


def check_gradients_of_a_shared_prefix(case: Case) -> None:
  """They equal those of copies, and those of the reference."""
  (ours, copies), theirs = shared_prefix_gradients(case)
  ours, copies = (by_name(build(case).config, x) for x in (ours, copies))
  assert_gradients(ours, copies, rtol=2e-5)
  assert_gradients(ours, theirs)
