"""Statistics of logits and their gradients, in closed form.

For f32[C, V] logits that are at hand: a chunk of `jaxvlm.tokenstats`, or one
step of a sampler. The gradient of every statistic with respect to the logits
`z` needs one more pass and no reduction, given what `measure` found
(p = softmax z; q the teacher's; H entropy; β of the mixture m):

  logprobs        e_y − p                 entropies       −p·(log p + H)
  top1            p₁·(e_argmax − p)       mean_logprobs   1/V − p
  reverse_kl      p·(log p/q − KL(p‖q))   forward_kl      p − q
  jsd             (1−β)·p·(log p/m − KL(p‖m)),   m = β·q + (1−β)·p
  top_k_kl        p − q inside the teacher's top k, p·(1 − Q̄/P̄) outside,
                  Q̄ and P̄ being the masses outside
  total_variation ½·p·(s − Σ p·s),   s = sign(p − q)
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

_TINY = 1e-37  # keeps log and ratio of an underflown tail finite


class TokenStats(NamedTuple):
  """Statistics of the next-token distribution p, f32[…] each.

  Attributes:
    logprobs: log p(target), nats.
    entropies: H(p) = −Σ p log p over the whole (cut) vocabulary, nats.
    top1: max p, in (0, 1].
    mean_logprobs: (1/V) Σ_v log p_v, the term of label smoothing.
    teacher_logprobs: log q(target); constant. This and all below are None
      without a teacher.
    teacher_entropies: H(q); constant.
    reverse_kl: KL(p‖q), mode seeking: on-policy distillation.
    forward_kl: KL(q‖p).
    jsd: generalized Jensen-Shannon divergence; None without `jsd_beta`.
    top_k_kl: KL(q‖p) after merging all but the teacher's `top_k` tokens into
      one event, a lower bound of `forward_kl`; None without `top_k`.
    total_variation: ½ Σ_v |p_v − q_v|, in [0, 1]; None unless asked for.
  """

  logprobs: Array
  entropies: Array
  top1: Array
  mean_logprobs: Array
  teacher_logprobs: Array | None = None
  teacher_entropies: Array | None = None
  reverse_kl: Array | None = None
  forward_kl: Array | None = None
  jsd: Array | None = None
  top_k_kl: Array | None = None
  total_variation: Array | None = None


class Divergences(NamedTuple):
  """Which optional divergences are asked for; static.

  Attributes:
    jsd_beta: β of the generalized JSD, or None.
    top_k: k of the teacher's top-k KL, or None.
    total_variation: whether the total variation is asked for.
  """

  jsd_beta: float | None = None
  top_k: int | None = None
  total_variation: bool = False


class Saved(NamedTuple):
  """Per-token numbers that spare `pull_back` its reductions, f32[C] each."""

  lse: Array
  argmax: Array
  teacher_lse: Array | None = None
  student_to_mixture: Array | None = None
  tail_ratio: Array | None = None
  mean_sign: Array | None = None


def measure(
  z: Array,
  targets: Array,
  teacher: Array | None = None,
  divergences: Divergences = Divergences(),  # noqa: B008
) -> tuple[TokenStats, Saved]:
  """Returns the statistics of logits and what their gradient will need.

  Args:
    z: f32[C, V] logits, already divided by the temperature.
    targets: i32[C]; a target outside 0 … V−1 has log-probability −inf.
    teacher: f32[C, V] the teacher's logits, or None.
    divergences: the optional ones.

  Returns:
    (TokenStats of f32[C], Saved).
  """
  own = _normalize(z)
  log_p, p = own.logs, jnp.exp(own.logs)
  stats = TokenStats(
    logprobs=own.shift(_pick(z, targets)),
    entropies=jnp.maximum(-own.mean(p * log_p) - own.slip, 0.0),
    top1=jnp.exp(-own.log_sum),
    mean_logprobs=own.shift(jnp.mean(z, -1)),
  )
  saved = Saved(lse=own.lse, argmax=jnp.argmax(z, -1).astype(jnp.int32))
  if teacher is None:
    return stats, saved
  other = _normalize(teacher)
  log_q, q = other.logs, jnp.exp(other.logs)
  slip = own.slip - other.slip
  reverse_kl = own.mean(p * (log_p - log_q)) + slip
  forward_kl = other.mean(q * (log_q - log_p)) - slip
  stats = stats._replace(
    teacher_logprobs=other.shift(_pick(teacher, targets)),
    teacher_entropies=jnp.maximum(-other.mean(q * log_q) - other.slip, 0.0),
    reverse_kl=jnp.maximum(reverse_kl, 0.0),
    forward_kl=jnp.maximum(forward_kl, 0.0),
  )
  saved = saved._replace(teacher_lse=other.lse)
  if divergences.jsd_beta is not None:
    jsd, to_mixture = _jsd(log_p, log_q, divergences.jsd_beta, stats)
    stats = stats._replace(jsd=jsd)
    saved = saved._replace(student_to_mixture=to_mixture)
  if divergences.top_k is not None:
    inside = _inside(teacher, divergences.top_k)
    top_k_kl, ratio = _top_k_kl(own, other, inside)
    stats = stats._replace(top_k_kl=top_k_kl)
    saved = saved._replace(tail_ratio=ratio)
  if divergences.total_variation:
    tilt = p * jnp.sign(p - q)
    stats = stats._replace(total_variation=jnp.sum(jnp.abs(p - q), -1) / 2)
    saved = saved._replace(mean_sign=jnp.sum(tilt, -1))
  return stats, saved


class _Normalized(NamedTuple):
  """Logits as log-probabilities, and the rounding error of doing so.

  A reduction over V is fused with what stands before it only if nobody else
  reads that: so everything is one subtraction away from the logits. The
  rounding of log Σ exp, which a peaked distribution's entropy would drown
  in, is known exactly and corrected afterwards, once a token.
  """

  logs: Array  # f32[C, V] z − lse
  lse: Array  # f32[C] top + log_sum, rounded
  top: Array  # f32[C] max z
  log_sum: Array  # f32[C] log Σ exp(z − top)
  slip: Array  # f32[C] lse − (top + log_sum): logs are too small by this

  def shift(self, x: Array) -> Array:
    """Returns x − lse for f32[C] logits, without the slip."""
    return (x - self.top) - self.log_sum

  def mean(self, x: Array) -> Array:
    """Returns Σ_v x, f32[C], where x was weighted with exp(logs)."""
    return jnp.exp(self.slip) * jnp.sum(x, -1)


def _normalize(z: Array) -> _Normalized:
  top = jnp.max(z, -1)
  log_sum = jnp.log(jnp.sum(jnp.exp(z - top[:, None]), -1))
  lse = top + log_sum
  slip = (lse - top) - log_sum
  return _Normalized(z - lse[:, None], lse, top, log_sum, slip)


def _pick(z: Array, targets: Array) -> Array:
  """Returns z[i, targets[i]], −inf outside the vocabulary."""

  def one(row, target):
    return row.at[target].get(
      mode="fill", fill_value=-jnp.inf, wrap_negative_indices=False
    )

  return jax.vmap(one)(z, targets)


def _one_hot(indices: Array, vocab: int) -> Array:
  """bool[C, V], by comparison: it disappears into what reads it."""
  return jax.lax.broadcasted_iota(jnp.int32, (1, vocab), 1) == indices[:, None]


def _jsd(log_p, log_q, beta, stats):
  if beta == 0:
    return stats.forward_kl, None
  if beta == 1:
    return stats.reverse_kl, None
  log_m = _log_mixture(log_p, log_q, beta)
  student = jnp.sum(jnp.exp(log_p) * (log_p - log_m), -1)
  teacher = jnp.sum(jnp.exp(log_q) * (log_q - log_m), -1)
  jsd = beta * teacher + (1 - beta) * student
  return jnp.maximum(jsd, 0.0), student


def _log_mixture(log_p: Array, log_q: Array, beta: float) -> Array:
  return jnp.logaddexp(log_p + math.log1p(-beta), log_q + math.log(beta))


def _top_k_kl(own, other, inside):
  p, q = jnp.exp(own.logs), jnp.exp(other.logs)
  p_tail = jnp.maximum(own.mean(jnp.where(inside, 0.0, p)), _TINY)
  q_tail = jnp.maximum(other.mean(jnp.where(inside, 0.0, q)), _TINY)
  body = other.mean(jnp.where(inside, q * (other.logs - own.logs), 0.0))
  body += other.mean(jnp.where(inside, q, 0.0)) * (other.slip - own.slip)
  kl = body + q_tail * (jnp.log(q_tail) - jnp.log(p_tail))
  return jnp.maximum(kl, 0.0), q_tail / p_tail


def _inside(teacher: Array, k: int) -> Array:
  return teacher >= jax.lax.top_k(teacher, k)[0][:, -1:]


def pull_back(
  z: Array,
  targets: Array,
  teacher: Array | None,
  stats: TokenStats,
  saved: Saved,
  cotangents: TokenStats,
  divergences: Divergences,
) -> Array:
  """Returns the gradient with respect to the logits.

  Args:
    z: f32[C, V] logits, as given to `measure`.
    targets: i32[C].
    teacher: f32[C, V] the teacher's logits, or None.
    stats: what `measure` returned.
    saved: what `measure` returned.
    cotangents: f32[C] per statistic; None for one that nobody
      differentiates, whose term is then not computed.
    divergences: as given to `measure`.

  Returns:
    f32[C, V].
  """
  vocab, ct = z.shape[-1], cotangents
  log_p = z - saved.lse[:, None]
  p = jnp.exp(log_p)
  dz = jnp.zeros_like(z)
  slope = jnp.zeros_like(saved.lse)  # what multiplies −p

  if ct.logprobs is not None:
    dz += jnp.where(_one_hot(targets, vocab), ct.logprobs[:, None], 0.0)
    slope += ct.logprobs
  if ct.entropies is not None:
    dz -= ct.entropies[:, None] * p * log_p
    slope += ct.entropies * stats.entropies
  if ct.top1 is not None:
    pulled = ct.top1 * stats.top1
    dz += jnp.where(_one_hot(saved.argmax, vocab), pulled[:, None], 0.0)
    slope += pulled
  if ct.mean_logprobs is not None:
    dz += ct.mean_logprobs[:, None] / vocab
    slope += ct.mean_logprobs
  if teacher is None or saved.teacher_lse is None:
    return dz - p * slope[:, None]

  log_q = teacher - saved.teacher_lse[:, None]
  reverse, forward, jsd = ct.reverse_kl, ct.forward_kl, ct.jsd
  beta, top_k = divergences.jsd_beta, divergences.top_k
  if jsd is not None and beta == 0:
    forward, jsd = jsd if forward is None else forward + jsd, None
  if jsd is not None and beta == 1:
    reverse, jsd = jsd if reverse is None else reverse + jsd, None
  # What has a cotangent was measured: the second half of each is for readers
  # of types.
  if reverse is not None and stats.reverse_kl is not None:
    dz += reverse[:, None] * p * (log_p - log_q)
    slope += reverse * stats.reverse_kl
  if forward is not None:
    dz -= forward[:, None] * jnp.exp(log_q)
    slope -= forward
  if jsd is not None and beta is not None:
    pulled = (1 - beta) * jsd
    log_m = _log_mixture(log_p, log_q, beta)
    dz += pulled[:, None] * p * (log_p - log_m)
    if saved.student_to_mixture is not None:
      slope += pulled * saved.student_to_mixture
  tail = saved.tail_ratio
  if ct.top_k_kl is not None and top_k is not None and tail is not None:
    inside, outside = p - jnp.exp(log_q), p * (1.0 - tail[:, None])
    merged = jnp.where(_inside(teacher, top_k), inside, outside)
    dz += ct.top_k_kl[:, None] * merged
  if ct.total_variation is not None and saved.mean_sign is not None:
    half = ct.total_variation / 2
    dz += half[:, None] * p * jnp.sign(p - jnp.exp(log_q))
    slope += half * saved.mean_sign
  return dz - p * slope[:, None]
