"""The train step: micro-batches, the guard's decision, donation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvlm.metrics import masked_mean
from jaxvlm.rollout import statistics
from jaxvlm.sharding import prompt_axes
from jaxvlm.train import drift, experience, objectives
from jaxvlm.train.objectives import Experience
from jaxvlm.train.optimizer import (
  OptimizerConfig,
  Precision,
  make_optimizer,
  master_params,
)
from jaxvlm.train.step import init_state, make_train_step, split
from tests import tiny

OPTIMIZER = make_optimizer(OptimizerConfig(1e-2, warmup_steps=3))


def objective_of(name):
  """Returns (objective, frozen) on the stand-in model."""
  model, params = tiny.bag()
  if name == "sft":
    return objectives.sft(
      model, vocab_size=tiny.VOCAB, label_smoothing=0.1
    ), None
  if name == "opd":
    teacher = jax.tree.map(lambda x: x * 1.3, params)
    return objectives.opd(
      model, model, vocab_size=tiny.VOCAB, temperature=0.9
    ), {"teacher": teacher}
  reference = jax.tree.map(lambda x: x * 0.9, params)
  if name in PAIRED:
    return PAIRED[name](model), {"reference": reference}
  return objectives.grpo(
    model,
    vocab_size=tiny.VOCAB,
    kl_coef=0.1,
    weights=getattr(objectives, name.removeprefix("grpo_")),
  ), {"reference": reference}


def paired():
  """Returns chosen and rejected completions, one of them empty."""
  batch = tiny.batch(group=2)
  mask = batch.mask.copy()
  mask[2, 1] = False
  return batch._replace(mask=mask)


def sft_c_totals():
  return objectives.sft_c_totals(tiny.bag()[0], vocab_size=tiny.VOCAB)


def sft_c(model, gap):
  """Returns SFT-C whose hinge the whole batch opens by `gap`.

  Alone, some prompts lie on the other side of it.
  """
  params, parts = tiny.bag()[1], split(paired(), 4)
  measure = jax.jit(lambda part: sft_c_totals().measure(params, None, part))
  totals = jax.lax.map(measure, parts)
  nll, tokens = totals.negative_nll, totals.negative_tokens
  alone = [float(nll[i] / tokens[i]) for i in (0, 1, 3)]
  floor = float(jnp.sum(nll) / jnp.sum(tokens)) + gap
  assert min(alone) < floor < max(alone)
  return objectives.sft_c(model, vocab_size=tiny.VOCAB, floor=floor, weight=0.7)


PREFERENCE = {"vocab_size": tiny.VOCAB, "beta": 0.3}
COOLED = {**PREFERENCE, "floor": -6.0, "tau": 0.8}
PAIRED = {
  "sft_c_open": lambda m: sft_c(m, 0.02),
  "sft_c_closed": lambda m: sft_c(m, -0.02),
  "dpo": lambda m: objectives.dpo(m, **PREFERENCE),
  "cw_dpo": lambda m: objectives.cw_dpo(m, **COOLED),
  "cw_dpo_filtered": lambda m: objectives.cw_dpo(
    m, differentiate_weight=True, easier_than=-6.0, **COOLED
  ),
  "focal_dpo": lambda m: objectives.focal_dpo(m, gamma=2.0, **PREFERENCE),
}


def inputs_of(name):
  if name in PAIRED:
    return paired()
  batch = tiny.batch(group=3)
  if not name.startswith("grpo"):
    return batch
  rng = np.random.default_rng(0)
  old = rng.normal(size=batch.mask.shape, scale=0.3) - 4
  return Experience(
    batch,
    np.where(batch.mask, old, 0).astype(np.float32),
    rng.normal(size=batch.mask.shape[:2]).astype(np.float32),
  )


OBJECTIVES = (
  # One of each way to normalize: sequences, pairs, a survey.
  *("grpo_per_sequence", "sft_c_open", "cw_dpo_filtered"),
  *(
    pytest.param(name, marks=pytest.mark.slow)
    for name in (
      "sft",
      "opd",
      "sft_c_closed",
      "dpo",
      "cw_dpo",
      "focal_dpo",
      "grpo_per_token",
    )
  ),
)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_micro_batches_change_nothing(name):
  """Sums in another order: float32 rounding of about 15 terms' cancellation.

  Parameters move by the learning rate times ĝ / (√v̂ + ε), which is ±1 where
  |g| ≫ ε; entries whose gradient is itself rounding are left out.
  """
  objective, frozen = objective_of(name)
  inputs, results = inputs_of(name), []
  totals = sft_c_totals() if "sft_c" in name else objectives.count
  for count in (1, 4) if name in PAIRED else (1, 2, 4):
    step = make_train_step(objective, totals, OPTIMIZER, micro_batches=count)
    state = init_state(tiny.bag()[1], OPTIMIZER)
    results.append(jax.device_get(step(state, frozen, inputs)))
  (whole, whole_metrics), *others = results
  assert np.isfinite(whole_metrics["loss/total"])
  assert whole_metrics["grad/norm"] > 1e-3
  moments = whole.opt_state[1][0]
  for state, metrics in others:
    assert metrics.keys() == whole_metrics.keys()
    for key, value in metrics.items():
      np.testing.assert_allclose(
        value, whole_metrics[key], rtol=2e-5, atol=1e-6, err_msg=key
      )
    first = state.opt_state[1][0]
    for a, b, m, n in zip(
      jax.tree.leaves(whole.trainable),
      jax.tree.leaves(state.trainable),
      jax.tree.leaves(moments.mu),
      jax.tree.leaves(first.mu),
      strict=True,
    ):
      np.testing.assert_allclose(n, m, rtol=1e-4, atol=1e-7)
      clear = np.abs(m) > 1e-6
      np.testing.assert_allclose(b[clear], a[clear], rtol=1e-5, atol=1e-6)


def test_split_keeps_rows_whole():
  batch = tiny.batch()
  parts = split(batch, 2)
  for name, value in batch.prompts._asdict().items():
    for j, found in enumerate(np.asarray(getattr(parts.prompts, name))):
      part = value[:, j::2] if name == "positions" else value[j::2]
      np.testing.assert_array_equal(found, part, err_msg=name)
  np.testing.assert_array_equal(parts.tokens[1], batch.tokens[1::2])


def test_a_batch_that_does_not_split_is_named():
  objective, _ = objective_of("sft")
  step = make_train_step(
    objective, objectives.count, OPTIMIZER, micro_batches=3
  )
  state = init_state(tiny.bag()[1], OPTIMIZER)
  with pytest.raises(ValueError, match="4 prompts .* 3 micro-batches"):
    step(state, None, tiny.batch())


# A plain regression for what does not depend on models.
def regression(params, frozen, batch, total):
  error = (batch["x"] @ params["w"] + frozen["b"] - batch["y"]) ** 2
  loss = jnp.sum(error) / total
  return loss, {"loss/mse": masked_mean(error, error > -1)}


def rows(batch):
  return jnp.asarray(batch["y"].size, jnp.float32)


@functools.cache
def step():
  return make_train_step(regression, rows, OPTIMIZER)


def example(seed=0, bad=None):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(8, 3)).astype(np.float32)
  y = rng.normal(size=8).astype(np.float32)
  if bad is not None:
    x[5, 1] = bad
  return {"x": x, "y": y}


def start():
  params = {"w": jnp.array([0.5, -0.5, 1.0])}
  return init_state(params, OPTIMIZER), {"b": jnp.zeros(())}


def test_gradients_of_bfloat16_masters_are_summed_in_float32():
  """512 micro-batches with gradient 1; bfloat16 would stop at 256."""

  def objective(params, frozen, batch, total):
    return jnp.sum(params["w"].astype(jnp.float32) * batch), {}

  config = OptimizerConfig(1e-2, master=Precision.BFLOAT16)
  optimizer = make_optimizer(config)
  params = master_params(config, {"w": jnp.ones(())})
  run = make_train_step(objective, jnp.size, optimizer, micro_batches=512)
  state, metrics = run(init_state(params, optimizer), None, jnp.ones(512))
  assert metrics["grad/norm"] == 512
  assert state.trainable["w"].dtype == jnp.bfloat16
  assert state.trainable["w"] < 1


def test_the_norm_of_bfloat16_gradients_is_float32():
  """A square of 256 and squares of 1; bfloat16 counts by 2 from 256 on."""
  slopes = {"0": 16.0, **{str(i): 1.0 for i in range(1, 5)}}

  def objective(params, frozen, batch, total):
    loss = sum(slope * params[name] for name, slope in slopes.items())
    return loss.astype(jnp.float32), {}

  config = OptimizerConfig(1e-2, master=Precision.BFLOAT16)
  optimizer = make_optimizer(config)
  params = master_params(config, {name: jnp.ones(()) for name in slopes})
  run = make_train_step(objective, jnp.size, optimizer)
  _, metrics = run(init_state(params, optimizer), None, jnp.ones(1))
  assert metrics["grad/norm"] == pytest.approx(np.sqrt(260), rel=1e-6)


def halves(batch):
  """Returns every second row from the first, and from the second."""

  def every_second(first):
    return lambda x, axis: jnp.take(
      x, jnp.arange(first, x.shape[axis], 2), axis
    )

  axes = prompt_axes(batch)
  return [jax.tree.map(every_second(j), batch, axes) for j in (0, 1)]


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_minibatches_are_steps_in_turn(micro_batches):
  """Two on one rollout are two steps on its halves; the ratio comes to life."""
  objective, frozen = objective_of("grpo_per_token")
  make = functools.partial(
    make_train_step, objective, objectives.count, OPTIMIZER
  )
  batch = inputs_of("grpo_per_token")
  state = init_state(tiny.bag()[1], OPTIMIZER)
  whole = jax.tree.map(jnp.array, state)
  seen = []
  alone = make()
  for half in halves(batch):
    state, metrics = alone(state, frozen, half)
    seen.append(metrics)
  found, metrics = make(minibatches=2, micro_batches=micro_batches)(
    whole, frozen, batch
  )
  assert found.step == 1 and state.step == 2
  assert found.guard.count == state.guard.count == 2
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-6),
    (found.trainable, found.opt_state),
    (state.trainable, state.opt_state),
  )
  for name in ("loss/total", "grad/norm"):
    expected = (seen[0][name] + seen[1][name]) / 2
    np.testing.assert_allclose(metrics[name], expected, rtol=1e-5)
  assert seen[0].keys() == metrics.keys()


def test_later_minibatches_clip_and_raise_no_alarm():
  model, params = tiny.bag()
  batch = tiny.batch(group=2)
  mask = jnp.asarray(batch.mask)
  old = statistics(model, params, batch, vocab_size=tiny.VOCAB).logprobs
  advantages = jnp.asarray([[1.0, -1.0]] * len(mask))
  optimizer = make_optimizer(OptimizerConfig(0.3, b2=0.98))
  run = make_train_step(
    objectives.grpo(model, vocab_size=tiny.VOCAB),
    objectives.count,
    optimizer,
    minibatches=2,
  )
  clipped = {}
  for drawn in (None, experience.drawn_by_the_first(mask, 2)):
    _, metrics = run(
      init_state(params, optimizer),
      None,
      Experience(batch, old, advantages, drawn),
    )
    clipped[drawn is None] = metrics
  assert clipped[True]["policy/clip_fraction"] > 0.05
  # The policy has moved, which is no fault of the sampler.
  assert clipped[True][drift.GAP] > 0.1
  assert clipped[False][drift.GAP] < 1e-5 and clipped[False][drift.KL] < 1e-9


def test_a_bad_minibatch_is_skipped_alone():
  """The other one of the step is trained on; the loop sees the count."""

  def objective(params, frozen, batch, total):
    return jnp.sum(params["w"]) * jnp.mean(batch), {}

  optimizer = make_optimizer(OptimizerConfig(1e-2))
  start = {"w": jnp.ones(2)}
  alone = make_train_step(objective, jnp.size, optimizer)
  expected, _ = alone(init_state(start, optimizer), None, jnp.ones(2))
  for bad, moved in (([np.nan, 1, 1, 1], True), ([np.nan] * 4, False)):
    run = make_train_step(objective, jnp.size, optimizer, minibatches=2)
    state, metrics = run(
      init_state(start, optimizer), None, jnp.array(bad, jnp.float32)
    )
    assert bits(state.trainable) == bits(expected.trainable if moved else start)
    assert metrics["guard/skipped"] == (1 if moved else 2)
    # Whole steps in a row: a step that was trained on in part is none.
    assert metrics["guard/skipped_in_row"] == (0 if moved else 1)
  with pytest.raises(ValueError, match="4 prompts does not split into 3 minib"):
    make_train_step(objective, jnp.size, optimizer, minibatches=3)(
      init_state(start, optimizer), None, jnp.ones(4)
    )


def bits(tree):
  return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_batch_moves_nothing_and_is_counted(bad):
  state, frozen = start()
  state, _ = step()(state, frozen, example())
  before = jax.device_get(state)
  state, metrics = step()(state, frozen, example(bad=bad))
  after = jax.device_get(state)
  assert bits(after.trainable) == bits(before.trainable)
  assert bits(after.opt_state) == bits(before.opt_state)
  assert after.step == before.step + 1 == 2
  assert metrics["guard/skipped"] == metrics["guard/skipped_in_row"] == 1
  assert not np.isfinite(metrics["loss/total"])
  state, metrics = step()(state, frozen, example(1))
  assert bits(state.trainable) != bits(before.trainable)
  assert metrics["guard/skipped"] == 1
  assert metrics["guard/skipped_in_row"] == 0
  assert np.isfinite(metrics["loss/total"])


def test_a_finite_loss_with_a_gradient_that_is_not_moves_nothing():
  def rooted(params, frozen, batch, total):
    # √|x| at 0: value 0, derivative without bound.
    return jnp.sum(jnp.sqrt(jnp.abs(params["w"] * 0.0))) + 1.0, {}

  state, _ = start()
  before = bits((state.trainable, state.opt_state))
  state, metrics = make_train_step(rooted, rows, OPTIMIZER)(
    state, None, example()
  )
  assert metrics["loss/total"] == 1
  assert bits((state.trainable, state.opt_state)) == before
  assert metrics["guard/skipped"] == 1


def test_a_skipped_step_leaves_no_trace_in_later_ones():
  """good, bad, good ends where good, good ends."""
  with_bad, frozen = start()
  for batch in (example(), example(bad=np.nan), example(1)):
    with_bad, _ = step()(with_bad, frozen, batch)
  without, _ = start()
  for batch in (example(), example(1)):
    without, _ = step()(without, frozen, batch)
  assert bits(with_bad.trainable) == bits(without.trainable)
  assert bits(with_bad.opt_state) == bits(without.opt_state)


def test_the_state_is_donated_and_frozen_is_not():
  state, frozen = start()
  given = {"w": jnp.array([0.5, -0.5, 1.0])}
  state = init_state(given, OPTIMIZER)
  new, _ = step()(state, frozen, example())
  assert all(x.is_deleted() for x in jax.tree.leaves(state))
  assert not frozen["b"].is_deleted()
  assert not given["w"].is_deleted()  # init_state copies
  assert not any(x.is_deleted() for x in jax.tree.leaves(new))


def test_metrics_are_those_of_the_batch_before_the_update():
  state, frozen = start()
  batch = example()
  residual = batch["x"] @ np.array([0.5, -0.5, 1.0]) - batch["y"]
  error = residual**2
  gradient = 2 / 8 * batch["x"].T @ residual
  _, metrics = step()(state, frozen, batch)
  assert metrics["loss/total"] == pytest.approx(error.mean(), rel=1e-5)
  assert metrics["loss/mse"] == pytest.approx(error.mean(), rel=1e-5)
  norm = np.linalg.norm(gradient)
  assert metrics["grad/norm"] == pytest.approx(norm, rel=1e-5)


def test_gradient_norms_by_module_sum_to_the_whole():
  objective, frozen = objective_of("sft")
  _, params = tiny.bag()
  state = init_state(params, OPTIMIZER)
  step = make_train_step(objective, objectives.count, OPTIMIZER, norm_depth=1)
  _, out = step(state, frozen, tiny.batch())
  names = {f"grad/norm/{name}" for name in params}
  found = {k: v for k, v in out.items() if k.startswith("grad/norm/")}
  assert found.keys() == names and all(v > 0 for v in found.values())
  whole = np.sqrt(sum(float(v) ** 2 for v in found.values()))
  assert whole == pytest.approx(float(out["grad/norm"]), rel=1e-6)
  grads = jax.grad(objective, has_aux=True)(
    params, frozen, tiny.batch(), objectives.count(tiny.batch())
  )[0]
  head = np.linalg.norm(np.asarray(grads["head"]["kernel"]))
  assert float(found["grad/norm/head"]) == pytest.approx(head, rel=1e-5)
