"""The harness: which problems are asked, and what is measured of each."""

import dataclasses
import hashlib
import io
import json
import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxvlm.data.images import PixelBudget
from jaxvlm.data.processor import FAMILY
from jaxvlm.data.rows import Bucket, Encoder, Row
from jaxvlm.eval import harness
from jaxvlm.eval.harness import Evaluation, ProblemSet
from jaxvlm.sampling import Samples
from jaxvlm.tasks import Task, boxed, one_by_one
from tests import tiny
from tests.eval.evaluations import stored
from tests.tasks import captions


@dataclasses.dataclass(frozen=True)
class Words:
  """As much of a chat as rows need: a word is its length."""

  layout = tiny.CONFIG.layout
  pictures = FAMILY
  pad_id = tiny.PAD
  image_token_id = tiny.IMAGE

  def prompt(self, question, grids, before=()):
    pictures = sum(h * w // 4 for _, h, w in grids)
    return [1, *[tiny.IMAGE] * pictures, *map(len, question.split())]


def png(width, height):
  file = io.BytesIO()
  noise = np.random.default_rng(width).integers(0, 256, (height, width, 3))
  Image.fromarray(noise.astype(np.uint8)).save(file, "PNG")
  return file.getvalue()


def encoder():
  buckets = (Bucket(8, 16), Bucket(24, 64))
  return Encoder(Words(), PixelBudget(56 * 56, 112 * 112), buckets, 8)


def problems_of(rows, batch=2, **options):
  return harness.make_problem_set(
    "toy", rows, encoder(), batch, task=TASK, **options
  )


def test_problem_sets_batch_by_bucket_and_fill_the_last():
  sizes = [(56, 56), (112, 112), (56, 56), (56, 56), (112, 84), (56, 56)]
  rows = [
    Row(f"r{i}", "how far " + "x" * i, "1", (png(*size),))
    for i, size in enumerate(sizes)
  ]
  found = problems_of(rows, 3)
  assert [r.id for r in found.rows] == [r.id for r in rows]
  indices = [index.tolist() for _, index in found.batches]
  assert indices == [[0, 2, 3], [5, -1, -1], [1, 4, -1]]
  shapes = [prompts.tokens.shape for prompts, _ in found.batches]
  assert shapes == [(3, 8), (3, 8), (3, 24)]
  for prompts, index in found.batches:
    for row, problem in enumerate(index):
      words = rows[problem].question.split() if problem >= 0 else None
      if words:
        assert prompts.tokens[row, -1] == len(words[-1])
  # What fills a batch repeats its rows.
  prompts, _ = found.batches[2]
  np.testing.assert_array_equal(prompts.patches[2], prompts.patches[0])


def test_a_picture_that_breaks_off_is_a_named_drop(caplog):
  whole = png(56, 56)
  broken = whole[: len(whole) // 2]  # its header is fine
  rows = [
    Row("a", "q", "1", (whole,)),
    Row("b", "q", "1", (broken,)),
    Row("c", "q", "1", ("/nowhere.png",)),
    Row("d", "q", "1"),
    Row("e", "q " * 30, "1"),
  ]
  with caplog.at_level(logging.WARNING):
    found = problems_of(rows, max_missing=0.6)
  assert [r.id for r in found.rows] == ["a", "d"]
  assert [id for id, _ in found.dropped] == ["b", "c", "e"]
  for text in (*(why for _, why in found.dropped), "'b': ", "2 of the 5"):
    assert text in caplog.text
  assert json.loads(json.dumps(found.record())) == {
    "asked": 5,
    "found": 2,
    "digest": harness.digest_of([rows[0], rows[3]]),
    "dropped": [list(pair) for pair in found.dropped],
  }


@pytest.mark.parametrize("limit,passes", [(0.0, False), (0.5, False), (0.6, 1)])
def test_fewer_problems_than_asked_for_are_an_error(limit, passes):
  rows = [Row(f"r{i}", "q", "1", (png(56, 56),)) for i in range(3)]
  rows.append(Row("late", "q", "", (png(56, 56),)))

  def load():
    return problems_of(rows, asked=7, max_missing=limit)

  if passes:
    assert (load().asked, len(load().rows)) == (7, 3)
    return
  with pytest.raises(ValueError, match="found 3 of the 7") as error:
    load()
  for text in (
    "there are only 4",
    "'late': the reference is empty",
    f"{limit:.1%}",
  ):
    assert text in str(error.value)


def test_nothing_found_is_an_error_whatever_the_limit():
  for rows in ([], [Row("a", "q", "1", (b"no picture",))]):
    with pytest.raises(ValueError, match="toy: found 0 of the 2"):
      problems_of(rows, asked=2, max_missing=1.0)


@pytest.mark.parametrize(
  "responses",
  [("word " * 999,), ("<|im_end|>",), ("",), ("one", "two")],
  ids=["long", "special", "empty", "several"],
)
def test_a_worked_solution_takes_no_part_in_an_evaluation(responses):
  rows = [Row("a", "q", "1"), Row("b", "q", "1", responses=responses)]
  found = problems_of(rows)
  assert [row.id for row in found.rows] == ["a", "b"] and not found.dropped
  bare = [dataclasses.replace(row, responses=()) for row in rows]
  assert found.digest == problems_of(bare, 1).digest


def test_the_digest_tells_problems_apart_and_nothing_else(tmp_path):
  pixels = np.zeros((56, 56, 3), np.uint8)
  (tmp_path / "a.png").write_bytes(png(56, 56))
  (tmp_path / "b.png").write_bytes(png(56, 56))
  row = Row("a", "q", "1", (tmp_path / "a.png",))
  other = [
    dataclasses.replace(row, id="b"),
    dataclasses.replace(row, question="p"),
    dataclasses.replace(row, reference="2"),
    dataclasses.replace(row, images=()),
    dataclasses.replace(row, images=(png(56, 84),)),
    dataclasses.replace(row, images=(pixels,)),
    dataclasses.replace(row, images=(pixels[:28],)),
    dataclasses.replace(row, images=(pixels.reshape(28, 112, 3),)),
    dataclasses.replace(row, images=(pixels + 1,)),
  ]
  found = {harness.digest_of([r]) for r in [row, *other]}
  found |= {
    harness.digest_of([row, other[0]]),
    harness.digest_of([other[0], row]),
  }
  assert len(found) == len(other) + 3
  same = [
    dataclasses.replace(row, images=(str(tmp_path / "b.png"),)),
    dataclasses.replace(row, images=(png(56, 56),), group="g"),
  ]
  assert {harness.digest_of([r]) for r in same} == {harness.digest_of([row])}


T, EOS = 3, 9


def problem_set():
  """Five problems in batches of three; the last repeats rows to fill."""
  rows = tuple(Row(f"row {i}", "?", str(i)) for i in range(5))
  batches = (
    ({"offset": np.float32([0, 4, 1])}, np.array([0, 4, 1])),
    ({"offset": np.float32([2, 3, 2])}, np.array([2, 3, -1])),
  )
  return ProblemSet("toy", TASK, rows, batches)


calls = []


def generate(params, prompts, key, ids):
  """Tokens that name the problem, and noise by (key, id)."""
  calls.append(np.asarray(ids))
  n, g = len(ids), 2
  fold = jax.vmap(
    lambda i: jax.random.uniform(jax.random.fold_in(key, i), (g,))
  )
  noise = np.asarray(fold(jnp.asarray(ids)))
  mask = np.ones((n, g, T), bool)
  mask[:, 1, 2] = False
  tokens = np.full((n, g, T), EOS)
  tokens[..., 0] = prompts["offset"][:, None] + params
  tokens[..., 1] = (noise * 1000).astype(int) + 10
  tokens = np.where(mask, tokens, 0)
  numbers = np.where(mask, np.arange(1.0, 4.0), 0).astype(np.float32)
  finished = np.ones((n, g), bool)
  return Samples(
    tokens.astype(np.int32), mask, finished, -numbers, numbers * 2, numbers,
    numbers,
  )  # fmt: skip


def decode(ids):
  return f"{len(ids)} tokens {ids[1]} \\boxed{{{ids[0]}}}"


def grade(text, answer):
  right = float(f"\\boxed{{{answer}}}" in text)
  return {"accuracy": right, "format": 1.0, "reward": right / 2}


TASK = Task(
  "toy", lambda split: (), one_by_one(grade), ("accuracy",), boxed.answer
)


def evaluate(params=0, key=0, rounds=1, **changes):
  return harness.evaluate(
    dataclasses.replace(problem_set(), **changes),
    generate,
    params,
    jax.random.key(key),
    decode=decode,
    rounds=rounds,
  )


def test_every_problem_is_graded_against_its_own_answer():
  e = evaluate()
  assert e.accuracy.shape == (5, 2) and (e.accuracy == 1).all()
  assert e.answers == tuple((str(i),) * 2 for i in range(5))
  np.testing.assert_array_equal(e.lengths, [[3, 2]] * 5)
  np.testing.assert_array_equal(e.scores["reward"], np.full((5, 2), 0.5))
  # Means over the completion's tokens: (1 + 2 + 3) / 3 and (1 + 2) / 2.
  np.testing.assert_allclose(e.neg_logprobs, [[2, 1.5]] * 5)
  np.testing.assert_allclose(e.entropies, [[4, 3]] * 5)
  wrong = evaluate(params=1)
  assert (wrong.accuracy == 0).all()


def test_filling_rows_are_not_measured_and_share_no_id():
  calls.clear()
  evaluate()
  real = [i for ids in calls for i in ids.tolist() if i < 5]
  assert sorted(real) == [0, 1, 2, 3, 4]
  assert calls[1].tolist() == [2, 3, 5]


def noise_of(**kwargs):
  """Returns the drawn noise of an evaluation, i[problems, samples]."""
  task = dataclasses.replace(TASK, answer=lambda text: text.split()[2])
  return np.array(evaluate(task=task, **kwargs).answers, int)


def test_the_same_key_pairs_the_samples_of_two_policies():
  a, b, c = noise_of(), noise_of(params=1), noise_of(key=1)
  assert (a == b).all() and (a != c).any()


def test_rounds_draw_apart_and_add_samples():
  e = evaluate(rounds=3)
  assert e.accuracy.shape == (5, 6)
  drawn = noise_of(rounds=2)
  assert drawn.shape == (5, 4) and (drawn[:, :2] != drawn[:, 2:]).any()
  # The first round is what one round alone draws.
  np.testing.assert_array_equal(drawn[:, :2], noise_of())


def test_a_whole_evaluation_is_one_batch_with_any_scores():
  seen = []

  def reward(responses, rows):
    seen.append([row.id for row in rows])
    return captions.reward(responses, rows)

  task = dataclasses.replace(captions.CAPTIONS, reward=reward)
  rows = (*captions.ROWS, *captions.ROWS[:2])
  e = evaluate(task=task, rows=rows, rounds=2)
  assert seen == [[row.id for row in rows for _ in range(4)]]
  assert e.scores.keys() == {"reward", "overlap", "length"}
  np.testing.assert_array_equal(e.scores["length"], np.full((5, 4), 4))
  # Without right and wrong there is no pass@k, and nothing fails for it.
  found = e.summary()
  assert found["overlap"] == 0 and "accuracy" not in found
  assert not [name for name in found if name.startswith("pass@")]
  with np.load(io.BytesIO(stored(e).getvalue()), allow_pickle=False) as arrays:
    assert Evaluation.from_arrays(arrays).summary() == found


def test_a_reference_is_digested_by_its_text():
  rows = [Row("a", "?", (1,), reference_text=text) for text in ("[1]", "[2]")]
  assert harness.digest_of(rows[:1]) != harness.digest_of(rows[1:])
  # A text gives the digest that it always gave.
  text = dataclasses.replace(rows[0], reference="[1]")
  expected = hashlib.sha256(b"('a', '?', '[1]', [])").hexdigest()
  assert harness.digest_of([text]) == harness.digest_of(rows[:1]) == expected


def test_an_answer_that_was_not_boxed_is_empty():
  e = harness.evaluate(
    problem_set(),
    generate,
    0,
    jax.random.key(0),
    decode=lambda ids: "no box",
  )
  assert e.answers == (("", ""),) * 5
  assert e.summary()["distinct_answers"] == 0
  assert not math.isnan(e.summary()["entropy"])
