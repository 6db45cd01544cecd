"""OpenAI's own Python package against a running server. Prints its version; an assertion ends it.

    chat.py BASE TOKEN QUESTION ANSWER
"""
import asyncio
import sys

import openai

BASE, TOKEN, QUESTION, ANSWER = sys.argv[1:5]
ASKED = dict(model="ballpoint", messages=[{"role": "user", "content": QUESTION}])
WHERE = dict(base_url=f"{BASE}/v1", max_retries=0)


def whole():
    client = openai.OpenAI(api_key=TOKEN, **WHERE)
    assert "ballpoint" in [model.id for model in client.models.list()]
    completion = client.chat.completions.create(**ASKED)
    assert ANSWER in completion.choices[0].message.content, completion
    assert completion.choices[0].finish_reason == "stop", completion


async def streamed():
    client = openai.AsyncOpenAI(api_key=TOKEN, **WHERE)
    text, usage = "", None
    asked = ASKED | dict(stream=True, stream_options={"include_usage": True})
    async for chunk in await client.chat.completions.create(**asked):
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert ANSWER in text, text
    assert usage is not None and usage.total_tokens == 0, usage


def refused():
    for client, model, kind in [
        (openai.OpenAI(api_key="guess", **WHERE), "ballpoint", openai.AuthenticationError),
        (openai.OpenAI(api_key=TOKEN, **WHERE), "gpt-none", openai.NotFoundError),
    ]:
        try:
            client.chat.completions.create(**(ASKED | dict(model=model)))
        except kind:
            continue
        raise AssertionError(f"{kind} was not raised")


whole()
asyncio.run(streamed())
refused()
print("openai", openai.__version__)
