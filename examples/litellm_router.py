"""A LiteLLM Router under caps: retries and fallbacks are held and booked one by one, and a refusal ends the call.

python examples/litellm_router.py
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm

from capguard import CapExceeded, Guard
from capguard.integrations.litellm import CappedLiteLLM
from capguard.testing.provider import Served, Settings, serve

POLICY: dict[str, Any] = {
    "default_plan": "free",
    "plans": {
        "free": {"caps": [{"id": "monthly", "limit": 0.001}]},
        "pro": {"caps": [{"id": "cheaper", "limit": 0.0005, "action": "downgrade"}, {"id": "monthly", "limit": 5}]},
    },
    "downgrade": {"gpt-4o": "gpt-4o-mini"},
}
MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]


def deployment(group: str, model: str, provider: Served) -> dict[str, Any]:
    params = {"model": model, "api_base": provider.url, "api_key": "any", "max_retries": 0}
    return {"model_name": group, "litellm_params": params}


async def ask(capped: Any, group: str, user: str, plan: str) -> None:
    """One question; who asks is said beside the arguments of LiteLLM."""
    who = {"user": user, "plan": plan}
    try:
        reply = await capped.acompletion(model=group, messages=MESSAGES, max_tokens=100, identity=who)
        print(f"{user} on {plan} asked {group}: {reply.model} answered")
    except CapExceeded as refused:
        print(f"{user} on {plan} asked {group}: refused by {refused.cap.id} ({refused.reason})")


async def run(guard: Guard, router: litellm.Router) -> None:
    capped = CappedLiteLLM(guard).router(router)
    await ask(capped, "cheap", "ann", "free")
    await ask(capped, "big", "ann", "free")
    await ask(capped, "broken", "eve", "pro")
    await ask(capped, "big", "eve", "pro")


def main() -> None:
    """A free user, a paying one, and a deployment that is down."""
    logging.getLogger("LiteLLM Router").setLevel(logging.CRITICAL)  # it reports the deployment that is down
    litellm.suppress_debug_info = True
    settings = Settings(input_tokens=200, output_tokens=100)
    with (
        serve(settings) as fake,
        serve(Settings(fail_status=503)) as down,
        Guard("memory://", policy=POLICY) as guard,
    ):
        router = litellm.Router(
            model_list=[
                deployment("big", "openai/gpt-4o", fake),
                deployment("cheap", "openai/gpt-4o-mini", fake),
                deployment("broken", "openai/gpt-4o-mini", down),
            ],
            fallbacks=[{"broken": ["cheap"]}],
            num_retries=0,
        )
        asyncio.run(run(guard, router))
        for entry in guard.entries():
            print(f"  {entry.kind:8} {entry.user} {entry.model or '':20} ${entry.cost}")
        print(f"{fake.provider.calls} calls were answered, {down.provider.calls} failed")


if __name__ == "__main__":
    main()
