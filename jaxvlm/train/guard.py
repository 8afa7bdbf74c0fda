"""Skipping bad steps: which loss and gradient norm may move the parameters.

One poisoned gradient spoils Adam's moments for good, so the decision is taken
on the device, before the update, from a short history that is part of the
train state: it is resumed with the run and costs no look from the host.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Guard(NamedTuple):
  """What was seen lately, in ring buffers of W entries.

  Attributes:
    losses: f32[W] the last finite losses of steps that had a gradient, spikes
      included.
    grad_norms: f32[W] the gradient norms of the same steps.
    count: i32[] pairs ever written; the next one goes to `count mod W`.
    skipped_in_row: i32[] steps skipped since the last good one.
    skipped_total: i32[] steps skipped since the start.
  """

  losses: jax.Array
  grad_norms: jax.Array
  count: jax.Array
  skipped_in_row: jax.Array
  skipped_total: jax.Array


def init(window: int = 128) -> Guard:
  """Returns the empty history of `window` steps; ValueError below 2."""
  if window < 2:
    raise ValueError(
      f"window is {window}, expected at least 2: one value has no spread"
    )
  # Every field its own buffer: a donated state must not hold one twice.
  return Guard(
    losses=jnp.zeros((window,), jnp.float32),
    grad_norms=jnp.zeros((window,), jnp.float32),
    count=jnp.zeros((), jnp.int32),
    skipped_in_row=jnp.zeros((), jnp.int32),
    skipped_total=jnp.zeros((), jnp.int32),
  )


def check(
  guard: Guard,
  loss: jax.Array,
  grad_norm: jax.Array,
  *,
  sigmas: float = 6.0,
  minimum: int = 32,
) -> tuple[jax.Array, Guard]:
  """Decides whether a step may be taken, and remembers it.

  ok = finite(ℓ) ∧ finite(g) ∧ ℓ − mean(ℓ) ≤ k·std(ℓ) ∧ g − mean(g) ≤ k·std(g)

  over the last W remembered pairs before this one, std with n − 1: the rule
  of OLMo-core's SkipStepOptimizer, with two exceptions for training where most
  steps teach nothing (GRPO on hard problems: every group has one reward).

  A step whose gradient is exactly 0 is never a spike and is not remembered:
  among zeros, any step with an ordinary gradient would be one. And a history
  without spread (std ≤ 2⁻²⁰·max|x|, rounding) calls nothing a spike: it does
  not say how far values of its kind go.

  A spike enters the history, so that a lasting new level is accepted in the
  end; a pair with a NaN or an infinity does not. Gradients that are small but
  not 0 are remembered: where fewer than 1 in 1 + k² (37) is an ordinary one
  among them, the ordinary one is a spike.

  Args:
    guard: the history.
    loss: f32[] loss of the step at hand.
    grad_norm: f32[] its gradient norm, before clipping.
    sigmas: k, how many standard deviations above the mean are a spike.
    minimum: remembered pairs needed before anything counts as a spike.

  Returns:
    (ok bool[], the history with this step in it).

  Raises:
    ValueError: if `minimum` can never be reached, or is below 2.
  """
  window = guard.losses.shape[0]
  if not 2 <= minimum <= window:
    raise ValueError(
      f"minimum is {minimum}, expected 2 … {window}, the window of the history"
    )
  loss = jnp.asarray(loss, jnp.float32)
  grad_norm = jnp.asarray(grad_norm, jnp.float32)
  seen = jnp.minimum(guard.count, window)

  def spikes(value, history):
    written = jnp.arange(window) < seen
    mean = jnp.sum(jnp.where(written, history, 0.0)) / jnp.maximum(seen, 1)
    squares = jnp.where(written, (history - mean) ** 2, 0.0)
    std = jnp.sqrt(jnp.sum(squares) / jnp.maximum(seen - 1, 1))
    # Unwritten entries are 0. The mean of equal numbers is not quite they.
    spread = std > 2.0**-20 * jnp.max(jnp.abs(history))
    # Asked this way round, a history whose squares overflow skips nothing.
    return spread & (value - mean > sigmas * std)

  finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
  spike = spikes(loss, guard.losses) | spikes(grad_norm, guard.grad_norms)
  teaches = grad_norm != 0
  ok = finite & ~(spike & teaches & (seen >= minimum))

  slot = guard.count % window
  remembered = finite & teaches

  def write(history, value):
    return history.at[slot].set(jnp.where(remembered, value, history[slot]))

  return ok, Guard(
    losses=write(guard.losses, loss),
    grad_norms=write(guard.grad_norms, grad_norm),
    count=guard.count + remembered,
    skipped_in_row=jnp.where(ok, 0, guard.skipped_in_row + 1),
    skipped_total=guard.skipped_total + ~ok,
  )
