"""The probes' numbers against float64, class by class."""

import math

import jax
import numpy as np
import pytest

from jaxvlm.diagnostics import probes
from jaxvlm.tokenstats import token_stats
from tests.diagnostics import calibration_test

N, K, T, D, VOCAB = 3, 4, 5, 6, 23
CLASSES = probes.CLASSES[:K]


@pytest.fixture(scope="module")
def case():
  rng = np.random.default_rng(0)

  def draw(*shape):
    return rng.normal(size=shape).astype(np.float32)

  lengths = rng.integers(1, T + 1, (N, K))
  lengths[0, 1] = 0  # a problem without a paraphrase
  return {
    "hidden": 2 * draw(N, K, T, D),
    "head": draw(D, VOCAB),
    "targets": rng.integers(0, VOCAB, (N, K, T)).astype(np.int32),
    "mask": np.arange(T) < lengths[..., None],
    "teacher_hidden": 2 * draw(N, K, T, D),
    "teacher_head": draw(D, VOCAB),
  }


def logprobs(hidden, head):
  z = hidden.astype(float) @ head.astype(float)
  return z - np.log(np.exp(z).sum(-1, keepdims=True))


def test_a_panel_is_the_oracles(case):
  stats = token_stats(**case, jsd_beta=0.5, total_variation=True)
  found = jax.device_get(jax.jit(probes.panel)(stats, case["mask"]))
  log_p = logprobs(case["hidden"], case["head"])
  log_q = logprobs(case["teacher_hidden"], case["teacher_head"])
  for k in range(K):
    sure, right = [], []
    for n in range(N):
      if not case["mask"][n, k].any():
        assert not found.written[n, k]
        continue
      seen = {name: [] for name in found.numbers}
      for t in np.flatnonzero(case["mask"][n, k]):
        lp, lq = log_p[n, k, t], log_q[n, k, t]
        p, q = np.exp(lp), np.exp(lq)
        m, y = (p + q) / 2, case["targets"][n, k, t]
        seen["logprob"].append(lp[y])
        seen["shift"].append(lp[y] - lq[y])
        seen["argmax_logprob"].append(lp.max())
        seen["rest_logprob"].append(math.log(1 - p.max()))
        seen["entropy"].append(-(p * lp).sum())
        seen["top1"].append(p.max())
        seen["overconfidence"].append(p.max() - (lp.argmax() == y))
        seen["total_variation"].append(abs(p - q).sum() / 2)
        js = (p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()
        seen["jensen_shannon"].append(js / 2)
        sure.append(p.max())
        right.append(lp.argmax() == y)
      for name, values in seen.items():
        expected = sum(values) if name == "shift" else np.mean(values)
        one = float(found.numbers[name][n, k])
        assert one == pytest.approx(expected, rel=1e-4, abs=1e-5), name
    ece = calibration_test.oracle(sure, right, [True] * len(sure), 15)
    bins = jax.tree.map(lambda x: x[k], found.bins)  # noqa: B023
    assert float(bins.error) == pytest.approx(ece, abs=1e-5)


def test_a_record_is_a_mean_over_the_problems_that_have_the_class(case):
  stats = token_stats(**case, jsd_beta=0.5, total_variation=True)
  found = jax.device_get(probes.panel(stats, case["mask"]))
  out = probes.record(found, CLASSES)
  kept = found.entropy[1:, 1]  # the first problem has no paraphrase
  assert out["probe/entropy/paraphrase"] == pytest.approx(kept.mean())


def test_nothing_has_moved_at_the_start(case):
  same = {"teacher_hidden": case["hidden"], "teacher_head": case["head"]}
  stats = token_stats(**(case | same), jsd_beta=0.5, total_variation=True)
  found = jax.device_get(probes.panel(stats, case["mask"]))
  out = probes.record(found, CLASSES)
  for name in CLASSES:
    for quantity in ("shift", "total_variation", "jensen_shannon"):
      assert abs(out[f"probe/{quantity}/{name}"]) < 1e-5
  assert 0 <= out["probe/ece"] <= 1


def test_divergences_must_be_asked_for(case):
  with pytest.raises(ValueError, match="total_variation=True"):
    probes.panel(token_stats(**case), case["mask"])


@pytest.mark.parametrize(
  ("limits", "says"),
  [
    ({}, ""),
    ({"total_variation": 0.2}, "the total variation from the reference"),
    ({"total_variation": 0.5, "chosen_drop": 1.0}, "lost 3.00 nats"),
    ({"total_variation": 0.5, "chosen_drop": 4.0}, ""),
  ],
)
def test_limits_say_which_is_broken(limits, says):
  seen = {"probe/total_variation/chosen": 0.3, "probe/shift/chosen": -3.0}
  found = probes.Limits(**limits).broken(seen)
  assert says in found
  assert bool(says) == bool(found)
