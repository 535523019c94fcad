"""Bare HTTP against the sandbox, for what a client library hides."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Self

import httpx


class Wire:
    """A signed-in HTTP client. Paths are below ``{url}/api``; ``None`` as user stays signed out."""

    def __init__(self, service: dict[str, Any], user: str | None = "Admin", password: str = "livelink") -> None:
        self.service = service
        self.http = httpx.Client(base_url=service["url"] + "/api", timeout=60, trust_env=False)
        if user:
            self.http.headers["OTCSTicket"] = self.sign_in(user, password)

    def sign_in(self, user: str, password: str) -> str:
        answer = self.http.post("/v1/auth", data={"username": user, "password": password})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["ticket"])

    def body(self, method: str, path: str, **values: Any) -> httpx.Response:
        """Values as JSON in the form field ``body``."""
        return self.http.request(method, path, data={"body": json.dumps(values)})

    def plain(self, method: str, path: str, **values: Any) -> httpx.Response:
        """Values as plain form fields."""
        return self.http.request(method, path, data=values)

    def folder(self, name: str, parent_id: int = 2000) -> int:
        answer = self.body("POST", "/v2/nodes", type=0, parent_id=parent_id, name=name)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["results"]["data"]["properties"]["id"])

    def upload(self, name: str, content: bytes, parent_id: int = 2000, **more: Any) -> httpx.Response:
        fields = {"type": "144", "name": name, "parent_id": str(parent_id), "roles": {}, **more}
        return self.http.post("/v2/nodes", data={"body": json.dumps(fields)}, files={"file": (name, content, "text/csv")})

    def document(self, name: str, content: bytes = b"x", parent_id: int = 2000, **more: Any) -> int:
        answer = self.upload(name, content, parent_id, **more)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["results"]["data"]["properties"]["id"])

    def properties(self, node_id: int) -> dict[str, Any]:
        answer = self.http.get(f"/v2/nodes/{node_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["results"]["data"]["properties"])

    def at(self, *path: str, volume: int = 141) -> int:
        """The id at a path below a volume."""
        node_id = self.http.get(f"/v2/volumes/{volume}").json()["results"]["data"]["properties"]["id"]
        for name in path:
            listed = self.http.get(f"/v2/nodes/{node_id}/nodes", params={"where_name": name}).json()["results"]
            node_id = next(item["data"]["properties"]["id"] for item in listed if item["data"]["properties"]["name"] == name)
        return int(node_id)

    def faults(self, **values: float) -> dict[str, float]:
        answer = self.http.post(self.service["faults"], json=values)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def stats(self) -> dict[str, int]:
        return dict(self.http.get(self.service["url"] + "/_stats").json())

    def user(self, name: str, **more: Any) -> int:
        answer = self.plain("POST", "/v2/members", type=0, name=name, password="secret", **more)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["results"]["data"]["properties"]["id"])

    def as_user(self, name: str) -> Wire:
        return Wire(self.service, name, "secret")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.http.close()
