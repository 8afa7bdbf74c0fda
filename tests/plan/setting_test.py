"""What cannot be planned is said before anything is compiled."""

import dataclasses
import json

import pytest

from jaxvlm import models
from jaxvlm.models.qwen2_5_vl import presets
from jaxvlm.plan import matrix, setting
from jaxvlm.plan.setting import Objective, Setting

TEXT = models.PRESETS["qwen2.5-coder-3b"]


def test_presets_and_folders(tmp_path):
  assert setting.load_model("7B") is presets.QWEN_7B
  fields = presets.QWEN_3B.to_dict()
  (tmp_path / "config.json").write_text(json.dumps(fields))
  assert setting.load_model(str(tmp_path)) == presets.QWEN_3B
  with pytest.raises(ValueError, match=r"'13b', expected one of 3b, 7b"):
    setting.load_model("13b")


@pytest.mark.parametrize(
  "changes,message",
  [
    ({"prompts": 0}, "prompts is 0"),
    ({"prompts": 10, "micro_batches": 4}, "multiple of micro_batches 4"),
    ({"patches": 100}, "multiple of 64"),
    ({"patches": 1024, "prompt_tokens": 256}, "more than the 256"),
    ({"objective": Objective.OPD}, "without a teacher"),
    ({"teacher": presets.QWEN_72B}, "SFT with a teacher"),
    ({"objective": Objective.DPO, "group": 1}, "expected 2 for DPO"),
    ({"objective": Objective.ROLLOUT, "lora_rank": 8}, "merge the adapters"),
    ({"objective": Objective.ROLLOUT, "micro_batches": 2}, "it trains nothing"),
    (
      {"objective": Objective.GRPO, "kl_coef": -0.1},
      "kl_coef is -0.1 for GRPO",
    ),
    ({"kl_coef": 0.1}, "kl_coef is 0.1 for SFT"),
    ({"int8_teacher": True}, "nothing frozen"),
    ({"lora_rank": 8, "scan": False}, "without scan"),
    ({"model": TEXT}, "patches is 1024, expected 0: qwen2 reads text only"),
    ({"objective": Objective.OPD, "teacher": TEXT}, "qwen2 reads text only"),
    (
      {"model": TEXT, "patches": 0, "freeze_vision": True},
      "qwen2 has no vision tower",
    ),
  ],
)
def test_contradictions_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    Setting(
      **{
        "model": presets.QWEN_3B,
        "objective": Objective.SFT,
        "topology": "v5e:2x2",
      }
      | changes
    )


def test_the_vocabulary_is_the_tokenizers():
  one = Setting(presets.QWEN_3B, Objective.SFT, "v5e:2x2")
  assert one.vocab_size == setting.TOKENIZER_SIZE < presets.QWEN_3B.vocab_size
  small = dataclasses.replace(presets.QWEN_3B, vocab_size=1000)
  assert dataclasses.replace(one, model=small).vocab_size == 1000


def test_the_matrix_covers_models_objectives_and_chips():
  lines = list(matrix.CELLS.values())
  assert len(lines) >= 24
  for flag, values in {
    "model": ("3b", "7b", "72b"),
    "objective": [one.name.lower() for one in Objective],
    "topology": ("v5e:", "v6e:", "v5p:"),
  }.items():
    for value in values:
      assert any(f"--{flag}={value}" in line for line in lines), value
  assert any(
    all(x in line for x in ("=7b", "teacher=72b", "=opd")) for line in lines
  )
  assert any(
    all(x in line for x in ("=72b", "lora_rank", "=cw_dpo")) for line in lines
  )
