"""Config: dataclass to flags to dataclass to JSON, and its errors."""

import dataclasses
import enum
import json
import math
import re
from typing import Optional

import hypothesis
import numpy as np
import pytest
from absl import flags
from hypothesis import strategies as st

from jaxvlm import config


class Kind(enum.Enum):
  COSINE = 1
  LINEAR = 2


@dataclasses.dataclass(frozen=True)
class Schedule:
  peak: float = dataclasses.field(
    default=1e-3, metadata={"help": "largest learning rate"}
  )
  kind: Kind = Kind.COSINE
  kinds: tuple[Kind, ...] = (Kind.COSINE,)


@dataclasses.dataclass(frozen=True)
class Train:
  steps: int = 100
  remat: bool = True
  schedule: Schedule = Schedule()


@dataclasses.dataclass(frozen=True)
class Study:
  name: str = "stage 1"
  seeds: tuple[int, ...] = (0, 1)
  shape: tuple[int, float] = (2, 0.5)
  clip: float | None = 1.0
  limit: Optional[int] = None  # noqa: UP045  (the old spelling must work too)
  names: tuple[str, ...] = ()
  train: Train = Train()


def _parse(study, *arguments, prefix=""):
  values = flags.FlagValues()
  config.define_flags(study, values, prefix)
  values(["program", *arguments])
  return config.from_flags(study, values, prefix), values


def test_without_arguments_flags_return_the_config():
  parsed, values = _parse(Study())
  assert parsed == Study()
  assert sorted(name for name in values if name in dir(values)) == sorted(
    [
      "name", "seeds", "shape", "clip", "limit", "names", "train.steps",
      "train.remat", "train.schedule.peak", "train.schedule.kind",
      "train.schedule.kinds",
    ]
  )  # fmt: skip


def test_flags_replace_leaves():
  parsed, _ = _parse(
    Study(),
    "--name=a, b",
    "--seeds=3, 4,5",
    "--shape=7,1e2",
    "--clip=none",
    "--limit=12",
    "--names=x,y",
    "--train.steps=7",
    "--notrain.remat",
    "--train.schedule.peak=1e-5",
    "--train.schedule.kind=LINEAR",
    "--train.schedule.kinds=",
  )
  assert parsed == Study(
    name="a, b",
    seeds=(3, 4, 5),
    shape=(7, 100.0),
    clip=None,
    limit=12,
    names=("x", "y"),
    train=Train(steps=7, remat=False, schedule=Schedule(1e-5, Kind.LINEAR, ())),
  )
  assert type(parsed.shape[1]) is float


def test_prefix_help_and_flagfile_text():
  parsed, values = _parse(Train(), "--student.steps=5", prefix="student")
  assert parsed.steps == 5
  assert values["student.schedule.peak"].help == "largest learning rate"
  assert values["student.steps"].help == "int"
  again = flags.FlagValues()
  config.define_flags(Train(), again, "student")
  again(["program", *values.flags_into_string().split()])
  assert config.from_flags(Train(), again, "student") == parsed


@pytest.mark.parametrize(
  ("argument", "found"),
  [
    ("--train.steps=1e3", "1e3"),
    ("--train.steps=none", "none"),
    ("--train.remat=maybe", "maybe"),
    ("--train.schedule.kind=cubic", "expected one of cosine, linear"),
    ("--shape=1", "expected tuple[int, float]"),
    ("--seeds=1,two", "two"),
    ("--clip=big", "big"),
  ],
)
def test_bad_arguments_name_flag_and_value(argument, found):
  with pytest.raises(flags.Error, match=re.escape(found)) as error:
    _parse(Study(), argument)
  assert argument[2:].split("=")[0] in str(error.value)


@pytest.mark.parametrize("word", ["linear", "LINEAR", "Linear", " linear"])
def test_names_of_members_are_read_in_any_case_and_shown_in_one(word):
  parsed, values = _parse(
    Study(), f"--train.schedule.kind={word}", f"--train.schedule.kinds={word}"
  )
  assert parsed.train.schedule.kind is Kind.LINEAR
  assert parsed.train.schedule.kinds == (Kind.LINEAR,)
  assert "--train.schedule.kind=linear\n" in values.flags_into_string()
  assert "cosine, linear" in values["train.schedule.kind"].help
  # What is stored keeps its spelling, and so do digests.
  stored = config.to_json(parsed)["train"]["schedule"]
  assert stored["kind"] == "LINEAR"


@dataclasses.dataclass(frozen=True)
class Places:
  data_dir: config.FilePath = ""
  cache: config.FilePath | None = None
  more: tuple[config.FilePath, ...] = ()
  note: str = ""


def test_a_tilde_is_the_home_folder_in_every_path_and_nowhere_else(
  monkeypatch, tmp_path
):
  monkeypatch.setenv("HOME", str(tmp_path))
  found, _ = _parse(
    Places(),
    "--data_dir=~/data",
    "--cache=~",
    "--more=~/a,b/~/c,./~",
    "--note=~/note",
  )
  assert found == Places(
    f"{tmp_path}/data",
    str(tmp_path),
    (f"{tmp_path}/a", "b/~/c", "./~"),
    "~/note",
  )
  with pytest.raises(flags.Error, match="data_dir.*home folder of nobody"):
    _parse(Places(), "--data_dir=~nobody-of-this-name/x")
  assert config.from_json(Places, config.to_json(found)) == found
  with pytest.raises(ValueError, match="data_dir: got 3 .* expected path"):
    config.from_json(Places, {"data_dir": 3})


def test_flags_of_paths_by_hand(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path))
  values = flags.FlagValues()
  out = config.define_path("out", None, "a folder", values)
  images = config.define_paths("image", "a picture", values)
  values(["program"])
  assert (out.value, images.value) == (None, [])
  values(["program", "--out=~/x", "--image=~/a.png", "--image=none"])
  assert out.value == f"{tmp_path}/x"
  assert images.value == [f"{tmp_path}/a.png", "none"]


@pytest.mark.parametrize(
  "annotation",
  [
    dict,
    list[int],
    tuple,
    int | str,
    int | str | None,
    dict | None,
    tuple[tuple[int, ...], ...] | None,
    Schedule | None,
    object,
  ],
)
def test_unsupported_leaf_is_named(annotation):
  cls = dataclasses.make_dataclass(
    "Odd", [("odd_field", annotation, None)], frozen=True
  )
  with pytest.raises(ValueError, match="odd_field: a config field"):
    config.define_flags(cls(), flags.FlagValues())
  with pytest.raises(ValueError, match="odd_field: a config field"):
    config.to_json(cls())
  with pytest.raises(ValueError, match="odd_field: a config field"):
    config.from_json(cls, {"odd_field": None})


def test_unfrozen_config_and_ambiguous_defaults_are_refused():
  @dataclasses.dataclass
  class Loose:
    steps: int = 1

  with pytest.raises(ValueError, match=r"Loose is not frozen"):
    config.define_flags(Loose(), flags.FlagValues())
  with pytest.raises(ValueError, match=r"names: the default"):
    config.define_flags(Study(names=("a,b",)), flags.FlagValues())


def test_json_round_trip_through_text():
  study = Study(
    clip=math.inf,
    train=Train(schedule=Schedule(2, Kind.LINEAR, (Kind.LINEAR, Kind.COSINE))),
  )
  text = json.dumps(config.to_json(study), allow_nan=False)
  assert config.from_json(Study, json.loads(text)) == study
  stored = json.loads(text)
  assert stored["clip"] == "inf"
  assert stored["train"]["schedule"] == {
    "peak": 2.0, "kind": "LINEAR", "kinds": ["LINEAR", "COSINE"],
  }  # fmt: skip
  assert config.from_json(Study, {}) == Study()


def test_unknown_field_is_named_with_the_nearest():
  with pytest.raises(ValueError) as error:
    config.from_json(Study, {"train": {"stepz": 3}})
  message = str(error.value)
  assert "train.stepz" in message
  assert "did you mean 'steps'" in message
  assert "steps, remat, schedule" in message


@pytest.mark.parametrize(
  ("values", "name", "expected"),
  [
    ({"train": {"steps": "7"}}, "train.steps", "int"),
    ({"train": {"steps": True}}, "train.steps", "int"),
    ({"train": {"steps": 1.0}}, "train.steps", "int"),
    ({"train": {"remat": 1}}, "train.remat", "bool"),
    ({"train": {"schedule": {"peak": "1e-3"}}}, "schedule.peak", "float"),
    (
      {"train": {"schedule": {"kind": "CUBIC"}}},
      "schedule.kind",
      "one of cosine",
    ),
    ({"train": 3}, "train", "dict"),
    ({"seeds": [1, "x"]}, "seeds[1]", "int"),
    ({"seeds": 3}, "seeds", "tuple[int, ...]"),
    ({"shape": [1]}, "shape", "tuple[int, float]"),
    ({"limit": 1.5}, "limit", "expected int"),
  ],
)
def test_wrong_types_are_named(values, name, expected):
  with pytest.raises(ValueError) as error:
    config.from_json(Study, values)
  assert name in str(error.value)
  assert expected in str(error.value)


def test_missing_field_without_default_is_named():
  cls = dataclasses.make_dataclass("Needs", [("depth", int)], frozen=True)
  with pytest.raises(ValueError, match="depth: missing"):
    config.from_json(cls, {})


def test_digest_depends_on_values_only():
  assert config.digest(Study()) == config.digest(Study())
  assert config.digest(Study(clip=1)) == config.digest(Study(clip=1.0))
  others = [
    Study(clip=None),
    Study(seeds=(1, 0)),
    Study(train=Train(steps=101)),
    Study(train=Train(schedule=Schedule(kind=Kind.LINEAR))),
  ]
  assert len({config.digest(study) for study in [Study(), *others]}) == 5
  assert re.fullmatch("[0-9a-f]{64}", config.digest(Study()))


def test_digest_does_not_depend_on_the_order_of_fields():
  fields = [("depth", int, 2), ("width", float, 0.5)]
  one, two = (
    dataclasses.make_dataclass("Net", order, frozen=True)
    for order in (fields, fields[::-1])
  )
  assert config.digest(one()) == config.digest(two())


def test_values_of_the_wrong_type_never_reach_json():
  with pytest.raises(ValueError, match=r"train\.steps"):
    config.to_json(Study(train=Train(steps="many")))
  with pytest.raises(ValueError, match="seeds"):
    config.digest(Study(seeds=np.arange(3)))


@hypothesis.given(
  st.builds(
    Study,
    name=st.text(),
    seeds=st.lists(st.integers(), max_size=4).map(tuple),
    shape=st.tuples(st.integers(), st.floats(allow_nan=False)),
    clip=st.none() | st.floats(allow_nan=False),
    limit=st.none() | st.integers(),
    names=st.lists(st.from_regex("[a-z]{1,5}", fullmatch=True)).map(tuple),
    train=st.builds(
      Train,
      steps=st.integers(),
      remat=st.booleans(),
      schedule=st.builds(
        Schedule,
        peak=st.floats(allow_nan=False),
        kind=st.sampled_from(Kind),
        kinds=st.lists(st.sampled_from(Kind)).map(tuple),
      ),
    ),
  )
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_every_config_survives_flags_and_json(study):
  parsed, values = _parse(study)
  assert parsed == study
  text = json.dumps(config.to_json(study), allow_nan=False)
  assert config.from_json(Study, json.loads(text)) == study
  # The text of every flag, given on the command line, says the same.
  leaves = config.to_json(study)
  nested = leaves.pop("train")
  nested_schedule = nested.pop("schedule")
  names = [
    *leaves,
    *(f"train.{key}" for key in nested),
    *(f"train.schedule.{key}" for key in nested_schedule),
  ]
  arguments = [
    f"--{name}={config._format(values[name].value)}" for name in names
  ]
  assert _parse(Study(), *arguments)[0] == study
