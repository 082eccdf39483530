"""Records what TRL and transformers learn from rows of data: tests/data/train/data.json.

    python tests/reference/train_data.py

The tokenizers are those of tokenizer.py, from the GGUF files (GRAFT_MODELS, or ~/.cache/graft/models); versions as there, and
transformers 5.23.0. Texts and completions: the steps of TRL 1.16.0's SFTTrainer (`add_eos`, then `tokenize_fn` with
`common_prefix_length`), which are few lines and copied here. Conversations: `apply_chat_template` with
`return_assistant_tokens_mask`, on the model's own template with `{% generation %}` put around what the assistant says, up to and
with the token that ends its turn.
"""

import json
import pathlib

from gguf import GGUFReader
from transformers import PreTrainedTokenizerFast

from tokenizer import FILES, HOME, build, facts

OUT = pathlib.Path(__file__).parent.parent / "data" / "train" / "data.json"

TEXTS = ["The capital of France is Paris.", "  two spaces\n\nand a break\n", "日本語 🦊 naïve", "ends <|im_end|>"]
COMPLETIONS = [
    ("The capital of France is", " Paris."),
    ("Q: 2+2?\nA:", " 4"),
    ("Q: 2+2?\nA: ", "4"),  # the space and the 4 may be one token
    ("Hel", "lo"),  # one token across the border
    ("line\n", "\nline"),
    ("", "from nothing"),
    ("to nothing", ""),
    ("日本", "語"),
]


def m(role, content, **more):
    return {"role": role, "content": content, **more}


CALL = [{"type": "function", "function": {"name": "get_weather", "arguments": {"town": "Køge", "days": 2}}}]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": {}}}]
CONVERSATIONS = [
    [m("user", "Hello!"), m("assistant", "Hi, what can I do?")],
    [m("system", "Be brief."), m("user", "One"), m("assistant", "Two"), m("user", "Three"), m("assistant", " Four\n")],
    [m("user", "One"), m("assistant", "\nTwo\n\n"), m("user", "Three")],
    [m("user", "日本語"), m("assistant", "🦊 naïve"), m("assistant", "")],
]
TOOL_CONVERSATIONS = [
    [m("user", "Weather?"), m("assistant", "", tool_calls=CALL), m("tool", "12"), m("tool", "13"), m("assistant", "12 and 13")],
    [m("user", "Weather?"), m("assistant", "I look.", tool_calls=CALL)],
]


def smollm2(source):
    turn = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    assert source.count(turn) == 1
    says = "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    head = "{{'<|im_start|>' + message['role'] + '\n'}}"
    plain = says.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    return source.replace(turn, head + "{% if message['role'] == 'assistant' %}" + says + "{% else %}" + plain + "{% endif %}")


def qwen2(source):
    plain = ' or (message.role == "assistant" and not message.tool_calls)'
    assert source.count(plain) == 1
    head, tail = source.replace(plain, "").split('{%- elif message.role == "assistant" %}')
    body, tail = tail.split('{%- elif message.role == "tool" %}')
    # The line break before a tool call stands where the prompt for an answer has its own.
    before = "{%- if message.content %}\n            {{- '\\n' + message.content }}\n        {%- endif %}"
    assert before in body
    says = "{{- '\\n' }}{%- generation %}{%- if message.content or not message.tool_calls %}{{- message.content }}{%- endif %}"
    body = body.replace(before, says)
    call = "{{- '\\n<tool_call>\\n{\"name\": \"' }}"
    assert call in body
    body = body.replace(call, "{%- if message.content or not loop.first %}{{- '\\n' }}{%- endif %}" + call.replace("\\n<tool", "<tool"))
    end = "{{- '<|im_end|>\\n' }}"
    assert body.count(end) == 1
    body = body.replace(end, "{{- '<|im_end|>' }}{%- endgeneration %}{{- '\\n' }}")
    return head + '{%- elif message.role == "assistant" %}' + body + '{%- elif message.role == "tool" %}' + tail


def common_prefix_length(ids, other_ids):
    length = 0
    for token, other_token in zip(ids, other_ids, strict=False):
        if token != other_token:
            break
        length += 1
    return length


def main():
    out = []
    for name in ["smollm2", "qwen2", "gemma3"]:
        f = facts(HOME / FILES[name])
        tokens = f["tokens"]
        bos = tokens[f["bos_token_id"]] if f.get("add_bos_token") else None
        eos = tokens[f["eos_token_id"]]
        inner = build(name, f)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=bos, eos_token=eos)

        def encode(text):
            # What the model's own tokenizer does by a post-processor.
            return ([f["bos_token_id"]] if bos else []) + inner.encode(text, add_special_tokens=False).ids

        cases = []
        for text in TEXTS:
            whole = text if text.endswith(eos) else text + eos
            ids = encode(whole)
            cases.append({"row": {"text": text}, "tokens": ids, "learn": [1] * len(ids)})
        for prompt, completion in COMPLETIONS:
            whole = completion if completion.endswith(eos) else completion + eos
            prompt_ids, ids = encode(prompt), encode(prompt + whole)
            n = common_prefix_length(prompt_ids, ids)
            row = {"prompt": prompt, "completion": completion}
            cases.append({"row": row, "tokens": ids, "learn": [0] * n + [1] * (len(ids) - n)})
        if name != "gemma3":
            source = GGUFReader(HOME / FILES[name]).fields["tokenizer.chat_template"].contents()
            tagged = {"smollm2": smollm2, "qwen2": qwen2}[name](source)
            more = TOOL_CONVERSATIONS if name == "qwen2" else []
            for messages in CONVERSATIONS + more:
                tools = TOOLS if messages in more else None
                both = [
                    tokenizer.apply_chat_template(
                        messages, tools=tools, chat_template=t, return_dict=True, return_assistant_tokens_mask=t is tagged
                    )
                    for t in [source, tagged]
                ]
                assert both[0]["input_ids"] == both[1]["input_ids"], tokenizer.decode(both[1]["input_ids"])
                row = {"messages": messages} | ({"tools": tools} if tools else {})
                cases.append({"row": row, "tokens": both[0]["input_ids"], "learn": both[1]["assistant_masks"]})
        for case in cases:
            said = [t for t, learn in zip(case["tokens"], case["learn"]) if learn]
            print(name, repr(tokenizer.decode(said)), len(case["tokens"]))
        out.append({"model": FILES[name], "cases": cases})
    OUT.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"model": o["model"], **c}, ensure_ascii=False) for o in out for c in o["cases"]]
    OUT.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
