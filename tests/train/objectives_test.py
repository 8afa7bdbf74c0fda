"""Objectives at points where the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxvlm.rollout import statistics
from jaxvlm.train import objectives
from jaxvlm.train.objectives import Experience
from jaxvlm.train.optimizer import OptimizerConfig, make_optimizer
from jaxvlm.train.step import init_state, make_train_step
from tests import tiny

MODEL, PARAMS = tiny.bag()
BATCH = tiny.batch(group=3)
CUT = {"vocab_size": tiny.VOCAB}


def evaluate(objective, inputs, frozen=None, params=PARAMS):
  """Returns (loss, metrics, gradient)."""
  total = objectives.count(inputs)
  run = jax.jit(jax.value_and_grad(objective, has_aux=True))
  (loss, stats), grads = run(params, frozen, inputs, total)
  values = {name: float(mean.value()) for name, mean in stats.items()}
  return float(loss), values, grads


def norm(tree):
  return float(jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(tree))))


def logprobs(temperature=1.0, params=PARAMS):
  """Returns f64[N, G, T] by hand."""
  hidden = np.asarray(MODEL.forward(params, BATCH), np.float64)
  logits = (hidden @ np.asarray(MODEL.head(params), np.float64))[
    ..., : tiny.VOCAB
  ] / temperature
  logp = special.log_softmax(logits, -1)
  tokens = BATCH.tokens[..., None]
  entropy = -(np.exp(logp) * logp).sum(-1)
  return np.take_along_axis(logp, tokens, -1)[..., 0], entropy


def test_count_counts_tokens_and_completions_that_have_any():
  mask = BATCH.mask.copy()
  mask[1, 2] = False
  counts = objectives.count(BATCH._replace(mask=mask))
  assert counts.tokens == mask.sum()
  assert counts.sequences == 11


def test_sft_is_the_token_mean():
  loss, metrics, grads = evaluate(objectives.sft(MODEL, **CUT), BATCH)
  logp, entropy = logprobs()
  assert loss == pytest.approx(-logp[BATCH.mask].mean(), rel=1e-5)
  assert metrics["policy/neg_logprob"] == pytest.approx(loss, rel=1e-5)
  found = metrics["policy/entropy"]
  assert found == pytest.approx(entropy[BATCH.mask].mean(), rel=1e-5)
  assert norm(grads) > 1e-2


def test_opd_with_itself_as_teacher_is_zero_with_zero_gradient():
  objective = objectives.opd(MODEL, MODEL, temperature=0.7, **CUT)
  loss, metrics, grads = evaluate(objective, BATCH, {"teacher": PARAMS})
  assert abs(loss) < 1e-6
  assert abs(metrics["policy/kl_teacher_sampled"]) < 1e-6
  assert norm(grads) < 1e-6


def test_opd_pulls_towards_another_teacher_and_not_the_teacher():
  teacher = jax.tree.map(lambda x: x * 1.2, PARAMS)
  objective = objectives.opd(MODEL, MODEL, **CUT)
  loss, metrics, grads = evaluate(objective, BATCH, {"teacher": teacher})
  ours, _ = logprobs()
  theirs, _ = logprobs(params=teacher)
  gap = (ours - theirs)[BATCH.mask].mean()
  assert metrics["policy/kl_teacher_sampled"] == pytest.approx(gap, rel=1e-3)
  assert loss > 1e-3
  moved = jax.tree.map(lambda p, g: p - 1e-2 * g, PARAMS, grads)
  lower, _, _ = evaluate(objective, BATCH, {"teacher": teacher}, moved)
  assert lower < loss
  by_teacher = jax.grad(
    lambda f: objective(PARAMS, f, BATCH, objectives.count(BATCH))[0]
  )({"teacher": teacher})
  assert norm(by_teacher) == 0


def experience(advantages, temperature=1.0):
  old = statistics(MODEL, PARAMS, BATCH, temperature=temperature, **CUT)
  return Experience(BATCH, old.logprobs, np.float32(advantages))


@pytest.mark.parametrize("normalize_std", [True, False])
def test_grpo_without_contrast_has_exactly_no_gradient(normalize_std):
  from jaxvlm.losses import group_advantages

  rewards = np.repeat(np.float32([[0.1], [1.0], [0.0], [0.7]]), 3, 1)
  inputs = experience(group_advantages(rewards, normalize_std=normalize_std))
  loss, _, grads = evaluate(objectives.grpo(MODEL, **CUT), inputs)
  assert loss == 0
  assert norm(grads) == 0


ADVANTAGES = np.random.default_rng(0).normal(size=(4, 3))


@pytest.mark.parametrize("weights", ["per_token", "per_sequence"])
def test_grpo_on_policy_is_the_policy_gradient(weights):
  """At ratio 1 the gradient is that of −Σ w·A·log π."""
  inputs = experience(ADVANTAGES, 0.8)
  weigh = getattr(objectives, weights)
  objective = objectives.grpo(MODEL, temperature=0.8, weights=weigh, **CUT)
  _, metrics, grads = evaluate(objective, inputs)
  assert metrics["rollout/logprob_gap"] < 1e-5  # the largest of all tokens
  assert 0 <= metrics["rollout/logprob_kl"] < 1e-9
  assert metrics["policy/clip_fraction"] == 0
  assert metrics["policy/ratio"] == pytest.approx(1, abs=1e-5)
  lengths = BATCH.mask.sum(-1, keepdims=True)
  by_hand = {
    "per_token": BATCH.mask / BATCH.mask.sum(),
    "per_sequence": BATCH.mask / lengths / 12,
  }[weights]

  def surrogate(params):
    stats = statistics(MODEL, params, BATCH, temperature=0.8, **CUT)
    return -jnp.sum(by_hand * ADVANTAGES[..., None] * stats.logprobs)

  expected = jax.grad(surrogate)(PARAMS)
  for a, b in zip(
    jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["opd", "grpo"])
def test_tokens_that_an_older_policy_drew_are_no_drift(name):
  """Carried completions keep their behavior log-probabilities."""
  objective = {
    "opd": objectives.opd(MODEL, MODEL, **CUT),
    "grpo": objectives.grpo(MODEL, **CUT),
  }[name]
  inputs = experience(ADVANTAGES)
  older = np.zeros(BATCH.mask.shape, bool)
  older[:, 1, :2] = True
  moved = np.where(older, inputs.old_logprobs - 0.5, inputs.old_logprobs)
  frozen = {"teacher": PARAMS}
  found = []
  for drawn in (None, ~older):
    given = inputs._replace(old_logprobs=moved, drawn=drawn)
    found.append(evaluate(objective, given, frozen)[1])
  blamed, known = found
  assert blamed["rollout/logprob_gap"] == pytest.approx(0.5, abs=1e-5)
  share = (older & BATCH.mask).sum() / BATCH.mask.sum()
  k3 = share * (np.exp(0.5) - 1.5)
  assert blamed["rollout/logprob_kl"] == pytest.approx(k3, rel=1e-4)
  assert known["rollout/logprob_gap"] < 1e-5
  assert known["rollout/logprob_kl"] < 1e-9


def test_kl_pulls_towards_the_reference_even_without_advantages():
  reference = jax.tree.map(lambda x: x * 1.2, PARAMS)
  objective = objectives.grpo(MODEL, kl_coef=0.5, **CUT)
  inputs = experience(np.zeros((4, 3)))
  loss, metrics, grads = evaluate(objective, inputs, {"reference": reference})
  gap = (logprobs(params=reference)[0] - logprobs()[0])[BATCH.mask]
  k3 = (np.exp(gap) - gap - 1).mean()
  assert metrics["policy/kl_ref"] == pytest.approx(k3, rel=1e-3)
  assert loss == pytest.approx(0.5 * k3, rel=1e-3)
  assert norm(grads) > 1e-4
  _, metrics, grads = evaluate(objective, inputs, {"reference": PARAMS})
  assert metrics["policy/kl_ref"] == pytest.approx(0, abs=1e-9)
  assert norm(grads) < 1e-6


@pytest.mark.parametrize("name", ["sft", "opd", "grpo"])
def test_what_stands_behind_the_mask_changes_nothing(name):
  frozen = {"teacher": jax.tree.map(lambda x: x * 1.1, PARAMS)}
  objective = {
    "sft": objectives.sft(MODEL, **CUT),
    "opd": objectives.opd(MODEL, MODEL, **CUT),
    "grpo": objectives.grpo(MODEL, **CUT),
  }[name]
  other = BATCH._replace(tokens=np.where(BATCH.mask, BATCH.tokens, 33))
  results = []
  for batch in (BATCH, other):
    inputs = batch
    if name == "grpo":
      inputs = experience(ADVANTAGES)._replace(batch=batch)
    results.append(evaluate(objective, inputs, frozen))
  (a, _, da), (b, _, db) = results
  assert a == b
  for x, y in zip(jax.tree.leaves(da), jax.tree.leaves(db), strict=True):
    np.testing.assert_array_equal(x, y)


def test_a_multiplier_grows_while_negatives_are_too_likely():
  """λ·(C − NLL⁻) is the penalty, and λ climbs by ρ·(C − NLL⁻), from 0 up."""
  pairs, floor = tiny.batch(group=2), 5.0
  stats = statistics(MODEL, PARAMS, pairs, **CUT)
  chosen, rejected = (
    -float(stats.logprobs[:, k].sum() / pairs.mask[:, k].sum())
    for k in range(2)
  )
  objective = objectives.sft_constrained(MODEL, floor=floor, **CUT)
  inputs = objectives.Multiplied(pairs, jnp.float32(0.3))
  total = objectives.constrained_totals(inputs)
  loss, found = objective(PARAMS, None, inputs, total)
  expected = chosen + 0.3 * (floor - rejected)
  assert float(loss) == pytest.approx(expected, rel=1e-5)
  assert float(found["loss/multiplier"].value()) == pytest.approx(0.3)
  for nll in (floor - 2.0, floor + 1.0, floor + 9.0):
    raised = objectives.ascend(
      jnp.float32(0.3), jnp.float32(nll), floor=floor, rate=0.1
    )
    by_hand = max(0.0, 0.3 + 0.1 * (floor - nll))
    assert float(raised) == pytest.approx(by_hand, abs=1e-6)


def test_a_step_under_a_hard_constraint_takes_its_multiplier_with_the_batch():
  pairs = tiny.batch(group=2)
  optimizer = make_optimizer(OptimizerConfig(1e-3))
  step = make_train_step(
    objectives.sft_constrained(MODEL, floor=5.0, **CUT),
    objectives.constrained_totals,
    optimizer,
  )
  state = init_state(PARAMS, optimizer)
  _, out = step(state, {}, objectives.Multiplied(pairs, jnp.float32(0.3)))
  assert float(out["loss/multiplier"]) == pytest.approx(0.3)
  gap = 5.0 - float(out["loss/nll_negative"])
  expected = float(out["loss/nll_positive"]) + 0.3 * gap
  assert float(out["loss/total"]) == pytest.approx(expected, rel=1e-5)
