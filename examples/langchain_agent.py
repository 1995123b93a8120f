"""An agent that uses a tool again and again: when its run's budget ends it stops, or goes on with a cheaper model.

python examples/langchain_agent.py
"""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

from capguard import CapExceeded, Guard
from capguard.integrations.langchain import CapguardAgentMiddleware
from capguard.testing.provider import Settings, serve


def search(query: str = "") -> str:
    """Look something up."""
    return f"Nothing is known about {query or 'that'}."


def ask(agent: Any) -> str:
    """One run of an agent: its last word."""
    config = {"metadata": {"user_id": "ann"}}
    try:
        state = agent.invoke({"messages": [("user", "Find out everything.")]}, config)
    except CapExceeded as refused:
        return f"CapExceeded by {refused.cap.id}"
    return str(state["messages"][-1].content)


def main() -> None:
    """The provider is told to ask for the tool twelve times before it answers."""
    settings = Settings(output_tokens=50, tool_rounds=12)
    with Guard("memory://", policy={"caps": [{"id": "monthly", "limit": 1}]}) as guard, serve(settings) as fake:
        model = ChatOpenAI(model="gpt-4o", max_tokens=50, base_url=fake.url, api_key="any")
        small = ChatOpenAI(model="gpt-4o-mini", max_tokens=50, base_url=fake.url, api_key="any")
        ways: dict[str, dict[str, Any]] = {
            "error": {"on_exceeded": "error"},
            "end": {"on_exceeded": "end", "message": "That is as far as your budget goes."},
            "downgrade": {"on_exceeded": "downgrade", "cheaper": small},
        }
        for name, options in ways.items():
            fake.provider.reset()
            middleware = CapguardAgentMiddleware(guard, per_run="0.006", **options)
            word = ask(create_agent(model, tools=[search], middleware=[middleware]))
            asked = [(seen.body or {})["model"] for seen in fake.provider.requests]
            print(
                f"{name}: {word[:35]!r}, {asked.count('gpt-4o')} x gpt-4o, {asked.count('gpt-4o-mini')} x gpt-4o-mini"
            )
        print(f"{len(guard.verify().differences)} differences")


if __name__ == "__main__":
    main()
