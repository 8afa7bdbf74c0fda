"""The rank-inversion study: its ladder is one run, its statistics are exact."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from experiments.rank_inversion import (
  claims,
  config,
  problems,
  report,
  statistics,
)
from experiments.rank_inversion.design import ARMS, DEPTHS, DESIGN, ladder
from jaxvlm.diagnostics import degenerate_probability, headroom, pass_at_k
from jaxvlm.diagnostics.readiness import Advice
from jaxvlm.rewards.code import Level
from jaxvlm.study import claims as claims_lib
from jaxvlm.study import measured
from jaxvlm.study.design import Point
from jaxvlm.study.results import Results
from jaxvlm.study.verdicts import Verdict
from jaxvlm.tasks import score

STEPS, SAMPLES, PROBLEMS = (0, 10, 20, 40), 20, 60
SEEDS = (0, 1, 2)


def _measured(rng, p: float, entropy: float, samples: int) -> dict:
  """Scores of a policy whose problems are right with a mean chance of p."""
  right = rng.binomial(samples, np.clip(rng.normal(p, 0.1, PROBLEMS), 0, 1))
  scores = {"accuracy": right / samples}
  for k in (1, 10, 16, 64):
    if k <= samples:
      scores[f"pass@{k}"] = pass_at_k(samples, right, k)
  scores["entropy"] = entropy * rng.uniform(0.8, 1.2, PROBLEMS)
  return scores | {"length": np.ones(PROBLEMS)}


def _invented(inverted: bool) -> Results:
  """A study as the paper tells it, or one in which depth only helps."""
  rng = np.random.default_rng(0)
  hard: dict = {}
  deep: dict = {}
  journals: dict = {}
  for name, arm in ARMS.items():
    entry = 0.05 + 0.03 * arm.depth
    entropy = 0.3 - 0.04 * arm.depth
    falls = inverted and arm.coder == "weak"
    for seed in SEEDS:
      for step in STEPS:
        gain = step / STEPS[-1] * (0.4 - 0.09 * arm.depth * falls)
        point = Point(name, "grpo", step)
        p = float(np.clip(entry + gain, 0.01, 0.95))
        of = _measured(rng, p, entropy, SAMPLES)
        hard.setdefault(point, {})[seed] = of
        if step in (0, STEPS[-1]):
          deep.setdefault(point, {})[seed] = _measured(rng, p, entropy, 64)
      journals.setdefault((name, "grpo"), {})[seed] = [
        {
          "step": step,
          "policy/entropy": entropy * (1 - 0.8 * step / STEPS[-1]),
          "reward/degenerate_groups": 0.5,
        }
        for step in range(1, STEPS[-1] + 1)
      ]
  return Results(
    design=DESIGN,
    seeds=SEEDS,
    scores={"hard": hard, "deep": deep},
    config={"grpo": {"steps": STEPS[-1]}, "evaluation": {"samples": SAMPLES}},
    journals=journals,
  )


@pytest.fixture(scope="module")
def inverted():
  return _invented(True)


@pytest.fixture(scope="module")
def helped():
  return _invented(False)


def _verdicts(results):
  found = claims_lib.findings(results, claims.CLAIMS)
  return {finding.claim.id: finding.verdict for finding in found}


def test_claims_follow_what_was_made_up(inverted, helped):
  as_told, otherwise = _verdicts(inverted), _verdicts(helped)
  assert as_told["R1"] is otherwise["R1"] is Verdict.REPRODUCED
  assert as_told["R3"] is Verdict.REPRODUCED
  assert otherwise["R3"] is Verdict.NOT_REPRODUCED
  assert as_told["R4"] is Verdict.REPRODUCED
  assert otherwise["R4"] is Verdict.NOT_REPRODUCED
  assert as_told["R6"] is as_told["R7"] is Verdict.REPRODUCED
  for claim in claims.PRECONDITIONS:
    for contrast in claims_lib.contrasts(claim, helped):
      assert contrast.verdict is Verdict.REPRODUCED


def test_correlations_are_spearmans_of_what_seeds_leave(inverted):
  runs = statistics.runs(inverted, "weak")
  assert len(runs) == len(DEPTHS) * len(SEEDS)
  found = statistics.correlations(runs, resamples=100)
  x = np.array([r.predictors["entropy"].mean() for r in runs])
  y = np.array([r.peak.mean() for r in runs])
  seeds = np.array([r.seed for r in runs])
  for seed in SEEDS:
    for values in (x, y):
      values[seeds == seed] -= values[seeds == seed].mean()
  expected = stats.spearmanr(x, y).statistic
  assert found["entropy"].rho == pytest.approx(expected)
  assert found["entropy"].low > 0 > found["pass@1"].high
  assert found["entropy early in RL"].rho > 0


def test_the_check_names_its_misses(inverted):
  found = statistics.diagnoses(inverted, "weak")
  assert len(found) == len(DEPTHS) * len(SEEDS)
  for one in found:
    # 80 % is lost over all steps, 28 % of it between the two looks.
    assert one.drop == pytest.approx(0.8 * (15 - 1) / 40 / (1 - 0.8 / 40))
    assert one.flagged == (one.entropy < 0.18 or one.drop > 0.5)
  assert {one.failed for one in found} == {True, False}


def test_degenerate_shares_are_unbiased(inverted):
  """Against groups drawn from the same samples, a thousand times."""
  arm = ladder("weak")[2]
  shares = statistics.degenerate_shares(inverted, arm, 8)
  assert [s.step for s in shares] == list(STEPS)
  rng = np.random.default_rng(0)
  accuracy = inverted.by_seed(Point(arm.name, "grpo", 20), "hard", "accuracy")
  right = np.rint(SAMPLES * np.stack(list(accuracy.values()))).astype(int)
  drawn = rng.hypergeometric(right, SAMPLES - right, 8, (1000, *right.shape))
  counted = ((drawn == 0) | (drawn == 8)).mean()
  assert shares[2].of_each == pytest.approx(counted, abs=0.005)
  mean = (right / SAMPLES).mean()
  assert shares[2].of_mean == pytest.approx(degenerate_probability(mean, 8))
  assert shares[2].of_mean < shares[2].of_each  # f_g is convex
  assert shares[2].logged == 0.5


def test_depths_are_in_the_papers_ratios():
  full = config.pod()
  steps = [full.depth_steps(depth) for depth in DEPTHS]
  # The paper's checkpoints: 300, 600, 900, 1200 and 1800 steps of 16 traces.
  np.testing.assert_allclose(
    np.array(steps) * 16 / 5000, np.array(DEPTHS) * 1800 / 5.8 * 16 / 5000,
    atol=0.002,
  )  # fmt: skip
  assert steps[-1] == full.sft.steps
  for scale in config.SCALES.values():
    config.check(scale())
  config.check(config.quick(config.laptop()))
  differ = {
    name
    for name in config.laptop().stages
    if config.laptop().stages[name] != config.laptop().grpo
  }
  assert differ == {"sft", "sft_smooth", "grpo_kl", "grpo_hot", "grpo_cold"}


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"label_smoothing": 1.0}, "label_smoothing is 1.0, expected 0 or more"),
    ({"arms": ("weak_9_9",)}, "arms .'weak_9_9'. are not known"),
    ({"strong_dir": "/nowhere"}, "strong_dir is '/nowhere', expected a folder"),
  ],
)
def test_bad_settings_are_named(changed, message):
  with pytest.raises(ValueError, match=message):
    config.check(dataclasses.replace(config.laptop(), **changed))


def test_published_files_serve_in_the_worlds_place(tmp_path):
  """KodCode's first problems teach, the others are for RL."""
  learned = [
    {
      "question_id": f"add {i}",
      "question": f"Write f(x), which adds {i} to x.",
      "solution": f"def f(x):\n    return x + {i}\n",
      "test": "from solution import f\n\n\n"
      f"def test_f():\n  assert f(1) == {1 + i}\n",
      "test_info": [
        {"function_name": "f", "function_declaration": "def f(x):"}
      ],
    }
    for i in range(5)
  ]
  asked = {
    "task_id": "Mine/0",
    "prompt": 'def g(x):\n    """Returns x + 1."""\n',
    "entry_point": "g",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
    "canonical_solution": "    return x + 1\n",
  }
  files = tmp_path / "kodcode.jsonl", tmp_path / "humaneval.jsonl"
  for file, records in zip(files, (learned, [asked]), strict=True):
    file.write_text("".join(json.dumps(r) + "\n" for r in records))
  laptop = config.laptop()
  settings = dataclasses.replace(
    laptop,
    kodcode_file=str(files[0]),
    humaneval_file=str(files[1]),
    sandbox=Level.RLIMITS,
    data=dataclasses.replace(laptop.data, traces=2),
  )
  config.check(settings)
  task, traces, prompts, measured = problems._published(settings)
  assert [row.id for row in prompts] == ["add 2", "add 3", "add 4"]
  assert not any(row.responses for row in prompts)
  answers = [traces[0].responses[0], traces[1].responses[0]]
  found = score(task, answers, [traces[0]] * 2)
  assert found["reward"].tolist() == [2, 0]
  right = score(measured.task, measured.rows[0].responses, measured.rows)
  assert right["accuracy"].tolist() == [1]
  with pytest.raises(ValueError, match="humaneval_file '', expected both"):
    config.check(dataclasses.replace(settings, humaneval_file=""))


def test_the_verdict_before_rl_is_that_of_all_seeds_samples(inverted):
  arm = ladder("weak")[-1]
  rates = inverted.by_seed(inverted.entry(arm.name), "hard", "accuracy")
  ones = [
    [[1] * round(20 * p) + [0] * (20 - round(20 * p)) for p in of]
    for of in rates.values()
  ]
  groups = headroom(np.concatenate(ones, axis=1), 8)
  verdict, reasons = statistics.advice(inverted, arm)
  # Some 0.07 nats lie below the paper's 0.18 whatever the groups are.
  assert verdict is Advice.RISKY
  assert reasons[0].startswith(f"{groups.useful.mean:.0%} [")
  entropy = inverted.mean(inverted.entry(arm.name), "hard", "entropy")
  assert f"is {entropy:.3f} nats" in reasons[2] and entropy < 0.1
  # 0.26 nats lie above it: there the groups decide.
  first, _ = statistics.advice(inverted, ladder("weak")[0])
  assert first in (Advice.READY, Advice.UNSURE, Advice.STARVED)
  assert statistics.advice(_few_samples(inverted), arm) == (None, ())


def test_the_page_stands_on_the_file_of_scores_alone(inverted, tmp_path):
  measured.write(tmp_path, inverted)
  (tmp_path / "config.json").write_text(json.dumps(inverted.config))
  text = report.write_report(tmp_path).read_text()
  for said in ("The verdict before RL", "at risk", "Figures 2 and 4"):
    assert said in text
  assert "R3" in (tmp_path / "results.md").read_text()


def _few_samples(results: Results) -> Results:
  return dataclasses.replace(results, config={"evaluation": {"samples": 4}})
