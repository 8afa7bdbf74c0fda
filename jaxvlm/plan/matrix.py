"""The cells of `make pods`: name -> flags of `jaxvlm plan`.

Every row of docs/pods.md can so be repeated by hand. A name says model,
objective and slice. "One row" is 2,048 tokens, 256 of them a picture. A study's
own programs are not among them: it compiles them itself (its `--plan`).
"""

_LORA_72B = "--model=72b --lora_rank=64 --freeze_vision"

CELLS: dict[str, str] = {
  # The two that the project is for.
  "7b sft v5e:8x8": "--model=7b --objective=sft --topology=v5e:8x8",
  # Four copies: gradients are summed in pieces (docs/pods.md).
  "7b sft v5e:8x8 data 4": (
    "--model=7b --objective=sft --topology=v5e:8x8 --mesh.data=4 --mesh.fsdp=16"
  ),
  "7b<72b opd v5e:8x8": (
    "--model=7b --teacher=72b --objective=opd --topology=v5e:8x8"
  ),
  "72b cw_dpo lora v5e:8x8": (
    f"{_LORA_72B} --objective=cw_dpo --topology=v5e:8x8"
  ),
  "7b rollout v5e:4x4": (
    "--model=7b --objective=rollout --topology=v5e:4x4 --mesh.data=4"
    " --mesh.fsdp=1 --mesh.tensor=4 --completion_tokens=2048"
    " --master=bfloat16"
  ),
  "7b rollout v6e:2x4": (
    "--model=7b --objective=rollout --topology=v6e:2x4 --mesh.data=2"
    " --mesh.fsdp=1 --mesh.tensor=4 --completion_tokens=2048"
    " --master=bfloat16"
  ),
  # 7B: the student.
  "7b sft v5e:2x4": (
    "--model=7b --objective=sft --topology=v5e:2x4 --prompts=8"
  ),
  "7b sft_c v6e:4x4": (
    "--model=7b --objective=sft_c --topology=v6e:4x4 --prompts=16"
  ),
  "7b<72b opd v5p:2x2x4": (
    "--model=7b --teacher=72b --objective=opd --topology=v5p:2x2x4"
    " --prompts=16 --group=4"
  ),
  "7b<72b opd int8 v6e:4x4": (
    "--model=7b --teacher=72b --objective=opd --topology=v6e:4x4"
    " --prompts=16 --int8_teacher"
  ),
  "7b dpo v6e:4x4": (
    "--model=7b --objective=dpo --topology=v6e:4x4 --prompts=16"
  ),
  "7b cw_dpo v5p:2x2x4": (
    "--model=7b --objective=cw_dpo --topology=v5p:2x2x4 --prompts=64"
  ),
  "7b cw_dpo int8 v5e:4x4": (
    "--model=7b --objective=cw_dpo --topology=v5e:4x4 --prompts=16"
    " --int8_teacher --first_moment=bfloat16"
  ),
  "7b grpo v5e:8x8": ("--model=7b --objective=grpo --topology=v5e:8x8"),
  "7b grpo kl v6e:4x4": (
    "--model=7b --objective=grpo --topology=v6e:4x4 --prompts=16 --kl_coef=0.01"
  ),
  # 3B: the small student, and one chip.
  "3b sft lora v5e:1x1": (
    "--model=3b --objective=sft --topology=v5e:1x1 --prompts=1"
    " --lora_rank=16 --freeze_vision"
  ),
  "3b sft v5e:4x4": (
    "--model=3b --objective=sft --topology=v5e:4x4 --prompts=32"
  ),
  "3b sft_c v5e:4x4": (
    "--model=3b --objective=sft_c --topology=v5e:4x4 --prompts=16"
  ),
  "3b<7b opd v6e:2x4": (
    "--model=3b --teacher=7b --objective=opd --topology=v6e:2x4 --prompts=16"
  ),
  "3b dpo v6e:2x4": (
    "--model=3b --objective=dpo --topology=v6e:2x4 --prompts=16"
  ),
  "3b cw_dpo v5p:2x2x1": (
    "--model=3b --objective=cw_dpo --topology=v5p:2x2x1 --prompts=16"
  ),
  "3b grpo v5e:4x4": (
    "--model=3b --objective=grpo --topology=v5e:4x4 --prompts=16"
  ),
  "3b rollout v5e:2x2": (
    "--model=3b --objective=rollout --topology=v5e:2x2 --prompts=32"
    " --mesh.data=2 --mesh.fsdp=1 --mesh.tensor=2 --master=bfloat16"
  ),
  # Qwen3-VL: one chip, the student, and its teacher.
  "qwen3-vl-4b sft lora v5e:1x1": (
    "--model=qwen3-vl-4b --objective=sft --topology=v5e:1x1 --prompts=1"
    " --lora_rank=16 --freeze_vision"
  ),
  "qwen3-vl-8b grpo v5e:8x8": (
    "--model=qwen3-vl-8b --objective=grpo --topology=v5e:8x8"
  ),
  "qwen3-vl-8b<32b opd v5e:8x8": (
    "--model=qwen3-vl-8b --teacher=qwen3-vl-32b --objective=opd"
    " --topology=v5e:8x8"
  ),
  # Coders: text alone.
  "qwen2.5-coder-3b grpo lora v5e:2x2": (
    "--model=qwen2.5-coder-3b --objective=grpo --topology=v5e:2x2 --prompts=16"
    " --lora_rank=128"
  ),
  "deepseek-coder-6.7b grpo lora v5e:2x4": (
    "--model=deepseek-coder-6.7b --objective=grpo --topology=v5e:2x4"
    " --prompts=16 --lora_rank=128"
  ),
  "deepseek-coder-6.7b rollout v5e:2x4": (
    "--model=deepseek-coder-6.7b --objective=rollout --topology=v5e:2x4"
    " --prompts=16 --mesh.data=2 --mesh.fsdp=1 --mesh.tensor=4"
    " --master=bfloat16"
  ),
  # 72B.
  "72b sft v5p:4x4x4": ("--model=72b --objective=sft --topology=v5p:4x4x4"),
  "72b sft_c lora v6e:4x4": (
    f"{_LORA_72B} --objective=sft_c --topology=v6e:4x4 --prompts=16"
  ),
  "72b dpo lora int8 v6e:4x4": (
    f"{_LORA_72B} --objective=dpo --topology=v6e:4x4 --prompts=16"
    " --int8_teacher"
  ),
  "72b cw_dpo lora v5p:2x2x4": (
    f"{_LORA_72B} --objective=cw_dpo --topology=v5p:2x2x4 --prompts=16"
  ),
  "72b grpo lora v6e:8x8": (f"{_LORA_72B} --objective=grpo --topology=v6e:8x8"),
  "72b<72b opd lora v5p:4x4x4": (
    f"{_LORA_72B} --teacher=72b --objective=opd --topology=v5p:4x4x4"
  ),
  "72b rollout v5p:2x2x2": (
    "--model=72b --objective=rollout --topology=v5p:2x2x2 --prompts=32"
    " --mesh.data=1 --mesh.fsdp=1 --mesh.tensor=8 --master=bfloat16"
  ),
  "72b sft v5e:4x4": (
    "--model=72b --objective=sft --topology=v5e:4x4 --prompts=16"
  ),
}

# Compile time of the same step, layers scanned and unrolled.
SCANNED = "--model=7b --objective=sft --topology=v5e:8x8 --layers=12"
UNROLLED = f"{SCANNED} --noscan"
