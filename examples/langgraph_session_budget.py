"""A LangGraph whose every model is capped: a budget for each thread, from the `thread_id` that LangGraph knows anyway.

python examples/langgraph_session_budget.py
"""

from __future__ import annotations

from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from capguard import CapExceeded, Guard
from capguard.integrations.langchain import install
from capguard.testing.provider import Settings, serve

POLICY = {
    "caps": [
        {"id": "session", "per": ["session"], "limit": 0.01, "window": "lifetime", "idle": "720h", "required": True},
        {"id": "monthly", "limit": 5},
    ]
}


def main() -> None:
    """Two threads of one user, each asked until its budget is spent."""
    settings = Settings(input_tokens=100, output_tokens=200)
    with Guard("memory://", policy=POLICY) as guard, serve(settings) as fake:
        install(guard)  # from here on: the nodes below know nothing of caps
        model = ChatOpenAI(model="gpt-4o", max_tokens=200, base_url=fake.url, api_key="any")

        def answer(state: MessagesState) -> MessagesState:
            return {"messages": [model.invoke(state["messages"])]}

        builder = StateGraph(MessagesState)
        builder.add_node("answer", answer)
        graph = builder.add_edge(START, "answer").compile(checkpointer=InMemorySaver())

        for thread in ("monday", "tuesday"):
            config = {"configurable": {"thread_id": thread}, "metadata": {"user_id": "ann"}}
            turns = 0
            try:
                while True:
                    graph.invoke({"messages": [("user", "Go on.")]}, config)
                    turns += 1
            except CapExceeded as refused:
                print(f"{thread}: {turns} turns, then {refused.cap.id} is {refused.reason}")
        print(f"ann has spent ${guard.status(user='ann').caps['monthly'].settled}")
        print(f"{fake.provider.calls} calls reached the provider; {len(guard.verify().differences)} differences")


if __name__ == "__main__":
    main()
