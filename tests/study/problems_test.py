"""The study's problems: which rows are measured, and what is said of them."""

import dataclasses
import json
import logging

import numpy as np
import pytest
from PIL import Image

from experiments.stage1_entropy import config as settings
from experiments.stage1_entropy import problems
from experiments.stage1_entropy.config import Dataset
from jaxvlm import assets
from jaxvlm.data import chat as chats
from jaxvlm.data import images, layout
from jaxvlm.data.images import PixelBudget
from jaxvlm.data.layout import VisionLayout
from jaxvlm.study import record

LONG = "<think>" + "so it goes " * 200 + "</think> \\boxed{3}"


def write_split(folder, split, answers):
  (folder / "images").mkdir(exist_ok=True)
  records = []
  for i, answer in enumerate(answers):
    image = f"images/{split}-{i}.png"
    gray = np.full((56, 56, 3), 40 * i, np.uint8)
    Image.fromarray(gray).save(folder / image)
    records.append(
      {
        "id": i,
        "image": image,
        "problem_text": "Find x.",
        "answer": answer,
        "response": LONG if split != "train" else "\\boxed{3}",
      }
    )
  text = "\n".join(map(json.dumps, records))
  (folder / f"{split}.jsonl").write_text(text)


@pytest.fixture(scope="module")
def chat():
  return chats.load(assets.folder("nano-base"), VisionLayout())


@pytest.fixture
def study(tmp_path):
  write_split(tmp_path, "train", ["3"] * 4)
  write_split(tmp_path, "val", ["1"] * 2)
  write_split(tmp_path, "test", ["1", "2", "", "4"])
  laptop = settings.laptop()
  return dataclasses.replace(
    laptop,
    dataset=Dataset.GEOMETRY3K,
    data_dir=str(tmp_path),
    data=dataclasses.replace(
      laptop.data, prompt_tokens=(200,), traces=4, train_problems=4
    ),
    evaluation=dataclasses.replace(laptop.evaluation, in_domain=2, prompts=2),
  )


def measured(study, chat, **changes):
  e = dataclasses.replace(study.evaluation, **changes)
  found = problems.load(dataclasses.replace(study, evaluation=e), chat)
  return found.evaluation


@pytest.mark.parametrize("dataset", Dataset)
def test_pictures_for_a_model_of_text_are_refused_at_once(study, chat, dataset):
  text_only = dataclasses.replace(chat, layout=None)
  with pytest.raises(ValueError, match=f"task '{dataset.value}' has pictures"):
    problems.load(dataclasses.replace(study, dataset=dataset), text_only)


def test_the_test_split_is_measured_whatever_its_solutions(study, chat):
  (found,) = measured(study, chat)
  assert [row.id for row in found.rows] == ["test/0", "test/1"]
  (found,) = measured(study, chat, split="val")
  assert [row.id for row in found.rows] == ["val/0", "val/1"]
  assert settings.pod().evaluation.split == "test"


def test_an_evaluation_set_does_not_shrink_in_silence(study, chat):
  with pytest.raises(ValueError, match="found 3 of the 601") as error:
    measured(study, chat, in_domain=601)
  for text in ("only 4", "'test/2': the reference is empty"):
    assert text in str(error.value)
  (found,) = measured(study, chat, in_domain=4, max_missing=0.25)
  assert (found.asked, len(found.rows)) == (4, 3)


def test_a_run_records_its_problems_and_refuses_others(study, chat, tmp_path):
  found, workdir = measured(study, chat), tmp_path / "run"
  record.write(study, workdir, found)
  stored = json.loads((workdir / "config.json").read_text())
  assert stored["problems"] == {
    "in_domain": {
      "asked": 2, "found": 2, "digest": found[0].digest, "dropped": [],
    }
  }  # fmt: skip
  record.write(study, workdir, found)
  write_split(tmp_path, "test", ["1", "7"])
  with pytest.raises(ValueError, match=r"problems\.in_domain\.digest is"):
    record.write(study, workdir, measured(study, chat))


def test_surveys_are_kept_for_the_next_start(study, chat, tmp_path):
  folder = tmp_path / "run/surveys"
  problems.load(study, chat, folder, write=False)
  assert not folder.exists()  # a dry run leaves nothing
  first = problems.load(study, chat, folder)
  assert {p.name for p in folder.iterdir()} == {"prompts.json", "traces.json"}
  before = [p.read_bytes() for p in sorted(folder.iterdir())]
  again = problems.load(study, chat, folder)
  assert first.training["traces"].digest == again.training["traces"].digest
  assert [p.read_bytes() for p in sorted(folder.iterdir())] == before


@pytest.mark.parametrize("scale", [settings.pod, settings.colab])
def test_every_picture_within_the_limits_has_a_bucket(scale):
  """With 256 tokens left for the question; shapes in between, by samples."""
  data, vision = scale().data, VisionLayout()
  budget = PixelBudget(data.min_pixels, data.max_pixels)
  room = images.largest(vision, budget)
  assert room.slots <= data.patch_slots[-1]
  assert room.tokens + 256 <= data.prompt_tokens[-1]
  rng = np.random.default_rng(0)
  for aspect in np.exp(rng.uniform(-np.log(190), np.log(190), 400)):
    area = rng.uniform(1e6, 4e6)  # one to four megapixels
    size = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
    grid = images.grid_of(vision, *size, budget)
    assert layout.slots(vision, grid) <= room.slots
    assert layout.image_tokens(vision, grid) <= room.tokens


def test_buckets_that_are_too_small_for_some_pictures_are_named(
  study, chat, caplog
):
  problems.load(study, chat)
  assert "take 56 tokens and 896 patch slots" in caplog.text
  assert "the largest bucket has 200 and 64" in caplog.text
  caplog.clear()
  roomy = dataclasses.replace(study.data, patch_slots=(896,))
  problems.load(dataclasses.replace(study, data=roomy), chat)
  assert "patch slots" not in caplog.text


def learned(study, chat, **asked):
  data = dataclasses.replace(study.data, **asked)
  return problems.load(dataclasses.replace(study, data=data), chat)


def test_rows_to_learn_from_do_not_shrink_in_silence(
  study, chat, tmp_path, caplog
):
  """`train[:2101]` of 4 rows, of which one has no answer."""
  write_split(tmp_path, "train", ["3", "3", "", "3"])
  with caplog.at_level(logging.INFO):
    learned(study, chat, traces=2, train_problems=2)
  told = {r.getMessage(): r.levelname for r in caplog.records}
  assert told["traces: 2 rows to learn from asked for, 2 there, 0 of them drop"
              "ped"] == "INFO"  # fmt: skip
  caplog.clear()
  found = learned(study, chat, traces=2101, train_problems=2, max_dropped=0.25)
  assert (
    "traces: 2101 rows to learn from asked for, 4 there, 1 of them dropped:"
    " the run trains on 3"
  ) in {r.getMessage() for r in caplog.records if r.levelname == "WARNING"}
  record.write(study, tmp_path / "run", rows=found.record())
  stored = json.loads((tmp_path / "run/config.json").read_text())["rows"]
  assert stored["traces"] == {
    "asked": 2101,
    "found": 3,
    "digest": found.training["traces"].digest,
    "dropped": [["train/2", "the reference is empty: nothing to score an answer"
                 " by"]],
  }  # fmt: skip
  assert (stored["prompts"]["asked"], stored["prompts"]["found"]) == (2, 2)
