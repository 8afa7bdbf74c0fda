"""Trains the shipped models from nothing: `make nano`.

The project's own SFT path on the generated worlds. Leaves Hugging Face folders
(bf16 weights, tokenizer, chat template, settings of pictures and generation,
model card) in --out.
"""

import dataclasses
import hashlib
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.nano import card
from experiments.nano import config as settings
from experiments.nano.config import NanoConfig
from jaxvlm import config as configs
from jaxvlm import models, program
from jaxvlm.data import chat as chats
from jaxvlm.data import (
  folder_files,
  pipeline,
  processor,
  tokenizer,
)
from jaxvlm.data.layout import VisionLayout
from jaxvlm.data.order import Plan
from jaxvlm.data.rows import Survey
from jaxvlm.study import inputs
from jaxvlm.train import assemble, loop, objectives, preemption
from jaxvlm.train.freeze import merge_params, split_params, with_frozen
from jaxvlm.train.optimizer import make_optimizer, master_params
from jaxvlm.train.step import init_state, make_train_step

_OUT = configs.define_path(
  "out", "jaxvlm/assets", "where the finished folders go"
)
_WORKDIR = configs.define_path(
  "workdir", "runs/nano", "logs and checkpoints; the same one resumes"
)
_ONLY = flags.DEFINE_enum("only", None, list(settings.MODELS), "one model")
_STEPS = flags.DEFINE_integer("steps", None, "cut the run short (a try-out)")


def build_tokenizer(
  folder: pathlib.Path,
  world: settings.World,
  layout: VisionLayout | None = settings.VISION.layout,
) -> None:
  """Builds a world's tokenizer from the words of some of its rows."""
  corpus = []
  for row in world.words:
    corpus += [row.question, *row.responses]
  # The chat template's own words should be single tokens, too.
  corpus += ["system\nYou are a helpful assistant.\nuser\nassistant\n"] * 400
  tokenizer.build(corpus, folder, vocab_size=settings.VOCAB_SIZE)
  chat = chats.load(folder, layout)
  pictures = processor.PictureSettings(settings.PIXELS)
  folder_files.complete(folder, dataclasses.replace(chat, pictures=pictures))


def train(
  nano: NanoConfig, out: pathlib.Path, workdir: pathlib.Path, steps: int
) -> None:
  """Trains one model and writes its folder."""
  folder = out / nano.name
  kind = nano.kind
  build_tokenizer(folder, nano.world, kind.layout)
  known = chats.load(folder, kind.layout)
  config = kind.make(
    vocab_size=known.vocab_size,
    special=known.tokenizer.get_added_vocab(),
    **nano.sizes,
  )
  chat = chats.load(folder, config.layout)
  encode = settings.encoder(chat, nano.world)
  rows = nano.rows
  # Every row of a world fits its one bucket, so nothing needs a survey.
  count = len(rows)
  everything = Survey(
    rows, np.arange(count), np.zeros(count, int), (), rows.identity
  )
  plan = Plan((0,) * count, nano.prompts, nano.seed)
  source = pipeline.BatchSource(everything, plan, encode, nano.steps)

  # At this size a scan over layers costs more than it saves.
  functions = assemble.functions(config, assemble.Form())
  optimizer = make_optimizer(nano.optimizer)
  step = make_train_step(
    with_frozen(objectives.sft(functions, vocab_size=chat.vocab_size)),
    objectives.count,
    optimizer,
  )
  trainable, frozen = models.init(config, jax.random.key(nano.seed)), {}
  if kind.frozen:
    trainable, frozen = split_params(trainable, kind.frozen)

  started = time.time()
  state = loop.run(
    workdir / nano.name,
    nano.name,
    init_state(master_params(nano.optimizer, trainable), optimizer),
    step,
    {"base": frozen},
    inputs.supervised(lambda start: pipeline.batches(source, start=start)),
    loop.Schedule(steps, checkpoint_every=100),
    identity={
      "rows": rows.identity,
      "model": repr(config),
      "training": repr((nano.prompts, nano.steps, nano.optimizer, nano.seed)),
    },
  )
  stored = jax.tree.map(
    lambda x: np.asarray(x.astype(jnp.bfloat16)),
    merge_params(state.trainable, frozen),
  )
  models.save_pretrained(folder, config, stored)
  weights = (folder / "model.safetensors").read_bytes()
  scores = card.score(folder, encode, nano.world)
  (folder / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
  (folder / "README.md").write_text(
    card.write(
      nano,
      parameters=sum(x.size for x in jax.tree.leaves(stored)),
      scores=scores,
      digest=hashlib.sha256(weights).hexdigest(),
      seconds=time.time() - started,
      steps=steps,
    )
  )


def main() -> None:
  names = [_ONLY.value] if _ONLY.value else list(settings.MODELS)
  workdir = pathlib.Path(_WORKDIR.value)
  with preemption.announced(lambda: f"what was trained is in {workdir}"):
    for name in names:
      nano = settings.MODELS[name]
      steps = _STEPS.value or nano.steps
      train(nano, pathlib.Path(_OUT.value), workdir, steps)


if __name__ == "__main__":
  program.run(main, "nano")
