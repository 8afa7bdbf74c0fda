"""Token statistics in float64 NumPy, one token at a time, from definitions."""

import math

import numpy as np

FIELDS = (
  "logprobs",
  "entropies",
  "top1",
  "mean_logprobs",
  "teacher_logprobs",
  "teacher_entropies",
  "reverse_kl",
  "forward_kl",
  "jsd",
  "top_k_kl",
  "total_variation",
)


def distribution(hidden, head, temperature):
  """(p, log p) of one token."""
  z = hidden.astype(np.float64) @ head.astype(np.float64) / temperature
  z = z - z.max()
  log_p = z - math.log(np.exp(z).sum())
  return np.exp(log_p), log_p


def kl(p, log_p, log_q):
  return sum(a * (b - c) for a, b, c in zip(p, log_p, log_q, strict=True))


def one_token(
  p, log_p, target, q=None, log_q=None, beta=None, top_k=None, variation=False
):
  """A dict of the statistics of one token."""
  stats = {
    "logprobs": log_p[target],
    "entropies": -sum(a * b for a, b in zip(p, log_p, strict=True)),
    "top1": max(p),
    "mean_logprobs": sum(log_p) / len(log_p),
  }
  if q is None:
    return stats
  stats |= {
    "teacher_logprobs": log_q[target],
    "teacher_entropies": -sum(a * b for a, b in zip(q, log_q, strict=True)),
    "reverse_kl": kl(p, log_p, log_q),
    "forward_kl": kl(q, log_q, log_p),
  }
  if beta is not None:
    m = beta * q + (1 - beta) * p
    stats["jsd"] = {0: stats["forward_kl"], 1: stats["reverse_kl"]}.get(
      beta,
      beta * kl(q, log_q, np.log(m)) + (1 - beta) * kl(p, log_p, np.log(m)),
    )
  if top_k is not None:
    inside = np.argsort(-q)[:top_k]
    outside = np.argsort(-q)[top_k:]
    merged_p = np.append(p[inside], p[outside].sum())
    merged_q = np.append(q[inside], q[outside].sum())
    stats["top_k_kl"] = kl(merged_q, np.log(merged_q), np.log(merged_p))
  if variation:
    stats["total_variation"] = sum(map(abs, p - q)) / 2
  return stats


def token_stats(
  hidden,
  head,
  targets,
  mask,
  *,
  temperature=1.0,
  vocab_size=None,
  teacher_hidden=None,
  teacher_head=None,
  jsd_beta=None,
  top_k=None,
  total_variation=False,
):
  """A dict of float64 arrays shaped as `mask`, 0 where it is False."""
  out = {name: np.zeros(mask.shape) for name in FIELDS}
  for i in np.ndindex(mask.shape):
    if not mask[i]:
      continue
    p, log_p = distribution(hidden[i], head[:, :vocab_size], temperature)
    q = log_q = None
    if teacher_head is not None:
      q, log_q = distribution(
        teacher_hidden[i], teacher_head[:, :vocab_size], temperature
      )
    stats = one_token(
      p, log_p, targets[i], q, log_q, jsd_beta, top_k, total_variation
    )
    for name, value in stats.items():
      out[name][i] = value
  return out
