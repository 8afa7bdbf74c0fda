"""Objectives of pairs, against float64 by hand and the losses' oracles."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxvlm.train import objectives
from jaxvlm.train.freeze import with_base_as_reference, with_frozen
from jaxvlm.train.objectives import Contrast
from tests import tiny
from tests.reference import losses as oracle

MODEL, PARAMS = tiny.bag()
REFERENCE = jax.tree.map(lambda x: x * 0.8, PARAMS)
CUT = {"vocab_size": tiny.VOCAB}
BETA, FLOOR, TAU, GAMMA = 0.3, -6.0, 0.8, 2.0


def pairs():
  """Returns four prompts with two completions, one of which is empty."""
  batch = tiny.batch(group=2)
  mask = batch.mask.copy()
  mask[2, 1] = False
  return batch._replace(mask=mask)


BATCH = pairs()
WHOLE = np.array([True, True, False, True])


def logprobs(params=PARAMS):
  """Returns f64[N, 2, T] by hand."""
  hidden = np.asarray(MODEL.forward(params, BATCH), np.float64)
  logits = hidden @ np.asarray(MODEL.head(params), np.float64)
  logp = special.log_softmax(logits[..., : tiny.VOCAB], -1)
  return np.take_along_axis(logp, BATCH.tokens[..., None], -1)[..., 0]


def by_hand(cooled=False, gamma=0.0, keep=WHOLE):
  """Returns (loss, weights w_c, mean log-probabilities [N, 2])."""
  ours, theirs = (
    np.where(BATCH.mask, logprobs(p), 0).sum(-1) for p in (PARAMS, REFERENCE)
  )
  means = ours / np.maximum(BATCH.mask.sum(-1), 1)
  weights = oracle.cooling_weights(means[:, 1], FLOOR, TAU)
  loss = oracle.preference(
    *(x[:, side] for x in (ours, theirs) for side in (0, 1)),
    keep,
    BETA,
    weights if cooled else None,
    gamma,
  )
  return loss, weights, means


@functools.cache
def evaluate(make, settings):
  objective = make(MODEL, beta=BETA, **dict(settings), **CUT)
  run = jax.jit(jax.value_and_grad(objective, (0, 1), has_aux=True))
  (loss, stats), (grads, to_reference) = run(
    PARAMS, {"reference": REFERENCE}, BATCH, objectives.count(BATCH)
  )
  assert all(jnp.all(g == 0) for g in jax.tree.leaves(to_reference))
  values = {name: float(mean.value()) for name, mean in stats.items()}
  return float(loss), values, grads


COOLED = (("floor", FLOOR), ("tau", TAU))


@pytest.mark.parametrize(
  "make,settings,reference",
  [
    (objectives.dpo, (), {}),
    (objectives.cw_dpo, COOLED, {"cooled": True}),
    (objectives.focal_dpo, (("gamma", GAMMA),), {"gamma": GAMMA}),
  ],
)
def test_the_value_is_the_papers(make, settings, reference):
  loss, metrics, grads = evaluate(make, settings)
  expected, weights, means = by_hand(**reference)
  assert loss == pytest.approx(expected, rel=1e-4)
  assert metrics[f"loss/{make.__name__}"] == pytest.approx(expected, rel=1e-4)
  for side, name in enumerate(("chosen", "rejected")):
    assert metrics[f"policy/{name}_mean_logprob"] == pytest.approx(
      means[WHOLE, side].mean(), rel=1e-4
    )
  if make is objectives.cw_dpo:
    found = metrics["policy/cooling_weight"]
    assert found == pytest.approx(weights[WHOLE].mean(), rel=1e-4)
    assert 0.1 < found < 0.9
  assert 0 <= metrics["policy/preference_accuracy"] <= 1
  assert sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(grads)) > 1e-6


def test_the_weight_is_a_constant_unless_asked():
  """Equal values, different gradients."""
  constant = evaluate(objectives.cw_dpo, COOLED)
  through = evaluate(
    objectives.cw_dpo, (*COOLED, ("differentiate_weight", True))
  )
  assert constant[0] == through[0]
  gaps = [
    float(jnp.max(jnp.abs(a - b)))
    for a, b in zip(
      jax.tree.leaves(constant[2]), jax.tree.leaves(through[2]), strict=True
    )
  ]
  assert max(gaps) > 1e-4


def test_easy_negatives_are_left_out_and_still_counted():
  """Σ over the kept pairs, divided by all pairs."""
  means = by_hand()[2][:, 1]
  threshold = float(np.sort(means[WHOLE])[1])  # one of three is easier
  loss, metrics, _ = evaluate(
    objectives.cw_dpo, (*COOLED, ("easier_than", threshold - 1e-3))
  )
  kept = WHOLE & (means >= threshold - 1e-3)
  assert kept.sum() == 2
  expected = by_hand(cooled=True, keep=kept)[0]
  assert metrics["loss/cw_dpo"] == pytest.approx(expected, rel=1e-4)
  assert loss == pytest.approx(expected * 2 / 3, rel=1e-4)


def test_the_base_of_adapters_is_their_reference():
  """At the start of a LoRA run Δ = 0: the loss is log 2, on one copy."""
  model = MODEL._replace(
    head=lambda p: (
      MODEL.head(p) + p["head"]["lora_a"] @ p["head"]["lora_b"]
      if "lora_a" in p["head"]
      else MODEL.head(p)
    )
  )
  adapters = {
    "head": {
      "lora_a": jnp.ones((8, 2)),
      "lora_b": jnp.zeros((2, tiny.PADDED)),
    }
  }
  objective = with_frozen(
    with_base_as_reference(objectives.dpo(model, beta=BETA, **CUT))
  )
  count = objectives.count(BATCH)

  def run(adapters):
    return objective(adapters, {"base": PARAMS}, BATCH, count)

  run = jax.jit(jax.value_and_grad(run, has_aux=True))
  (loss, stats), grads = run(adapters)
  assert loss == pytest.approx(np.log(2), rel=1e-5)
  assert abs(stats["policy/chosen_shift"].value()) < 1e-5  # of about 6 nats
  assert float(jnp.abs(grads["head"]["lora_b"]).max()) > 1e-4


@jax.jit
def contrast(floor, total, batch):
  objective = objectives.sft_c(MODEL, floor=floor, weight=0.7, **CUT)
  return jax.value_and_grad(objective, has_aux=True)(PARAMS, None, batch, total)


@pytest.mark.parametrize("gap", [0.5, -0.5])
def test_sft_c_is_the_equation_on_either_side_of_the_hinge(gap):
  logp = logprobs()
  sides = [x for i in (0, 1) for x in (logp[:, i], BATCH.mask[:, i])]
  floor = oracle.sft(*sides[2:]) + gap
  totals = objectives.sft_c_totals(MODEL, **CUT)
  (loss, stats), _ = contrast(floor, totals.totals(BATCH), BATCH)
  expected = oracle.sft_c(*sides, floor, 0.7)
  assert loss == pytest.approx(expected, rel=1e-5)
  assert stats["loss/hinge_open"].value() == (gap > 0)
  measured = totals.measure(PARAMS, None, BATCH)
  assert measured.negative_nll == pytest.approx(
    -(logp[:, 1] * BATCH.mask[:, 1]).sum(), rel=1e-5
  )


def test_sft_c_without_negatives_is_sft():
  mask = BATCH.mask.copy()
  mask[:, 1] = False
  batch = BATCH._replace(mask=mask)
  total = objectives.sft_c_totals(MODEL, **CUT).measure(PARAMS, None, batch)
  (loss, _), grads = contrast(9.0, total, batch)
  sft = objectives.sft(MODEL, **CUT)
  (plain, _), expected = jax.jit(jax.value_and_grad(sft, has_aux=True))(
    PARAMS, None, batch, objectives.count(batch)
  )
  assert loss == pytest.approx(float(plain), rel=1e-6)
  for a, b in zip(
    jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)


def test_totals_that_cannot_decide_the_hinge_are_refused():
  with pytest.raises(ValueError, match="Counts, expected Contrast"):
    contrast(1.0, objectives.count(BATCH), BATCH)


def test_three_completions_are_no_pair():
  batch = tiny.batch(group=3)
  for make in (
    functools.partial(objectives.dpo, beta=1.0),
    functools.partial(objectives.sft_c, floor=1.0, weight=1.0),
  ):
    with pytest.raises(ValueError, match="3 completion.*expected 2"):
      make(MODEL, **CUT)(
        PARAMS, {"reference": PARAMS}, batch, Contrast(1.0, 1.0)
      )


OBJECTIVES = {
  "dpo": objectives.dpo(MODEL, beta=BETA, **CUT),
  "cw_dpo": objectives.cw_dpo(MODEL, beta=BETA, floor=FLOOR, tau=TAU, **CUT),
  "focal_dpo": objectives.focal_dpo(MODEL, beta=BETA, gamma=GAMMA, **CUT),
  "grpo with kl_coef > 0": objectives.grpo(MODEL, kl_coef=0.1, **CUT),
  "opd": objectives.opd(MODEL, MODEL, **CUT),
  "training a part of the parameters": with_frozen(
    objectives.dpo(MODEL, beta=BETA, **CUT)
  ),
  "the base as reference": with_base_as_reference(
    objectives.dpo(MODEL, beta=BETA, **CUT)
  ),
}


@pytest.mark.parametrize("frozen", [None, (), {}, {"other": PARAMS}])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_without_its_frozen_tree_is_named(name, frozen):
  data = objectives.Experience(
    BATCH, jnp.zeros(BATCH.mask.shape), jnp.zeros(BATCH.mask.shape[:2])
  )
  inputs = data if name.startswith(("grpo", "opd")) else BATCH
  tree = {"opd": "teacher"}.get(
    name, "base" if name.startswith("t") else "reference"
  )
  with pytest.raises(
    ValueError, match=f"^{name} needs the parameters of the {tree}, .*{tree}'"
  ):
    OBJECTIVES[name](PARAMS, frozen, inputs, objectives.count(BATCH))
