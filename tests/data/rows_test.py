"""Rows: drops with their reasons, and batches against a slow reference."""

import collections
import dataclasses
import hashlib
import logging
import random

import numpy as np
import pytest
from PIL import Image

from jaxvlm.data import chat as chat_lib
from jaxvlm.data import completions, images, layout, rows, tokenizer
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.rows import Bucket, Encoder, Row

VISION = layout.VisionLayout(window=56)
BUDGET = PixelBudget(56 * 56, 28 * 28 * 12)
SMALL, LARGE = Bucket(70, 32), Bucket(120, 96)
CORPUS = ["Find the angle x.", "<think>180 - 110 = 70</think> \\boxed{70}"] * 4


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def chat(tmp_path_factory) -> chat_lib.Chat:
  folder = tmp_path_factory.mktemp("tokenizer")
  tokenizer.build(CORPUS, folder, vocab_size=300)
  return chat_lib.load(folder, VISION)


@pytest.fixture(scope="module")
def encoder(chat) -> Encoder:
  return Encoder(chat, BUDGET, (SMALL, LARGE), max_new_tokens=24)


def row(name: str, *sizes: tuple[int, int], **fields) -> Row:
  """Returns a row with pictures of these (width, height)."""
  pictures = tuple(picture(*size, seed=i) for i, size in enumerate(sizes))
  defaults = {"question": "Find x.", "reference": "70", "images": pictures}
  return Row(id=name, **(defaults | fields))


MIXED = (
  row("one", (56, 84)),
  row("text only"),
  row("three", (56, 56), (84, 56), (60, 60), question="Which of them?"),
  row("two", (28 * 4, 28 * 3), (56, 56)),
)


# The survey.


def test_survey_puts_rows_into_the_smallest_bucket_that_holds_them(encoder):
  found = rows.survey(MIXED, encoder)
  assert found.dropped == () and found.kept.tolist() == [0, 1, 2, 3]
  for number, bucket in enumerate(found.buckets):
    encoded = rows.encode_prompt(found.row(number), encoder)
    need = len(encoded.tokens), encoded.patch_count
    fits = [
      all(n <= most for n, most in zip(need, shape, strict=True))
      for shape in encoder.buckets
    ]
    assert bucket == fits.index(True), (number, need)
  assert set(found.buckets) == {0, 1}


def test_survey_drops_name_row_and_reason(encoder, tmp_path, caplog):
  cut = tmp_path / "cut.png"
  Image.fromarray(picture(60, 60)).save(cut)
  cut.write_bytes(cut.read_bytes()[:20])
  ppm = tmp_path / "picture.ppm"
  Image.fromarray(picture(60, 60)).save(ppm)
  empty = tmp_path / "empty.png"
  empty.touch()
  bad = {
    "missing": (
      row("missing", images=(tmp_path / "gone.png",)),
      "gone.png does not exist",
    ),
    "cut": (row("cut", images=(cut,)), "cut.png cannot be"),
    "empty file": (row("empty file", images=(empty,)), "empty.png cannot be"),
    "format": (row("format", images=(ppm,)), "picture.ppm cannot be"),
    "one bad of two": (
      row("one bad of two", images=(picture(56, 56), b"no picture")),
      "in memory cannot be",
    ),
    "thin": (row("thin", (1, 500)), "1 × 500"),
    "no answer": (row("no answer", reference=" \n"), "reference is empty"),
    "no response": (row("no response", responses=("",)), "response is empty"),
    "long response": (
      row("long response", responses=("x" * 300,)),
      "raise max_new_tokens",
    ),
    "long": (row("long", question="why " * 300), "raise the largest bucket"),
    "many": (
      row("many", *[(28 * 4, 28 * 3)] * 4),
      "patch slots, expected at most (120, 96)",
    ),
    "placeholder": (
      row("placeholder", question="see <|image_pad|>"),
      "remove the placeholder",
    ),
    "surrogate": (row("surrogate", question="\ud800"), "lone surrogates"),
  }
  good = row("good")
  sequence = [good, *(r for r, _ in bad.values())]
  with caplog.at_level(logging.WARNING):
    found = rows.survey(sequence, encoder)
  assert found.kept.tolist() == [0] and found.row(0) is good
  assert [name for name, _ in found.dropped] == list(bad)
  for name, reason in found.dropped:
    assert bad[name][1] in reason, (name, reason)
  assert f"dropped {len(bad)} of {len(sequence)} rows" in caplog.text
  assert "missing" in caplog.text


def test_animated_pictures_are_counted(encoder, tmp_path, caplog):
  frames = [Image.fromarray(picture(56, 56, seed)) for seed in range(3)]
  moving, still = tmp_path / "moving.gif", tmp_path / "still.gif"
  frames[0].save(moving, save_all=True, append_images=frames[1:])
  frames[0].save(still)
  some = [row(path.stem, images=(path,)) for path in (still, moving)]
  with caplog.at_level(logging.WARNING):
    assert len(rows.survey(some, encoder).kept) == 2
  assert "pictures of 1 rows are animated, such as that of 'mov" in caplog.text
  assert images.is_animated(moving) and not images.is_animated(still)
  first = np.asarray(images.load(moving))
  assert (first == np.asarray(images.load(still))).all()


def test_survey_reads_headers_only(encoder, monkeypatch):
  monkeypatch.setattr(images, "load", None)
  monkeypatch.setattr(images, "patchify", None)
  assert len(rows.survey(MIXED, encoder).kept) == 4


def test_image_tokens_are_never_cut(encoder):
  # Smaller and smaller buckets: a row is whole or it is dropped.
  wanted = rows.encode_prompt(MIXED[0], encoder)
  for tokens in range(len(wanted.tokens) - 3, len(wanted.tokens) + 3):
    for slots in (0, 16, 32, 48):
      bucket = Bucket(tokens, slots)
      narrow = dataclasses.replace(encoder, buckets=(bucket,))
      if tokens < len(wanted.tokens) or slots < wanted.patch_count:
        with pytest.raises(
          ValueError, match=r"none of 1 rows.*'one'.*raise the"
        ):
          rows.survey(MIXED[:1], narrow)
        continue
      found = rows.survey(MIXED[:1], narrow)
      batch = rows.make_batch([found.row(0)], None, bucket, narrow).batch
      image = batch.prompts.tokens == encoder.chat.image_token_id
      grid = encoder.grids(MIXED[0])[0]
      assert image.sum() == layout.image_tokens(VISION, grid) == 6


def test_survey_without_a_usable_row_is_refused(encoder):
  with pytest.raises(ValueError, match="data set is empty"):
    rows.survey([], encoder)
  with pytest.raises(ValueError, match=r"'bad'.*reference is empty"):
    rows.survey([row("bad", reference="")], encoder)


def test_survey_refuses_unequal_numbers_of_responses(encoder):
  sequence = [row("a", responses=("x",)), row("b", responses=("x", "y"))]
  with pytest.raises(ValueError, match=r"1: 'a', 2: 'b'"):
    rows.survey(sequence, encoder)
  with pytest.raises(ValueError, match="number of responses"):
    rows.survey([*sequence[:1], row("c")], encoder)


def test_digest_tells_order_content_and_buckets(encoder):
  def digest(sequence, encoder=encoder):
    return rows.survey(sequence, encoder).digest

  a, b = row("a", responses=("1",)), row("b", responses=("1",))
  change = dataclasses.replace
  variants = [
    (a, b),
    (b, a),
    (a,),
    (a, b, b),
    (a, change(b, id="c")),
    (a, change(b, question="Find y.")),
    (a, change(b, reference="71")),
    (a, change(b, responses=("2",))),
    (a, change(b, images=(picture(112, 84),))),
  ]
  digests = [digest(variant) for variant in variants]
  narrow = change(encoder, buckets=(LARGE,))
  digests.append(digest((a, b), narrow))
  assert len(set(digests)) == len(digests)
  assert digest((a, b)) == digests[0]
  # A field that ends where the next begins is not the same content.
  one = digest([row("a", question="q\0r", reference="s")])
  assert one != digest([row("a", question="q", reference="r\0s")])
  # Runs are known by it: it stays what it is, also of a reference of any shape.
  known = hashlib.sha256(repr(encoder.buckets).encode())
  known.update(b"('a', 'Find x.', '70', ('1',), 0)")
  assert digest((a,)) == known.hexdigest()
  assert digest([change(a, reference=70)]) == known.hexdigest()


def test_a_lazy_sequence_is_read_row_by_row(encoder):
  class Lazy:
    def __len__(self):
      return 5

    def __getitem__(self, index):
      if not 0 <= index < 5:
        raise IndexError(index)
      return row(f"row {index}", reference="" if index == 2 else "1")

  found = rows.survey(Lazy(), encoder)
  assert found.kept.tolist() == [0, 1, 3, 4]
  assert found.row(2).id == "row 3"


# Batches.


def slow_prompt(some: Row, encoder: Encoder) -> dict:
  """One prompt token by token and patch by patch, without padding."""
  vision, merge = VISION, VISION.merge
  side = vision.window_units * merge
  tokens, positions, slots = [], [], []
  patches, segments, places = [], [], []
  cursor = merged = 0
  grids, pixels = [], []
  for image in some.images:
    x, grid = images.patchify(vision, images.load(image), encoder.budget)
    grids.append(grid)
    pixels.append(x)
  waiting = list(enumerate(grids))
  ids = collections.deque(encoder.chat.prompt(some.question, grids))
  while ids:
    token = ids.popleft()
    if token != encoder.chat.image_token_id:
      tokens.append(token)
      positions.append((cursor,) * 3)
      slots.append(-1)
      cursor += 1
      continue
    which, (_, height, width) = waiting.pop(0)
    where = {}  # (row, column) of a patch -> its slot
    for top in range(0, height, side):
      for left in range(0, width, side):
        for unit in range(vision.window_units**2):
          for sub in range(merge * merge):
            r = top + unit // vision.window_units * merge + sub // merge
            c = left + unit % vision.window_units * merge + sub % merge
            inside = r < height and c < width
            where[r, c] = len(patches)
            # Reading order of the processor: merged token, then within it.
            token_number = r // merge * (width // merge) + c // merge
            number = (
              token_number * merge * merge + r % merge * merge + c % merge
            )
            patches.append(pixels[which][number] if inside else None)
            segments.append(which if inside else -1)
            places.append((r, c) if inside else (0, 0))
    for r in range(height // merge):
      for c in range(width // merge):
        tokens.append(token)
        positions.append((cursor, cursor + r, cursor + c))
        slots.append(where[r * merge, c * merge] // (merge * merge))
        merged += 1
    cursor += max(height, width) // merge
    for _ in range(height * width // merge**2 - 1):
      assert ids.popleft() == token
  assert not waiting
  return {
    "tokens": tokens,
    "positions": positions,
    "next_position": cursor,
    "slots": slots,
    "patches": patches,
    "segments": segments,
    "places": places,
  }


def check_against_slow(prompts, chosen, encoder, bucket):
  s, p = bucket
  assert prompts.tokens.shape == prompts.mask.shape == (len(chosen), s)
  assert prompts.patches.shape == (len(chosen), p, VISION.patch_values)
  dtypes = [str(np.asarray(x).dtype) for x in prompts]
  assert dtypes == ["int32", "bool", *["int32"] * 3, "float32", *["int32"] * 2]
  for i, some in enumerate(chosen):
    want = slow_prompt(some, encoder)
    pad = s - len(want["tokens"])
    for t in range(s):
      at = t - pad
      assert prompts.mask[i, t] == (at >= 0)  # padded on the left
      expected = (
        (want["tokens"][at], want["slots"][at], want["positions"][at])
        if at >= 0
        else (encoder.chat.pad_id, -1, (1, 1, 1))
      )
      got = (
        prompts.tokens[i, t],
        prompts.image_slots[i, t],
        tuple(prompts.positions[:, i, t]),
      )
      assert got == expected, (some.id, t)
    assert prompts.next_position[i] == want["next_position"]
    zero = np.zeros(VISION.patch_values, np.float32)
    for slot in range(p):
      used = slot < len(want["patches"])
      patch = want["patches"][slot] if used else None
      np.testing.assert_array_equal(
        prompts.patches[i, slot], zero if patch is None else patch
      )
      segment = want["segments"][slot] if used else -1
      assert prompts.patch_segments[i, slot] == segment
      place = want["places"][slot] if used else (0, 0)
      assert tuple(prompts.patch_positions[i, slot]) == place


@pytest.mark.parametrize("seed", range(4))
def test_collate_equals_a_slow_reference(encoder, seed):
  chosen = list(MIXED)
  random.Random(seed).shuffle(chosen)
  made = rows.make_batch(chosen, None, LARGE, encoder)
  assert made.rows == tuple(chosen) and made.replaced == ()
  assert made.batch.tokens.shape == made.batch.mask.shape == (4, 0, 1)
  check_against_slow(made.batch.prompts, chosen, encoder, LARGE)


def test_a_batch_of_text_alone_has_empty_patches(encoder):
  made = rows.make_batch([MIXED[1]] * 2, None, Bucket(60, 0), encoder)
  check_against_slow(made.batch.prompts, [MIXED[1]] * 2, encoder, Bucket(60, 0))


def test_agrees_with_the_border_to_hugging_face(encoder):
  jaxvlm_model = pytest.importorskip("jaxvlm.models.qwen2_5_vl")
  presets = pytest.importorskip("jaxvlm.models.qwen2_5_vl.presets")
  names = tokenizer.SPECIAL_TOKENS
  ids = encoder.chat.tokenizer.convert_tokens_to_ids(list(names))
  config = presets.nano(
    width=40,
    heads=2,
    layers=2,
    vision_width=32,
    vocab_size=encoder.chat.vocab_size,
    special=dict(zip(names, ids, strict=True)),
  )
  assert config.layout == VISION
  ours = rows.make_batch(MIXED, None, LARGE, encoder).batch.prompts
  pixels, grids = [], []
  for some in MIXED:
    for image in some.images:
      x, grid = images.patchify(VISION, images.load(image), BUDGET)
      pixels.append(x)
      grids.append(grid)
  theirs = jaxvlm_model.batch_from_hf(
    config, ours.tokens, ours.mask, np.concatenate(pixels), np.array(grids)
  ).prompts
  used = theirs.patches.shape[1]
  assert 0 < used <= LARGE.patch_slots
  for name, a, b in zip(ours._fields, ours, theirs, strict=True):
    a, b = np.asarray(a), np.asarray(b)
    if name.startswith("patch"):
      assert not (a[:, used:] > 0).any()
      a = a[:, :used]
    np.testing.assert_array_equal(a, b, err_msg=name)


def test_completions_are_padded_on_the_right(encoder):
  texts = [("70", "x = 70"), ("1", "180 - 110")]
  chosen = [row(str(i), responses=t) for i, t in enumerate(texts)]
  batch = rows.make_batch(chosen, None, SMALL, encoder).batch
  assert batch.tokens.shape == batch.mask.shape == (2, 2, 24)
  assert batch.tokens.dtype == np.int32 and batch.mask.dtype == bool
  for i, group in enumerate(texts):
    for g, text in enumerate(group):
      ids = encoder.chat.completion(text)
      pad = [encoder.chat.pad_id] * (24 - len(ids))
      assert batch.tokens[i, g].tolist() == ids + pad
      assert batch.mask[i, g].tolist() == [True] * len(ids) + [False] * len(pad)
      assert ids[-1] == encoder.chat.eos_id  # the end of the turn counts


@pytest.mark.parametrize("counts", [(1, 2), (0, 1), (1, 0)])
def test_unequal_numbers_of_responses_are_refused(encoder, counts):
  chosen = [row(str(n), responses=("7",) * n) for n in counts]
  with pytest.raises(ValueError, match=r"rows have \[\d, \d\] responses"):
    rows.make_batch(chosen, None, SMALL, encoder)


# What fails after the survey.


def test_a_late_failure_is_replaced_by_the_spare_and_recorded(
  encoder, tmp_path
):
  file = tmp_path / "late.png"
  Image.fromarray(picture(56, 56)).save(file)
  late = row("late", images=(file,))
  candidates = [MIXED[1], late, MIXED[0]]
  assert len(rows.survey(candidates, encoder).kept) == 3
  file.write_bytes(file.read_bytes()[:60])  # the header survives
  asked = []

  def spares(number):
    asked.append(number)
    return late if number == 1 else row("spare")

  made = rows.make_batch(candidates, spares, LARGE, encoder)
  assert asked == [1, 4]  # the first spare of place 1 fails too
  # Replaced where it stood, not shifted.
  assert [r.id for r in made.rows] == ["text only", "spare", "one"]
  assert [name for name, _ in made.replaced] == ["late", "late"]
  assert all("late.png" in reason for _, reason in made.replaced)
  check_against_slow(made.batch.prompts, made.rows, encoder, LARGE)


def test_a_picture_that_grew_after_the_survey_is_replaced(encoder, tmp_path):
  file = tmp_path / "grown.png"
  Image.fromarray(picture(56, 56)).save(file)
  grown = row("grown", images=(file,))
  assert rows.survey([grown], encoder).buckets.tolist() == [0]
  Image.fromarray(picture(112, 84)).save(file)
  made = rows.make_batch([grown], lambda _: row("spare"), SMALL, encoder)
  assert [r.id for r in made.rows] == ["spare"]
  ((name, reason),) = made.replaced
  assert name == "grown" and "changed since the survey" in reason


def test_when_everything_fails_the_run_stops(encoder, tmp_path):
  gone = row("gone", images=(tmp_path / "gone.png",))
  with pytest.raises(ValueError, match=r"'gone' and 8 spares.*'gone'.*check"):
    rows.make_batch([gone] * 2, lambda _: gone, SMALL, encoder)


def test_one_text_is_no_sequence_of_responses(encoder):
  for texts in ("abc", ["abc"], [("abc",), "def"]):
    with pytest.raises(ValueError, match="responses are one text"):
      completions.collate(texts, encoder.chat, 4)
