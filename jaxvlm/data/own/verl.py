"""verl's RL rows, mostly parquet, pictures as bytes.

{"data_source": "hiyouga/geometry3k",
 "prompt": [{"role": "user", "content": "<image>Find x. …"}],
 "images": [{"bytes": …}], "reward_model": {"ground_truth": "70"},
 "extra_info": {"index": 0, "split": "train"}}
"""

from collections.abc import Mapping

from jaxvlm.data.own.example import (
  Example,
  Layout,
  Record,
  answer_of,
  conversation,
  from_turns,
  label_of,
  short,
)


def _parse(record: Record) -> Example:
  turns, named = conversation(record.get("prompt"))
  judge = record.get("reward_model")
  if not isinstance(judge, Mapping):
    raise ValueError(
      f"reward_model is {short(judge)}, expected an object with ground_truth"
    )
  extra = record.get("extra_info")
  extra = extra if isinstance(extra, Mapping) else {}
  names = (label_of(extra, "split"), label_of(extra, "index"))
  example = from_turns(record, turns, named)
  return example._replace(
    answer=answer_of(judge, "ground_truth"),
    id=example.id or ("/".join(names) if names[1] else ""),
    group=label_of(record, "data_source"),
  )


LAYOUT = Layout(
  "verl",
  "prompt (messages) and reward_model.ground_truth, and as they are needed"
  " images, data_source, extra_info",
  lambda record: "prompt" in record and "reward_model" in record,
  _parse,
)
