"""Chat templates: what Quern renders beside what the `transformers` library renders of the same.

Needs `transformers`, which Quern does not (`pip install --target FOLDER transformers`, and
PYTHONPATH=FOLDER). Out: a line for each template, and how many conversations agree to the letter;
where both refuse one, that counts as agreement.

Templates are those that llama-cpp-python and transformers carry in their own code, and those of the
GGUF files and Jinja files given.
"""

import argparse
import ast
import sys
from pathlib import Path

import llama_cpp
import record
from peer import HOUSE

sys.path.insert(0, str(HOUSE / "scripts"))

from quern import QuernError, gguf_files
from quern.corpus import conversations
from quern.tokens.chat import KEY, ChatTemplate

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
CALL = {"type": "function", "id": "call00001", "function": {"name": "add", "arguments": {"a": 1}}}
PARTS = [{"type": "text", "text": "What is 1 + 1?"}, {"type": "text", "text": "Say why."}]
CONVERSATIONS = {
    "a question": [{"role": "user", "content": " What is 1 + 1?\n"}],
    "with an answer": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 1 + 1?"},
        {"role": "assistant", "content": "2 – é 🙂 <b>&amp;</b>"},
        {"role": "user", "content": "And 2 + 2?"},
    ],
    "two answers": [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "assistant", "content": "there"},
    ],
    "reasoning": [
        {"role": "user", "content": "What is 1 + 1?"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\n2", "reasoning_content": "hm"},
    ],
    "parts": [{"role": "user", "content": PARTS}],
    "a tool": [
        {"role": "user", "content": "What is 1 + 1?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "name": "add", "content": "2", "tool_call_id": "call00001"},
        {"role": "assistant", "content": "It is 2."},
    ],
}


def strings(path: Path, words: tuple[str, ...]) -> list[str]:
    """Long strings in a Python file that hold all these words."""
    text = path.read_text()
    if not all(word in text for word in words):
        return []
    found = [n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant)]
    return [s for s in found if isinstance(s, str) and len(s) > 100 and all(w in s for w in words)]


def templates(paths: list[Path]) -> dict[str, str]:
    """Templates by where they are from."""
    import transformers

    found = {}
    folders = (Path(llama_cpp.__file__).parent, Path(transformers.__file__).parent)
    for path in (p for folder in folders for p in sorted(folder.rglob("*.py"))):
        for number, text in enumerate(strings(path, ("{%", "messages", "content"))):
            if not text.lstrip().startswith("Converts"):  # a docstring
                found[f"{path.parent.name}/{path.name} {number}"] = text
    for path in paths:
        is_gguf = path.suffix == ".gguf"
        found[path.name] = (
            gguf_files.field(gguf_files.open_gguf(path), KEY) if is_gguf else path.read_text()
        )
    return found


def by_transformers(template: str, messages: list) -> str | None:
    """What transformers renders; None where the template refuses."""
    import jinja2
    from transformers.utils.chat_template_utils import render_jinja_template

    asked = messages[-1]["role"] != "assistant"
    try:
        rendered, _ = render_jinja_template(
            [messages], chat_template=template, add_generation_prompt=asked, **SPECIAL
        )
    except (jinja2.TemplateError, TypeError, ValueError, LookupError):
        return None
    return rendered[0]


def by_quern(template: str, messages: list) -> str | None:
    """The same by Quern."""
    try:
        return ChatTemplate("m", template, SPECIAL).renderer()(conversations.pack(messages))
    except QuernError:
        return None


def main(arguments):
    total = same = refusals = 0
    for name, template in templates(arguments.templates).items():
        agree, differ, refused = 0, [], 0
        for kind, messages in CONVERSATIONS.items():
            ours, theirs = by_quern(template, messages), by_transformers(template, messages)
            agree += ours == theirs
            refused += ours is None and theirs is None
            if ours != theirs:
                differ.append(kind)
        total, same = total + len(CONVERSATIONS), same + agree
        refusals += refused
        print(f"{name:60} {agree}/{len(CONVERSATIONS)} ({refused} refused by both)", *differ)
    said = f"{same} of {total} conversations agree, {refusals} of them refused by both."
    record.show(said, "chat_templates", "chat_templates", record=arguments.record)
    return same != total


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("templates", type=Path, nargs="*", help="GGUF files, or templates in Jinja")
    record.add_option(p)
    sys.exit(main(p.parse_args()))
