"""The shipped coder, and the recipes of both: two families, one tokenizer."""

import collections
import hashlib
import json
import re

import jax
import numpy as np
import pytest

from experiments.nano import config as nano
from experiments.nano import run
from jaxvlm import assets, models
from jaxvlm.data import chat as chats
from jaxvlm.data import programs
from jaxvlm.eval import harness
from jaxvlm.rewards.code import Level
from jaxvlm.rollout import make_generate
from jaxvlm.sampling import Sampling
from jaxvlm.tasks import programs as task_lib

NAME = "nano-coder"


def test_the_coder_is_small_and_its_card_names_the_file():
  folder = assets.folder(NAME)
  config, stored = models.load_pretrained(folder, None)
  leaves = jax.tree.leaves(stored)
  assert sum(x.size for x in leaves) < 1e6
  assert {str(x.dtype) for x in leaves} == {"bfloat16"}
  assert config.model_type == "qwen2"
  digest = hashlib.sha256((folder / "model.safetensors").read_bytes())
  card = (folder / "README.md").read_text()
  assert digest.hexdigest() in card
  assert re.search(r"commit: [0-9a-f]{7,}", card)


@pytest.mark.slow
def test_the_tokenizer_is_that_of_both_recipes(tmp_path):
  folder = assets.folder(NAME)
  run.build_tokenizer(tmp_path, nano.PROGRAMS, None)
  for file in ("tokenizer.json", "vocab.json", "merges.txt"):
    assert (folder / file).read_bytes() == (tmp_path / file).read_bytes()
  one, other = (nano.MODELS[n] for n in (NAME, f"{NAME}-strong"))
  assert one.world is other.world
  sizes = []
  for model in (one, other):
    config = model.kind.make(
      vocab_size=nano.VOCAB_SIZE,
      special=collections.defaultdict(int),
      **model.sizes,
    )
    shapes = jax.eval_shape(lambda c=config: models.init(c, jax.random.key(0)))
    sizes.append(sum(x.size for x in jax.tree.leaves(shapes)))
  assert sizes[0] < 1e6 and sizes[0] < sizes[1] <= 3e6


def test_every_problem_fits_the_shapes():
  chat = chats.load(assets.folder(NAME), None)
  encoder = nano.encoder(chat, nano.PROGRAMS)
  longest = 0
  for i in range(150):
    problem = programs.sample(programs.PRETRAIN, i)
    prompt = chat.prompt(problem.prompt)
    assert len(prompt) <= encoder.buckets[0].prompt_tokens
    for program in problem.solutions.values():
      longest = max(longest, len(chat.completion(program)))
      assert chat.decode(chat.completion(program)) == program
  assert longest <= encoder.max_new_tokens


def test_no_row_of_a_corpus_is_read_twice():
  for model in nano.MODELS.values():
    assert len(model.rows) >= model.prompts * model.steps


def test_all_shipped_models_together_stay_small():
  here = assets.folder(NAME).parent
  size = sum(f.stat().st_size for f in here.rglob("*") if f.is_file())
  assert size <= 24e6


@pytest.mark.slow
def test_scores_are_those_of_the_stored_weights():
  folder = assets.folder(NAME)
  config, params = models.load_pretrained(folder)
  encoder = nano.encoder(chats.load(folder, None), nano.PROGRAMS)
  chat = encoder.chat
  generate = make_generate(
    models.bind(config),
    group=4,
    sampling=Sampling(),
    max_new_tokens=encoder.max_new_tokens,
    eos_ids=chat.eos_ids,
    pad_id=chat.pad_id,
    vocab_size=chat.vocab_size,
  )
  task = task_lib.task(level=Level.RLIMITS)
  problems = harness.make_problem_set(
    "hard", task.rows("validation")[:120], encoder, 60, task=task
  )
  found = harness.evaluate(
    problems, generate, params, jax.random.key(3), decode=chat.decode
  )
  scores = json.loads((folder / "scores.json").read_text())
  # 120 problems: the standard error is at most sqrt(0.25 / 120) = 0.046.
  expected = scores["hard"]["accuracy"]
  assert abs(float(found.accuracy.mean()) - expected) < 0.14


@pytest.mark.slow
def test_transformers_loads_and_agrees():
  torch = pytest.importorskip("torch", reason="torch is the parity reference")
  import transformers

  folder = assets.folder(NAME)
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, attn_implementation="eager"
  ).eval()
  config, params = models.load_pretrained(folder)
  chat = chats.load(folder, None)
  problem = programs.sample(programs.TEST, 0)
  ids = np.array([chat.prompt(problem.prompt)])
  with torch.no_grad():
    expected = theirs(input_ids=torch.tensor(ids)).logits.numpy()
  found = models.logits(config, params, models.batch_from_hf(config, ids))
  np.testing.assert_allclose(found, expected, atol=1e-4)
