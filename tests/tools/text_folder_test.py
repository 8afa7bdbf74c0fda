"""Folders of models that read text only: questions, answers, refusals."""

import jax
import numpy as np
import pytest

from jaxvlm import models
from jaxvlm.data import rows
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Encoder, Row
from jaxvlm.eval import harness
from jaxvlm.rollout.answer import Request
from jaxvlm.sampling import Sampling
from jaxvlm.tasks import Task
from jaxvlm.tools import folder as folders
from jaxvlm.tools import shapes
from tests import tiny

PICTURE = np.full((56, 84, 3), 200, np.uint8)


# Above `models/` a family is not known: one runs fast, all run slow.
@pytest.fixture(
  scope="module",
  params=[
    pytest.param(name, marks=pytest.mark.slow if number else ())
    for number, name in enumerate(tiny.TEXTS)
  ],
)
def model(request, tmp_path_factory):
  where = tmp_path_factory.mktemp(request.param)
  tiny.write_text_folder(where, tiny.TEXTS[request.param])
  return folders.load(str(where))


def test_an_answer_is_drawn_from_the_scores_of_its_question(model):
  batch = model.ask("What is x?")
  assert batch.prompts.patches is None
  assert batch.prompts.positions.shape == (1, *batch.prompts.tokens.shape)
  scores = models.logits(model.config, model.params, batch)
  known = np.asarray(scores)[0, -1, : model.chat.vocab_size]
  request = Request("What is x?", sampling=Sampling(0.0), max_new_tokens=1)
  (word,) = model.answer(request)
  assert word.token == known.argmax()


def test_a_picture_is_refused_before_anything_is_drawn(model):
  with pytest.raises(ValueError, match="1 picture.*reads text only"):
    model.ask("What is x?", [PICTURE])
  with pytest.raises(ValueError, match="1 picture.*reads text only"):
    model.answer(Request("What is x?", [PICTURE]))


def test_rows_with_pictures_are_dropped_by_name(model):
  plain = Row("plain", "What is 2 + 2?", "4")
  drawn = Row("drawn", "What is x?", "4", (PICTURE,))
  (bucket,) = shapes.buckets_for([plain, drawn], model.chat, PixelBudget())
  assert bucket.patch_slots == 0
  encoder = Encoder(model.chat, PixelBudget(), (bucket,), 4)
  found = rows.survey([plain, drawn], encoder)
  assert found.kept.tolist() == [0]
  ((name, reason),) = found.dropped
  assert name == "drawn" and "the model reads text only" in reason
  host = rows.make_batch([plain, plain], lambda _: plain, bucket, encoder)
  assert host.batch.prompts.image_slots is None
  with pytest.raises(ValueError, match="none of 1 rows is usable.*text only"):
    rows.survey([drawn], encoder)


def _by_length(responses, rows):
  return {"reward": [len(response) for response in responses]}


LENGTHS = Task("lengths", lambda split: (), _by_length, ("reward",))


def test_problems_of_text_are_evaluated_and_those_of_pictures_refused(model):
  encoder = Encoder(model.chat, PixelBudget(), (Bucket(64, 0),), 3)
  plain = [Row(str(i), f"What is {i} + 2?", "4") for i in range(3)]
  problems = harness.make_problem_set("plain", plain, encoder, 2, task=LENGTHS)
  found = harness.evaluate(
    problems,
    model.sampler(2, Sampling(), 3),
    model.params,
    jax.random.key(0),
    decode=model.chat.decode,
  )
  assert found.scores["reward"].shape == (3, 2)
  assert (found.entropies > 0).all() and (found.lengths <= 3).all()
  drawn = [Row(str(i), "What is x?", "4", (PICTURE,)) for i in range(4)]
  with pytest.raises(ValueError, match="reads text only"):
    harness.make_problem_set("drawn", drawn, encoder, 2, task=LENGTHS)
