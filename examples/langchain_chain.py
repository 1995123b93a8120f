"""A chain under caps: a handler for one call, a model that falls to a cheaper one, embeddings.

python examples/langchain_chain.py
"""

from __future__ import annotations

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from capguard import CapExceeded, Guard, identify
from capguard.integrations.langchain import CapguardCallbackHandler, CappedEmbeddings, capped_model
from capguard.testing.provider import Settings, serve

POLICY = {
    "downgrade": {"gpt-4o": "gpt-4o-mini"},
    "caps": [
        {"id": "cheaper", "limit": 0.008, "action": "downgrade"},
        {"id": "monthly", "limit": 0.01},
    ],
}


def main() -> None:
    """The same chain twice: a handler can only block, a capped model goes on with the cheaper one."""
    prompt = ChatPromptTemplate.from_messages([("system", "Answer in one line."), ("human", "{question}")])
    with Guard("memory://", policy=POLICY) as guard, serve(Settings(input_tokens=100, output_tokens=200)) as fake:
        model = ChatOpenAI(model="gpt-4o", max_tokens=200, base_url=fake.url, api_key="any", stream_usage=True)
        chain = prompt | model | StrOutputParser()
        config = {"callbacks": [CapguardCallbackHandler(guard)], "metadata": {"user_id": "ann"}}
        try:
            while True:
                print("handler:", chain.invoke({"question": "Why?"}, config)[:14])
        except CapExceeded as refused:
            print("handler:", refused.cap.id, refused.reason)

        chain = prompt | capped_model(model, guard) | StrOutputParser()
        for _ in range(4):
            chunks = chain.stream({"question": "Why?"}, {"metadata": {"user_id": "bob"}})
            print("model:", "".join(chunks)[:14])

        inner = OpenAIEmbeddings(model="text-embedding-3-small", base_url=fake.url, api_key="any", chunk_size=10)
        inner.check_embedding_ctx_length = False
        with identify(user="cid"):
            print("embeddings:", len(CappedEmbeddings(inner, guard).embed_documents(["one text", "another"])))

        for entry in guard.entries():
            if entry.kind == "reserve":
                print(f"{entry.user}: {entry.model}", *entry.flags)
        print(f"{fake.provider.calls} calls reached the provider; {len(guard.verify().differences)} differences")


if __name__ == "__main__":
    main()
