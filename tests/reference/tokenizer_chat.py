"""Records what transformers' template engine makes of conversations: tests/data/tokenizer/chat.json.

The templates of SmolLM2 and Qwen2.5 are read from the GGUF files; the others are written here after the formats that
the model families publish, each with the constructs that their templates use.
"""

import json
import pathlib
import sys

from gguf import GGUFReader
from transformers.utils.chat_template_utils import render_jinja_template

from tokenizer import FILES, HOME

OUT = pathlib.Path(__file__).parent.parent / "data" / "tokenizer" / "chat.json"


def from_file(name):
    return GGUFReader(HOME / FILES[name]).fields["tokenizer.chat_template"].contents()


CHATML = """{%- for message in messages %}
    {%- if loop.first and message.role != "system" %}
        {{- "<|im_start|>system\\nYou are helpful.<|im_end|>\\n" }}
    {%- endif %}
    {{- "<|im_start|>" + message.role + "\\n" + message.content | trim + "<|im_end|>\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\\n" }}{% endif %}
"""

LLAMA3 = """{{- bos_token }}
{%- if tools is not none %}{% set ns = namespace(tools=true) %}{% else %}{% set ns = namespace(tools=false) %}{% endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if ns.tools %}
    {{- "Environment: ipython\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one tool-call at a time") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or (message.content is iterable and message.content is not string) %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\\n'}}
{%- endif -%}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" or (message["role"] == "assistant" and message.tool_calls is not defined) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{% else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}{{- ", " }}{% else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- elif message["role"] == "tool" %}
        {%- set content = message.content %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ', "call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user, assistant, and tool roles are supported") }}
    {%- endif %}
{%- endfor %}
"""

# The constructs of the reasoning models: reversed lists, string methods, breaks, the generation tag, printing of values.
MANY = """{%- set ns = namespace(last=messages|length - 1, found=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.found and message.role == "user" and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.found = true %}
        {%- set ns.last = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- macro show(x, end="!") %}<{{ x }}|{{ end }}>{% endmacro %}
{%- for message in messages %}
    {%- if message.role == "tool" %}{% continue %}{% endif %}
    {%- if message.role == "assistant" %}
        {%- generation %}
        {%- set content = message.content %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '[' + reasoning.strip('\\n') + ']' + content }}
        {%- endgeneration %}
    {%- else %}
        {{- message.role.upper() }}: {{ message.content.replace('a', 'b').title() }} {{ show(message.content.split()[0], end=loop.index) }}
    {%- endif %}
    {{- loop.index0 == ns.last }} {{ none }} {{ [1, 2.5, 'x', true, none] }} {{ {'k': 'it\\'s', 'n': {'m': [] }} }} {{ 1e20 }} {{ 7 // 2 }} {{ 7 / 2 }} {{ 2 ** 3 }}
    {%- if missing is defined %}never{% endif %}{{ missing }}
{% endfor %}
{% for key, value in {'a': 1, 'b': [true]}.items() %}
    {{ key }}={{ value }}{{ "," if not loop.last }}
{% endfor %}
{%- set parts = ['x', 'y'] + ['z'] %}
{{ parts | join('-') }} {{ 'abc'[::-1] }} {{ parts[-1] }} {{ parts | length }} {{ 'q' ~ 1 ~ 2.0 }} {{ "%s-%d" | format("s", 3) }}
{{ {'b': 1, 'a': "é<&'>"} | tojson }} {{ {'b': [1, {'c': none}], 'a': 0.1} | tojson(indent=2) }} {{ [] | tojson(indent=2) }}
"""

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a town; it's <b>\"now\"</b> & in °C.",
            "parameters": {
                "type": "object",
                "properties": {"town": {"type": "string"}, "days": {"type": "integer", "default": 1, "maximum": 7.5}},
                "required": ["town"],
            },
        },
    },
    {"type": "function", "function": {"name": "noop", "description": "", "parameters": {"type": "object", "properties": {}}}},
]


def m(role, content, **extra):
    return {"role": role, "content": content, **extra}


CALL = [{"type": "function", "id": "abc123456", "function": {"name": "get_weather", "arguments": {"town": "Køge", "days": 2}}}]
CONVERSATIONS = {
    "user": [m("user", "Hello!")],
    "system": [m("system", "Be brief."), m("user", "  Hi there \n")],
    "turns": [m("user", "One"), m("assistant", "Two\n"), m("user", "Three"), m("assistant", "Four"), m("user", "Five")],
    "unicode": [m("system", "日本語で"), m("user", "Grüße 👩‍🔬 <|im_end|> {{ 7*7 }} {% if %}"), m("assistant", "שלום")],
    "think": [m("user", "a banana"), m("assistant", "<think>\nwhy\n</think>\n\nBecause."), m("user", "ok then")],
    "tools": [
        m("user", "Weather in Køge?"),
        m("assistant", "", tool_calls=CALL),
        m("tool", "{\"temp\": 12}", tool_call_id="abc123456"),
        m("assistant", "12 degrees."),
        m("user", "Thanks"),
    ],
    "two users": [m("user", "One"), m("user", "Two")],
    "other role": [m("critic", "Boo")],
}
EXTRA = {name: pathlib.Path(path).read_text() for name, path in (a.split("=", 1) for a in sys.argv[1:])}
TEMPLATES = {
    "smollm2": (from_file("smollm2"), "<|im_start|>", "<|im_end|>"),
    "qwen2.5": (from_file("qwen2"), "<|endoftext|>", "<|im_end|>"),
    "chatml": (CHATML, "<s>", "</s>"),
    "llama3": (LLAMA3, "<|begin_of_text|>", "<|eot_id|>"),
    "gemma": (GEMMA, "<bos>", "<eos>"),
    "mistral": (MISTRAL, "<s>", "</s>"),
    "many": (MANY, "<s>", "</s>"),
    **{name: (source, "<bos>", "<eos>") for name, source in EXTRA.items()},
}


def main():
    out = []
    for name, (source, bos, eos) in TEMPLATES.items():
        cases = []
        for title, messages in CONVERSATIONS.items():
            for tools in [None, TOOLS] if title in ("user", "tools") else [None]:
                for prompt in [True, False]:
                    case = {"title": title, "messages": messages, "tools": tools, "add_generation_prompt": prompt}
                    try:
                        texts, _ = render_jinja_template(
                            [messages], tools, chat_template=source, add_generation_prompt=prompt, bos_token=bos, eos_token=eos
                        )
                        case["text"] = texts[0]
                    except Exception as e:
                        case["error"] = str(e)
                    cases.append(case)
        out.append({"name": name, "source": source, "bos": bos, "eos": eos, "cases": cases})
        errors = {c["error"] for c in cases if "error" in c}
        print(name, len(cases), "cases,", sum("error" in c for c in cases), "of them errors:", errors)
    OUT.write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
