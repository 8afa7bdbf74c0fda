"""The losses a second time, from the papers alone, one token at a time.

Plain Python loops in float64 over the equations of the sources, written
without sight of `jaxvlm.losses`, `jaxvlm.tokenstats` or the vectorized
oracles beside this file: two independent readings of a paper agree on what it
says, or show where it leaves a choice. Where it does, the choice is an
argument here and has no default. A masked entry is never read. Quantities that
the sources hold constant under differentiation (old, reference and teacher
log-probabilities, advantages, cooling weights) are arguments of their own, so
that a finite difference of these functions is the gradient of the paper.
"""

import math

import numpy as np


def _log_softmax(logits):
  highest = max(logits)
  log_total = math.log(sum(math.exp(z - highest) for z in logits)) + highest
  return [z - log_total for z in logits]


def _log_sigmoid(x):
  if x >= 0:
    return -math.log1p(math.exp(-x))
  return x - math.log1p(math.exp(x))


def _sigmoid(x):
  return math.exp(_log_sigmoid(x))


def _logits(hidden, head, temperature, vocab_size):
  return [
    sum(float(h) * float(w) for h, w in zip(hidden, head[:, v], strict=True))
    / temperature
    for v in range(vocab_size)
  ]


def _live(mask):
  """Indices of the tokens that count, row by row."""
  mask = np.asarray(mask, bool)
  return [tuple(int(i) for i in at) for at in np.argwhere(mask)]


def _token_mean(values, mask, normalizer=None):
  live = _live(mask)
  count = len(live) if normalizer is None else normalizer
  return sum(float(values[at]) for at in live) / count if live else 0.0


def _sequence_mean(values, mask, rows):
  """Σ_i (1/|o_i|) Σ_t values_it / rows; an empty row adds nothing."""
  total = 0.0
  for row, kept in zip(values, mask, strict=True):
    tokens = [float(x) for x, m in zip(row, kept, strict=True) if m]
    if tokens:
      total += sum(tokens) / len(tokens)
  return total / rows


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
):
  """Statistics of softmax(hidden·head / temperature) for tokens [B, T].

  log p(y); entropy H = -Σ_v p_v log p_v in nats; largest probability; mean
  over the vocabulary of log p_v; reverse KL(p‖q) and forward KL(q‖p) to the
  teacher q at the same temperature; Jensen-Shannon with m = (p + q)/2.
  """
  vocab_size = head.shape[1] if vocab_size is None else vocab_size
  names = ["logprobs", "entropies", "top1", "mean_logprobs"]
  if teacher_hidden is not None:
    names += ["teacher_logprobs", "teacher_entropies"]
    names += ["reverse_kl", "forward_kl", "jsd"]
  stats = {name: np.zeros(np.shape(mask)) for name in names}
  for at in _live(mask):
    y = int(targets[at])
    logp = _log_softmax(_logits(hidden[at], head, temperature, vocab_size))
    p = [math.exp(x) for x in logp]
    stats["logprobs"][at] = logp[y]
    stats["entropies"][at] = -sum(a * b for a, b in zip(p, logp, strict=True))
    stats["top1"][at] = max(p)
    stats["mean_logprobs"][at] = sum(logp) / vocab_size
    if teacher_hidden is None:
      continue
    logq = _log_softmax(
      _logits(teacher_hidden[at], teacher_head, temperature, vocab_size)
    )
    q = [math.exp(x) for x in logq]
    reverse = forward = jensen = 0.0
    for pv, lp, qv, lq in zip(p, logp, q, logq, strict=True):
      logm = math.log((pv + qv) / 2)
      reverse += pv * (lp - lq)
      forward += qv * (lq - lp)
      jensen += 0.5 * pv * (lp - logm) + 0.5 * qv * (lq - logm)
    stats["teacher_logprobs"][at] = logq[y]
    stats["teacher_entropies"][at] = -sum(
      a * b for a, b in zip(q, logq, strict=True)
    )
    stats["reverse_kl"][at] = reverse
    stats["forward_kl"][at] = forward
    stats["jsd"][at] = jensen
  return stats


def sft(
  logprobs,
  mask,
  *,
  label_smoothing=0.0,
  mean_vocab_logprobs=None,
  normalizer=None,
):
  """Token mean of -(1-α) log p(y) - (α/V) Σ_v log p_v."""
  values = np.zeros(np.shape(mask))
  for at in _live(mask):
    values[at] = -(1 - label_smoothing) * float(logprobs[at])
    if label_smoothing:
      values[at] -= label_smoothing * float(mean_vocab_logprobs[at])
  return _token_mean(values, mask, normalizer)


def sft_c(
  positive_logprobs,
  positive_mask,
  negative_logprobs,
  negative_mask,
  *,
  floor,
  weight,
  per_sequence,
):
  """E[NLL(y⁺)] + λ ReLU(C - E[NLL(y⁻)]), arXiv 2510.11978 Eq. 4.2.

  The hinge is on the batch mean. The paper does not say over what the
  expectation runs once the NLL is a token mean: all tokens of the batch, or
  the responses' own means (`per_sequence`). Without negatives no penalty.
  """

  def nll(logprobs, mask):
    if not per_sequence:
      return -_token_mean(logprobs, mask)
    rows = sum(bool(np.any(row)) for row in mask)
    return -_sequence_mean(logprobs, mask, rows) if rows else 0.0

  loss = nll(positive_logprobs, positive_mask)
  if np.any(negative_mask):
    loss += weight * max(0.0, floor - nll(negative_logprobs, negative_mask))
  return loss


def opd(kl, mask, *, per_sequence):
  """Mean of a per-token divergence over student samples.

  The lineage writes E_y[(1/|y|) Σ_t ·], a mean of the responses' means
  (`per_sequence`); verl's recipe takes the mean over all tokens.
  """
  if per_sequence:
    return _sequence_mean(kl, mask, len(mask))
  return _token_mean(kl, mask)


def opd_policy_gradient(logprobs, old_logprobs, advantages, mask):
  """-mean_t ratio_t A_t, ratio = π_θ/π_old, without a clip.

  `advantages` is sg(log π_T - log π_student), which the caller computes:
  the sources take the student either as sampled (old) or as it is now.
  """
  values = np.zeros(np.shape(mask))
  for at in _live(mask):
    ratio = math.exp(float(logprobs[at]) - float(old_logprobs[at]))
    values[at] = -ratio * float(advantages[at])
  return _token_mean(values, mask)


def opd_policy_gradient_gradient(logprobs, old_logprobs, advantages, mask):
  """By hand: d/dlog π_t of -ratio_t A_t / n is -ratio_t A_t / n."""
  live = _live(mask)
  gradient = np.zeros(np.shape(mask))
  for at in live:
    ratio = math.exp(float(logprobs[at]) - float(old_logprobs[at]))
    gradient[at] = -ratio * float(advantages[at]) / len(live)
  return gradient


def sampled_advantages(student_logprobs, teacher_logprobs, mask):
  """A_t = log π_T(y_t) - log π_student(y_t), minus the k1 estimate."""
  advantages = np.zeros(np.shape(mask))
  for at in _live(mask):
    advantages[at] = float(teacher_logprobs[at]) - float(student_logprobs[at])
  return advantages


def sequence_logprobs(logprobs, mask):
  """(Σ_t log p, (1/L) Σ_t log p) for each row; an empty row gives 0, 0."""
  sums, means = [], []
  for row, kept in zip(logprobs, mask, strict=True):
    tokens = [float(x) for x, m in zip(row, kept, strict=True) if m]
    sums.append(sum(tokens))
    means.append(sum(tokens) / len(tokens) if tokens else 0.0)
  return np.array(sums, float), np.array(means, float)


def _preference(terms, mask):
  """Mean over the pairs that are kept; `terms` maps a pair to its loss."""
  pairs = [i for i, kept in enumerate(mask) if kept]
  return sum(terms(i) for i in pairs) / len(pairs) if pairs else 0.0


def _deltas(chosen, rejected, ref_chosen, ref_rejected, i):
  return (
    float(chosen[i]) - float(ref_chosen[i]),
    float(rejected[i]) - float(ref_rejected[i]),
  )


def dpo(chosen, rejected, ref_chosen, ref_rejected, *, beta, mask=None):
  """-E log σ(β (Δ_w - Δ_l)), arXiv 2305.18290."""

  def term(i):
    won, lost = _deltas(chosen, rejected, ref_chosen, ref_rejected, i)
    return -_log_sigmoid(beta * (won - lost))

  return _preference(term, [True] * len(chosen) if mask is None else mask)


def cooling_weight(mean_logprobs, *, floor, tau):
  """w_c = σ((l̄ - l_floor)/τ), arXiv 2510.11978 section 4."""
  return np.array([_sigmoid((float(x) - floor) / tau) for x in mean_logprobs])


def cw_dpo(
  chosen, rejected, ref_chosen, ref_rejected, weights, *, beta, mask=None
):
  """-E log σ(β (Δ_w - w_c Δ_l)), arXiv 2510.11978 Eq. 4.5.

  With `weights` held at `cooling_weight(...)` a difference quotient is the
  derivation's gradient (w_c a local constant); with the weights recomputed
  from the perturbed mean it is the full one.
  """

  def term(i):
    won, lost = _deltas(chosen, rejected, ref_chosen, ref_rejected, i)
    return -_log_sigmoid(beta * (won - float(weights[i]) * lost))

  return _preference(term, [True] * len(chosen) if mask is None else mask)


def focal_dpo(chosen, rejected, ref_chosen, ref_rejected, *, beta, gamma):
  """-E (1-a)^γ log a, a = σ(β (Δ_w - Δ_l)): focal loss on DPO's posterior.

  The baseline's equation is in none of the sources; this is the focal loss
  of arXiv 1708.02002 Eq. 4 with p_t = a, differentiated throughout.
  """

  def term(i):
    won, lost = _deltas(chosen, rejected, ref_chosen, ref_rejected, i)
    margin = beta * (won - lost)
    return -(_sigmoid(-margin) ** gamma) * _log_sigmoid(margin)

  return _preference(term, [True] * len(chosen))


def grpo(
  logprobs,
  old_logprobs,
  advantages,
  mask,
  *,
  normalization,
  clip_low,
  clip_high,
  ref_logprobs=None,
  kl_coef=0.0,
):
  """-Σ w_it [min(ρA, clip(ρ, 1-ε_low, 1+ε_high) A) - β k3], arXiv 2402.03300.

  `normalization(mask, i)` is the weight of a token of row i: `per_token`
  (arXiv 2503.14476), `per_sequence` (2402.03300), `per_length` (2503.20783).
  `advantages` is one number a row. k3 = π_ref/π - log(π_ref/π) - 1.
  """
  loss = 0.0
  for i, t in _live(mask):
    advantage = float(advantages[i])
    ratio = math.exp(float(logprobs[i, t]) - float(old_logprobs[i, t]))
    clipped = min(max(ratio, 1 - clip_low), 1 + clip_high)
    gain = min(ratio * advantage, clipped * advantage)
    if kl_coef:
      log_ratio = float(ref_logprobs[i, t]) - float(logprobs[i, t])
      gain -= kl_coef * (math.exp(log_ratio) - log_ratio - 1)
    loss -= normalization(mask, i) * gain
  return loss


def per_token(mask, _row):
  """1/Σ_i |o_i|: every token of the batch counts the same."""
  return 1 / len(_live(mask))


def per_sequence(rows):
  """1/(rows·|o_i|): the equation's 1/G; whether G counts empty rows is open."""
  return lambda mask, i: 1 / (rows * sum(bool(m) for m in mask[i]))


def per_length(rows, length):
  """1/(rows·L): a constant, whatever the responses' lengths."""
  return lambda _mask, _row: 1 / (rows * length)


def group_advantages(rewards, *, normalize_std, ddof, epsilon):
  """(r_i - mean r)/(std r + ε) in every group; a group of equals gives 0."""
  advantages = np.zeros(np.shape(rewards))
  for n, group in enumerate(rewards):
    values = [float(r) for r in group]
    mean = sum(values) / len(values)
    scale = 1.0
    if normalize_std and len(values) > ddof:
      square = sum((r - mean) ** 2 for r in values)
      scale = math.sqrt(square / (len(values) - ddof)) + epsilon
    for i, r in enumerate(values):
      advantages[n, i] = 0.0 if len(set(values)) == 1 else (r - mean) / scale
  return advantages


def leave_one_out_advantages(rewards):
  """r_i - mean of the other rewards of its group."""
  advantages = np.zeros(np.shape(rewards))
  for n, group in enumerate(rewards):
    for i, r in enumerate(group):
      others = [float(x) for j, x in enumerate(group) if j != i]
      advantages[n, i] = float(r) - sum(others) / len(others)
  return advantages


def difference_quotient(function, at, *, step=1e-5):
  """Central differences of a scalar function of one float64 array.

  An entry that is NaN is masked: nothing reads it, and its derivative is 0.
  """
  at = np.array(at, np.float64)
  gradient = np.zeros(at.shape)
  for index in np.ndindex(at.shape):
    if np.isnan(at[index]):
      continue
    up, down = at.copy(), at.copy()
    up[index] += step
    down[index] -= step
    gradient[index] = (function(up) - function(down)) / (2 * step)
  return gradient
