"""Folders of a tiny random Qwen3-VL, with what the published ones hold."""

import json
import pathlib
from typing import Any

from tests import tiny

# Of the published folders.
PICTURES = {
  "size": {"longest_edge": 16777216, "shortest_edge": 65536},
  "patch_size": 16,
  "temporal_patch_size": 2,
  "merge_size": 2,
  "image_mean": [0.5, 0.5, 0.5],
  "image_std": [0.5, 0.5, 0.5],
  "processor_class": "Qwen3VLProcessor",
  "image_processor_type": "Qwen2VLImageProcessorFast",
}
SMALL = PICTURES | {
  "patch_size": 4,
  "size": {"longest_edge": 1024, "shortest_edge": 256},
}
# What the published template writes of a conversation: no system's turn.
TEMPLATE = (
  "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
  "{% if m.content is string %}{{ m.content }}{% else %}"
  "{% for part in m.content %}{% if part.type == 'image' %}"
  "<|vision_start|><|image_pad|><|vision_end|>"
  "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
  "{{ '<|im_end|>\\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_json(file: pathlib.Path, content: Any) -> None:
  file.write_text(json.dumps(content))


def write(folder: pathlib.Path, texts=()) -> None:
  """Writes `tiny.QWEN3` with a tokenizer of `texts`, and all beside it."""
  tiny.write_folder(folder, texts, config=tiny.QWEN3)
  (folder / "chat_template.jinja").write_text(TEMPLATE)
  write_json(folder / "preprocessor_config.json", SMALL)
