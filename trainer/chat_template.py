"""
Default arguments of a chat template, such as `enable_thinking`.

They are written into the template itself. So they hold wherever the processor goes: in TRL's own collator, in a
pipeline of transformers, in a saved model, and on a server that serves it.
"""

import json
import re

from transformers import ProcessorMixin


HEADER = re.compile(r"\{#- chat_template_kwargs: (\{.*?\}) #\}.*?\{\{- '' \}\}", re.DOTALL)
# Thinking models are asked for the answer alone: CT-RATE's reports hold no thoughts that could be learnt or measured.
DEFAULTS = {"enable_thinking": False}
THOUGHT_BEGINS, THOUGHT_ENDS = "<think>", "</think>"


def set_chat_template_kwargs(processor: ProcessorMixin, kwargs: dict | None = None) -> dict:
    """
    Writes default arguments into the chat template of a processor. `apply_chat_template` can still override them.

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
    written, template = HEADER.match(template), HEADER.sub("", template, count=1)
    if kwargs is None and written:
        return json.loads(written[1])
    known = {name: value for name, value in DEFAULTS.items() if is_used(name, template)}
    kwargs = known if kwargs is None else kwargs
    if unused := [name for name in kwargs if not is_used(name, template)]:
        raise ValueError(
            f"chat_template_kwargs: the chat template of this model does not use {unused[0]!r}, so it would have no "
            f"effect. Leave it out{', or use enable_thinking' * bool(known)}."
        )
    if kwargs or written:
        given = json.dumps(kwargs)
        sets = "".join(
            f"{{%- if {name} is not defined %}}{{%- set {name} = {json.dumps(value)} %}}{{%- endif %}}"
            for name, value in kwargs.items()
        )
        # The empty expression at the end keeps white space at the beginning of the template.
        processor.chat_template = f"{{#- chat_template_kwargs: {given} #}}{sets}{{{{- '' }}}}{template}"
    return kwargs


def without_thought(text: str, begun: bool = False) -> str | None:
    """
    What a model writes after its thought; the whole text if it does not think.

    Args:
        text (`str`):
            What the model has written.
        begun (`bool`, *optional*, defaults to `False`):
            Whether the prompt has begun the thought already.

    Returns:
        `str` or `None`: the answer; `None` if the thought does not end, so that there is no answer.
    """
    _, ended, answer = text.rpartition(THOUGHT_ENDS)
    if not ended and (begun or text.lstrip().startswith(THOUGHT_BEGINS)):
        return None
    return answer.strip()


def is_used(name: str, template: str) -> bool:
    """Whether a chat template mentions an argument."""
    return re.search(rf"\b{re.escape(name)}\b", template) is not None
