"""COCO rows in both layouts, pairs of captions, and their reward."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxvlm.data import negatives
from jaxvlm.data.negatives import Kind
from jaxvlm.data.rows import bucket_of
from jaxvlm.data.sources import coco
from jaxvlm.rewards.captions import score_captions
from jaxvlm.tasks import coco as task_lib
from jaxvlm.tasks import score
from tests.data.pack import SHARED

CAPTIONS = (
  ["A dog runs.", "a brown dog runs on grass\n", "Two legs, one dog"],
  ["A red bus stops.", "the bus is red", "a bus"],
  ["An old man sleeps.", "a man in bed", "old man"],
)
SPLITS = ("train", "restval", "test")


@pytest.fixture
def karpathy(tmp_path):
  """Writes a folder as the split's author publishes it."""
  images = [
    {
      "filepath": "val2014",
      "filename": f"{i}.png",
      "cocoid": i,
      "split": split,
      "sentences": [{"raw": text} for text in captions],
    }
    for i, (split, captions) in enumerate(zip(SPLITS, CAPTIONS, strict=True))
  ]
  (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
  (tmp_path / "val2014").mkdir()
  for i in range(3):
    Image.new("RGB", (40, 30)).save(tmp_path / f"val2014/{i}.png")
  return tmp_path


def _rewrite(folder, change):
  file = folder / "dataset_coco.json"
  stored = json.loads(file.read_text())
  change(stored["images"])
  file.write_text(json.dumps(stored))


def test_both_layouts_give_the_same_rows(karpathy):
  rows = coco.rows(karpathy, "train")
  assert [row.id for row in rows] == ["train/0", "train/1"]
  assert rows[0].reference[1] == "a brown dog runs on grass"
  assert json.loads(rows[0].reference_text) == list(rows[0].reference)
  assert rows[0].images[0].is_file()
  plain = [
    {
      "image_id": i,
      "file": f"val2014/{i}.png",
      "karpathy_split": split,
      "captions": captions,
    }
    for i, (split, captions) in enumerate(zip(SPLITS, CAPTIONS, strict=True))
  ]
  (karpathy / "dataset_coco.json").unlink()
  (karpathy / "images.json").write_text(json.dumps(plain))
  assert coco.rows(karpathy, "train") == rows


def test_bad_captions_are_left_out_and_empty_pictures_dropped(karpathy, caplog):
  def spoil(images):
    images[0]["sentences"] = [{"raw": " "}, {"raw": "a\x00b"}]
    images[1]["sentences"].append({"raw": "a\x1bb"})

  _rewrite(karpathy, spoil)
  empty, other = coco.rows(karpathy, "train")
  assert len(other.reference) == 3
  assert "left out 3 captions" in caplog.text
  assert "of train/0, train/1" in caplog.text
  for row in (empty, *coco.taught([empty])):
    with pytest.raises(ValueError, match="the reference is empty"):
      bucket_of(row, None)


@pytest.mark.parametrize(
  "change, said",
  [
    (lambda i: i[1].pop("split"), "image 1: KeyError 'split'"),
    (lambda i: i[0].update(sentences=[{"raw": 3}]), "a text is no string"),
    (lambda i: i[0].update(filename="../../x.png"), "leaves the data folder"),
  ],
)
def test_bad_records_are_named(karpathy, change, said):
  _rewrite(karpathy, change)
  with pytest.raises(ValueError, match=said):
    coco.rows(karpathy, "train")


def test_absent_files_and_splits(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"neither dataset_coco.json nor"):
    coco.rows(tmp_path, "train")
  with pytest.raises(ValueError, match="'restval', expected one of train, val"):
    coco.rows(tmp_path, "restval")


def test_each_caption_is_taught_once(karpathy):
  taught = coco.taught(coco.rows(karpathy, "train"))
  assert [row.responses for row in taught] == [
    (" ".join(text.split()),) for captions in CAPTIONS[:2] for text in captions
  ]
  assert len({row.id for row in taught}) == 6


@pytest.mark.parametrize("kinds", [negatives.GENTLE, negatives.EASY])
def test_pairs_are_of_the_kinds_asked_for(karpathy, kinds):
  rows = coco.rows(karpathy, "train")
  pairs = coco.Pairs(kinds)(rows)
  assert pairs == coco.Pairs(kinds)(rows) and len(pairs) == 6
  for row in pairs:
    chosen, rejected = row.responses
    assert chosen in row.reference and rejected not in row.reference
    # "Two legs, one dog" has words of the lexicon, "a bus" others.
    assert row.kinds[0] == "" and Kind(row.kinds[1]) in {
      *kinds,
      Kind.OTHER_PICTURE,
    }
  with pytest.raises(ValueError, match=r"32 other rows are right here, too"):
    coco.Pairs((Kind.OTHER_PICTURE,))(rows[:1])


def test_the_reward_is_cider_of_the_row_s_own_split(karpathy):
  task = task_lib.task(karpathy)
  train, test = task.rows("train"), task.rows("test")
  said = ["a dog runs on grass", "a red bus", "a man sleeps"]
  found = score(task, said, [*train, *test])
  alone = score_captions(said[:2], [row.reference for row in train]).per_image
  np.testing.assert_allclose(found["CIDEr"][:2], alone["CIDEr"], rtol=1e-6)
  np.testing.assert_array_equal(found["reward"], found["CIDEr"])
  # However many of them are asked for at once.
  one = score(task, said[:1], train[:1])
  np.testing.assert_allclose(one["CIDEr"], found["CIDEr"][:1], rtol=1e-6)


@pytest.mark.skipif(
  not (SHARED / "coco").is_dir(), reason="the data pack's coco/ is absent"
)
def test_the_pack_s_pictures():
  rows = coco.rows(SHARED / "coco", "test")
  assert len(rows) == 4 and all(len(row.reference) >= 5 for row in rows)
  pairs = coco.Pairs()(rows)
  assert len(pairs) == sum(len(row.reference) for row in rows)
  assert {row.kinds[1] for row in pairs} > {"object", "relation"}
