"""Renders chat templates with transformers, for tests/models/chat_template.rs.

pip install "transformers==4.46.3" jinja2; usage: export_chat.py [tests/golden/chat]
Reads each folder's tokenizer_config.json and chat_template.jinja, and writes cases.json next to them.
"""

import json
import sys
import tempfile
from pathlib import Path

import jinja2
import tokenizers
import transformers

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"


def conversation(*turns):
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS = {
    "single turn": conversation((USER, "Hello!")),
    "several turns": conversation(
        (USER, "What is 2 + 2?"), (ASSISTANT, "4"), (USER, "And <times> \"3\" & '5'?"), (ASSISTANT, "60, or 12."), (USER, "Sure?")
    ),
    "with system": conversation((SYSTEM, "You are terse."), (USER, "Hi."), (ASSISTANT, "Hi."), (USER, "Bye.")),
    "unicode and newlines": conversation(
        (USER, "Zwölf Boxkämpfer\njagen 日本語 🎉\n\nund e\u0301"), (ASSISTANT, "👩‍👩‍👧‍👦\r\n\tok"), (USER, "\u00a0שלום\u3000")
    ),
    "blanks around": conversation(
        (SYSTEM, "  be kind \n"), (USER, " \n\t padded  \n\n"), (ASSISTANT, "\n answer \n"), (USER, "   ")
    ),
    "empty messages": conversation((USER, ""), (ASSISTANT, ""), (USER, "")),
    "ends with an answer": conversation((USER, "Hello"), (ASSISTANT, "World")),
    "text like special tokens": conversation(
        (USER, "<|im_end|>\n<|im_start|>system\n</s><eos><|end|><end_of_turn><|eot_id|>[INST]"), (ASSISTANT, "[/INST]</s>"), (USER, "<s>")
    ),
    "two users in a row": conversation((USER, "one"), (USER, "two")),
    "an answer first": conversation((ASSISTANT, "one"), (USER, "two")),
    "system in the middle": conversation((USER, "one"), (SYSTEM, "two"), (USER, "three")),
}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a town, <now> & \"here\" - 日本.",
        "parameters": {
            "type": "object",
            "properties": {
                "town": {"type": "string", "description": "The town's name"},
                "days": {"type": "integer", "enum": [1, 3, 7], "default": None},
            },
            "required": ["town"],
        },
    },
}
CALL = {"type": "function", "id": "abc123def", "function": {"name": "get_weather", "arguments": {"town": "Zürich", "days": 3, "exact": 0.5}}}
WITH_TOOLS = [
    {"role": SYSTEM, "content": "Use tools."},
    {"role": USER, "content": "Weather in Zürich?"},
    {"role": ASSISTANT, "content": "", "tool_calls": [CALL]},
    {"role": "tool", "name": "get_weather", "content": '{"sky": "blue"}', "tool_call_id": "abc123def"},
    {"role": ASSISTANT, "content": "Blue."},
    {"role": USER, "content": "Thanks!"},
]
THINKING = conversation(
    (USER, "Think."), (ASSISTANT, "<think>\nhm\n</think>\n\nDone."), (USER, "More."), (ASSISTANT, "<think>\nagain\n</think>\n\nDone again.")
)
REFUSED = conversation((USER, "a"), ("refuse", "for a reason"))
SKIPPED = conversation((USER, "a"), ("skip", "left out"), (ASSISTANT, "b"), ("stop", "end"), (USER, "c"))

# Conversations with additional variables, for the templates that use them.
MORE = {
    "llama-3.2": [("tools", WITH_TOOLS, {"tools": [WEATHER]}), ("tools beside", WITH_TOOLS[:2], {"tools": [WEATHER], "tools_in_user_message": False})],
    "mistral-7b-v0.3": [("tools", WITH_TOOLS[1:], {"tools": [WEATHER, WEATHER]})],
    "qwen2.5": [("tools", WITH_TOOLS, {"tools": [WEATHER]})],
    "qwen3": [
        ("tools", WITH_TOOLS, {"tools": [WEATHER]}),
        ("thinking", THINKING, {}),
        ("no thinking", THINKING[:3], {"enable_thinking": False}),
    ],
    "several-templates": [("tools", WITH_TOOLS[1:2], {"tools": [WEATHER]})],
    "every-extension": [("refused", REFUSED, {}), ("skipped", SKIPPED, {}), ("none", [], {})],
}
# A fixed date for templates that use today's date.
ALWAYS = {"llama-3.2": {"date_string": "26 Jul 2024"}}


def load(folder):
    """The tokenizer as transformers loads it; the vocabulary does not matter."""
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        (directory / "tokenizer_config.json").write_bytes((folder / "tokenizer_config.json").read_bytes())
        vocabulary = tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")
        tokenizers.Tokenizer(vocabulary).save(str(directory / "tokenizer.json"))
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(directory)
    # Later versions read this file, which takes precedence over tokenizer_config.json.
    if (folder / "chat_template.jinja").exists():
        tokenizer.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return tokenizer


def render(tokenizer, name, messages, variables, generation_prompt):
    variables = {**ALWAYS.get(name, {}), **variables}
    case = {"case": "", "messages": messages, "variables": variables, "add_generation_prompt": generation_prompt}
    try:
        case["text"] = render_text(tokenizer, messages, variables, generation_prompt)
    except jinja2.exceptions.TemplateError as error:
        case["error"] = str(error)
    return case


def render_text(tokenizer, messages, variables, generation_prompt):
    if messages:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation_prompt, **variables)
    # `apply_chat_template` needs at least one message.
    template = transformers.utils.chat_template_utils._compile_jinja_template(tokenizer.chat_template)
    return template.render(
        messages=messages, tools=None, documents=None, add_generation_prompt=generation_prompt, **tokenizer.special_tokens_map
    )


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/chat")
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        tokenizer = load(folder)
        conversations = [(name, messages, {}) for name, messages in CONVERSATIONS.items()]
        cases = []
        for name, messages, variables in conversations + MORE.get(folder.name, []):
            for generation_prompt in [False, True]:
                case = render(tokenizer, folder.name, messages, variables, generation_prompt)
                cases.append({**case, "case": name})
        with open(folder / "cases.json", "w", encoding="utf-8") as file:
            file.write("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n")
        errors = sum("error" in case for case in cases)
        print(f"{folder.name}: {len(cases)} cases, {errors} of them errors")


if __name__ == "__main__":
    main()
