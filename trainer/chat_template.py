"""
Default arguments of a chat template, such as `enable_thinking`, and prompts that end where the answer begins.

Both are written into the template itself. So they hold wherever the processor goes: in TRL's own collator, in a
pipeline of transformers, in a saved model, and on a server that serves it.
"""

import json
import re
from collections.abc import Sequence

from transformers import Blip2Processor, InstructBlipProcessor, PreTrainedTokenizerBase, ProcessorMixin

from ct_rate_pairs.json_files import parse_json


HEADER = re.compile(r"\{#- chat_template_kwargs: (\{.*?\}) #\}.*?\{\{- '' \}\}", re.DOTALL)
FOOTER = re.compile(r"\{% if add_generation_prompt %\}\{\{ (\".*?\") \}\}\{% endif %\}\{# before the answer #\}$")
PROBE = "A nodule."
# Thinking models are asked for the answer alone: CT-RATE's reports hold no thoughts that could be learnt or measured.
DEFAULTS = {"enable_thinking": False}
# How models mark their thought: Qwen and others, MedGemma, Magistral, Kimi, Gemma 4, Command A, gpt-oss.
_THOUGHTS = (
    *("think", "thinking", "thought", "thoughts", "reason", "reasoning", "rationale", "analysis", "reflection"),
    *("scratchpad", "seed:think"),
)
THOUGHT_MARKS = (
    *((f"<{name}>", f"</{name}>") for name in _THOUGHTS),
    ("<unused94>", "<unused95>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|channel>", "<channel|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis", "<|channel|>final<|message|>"),
)
# The tokens that marks are made of. Most marks are one token, those of gpt-oss are two and a word.
_MARK_TOKENS = {*(mark for pair in THOUGHT_MARKS for mark in pair), "<|channel|>", "<|message|>"}
_BEGINS, _ENDS = (
    re.compile("|".join(map(re.escape, marks)), re.IGNORECASE) for marks in zip(*THOUGHT_MARKS, strict=True)
)
# What models and templates write around an answer: `<answer>`, another tag or a fence around all of it, and tokens
# such as `<|begin_of_box|>`.
_ANSWER_BEGINS, _ANSWER_ENDS = (
    re.compile(rf"<{slash}(?:final|(?:final_?)?(?:answer|response|report|output|result))>", re.IGNORECASE)
    for slash in ("", "/")
)
_TOKENS_AROUND = re.compile(r"^(?:\s*<\|\w+\|>)+|(?<!\|>)(?<!\|>\s)(?:<\|\w+\|>\s?)+$")
_AROUND_ALL = re.compile(r"<(\w+)>(?P<inner>(?:(?!</?\1>).)*)</\1>|```\w*\n(?P<fenced>(?:(?!```).)*)```", re.DOTALL)


def takes_one_picture(processor: ProcessorMixin) -> bool:
    """Whether a processor is BLIP-2's or InstructBLIP's, which places one picture before the text."""
    return isinstance(processor, Blip2Processor | InstructBlipProcessor)


def set_plain_template(processor: ProcessorMixin) -> None:
    """
    Gives a processor of BLIP-2 or InstructBLIP, which have no chat template, one that writes a plain question: for
    BLIP-2 `Question: ... Answer:`, for InstructBLIP the instruction alone. Other processors are left as they are.
    """
    if not takes_one_picture(processor) or processor.chat_template:
        return
    before, after = ("Question: ", " Answer:") if isinstance(processor, Blip2Processor) else ("", "")
    processor.chat_template = (
        "{% for message in messages %}"
        "{% set text = message.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join(' ') %}"
        "{% if message.role == 'assistant' %}{{ ' ' + text + '\n' }}"
        f"{{% else %}}{{{{ {json.dumps(before)} + text + {json.dumps(after)} }}}}{{% endif %}}{{% endfor %}}"
    )


def set_chat_template_kwargs(processor: ProcessorMixin, kwargs: dict | None = None) -> dict:
    """
    Writes default arguments into the chat template of a processor. `apply_chat_template` can still override them.

    What the template writes before an answer, and not at the end of a prompt (such as the end of an empty thought), is
    added to the end of prompts; but not if `kwargs` let the model think.

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            Processor whose `chat_template` is changed.
        kwargs (`dict`, *optional*):
            The default arguments. `{}` keeps the template as its authors wrote it. By default, the arguments that an
            earlier call has written stay; otherwise, thinking is turned off if the template knows `enable_thinking`.

    Returns:
        `dict`: the default arguments that the template now has.

    Raises:
        `ValueError`: for an argument that the template does not use.
    """
    template = processor.chat_template
    if not isinstance(template, str):  # no template, or several of them: rendering tells
        return {}
    written = HEADER.match(template)
    if kwargs is None and written:
        return parse_json(written[1], "chat_template_kwargs in the chat template")
    template = FOOTER.sub("", HEADER.sub("", template, count=1))
    known = {name: value for name, value in DEFAULTS.items() if is_used(name, template)}
    thinks = kwargs is not None and kwargs.get("enable_thinking") is not False
    kwargs = known if kwargs is None else kwargs
    if unused := [name for name in kwargs if not is_used(name, template)]:
        raise ValueError(
            f"chat_template_kwargs: the chat template of this model does not use {unused[0]!r}, so it would have no "
            f"effect. Leave it out{', or use enable_thinking' * bool(known)}."
        )
    processor.chat_template = template
    if kwargs or written:
        sets = "".join(
            f"{{%- if {name} is not defined %}}{{%- set {name} = {json.dumps(value)} %}}{{%- endif %}}"
            for name, value in kwargs.items()
        )
        # The empty expression at the end keeps white space at the beginning of the template.
        processor.chat_template = f"{{#- chat_template_kwargs: {json.dumps(kwargs)} #}}{sets}{{{{- '' }}}}{template}"
    if not thinks and (before := before_answers(processor)):
        # Jinja drops a line break at the end of a template, which would now be in the middle.
        processor.chat_template = processor.chat_template.removesuffix("\n") + (
            f"{{% if add_generation_prompt %}}{{{{ {json.dumps(before)} }}}}{{% endif %}}{{# before the answer #}}"
        )
    return kwargs


def before_answers(processor: ProcessorMixin) -> str:
    """What a chat template writes before an answer, but not at the end of a prompt."""
    prompt, dialogue = _probe(processor)
    before = dialogue.removeprefix(prompt).partition(PROBE)[0] if dialogue.startswith(prompt) else ""
    return before.rstrip(" ")  # a tokenizer joins a blank with the word after it


def end_of_answers(processor: ProcessorMixin) -> int | None:
    """The token that a chat template writes after an answer; `None` if it writes no such token."""
    tokenizer = processor.tokenizer
    end = end_of_turn(tokenizer, _probe(processor)[1].rpartition(PROBE)[2])
    return tokenizer.get_added_vocab().get(end)


def _probe(processor: ProcessorMixin) -> tuple[str, str]:
    """A prompt, and a dialogue of this prompt and an answer; both say `PROBE`."""
    question, answer = ({"role": role, "content": [{"type": "text", "text": PROBE}]} for role in ("user", "assistant"))
    prompt = processor.apply_chat_template([question], add_generation_prompt=True)
    return prompt, processor.apply_chat_template([question, answer])


def end_of_turn(tokenizer: PreTrainedTokenizerBase, after: str) -> str:
    """The token that ends a turn, out of what a template writes after an answer; all of it if it has no such token."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    written = [token for token in special if token in after]
    return tokenizer.eos_token if tokenizer.eos_token in written else max(written, key=after.rfind, default=after)


def without_thought(text: str, begun: bool = False) -> str | None:
    """
    What a model writes after its thought, without what it writes around its answer; the whole text if it does neither.

    Args:
        text (`str`):
            What the model has written.
        begun (`bool`, *optional*, defaults to `False`):
            Whether the prompt has begun the thought already.

    Returns:
        `str` or `None`: the answer; `None` if the thought does not end, so that there is no answer.
    """
    ends = [mark.end() for mark in _ENDS.finditer(text)]
    answer = text[ends[-1] :] if ends else text
    if _BEGINS.search(answer) or (begun and not ends):
        return None
    answer = _TOKENS_AROUND.sub("", _ANSWER_ENDS.split(_ANSWER_BEGINS.split(answer)[-1], maxsplit=1)[0]).strip()
    around = _AROUND_ALL.fullmatch(answer)
    return (around["inner"] or around["fenced"] or "").strip() if around else answer


def begins_thought(prompt: str) -> bool:
    """Whether a prompt ends with the mark that begins a thought."""
    return any(mark.end() == len(prompt.rstrip()) for mark in _BEGINS.finditer(prompt))


def decode_with_marks(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """
    The text of tokens without special tokens, but with the marks of a thought: in some tokenizers these are special
    tokens, and without them a thought would read as the report.
    """
    added = tokenizer.added_tokens_decoder.items()
    marks = {number for number, token in added if token.special and token.content in _MARK_TOKENS}
    parts, text = [], []
    for token in tokens:
        if token in marks:
            parts += [tokenizer.decode(text, skip_special_tokens=True), tokenizer.convert_ids_to_tokens(token)]
            text = []
        else:
            text.append(token)
    return "".join([*parts, tokenizer.decode(text, skip_special_tokens=True)])


def is_used(name: str, template: str) -> bool:
    """Whether a chat template mentions an argument."""
    return re.search(rf"\b{re.escape(name)}\b", template) is not None
