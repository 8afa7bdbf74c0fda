"""What the study trains: the programs, and the stages of one arm.

Programs (train steps, samplers) are built once per process and shared by all
arms and seeds, so nothing is compiled twice.
"""

import base64
import dataclasses
import functools
import io
import json
import logging
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from experiments.stage1_entropy.config import (
  GRPOConfig,
  StageConfig,
  StudyConfig,
)
from experiments.stage1_entropy.problems import Problems
from jaxvlm import distributed
from jaxvlm.data import images, pipeline
from jaxvlm.data import rows as rows_lib
from jaxvlm.data.chat import Chat
from jaxvlm.data.plan import Plan
from jaxvlm.eval import harness
from jaxvlm.models import qwen2_5_vl
from jaxvlm.models.qwen2_5_vl.partition import RULES
from jaxvlm.rewards import geometry3k_reward
from jaxvlm.rollout import (
  Generate,
  Slots,
  empty_samples,
  make_generate,
  make_refill,
)
from jaxvlm.sampling import Sampling
from jaxvlm.sharding import shard_batch
from jaxvlm.train import carry as carries
from jaxvlm.train import drift, experience, freeze, loop, objectives
from jaxvlm.train.optimizer import (
  OptimizerConfig,
  make_optimizer,
  master_params,
)
from jaxvlm.train.step import init_state, make_train_step
from jaxvlm.typing import Batch, Model, Params, PyTree

ARMS = ("base", "sft_early", "sft_over", "opd")
_GRPO = 1  # folded into keys and seeds, so that stages draw apart
_STAGE1 = 0
_EVALUATION = 2


@dataclasses.dataclass(frozen=True)
class Programs:
  """Compiled functions of the study.

  Attributes:
    steps: stage name -> jitted train step.
    rollouts: stage name -> jitted sampler.
    evaluate: jitted sampler of the evaluation.
    evaluate_teacher: the same for the teacher's architecture.
  """

  steps: Mapping[str, Callable]
  rollouts: Mapping[str, Generate]
  evaluate: Generate
  evaluate_teacher: Generate


def functions(config: Any, study: StudyConfig) -> Model:
  """Returns the model's functions, unrolled where a scan does not pay."""
  dtype = jnp.bfloat16 if study.bfloat16 else jnp.float32
  bound = qwen2_5_vl.bind(config, dtype=dtype, remat=study.remat)
  if study.scan_layers:
    return bound
  return bound._replace(forward=lambda p, b: bound.forward(bound.unstack(p), b))


def make_programs(
  study: StudyConfig, student: Any, teacher: Any, chat: Chat
) -> Programs:
  """Builds every program; nothing is compiled before its first call."""
  model, teach = functions(student, study), functions(teacher, study)
  vocab = {"vocab_size": chat.vocab_size}

  def options(group: int, temperature: float) -> dict[str, Any]:
    return {
      "group": group,
      "sampling": Sampling(temperature),
      "max_new_tokens": study.data.max_new_tokens,
      "eos_ids": (chat.eos_id,),
      "pad_id": chat.pad_id,
      **vocab,
    }

  def sampler(functions: Model, group: int, temperature: float) -> Generate:
    return make_generate(functions, **options(group, temperature))

  def reinforced(stage: GRPOConfig) -> Generate:
    settings = options(stage.group, stage.temperature)
    if not stage.slots.rows:
      return make_generate(model, **settings)
    slots = Slots(**dataclasses.asdict(stage.slots))
    enough = stage.prompts if stage.carry else None
    return make_refill(model, slots, enough=enough, **settings)

  @functools.cache  # stages that differ in length only share a program
  def step(
    objective: objectives.Objective,
    optimizer: OptimizerConfig,
    micro_batches: int,
  ) -> Callable:
    return make_train_step(
      freeze.with_frozen(objective) if study.frozen else objective,
      objectives.count,
      make_optimizer(optimizer),
      micro_batches=micro_batches,
      rules=RULES,
      norm_depth=study.grad_norm_depth,
    )

  sft = objectives.sft(model, **vocab)
  opd = objectives.opd(model, teach, temperature=study.opd.temperature, **vocab)
  grpo = objectives.grpo(
    model,
    temperature=study.grpo.temperature,
    clip_low=study.grpo.clip_low,
    clip_high=study.grpo.clip_high,
    kl_coef=study.grpo.kl_coef,
    **vocab,
  )
  kinds = {"sft_early": sft, "sft_over": sft, "opd": opd, "grpo": grpo}
  steps = {}
  for name, objective in kinds.items():
    stage: StageConfig = getattr(study, name)
    steps[name] = step(objective, stage.optimizer, stage.micro_batches)
  e = study.evaluation
  return Programs(
    steps=steps,
    rollouts={
      "opd": sampler(model, study.opd.group, study.opd.temperature),
      "grpo": reinforced(study.grpo),
    },
    evaluate=sampler(model, e.samples, e.temperature),
    evaluate_teacher=sampler(teach, e.samples, e.temperature),
  )


@dataclasses.dataclass(frozen=True)
class Lab:
  """Everything the arms of one seed share."""

  study: StudyConfig
  mesh: jax.sharding.Mesh
  problems: Problems
  programs: Programs
  teacher: Params
  identity: Mapping[str, str]
  seed: int
  workdir: pathlib.Path
  evaluated: dict[str, list[harness.Evaluation]] = dataclasses.field(
    default_factory=dict
  )

  def key(self, stage: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(self.seed), stage)

  def source(
    self,
    survey: rows_lib.Survey,
    stage: StageConfig,
    number: int,
    carry: int = 0,
  ) -> pipeline.BatchSource:
    """Returns the stage's batches; the order depends on seed and stage.

    With a carry, rows of several steps share a batch: all take the largest
    bucket, and there is one batch more to begin with.
    """
    buckets = survey.buckets.tolist()
    if carry:
      buckets = [len(self.problems.encoder.buckets) - 1] * len(buckets)
    return pipeline.BatchSource(
      survey,
      Plan(tuple(buckets), stage.prompts, 2 * self.seed + number),
      self.problems.encoder,
      stage.steps + bool(carry),
      places=experience.places(stage.prompts, self.mesh),
    )

  def stream(self, source: pipeline.BatchSource, start: int):
    workers = self.study.data.workers
    for host in pipeline.batches(source, start=start, workers=workers):
      yield host._replace(batch=shard_batch(self.mesh, host.batch))


def measure(
  lab: Lab,
  folder: pathlib.Path,
  step: int,
  params: Params,
  generate: Generate,
  policy: str | None = None,
) -> dict[str, float]:
  """Evaluates a policy on every problem set and files the arrays.

  Args:
    lab: problems and seed.
    folder: of the stage.
    step: of the stage.
    params: the policy.
    generate: sampler of the policy's architecture.
    policy: a name for a policy that ends one stage and starts another; it is
      measured once.
  """
  results = lab.evaluated.get(policy) if policy else None
  if results is None:
    results = [
      harness.evaluate(
        problems,
        experience.everywhere(generate, lab.mesh),
        params,
        lab.key(_EVALUATION),
        decode=lab.problems.chat.decode,
        reward=geometry3k_reward,
      )
      for problems in lab.problems.evaluation
    ]
  if policy:
    lab.evaluated[policy] = results
  out = {}
  for result in results:
    if distributed.is_writer():
      path = folder / "eval" / f"{result.name}-{step:05d}.npz"
      path.parent.mkdir(parents=True, exist_ok=True)
      partial = path.with_suffix(".partial")
      with partial.open("wb") as file:
        np.savez(file, **result.to_arrays())
      partial.replace(path)
    for name, value in result.summary().items():
      out[f"eval/{result.name}/{name}"] = value
  return out


def run_arm(lab: Lab, arm: str, base: Params) -> None:
  """Runs Stage 1 (if the arm has one) and Stage 2."""
  folder = lab.workdir / arm
  entry = base if arm == "base" else stage1(lab, arm, base, folder / "stage1")
  endpoint = stage2(lab, arm, entry, folder / "grpo")
  samples = folder / "grpo" / "samples.json"
  if distributed.from_writer(samples.is_file()):
    return
  shown = show(lab, {"entry": entry, "endpoint": endpoint})
  if distributed.is_writer():
    partial = samples.with_suffix(".partial")
    partial.write_text(json.dumps(shown))
    partial.replace(samples)  # a kill leaves no half of it


def stage1(lab: Lab, arm: str, base: Params, folder: pathlib.Path) -> Params:
  """Returns the warm start of an arm."""
  stage: StageConfig = getattr(lab.study, arm)
  on_policy = arm == "opd"
  survey = lab.problems.prompts if on_policy else lab.problems.traces
  source = lab.source(survey, stage, _STAGE1)
  return _run(
    lab,
    f"{arm} · stage 1",
    folder,
    base,
    stage,
    lab.programs.steps[arm],
    {"teacher": lab.teacher} if on_policy else None,
    _on_policy(lab, source) if on_policy else _supervised(lab, source),
    source.row_ids,
    ends=("base", arm),
  )


def stage2(lab: Lab, arm: str, entry: Params, folder: pathlib.Path) -> Params:
  """Returns the endpoint of GRPO from a warm start."""
  stage = lab.study.grpo
  source = lab.source(lab.problems.prompts, stage, _GRPO, stage.carry)
  carry = ()
  if stage.carry:
    shape = (stage.carry, stage.group)
    unfinished = empty_samples(shape, lab.study.data.max_new_tokens)
    # A restored state lies where this one does: on all devices, as parameters.
    whole = NamedSharding(lab.mesh, PartitionSpec())
    carry = jax.device_put(carries.begin(unfinished), whole)
  return _run(
    lab,
    f"{arm} · GRPO",
    folder,
    entry,
    stage,
    lab.programs.steps["grpo"],
    {"reference": entry} if stage.kl_coef else None,
    _reinforced(lab, source),
    # With a carry, the rows of a step are what was complete, not the plan's.
    None if stage.carry else source.row_ids,
    ends=(arm, None),
    carry=carry,
  )


def _run(
  lab: Lab,
  name: str,
  folder: pathlib.Path,
  params: Params,
  stage: StageConfig,
  step: Callable,
  frozen: Any,
  make_inputs: Callable[[int], loop.Inputs],
  row_ids: loop.RowIds | None,
  *,
  ends: tuple[str | None, str | None],
  carry: PyTree = (),
) -> Params:
  """Trains one stage; `ends` name its first and last policy.

  Takes and returns whole parameters, whatever part of them is trained.
  """
  named = {0: ends[0], stage.steps: ends[1]}
  rest: Params = {}
  if lab.study.frozen:
    params, rest = freeze.split_params(params, lab.study.frozen)
    frozen = {**(frozen or {}), "base": rest}

  def make_whole_inputs(start: int) -> loop.Inputs:
    inputs = make_inputs(start)
    return lambda step, part, carry: inputs(
      step, freeze.merge_params(part, rest), carry
    )

  # Accelerators multiply float32 in a lower precision unless told otherwise.
  exact = not lab.study.bfloat16 and jax.default_backend() == "cpu"
  final = loop.run(
    folder,
    f"seed {lab.seed} · {name}",
    init_state(
      master_params(stage.optimizer, params),
      make_optimizer(stage.optimizer),
      rules=RULES,
    )._replace(carry=carry),
    step,
    frozen,
    make_whole_inputs,
    loop.Schedule(
      steps=stage.steps,
      evaluate_every=stage.evaluate_every or lab.study.evaluation.every,
      checkpoint_every=lab.study.checkpoint_every,
      keep=lab.study.keep_checkpoints,
      keep_best=lab.study.keep_best,
    ),
    identity=lab.identity,
    evaluate=lambda step, part: measure(
      lab,
      folder,
      step,
      freeze.merge_params(part, rest),
      lab.programs.evaluate,
      named.get(step),
    ),
    drift_bounds=drift.FLOAT32 if exact else drift.LOW_PRECISION,
    row_ids=row_ids,
    score=lambda record: record.get("eval/in_domain/accuracy"),
  )
  return freeze.merge_params(final.trainable, rest)


def _supervised(lab: Lab, source: pipeline.BatchSource):
  def make_inputs(start: int) -> loop.Inputs:
    stream = lab.stream(source, start)

    def inputs(step, params, carry):
      batch = next(stream).batch
      count = experience.count_tokens(batch)
      return batch, carry, {"batch/tokens": count}

    return inputs

  return make_inputs


def _on_policy(lab: Lab, source: pipeline.BatchSource):
  """Inputs of OPD: the student's own completions."""
  generate, key = lab.programs.rollouts["opd"], lab.key(_STAGE1)

  def make_inputs(start: int) -> loop.Inputs:
    stream = lab.stream(source, start)

    def inputs(step, params, carry):
      at = jax.random.fold_in(key, step)
      batch, samples = experience.sample(
        generate, params, next(stream), at, lab.mesh
      )
      data = objectives.Experience(batch, samples.logprobs)
      return data, carry, experience.rollout_metrics(samples)

    return inputs

  return make_inputs


def _reinforced(lab: Lab, source: pipeline.BatchSource):
  """Inputs of GRPO: graded groups of the policy's completions."""
  stage = lab.study.grpo
  decode = lab.problems.chat.decode
  drawing = _carried if stage.carry else _in_one_go

  def make_inputs(start: int) -> loop.Inputs:
    draw = drawing(lab, source, start)

    def inputs(step, params, carry):
      host, batch, samples, drawn, carry, logged = draw(step, params, carry)
      graded = experience.grade(
        samples,
        host,
        decode=decode,
        reward=geometry3k_reward,
        mesh=lab.mesh,
      )
      data, metrics = experience.group_experience(
        batch,
        samples,
        graded["overall"],
        normalize_std=stage.normalize_std,
        mesh=lab.mesh,
      )
      metrics = {
        **metrics,
        "reward/accuracy": float(graded["accuracy"].mean()),
        "reward/format": float(graded["format"].mean()),
        **logged,
      }
      return data._replace(drawn=drawn), carry, metrics

    return inputs

  return make_inputs


def _in_one_go(lab: Lab, source: pipeline.BatchSource, start: int):
  """Completions that begin and end within their step."""
  stream = lab.stream(source, start)
  generate, key = lab.programs.rollouts["grpo"], lab.key(_GRPO)

  def draw(step, params, carry):
    host, at = next(stream), jax.random.fold_in(key, step)
    batch, samples = experience.sample(generate, params, host, at, lab.mesh)
    logged = experience.rollout_metrics(samples)
    return host, batch, samples, None, carry, logged

  return draw


def _carried(lab: Lab, source: pipeline.BatchSource, start: int):
  """Completions of which the longest go on in the next step."""
  refill, key = lab.programs.rollouts["grpo"], lab.key(_GRPO)
  load = functools.lru_cache(8)(source.__getitem__)

  def draw(step, params, carry):
    out = carries.roll_out(refill, params, load, carry, step, key)
    shown = shard_batch(lab.mesh, out.host.batch.prompts)
    batch = Batch(shown, out.samples.tokens, out.samples.mask)
    logged = experience.rollout_metrics(out.samples, out.tokens)
    return out.host, batch, out.samples, out.drawn, out.carry, logged

  return draw


def show(lab: Lab, policies: Mapping[str, Params]) -> list[dict[str, Any]]:
  """Returns a few problems with completions and their token entropies."""
  problems = lab.problems.evaluation[0]
  prompts, index = problems.batches[0]
  chat = lab.problems.chat
  chosen = [i for i in range(len(index)) if index[i] >= 0][:6]
  shown = []
  for i in chosen:
    row = problems.rows[index[i]]
    png = io.BytesIO()
    for picture in row.images[:1]:
      images.load(picture).save(png, "PNG")
    shown.append(
      {
        "image_png_base64": base64.b64encode(png.getvalue()).decode(),
        "question": row.question,
        "answer": row.answer,
        "completions": [],
      }
    )
  ids = np.maximum(index, 0).astype(np.int32)
  for stage, params in policies.items():
    generate = experience.everywhere(lab.programs.evaluate, lab.mesh)
    samples = jax.device_get(
      generate(params, prompts, lab.key(_EVALUATION), ids)
    )
    for entry, i in zip(shown, chosen, strict=True):
      for g in range(min(2, samples.tokens.shape[1])):
        kept = samples.mask[i, g]
        tokens = samples.tokens[i, g][kept].tolist()
        graded = geometry3k_reward(chat.decode(tokens), entry["answer"])
        entry["completions"].append(
          {
            "tokens": [chat.tokenizer.decode([t]) for t in tokens],
            "entropies": samples.entropies[i, g][kept].astype(float).tolist(),
            "correct": graded["accuracy"] == 1,
            "stage": stage,
          }
        )
  return shown


def measure_teacher(lab: Lab) -> None:
  """Scores the teacher once, beside the arms."""
  folder = lab.workdir / "teacher"
  names = [problems.name for problems in lab.problems.evaluation]
  found = [(folder / "eval" / f"{n}-00000.npz").is_file() for n in names]
  if distributed.from_writer(all(found)):
    return
  scores = measure(lab, folder, 0, lab.teacher, lab.programs.evaluate_teacher)
  logging.info("teacher: %s", scores)
