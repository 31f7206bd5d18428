"""Writes the deployments of `prefect.yaml` to the server: what `prefect deploy --all` does, in seconds and offline."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import httpx
import yaml

from tasks.state_folder import REPOSITORY

FILE = REPOSITORY / "prefect.yaml"
TIMEOUT_S = 10.0


def deploy(api_url: str) -> list[str]:
    """Writes what differs from the server's; returns the names of what was written, none where all stood already.

    Prefect is imported only if something differs. `api_url` must be the PREFECT_API_URL of this process's environment.
    """
    content = yaml.safe_load(FILE.read_text())
    version = version_of_flows()
    wanted = [one for one in content["deployments"] if _deployed(api_url, one) != version]
    if not wanted:
        return []
    pull = [_with_root(step) for step in content["pull"]]
    asyncio.run(_write(wanted, pull, version))
    return [f"{_flow_name(one)}/{one['name']}" for one in wanted]


def version_of_flows() -> str:
    """Changes whenever prefect.yaml, the flows' code or the place of the repository does."""
    digest = hashlib.sha256(str(REPOSITORY).encode())
    for path in [FILE, *sorted((REPOSITORY / "flows").glob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _flow_name(deployment: dict[str, Any]) -> str:
    return str(deployment["entrypoint"]).rpartition(":")[2]


def _deployed(api_url: str, deployment: dict[str, Any]) -> str | None:
    url = f"{api_url}/deployments/name/{_flow_name(deployment)}/{deployment['name']}"
    answer = httpx.get(url, timeout=TIMEOUT_S, trust_env=False)
    return str(answer.json().get("version")) if answer.status_code == 200 else None


def _with_root(step: dict[str, Any]) -> dict[str, Any]:
    """The pull step with SLIPWAY_ROOT put in, as Prefect's own command line would."""
    return {
        name: {key: str(value).replace("{{ $SLIPWAY_ROOT }}", str(REPOSITORY)) for key, value in inputs.items()}
        for name, inputs in step.items()
    }


async def _write(deployments: list[dict[str, Any]], pull: list[dict[str, Any]], version: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.flows import load_flow_from_entrypoint
    from prefect.utilities.callables import parameter_schema

    schemas: dict[str, tuple[Any, dict[str, Any]]] = {}
    async with get_client() as client:
        for one in deployments:
            entrypoint = str(one["entrypoint"])
            if entrypoint not in schemas:
                flow: Any = load_flow_from_entrypoint(str(REPOSITORY / entrypoint))
                schemas[entrypoint] = (
                    await client.create_flow_from_name(flow.name),
                    parameter_schema(flow).model_dump_for_openapi(),
                )
            flow_id, schema = schemas[entrypoint]
            await client.create_deployment(
                flow_id=flow_id,
                name=one["name"],
                version=version,
                description=one["description"],
                entrypoint=entrypoint,
                path=str(REPOSITORY),
                parameters=one.get("parameters", {}),
                parameter_openapi_schema=schema,
                work_pool_name=one["work_pool"]["name"],
                pull_steps=pull,
                enforce_parameter_schema=True,
            )


def set_environment(environment: dict[str, str]) -> None:
    """Makes this process a client of the stack's server; before Prefect is imported, which reads it once."""
    Path(environment["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
    os.environ.update(environment)
