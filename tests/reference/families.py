"""What every family must do beyond parity: folders, sizes, rollouts."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvlm import models, sharding
from jaxvlm.models import linears, lora, names
from jaxvlm.models.quantize import quantize_int8
from jaxvlm.rollout import make_generate, make_score
from jaxvlm.sampling import Sampling
from jaxvlm.train.freeze import merge_params
from jaxvlm.typing import Batch, Params
from tests import tiny
from tests.reference import hf, parity


def check_folders_go_both_ways(folder: pathlib.Path, case: parity.Case) -> None:
  """transformers reads what we write, and we what it writes, to the bit."""
  setup = parity.build(case)
  setup.torch.save_pretrained(folder / "theirs")
  found, params = models.load_pretrained(folder / "theirs")
  assert found == case.config
  jax.tree.map(np.testing.assert_array_equal, params, setup.params)
  models.save_pretrained(folder / "ours", found, params)
  loaded, report = hf.auto_class(found).from_pretrained(
    folder / "ours", dtype=hf.torch.float32, output_loading_info=True
  )
  assert not any(report.values()), report
  theirs = setup.torch.state_dict()
  for name, tensor in loaded.state_dict().items():
    assert hf.torch.equal(tensor, theirs[name]), name
  again, _ = models.load_pretrained(folder / "ours")
  assert again == found


def check_full_size_tensors(full: Any) -> None:
  """They have the names and shapes of transformers; no array is made."""
  with hf.torch.device("meta"):
    theirs = hf.model_of(full).state_dict()
  shapes = {names.canonical_name(k): tuple(x.shape) for k, x in theirs.items()}
  naming = models.family_of(full).naming(full)
  for entry in names.entries_of(naming, set(shapes)):
    for tensor in entry.names:
      view = np.broadcast_to(np.int8(0), shapes[tensor])
      assert entry.transform.apply(view).shape == entry.part_shape, tensor


def check_full_size_cuts(full: Any, *meshes: tuple[int, int, int]) -> None:
  """One rule cuts each parameter, adapter and 8-bit matrix, and it divides."""
  shapes = jax.eval_shape(lambda: models.init(full, jax.random.key(0)))
  adapters = jax.eval_shape(
    lambda tree: lora.init_lora(
      tree, jax.random.key(0), rank=16, alpha=8.0, pattern=""
    ),
    shapes,
  )
  quantized = jax.eval_shape(lambda tree: quantize_int8(tree, ""), shapes)
  rules = models.partition_rules(full)
  for sizes in meshes:
    mesh = jax.sharding.AbstractMesh(sizes, sharding.AXES)
    for tree in (shapes, adapters, quantized):
      assert sharding.fallbacks(mesh, tree, rules) == []


def check_adapters_and_8_bits(
  config: Any,
  batch: Batch,
  pattern: str,
  *,
  rounding: float = 0.0,
) -> None:
  """Both compute what the matrices do that they stand for.

  Args:
    config: of a tiny model.
    batch: that it reads.
    pattern: of the matrices.
    rounding: by which fresh adapters may differ from none, where the compiler
      fuses the two programs differently.
  """
  params = tiny.params(config, scale=0.1)
  forward = jax.jit(models.bind(config).forward)
  plain = forward(params, batch)
  adapters = lora.init_lora(
    params, jax.random.key(0), rank=3, alpha=6.0, pattern=pattern
  )
  start = forward(merge_params(params, adapters), batch)
  np.testing.assert_allclose(start, plain, rtol=0, atol=rounding)
  moved = jax.tree.map(lambda x: x + 0.05, adapters)
  adapted = forward(merge_params(params, moved), batch)
  merged = forward(lora.merge_lora(params, moved), batch)
  np.testing.assert_allclose(merged, adapted, atol=1e-5, rtol=1e-5)
  assert float(jnp.abs(adapted - plain).max()) > 0.1
  small = quantize_int8(params, pattern)
  rounded = forward(small, batch)
  assert float(jnp.abs(rounded - plain).max()) > 1e-3
  # How far off rounding is, is `quantize_test`'s; here it is what is computed.
  expected = forward(_as_matrices(small), batch)
  np.testing.assert_allclose(rounded, expected, atol=1e-5, rtol=1e-5)


def _as_matrices(small: Params) -> Params:
  """Returns int8 kernels multiplied out: W_ij = Q_ij · c_j."""

  def matrix(kernel_int8, kernel_scale, **rest):
    values = kernel_int8.astype(jnp.float32) * kernel_scale[..., None, :]
    return {**rest, "kernel": values}

  found = linears.find(small, "", leaf="kernel_int8")
  return linears.replace(small, {k: matrix(**v) for k, v in found.items()})


def check_a_rollout_has_the_statistics_of_its_tokens(
  config: Any, batch: Batch
) -> None:
  model, params = models.bind(config), tiny.params(config)
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
