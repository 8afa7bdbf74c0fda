"""What layers keep: gradients are the same, residuals are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.models import layers, qwen2_5_vl
from jaxvlm.models.qwen2_5_vl import vision
from jaxvlm.models.remat import Remat, rematerialize
from tests import tiny

WIDTHS = {"q_proj": 6, "o_proj": 4}  # named as in the model
LAYERS, TOKENS, WIDTH = 3, 5, 4


def toy(remat):
  """Returns loss(params, x) of a few scanned layers."""

  def body(x, weights):
    h = x
    for name, width in WIDTHS.items():
      project = layers.Linear(width, True, 0.5, name=name)
      h = jnp.sin(project.apply({"params": weights[name]}, h))
    return x + h, None

  def loss(params, x):
    x, _ = layers.over_layers(rematerialize(body, remat), x, params)
    return jnp.sum(x**2)

  return loss


def toy_inputs():
  rng = np.random.default_rng(0)

  def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  params = {
    name: {"kernel": draw(LAYERS, *size), "bias": draw(LAYERS, size[1])}
    for name, size in (("q_proj", (WIDTH, 6)), ("o_proj", (6, WIDTH)))
  }
  return params, draw(TOKENS, WIDTH)


def kept(function, *args):
  """Returns (bytes on the device, on the host) that a backward pass reads.

  Parameters and inputs are among them whatever is rematerialized.
  """
  backward = jax.make_jaxpr(lambda *args: jax.vjp(function, *args)[1])(*args)
  sizes = {"Device": 0, "Host": 0}
  for leaf in backward.out_avals:
    sizes[leaf.memory_space.name] += leaf.size * leaf.dtype.itemsize
  return sizes["Device"], sizes["Host"]


def test_gradients_do_not_depend_on_what_is_kept():
  params, x = toy_inputs()
  expected = jax.jit(jax.grad(toy(Remat.NONE)))(params, x)
  assert sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(expected)) > 1
  for remat in set(Remat) - {Remat.NONE}:
    found = jax.jit(jax.grad(toy(remat)))(params, x)
    for a, b in zip(
      jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
      np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6, err_msg=remat)


def test_each_policy_keeps_what_it_says():
  device = {r: kept(toy(r), *toy_inputs()) for r in Remat}
  inputs = 4 * LAYERS * TOKENS * WIDTH
  outputs = 4 * LAYERS * TOKENS * sum(WIDTHS.values())
  biases = 4 * LAYERS * sum(WIDTHS.values())  # not read where outputs are kept
  full, host = device[Remat.FULL]
  assert host == 0
  assert device[Remat.SAVE_PROJECTIONS] == (full + outputs - biases, 0)
  assert device[Remat.OFFLOAD] == (full - inputs, inputs)
  assert device[Remat.NONE][0] > device[Remat.SAVE_PROJECTIONS][0]


def decoder(remat):
  batch = tiny.batch(length=4)
  # Text alone: the tower has its own test.
  prompts = batch.prompts
  batch = batch._replace(
    prompts=prompts._replace(patches=prompts.patches[:, :0])
  )
  forward = qwen2_5_vl.bind(tiny.CONFIG, remat=remat).forward
  return lambda params: jnp.sum(forward(params, batch)), tiny.params()


def tower(remat):
  prompts = tiny.prompts()

  def loss(params):
    seen = vision.encode(tiny.CONFIG, params, prompts, remat=remat)
    return jnp.sum(seen.merged)

  return loss, tiny.params()["visual"]


@pytest.mark.parametrize("part", [decoder, tower])
def test_the_model_obeys(part):
  none, projections, full, offload = (kept(*part(remat)) for remat in Remat)
  assert none[0] > projections[0] > full[0] > offload[0]
  assert offload[1] == full[0] - offload[0] > 0
  assert none[1] == projections[1] == full[1] == 0


@pytest.mark.slow
@pytest.mark.parametrize("unrolled", [False, True])
@pytest.mark.parametrize("part", [decoder, tower])
def test_gradients_of_the_model_do_not_depend_on_it(part, unrolled):
  def stacks(tree):
    """Returns the tree with its stack of layers as a tuple."""
    for name in ("blocks", "layers"):
      if name in tree:
        return {**tree, name: layers.unstack(tree[name])}
    return {**tree, "model": stacks(tree["model"])}

  def gradient(remat):
    loss, params = part(remat)
    form = stacks if unrolled else lambda tree: tree
    return jax.jit(jax.grad(lambda params: loss(form(params))))(params)

  expected = gradient(Remat.NONE)
  for remat in set(Remat) - {Remat.NONE}:
    for a, b in zip(
      jax.tree.leaves(gradient(remat)), jax.tree.leaves(expected), strict=True
    ):
      scale = float(jnp.max(jnp.abs(b)))
      np.testing.assert_allclose(a, b, atol=1e-5 * scale, err_msg=remat)


def test_a_bool_is_no_policy():
  with pytest.raises(ValueError, match="True, expected a member .* OFFLOAD"):
    rematerialize(lambda x: x, True)
