"""CW-DPO with optax, in micro-batches whose gradients add up exactly.

python examples/losses_with_optax.py
"""

import jax
import jax.numpy as jnp
import optax
from every_loss import data, init, measure

from jaxvlm.losses import cw_dpo_loss, sequence_logprobs
from jaxvlm.metrics import add, values

MICROBATCHES = 4


def loss_fn(params, part, reference, normalizer):
  """A micro-batch's share of the loss: it is told the whole batch's size."""

  def scores(params, tokens):
    stats = measure(params, tokens, part["mask"])
    return sequence_logprobs(stats.logprobs, part["mask"])

  chosen, _ = scores(params, part["chosen"])
  rejected, rejected_mean = scores(params, part["rejected"])
  return cw_dpo_loss(
    chosen,
    rejected,
    scores(reference, part["chosen"])[0],
    scores(reference, part["rejected"])[0],
    rejected_mean,
    beta=0.1,
    floor=-3.0,
    tau=1.0,
    normalizer=normalizer,
  )


def main():
  x = data(jax.random.key(0))
  batch = {key: x[key] for key in ("chosen", "rejected", "mask")}
  parts = jax.tree.map(
    lambda a: a.reshape((MICROBATCHES, -1) + a.shape[1:]), batch
  )
  rows = batch["mask"].shape[0]
  optimizer = optax.adam(1e-2)
  differentiate = jax.value_and_grad(loss_fn, has_aux=True)

  @jax.jit
  def step(params, state):
    total = metrics = gradient = None
    for i in range(MICROBATCHES):
      part = jax.tree.map(lambda a: a[i], parts)  # noqa: B023
      (share, found), slope = differentiate(params, part, x["reference"], rows)
      if total is None:
        total, metrics, gradient = share, found, slope
      else:
        total, metrics = total + share, add(metrics, found)
        gradient = jax.tree.map(jnp.add, gradient, slope)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, updates), state, total, values(metrics)

  params = x["reference"]
  state, history = optimizer.init(params), []
  for _ in range(10):
    params, state, loss, metrics = step(params, state)
    history.append(float(loss))
  whole, _ = loss_fn(init(jax.random.key(1)), batch, x["reference"], rows)
  shares = [
    loss_fn(
      init(jax.random.key(1)),
      jax.tree.map(lambda a: a[i], parts),  # noqa: B023
      x["reference"],
      rows,
    )[0]
    for i in range(MICROBATCHES)
  ]
  assert abs(sum(shares) - whole) < 1e-5
  assert history[-1] < history[0]
  print({key: round(float(value), 4) for key, value in metrics.items()})
  print(f"{history[0]:.4f} -> {history[-1]:.4f}: loss fell")


if __name__ == "__main__":
  main()
