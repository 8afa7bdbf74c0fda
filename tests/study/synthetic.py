"""A made-up study on disk, with effects of known size."""

import base64
import io
import json
import pathlib

import numpy as np
from PIL import Image, ImageDraw

from jaxvlm.eval.harness import Evaluation

# arm -> (accuracy and entropy at entry, the same at the endpoint,
#         out-of-domain accuracy at entry)
ARMS = {
  "base": (0.30, 0.45, 0.55, 0.20, 0.40),
  "sft_early": (0.42, 0.22, 0.66, 0.11, 0.41),
  "sft_over": (0.45, 0.09, 0.655, 0.04, 0.28),
  "opd": (0.50, 0.38, 0.665, 0.19, 0.44),
}
TEACHER_ACCURACY = 0.85
STAGE1_STEPS = {"sft_early": 20, "sft_over": 240, "opd": 60}
RL_STEPS = 60
EVERY = 20


def evaluation(
  rng: np.random.Generator,
  difficulty: np.ndarray,
  accuracy: float,
  entropy: float,
  *,
  samples: int = 16,
  name: str = "in_domain",
) -> Evaluation:
  """Returns a policy's evaluation; `difficulty` f[P] pairs the policies."""
  problems = len(difficulty)
  logit = np.log(accuracy / (1 - accuracy))
  p = 1 / (1 + np.exp(-1.3 * (logit - difficulty)))
  correct = rng.random((problems, samples)) < p[:, None]
  lengths = rng.integers(14, 40, (problems, samples))
  entropies = entropy * rng.gamma(8.0, 1 / 8.0, (problems, samples))
  wrong = rng.integers(0, 12, (problems, samples)).astype(str)
  answers = np.where(correct, "42", np.where(wrong == "0", "", wrong))
  return Evaluation(
    name=name,
    scores={
      "accuracy": correct.astype(np.float32),
      "format": (rng.random((problems, samples)) < 0.97).astype(np.float32),
      "reward": (0.9 * correct + 0.1).astype(np.float32),
    },
    lengths=lengths,
    finished=np.ones((problems, samples), bool),
    entropies=entropies.astype(np.float32),
    neg_logprobs=entropies.astype(np.float32),
    answers=tuple(tuple(row) for row in answers.tolist()),
  )


def write(
  workdir: pathlib.Path,
  *,
  seeds: int = 2,
  problems: int = 120,
  samples: int = 16,
  arms: dict = ARMS,
  every: int = EVERY,
) -> pathlib.Path:
  """Writes a finished study and returns its folder."""
  workdir.mkdir(parents=True, exist_ok=True)
  config = {
    "grpo": {"steps": RL_STEPS, "group": 8, "optimizer": {"peak_lr": 3e-4}},
    "opd": {"steps": 60, "optimizer": {"peak_lr": 5e-4}},
    "data": {"prompt_tokens": [56], "folder": ""},
    "seeds": seeds,
    "command": "run.py --workdir=runs/<study> --seeds=2",
    "version": "0.1.0",
  }
  (workdir / "config.json").write_text(json.dumps(config))
  difficulty = np.random.default_rng(0).normal(size=problems)
  for seed in range(seeds):
    rng = np.random.default_rng(100 + seed)
    folder = workdir / f"seed-{seed}"

    def save(path, step, inside, entropy, outside, rng=rng):
      for name, accuracy in (("in_domain", inside), ("out_of_domain", outside)):
        result = evaluation(
          rng, difficulty, accuracy, entropy, samples=samples, name=name
        )
        file = path / "eval" / f"{name}-{step:05d}.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **result.to_arrays())

    save(folder / "teacher", 0, TEACHER_ACCURACY, 0.2, 0.6)
    base = ARMS["base"]
    for arm, (accuracy, entropy, end, end_entropy, outside) in arms.items():
      if arm in STAGE1_STEPS:
        total = STAGE1_STEPS[arm]
        _stage(
          folder / arm / "stage1", total, every, rng, save,
          (base[0], base[1], base[4]), (accuracy, entropy, outside),
        )  # fmt: skip
      _stage(
        folder / arm / "grpo", RL_STEPS, every, rng, save,
        (accuracy, entropy, outside), (end, end_entropy, outside + 0.03),
      )  # fmt: skip
      (folder / arm / "grpo" / "samples.json").write_text(
        json.dumps(_samples(np.random.default_rng(7), entropy, end_entropy))
      )
  return workdir


def _stage(folder, total, every, rng, save, begin, end) -> None:
  """Writes one stage that goes from `begin` to `end` exponentially."""

  def at(step):
    share = 1 - np.exp(-4 * step / total)
    return [b + (e - b) * share for b, e in zip(begin, end, strict=True)]

  records = []
  for step in range(total + 1):
    accuracy, entropy, outside = at(step)
    record = {"step": step}
    if step % every == 0 or step == total:
      # The stage ends where the next begins.
      values = end if step == total else (accuracy, entropy, outside)
      save(folder, step, *values)
      record["eval/in_domain/accuracy"] = accuracy
      record["time/evaluate_s"] = 2.0
    if step:
      record |= {
        "policy/entropy": entropy * rng.uniform(0.85, 1.15),
        "rollout/entropy": entropy,
        "rollout/length": 25.0,
        "reward/mean": accuracy * rng.uniform(0.8, 1.2),
        "reward/degenerate_groups": rng.uniform(0.2, 0.5),
        "grad/norm": rng.gamma(5.0, 0.2),
        "rollout/logprob_gap": 1e-6 * rng.random(),
        "loss/total": rng.normal(),
        "time/inputs_s": 0.3,
        "time/update_s": 0.2,
        "time/compiles": 12,
      }
    records.append(record)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "metrics.jsonl").write_text(
    "".join(json.dumps(record) + "\n" for record in records)
  )


def _samples(rng, entry: float, endpoint: float) -> list[dict]:
  text = (
    "The| angles| of| a| triangle| add| up| to| 180|.|\n|180| −| 62| −| 48"
    "| =| 70|.|\n|The| answer| is| \\boxed{|70|}|."
  ).split("|")
  picture = Image.new("RGB", (112, 84), "white")
  draw = ImageDraw.Draw(picture)
  draw.polygon([(10, 74), (100, 74), (60, 10)], outline="black")
  buffer = io.BytesIO()
  picture.save(buffer, "PNG")
  return [
    {
      "image_png_base64": base64.b64encode(buffer.getvalue()).decode(),
      "question": f"Find <x> in triangle {number}.",
      "answer": "70",
      "completions": [
        {
          "tokens": text,
          "entropies": rng.gamma(0.5, 2 * level, len(text)).tolist(),
          "correct": bool(rng.random() < 0.6),
          "stage": stage,
        }
        for stage, level in (("entry", entry), ("endpoint", endpoint))
        for _ in range(2)
      ],
    }
    for number in range(3)
  ]


def change_settings(workdir: pathlib.Path, **sections: dict) -> None:
  """Changes the settings that a study recorded."""
  path = workdir / "config.json"
  config = json.loads(path.read_text())
  for name, values in sections.items():
    config[name] = config.get(name, {}) | values
  path.write_text(json.dumps(config))
