"""The OpenAPI document of the server's own calls: valid, and true of what a running server answers."""

import json
import re
import ssl
import urllib.error
import urllib.request

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from devices import Refused

# What stands for a placeholder; a call without one needs none.
PLACEHOLDERS = {"id": "described-1", "name": "described-ca", "index": "0"}


def call(server, method, path, token, body=None):
    """Status and body of one request; a body that is no JSON as text."""
    headers = {"Authorization": token, "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"https://{server.https}{path}", data, headers, method=method)
    context = ssl.create_default_context(cafile=server.ca)
    try:
        with urllib.request.urlopen(request, context=context) as answer:
            status, kind, text = answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as refused:
        status, kind, text = refused.code, refused.headers.get_content_type(), refused.read()
    return status, json.loads(text) if kind == "application/json" else text.decode(errors="replace")


@pytest.fixture(name="token")
def token_fixture(server):
    """May all that the provisioning service's owner may."""
    return server.run("sas", "--connection-string", server.connection_strings["dps"]).stdout.strip()


@pytest.fixture(name="hub_token")
def hub_token_fixture(server):
    """May all that the hub's owner may."""
    [connection_string] = server.connection_strings["hubs"].values()
    return server.run("sas", "--connection-string", connection_string).stdout.strip()


class Description:
    """The document, and whether an answer is what it says."""

    def __init__(self, document):
        self.document = document
        resource = Resource.from_contents(document, default_specification=DRAFT202012)
        self.registry = Registry().with_resource("urn:document", resource)

    def check(self, method, path, status, answer):
        """Fails unless the answer has the shape that is told for it."""
        responses = self.document["paths"][path][method.lower()]["responses"]
        content = responses.get(str(status), responses["default"]).get("content", {})
        if "application/json" not in content:
            return
        schema = json.loads(json.dumps(content["application/json"]["schema"]).replace('"#/', '"urn:document#/'))
        errors = list(Draft202012Validator(schema, registry=self.registry).iter_errors(answer))
        assert not errors, f"{method} {path} {status}: {[error.message for error in errors]} in {answer}"


@pytest.fixture(name="description")
def description_fixture(server, token):
    """As the server serves it."""
    status, document = call(server, "GET", "/unicity/openapi.json", token)
    assert status == 200
    return Description(document)


def test_the_document_is_valid(description):
    OpenAPIV31SpecValidator(description.document).validate()
    assert description.document["openapi"] == "3.1.0"
    assert len(description.document["paths"]) >= 25


def test_what_can_be_read_is_as_described(server, devices, description, token, hub_token):
    key = server.enroll("described-1")["attestation"]["symmetricKey"]["primaryKey"]
    devices.register("described-1", key)
    with pytest.raises(Refused):
        devices.raw_dps("nobody", "AAAA").connect()
    server.run("device", "quarantine", "described-1")
    called = 0
    for path, item in description.document["paths"].items():
        operation = item.get("get")
        if operation is None or "tile" in path or "previous" in path:
            continue
        asked = re.sub(r"\{(\w+)\}", lambda name: PLACEHOLDERS.get(name[1], "unknown"), path)
        if path == "/unicity/standing":
            asked += "?registrationId=described-1"
        of_hub = {"RegistryRead", "ServiceConnect"} & set(operation["x-unicity-rights"])
        status, answer = call(server, "GET", asked, hub_token if of_hub else token)
        assert status == 200 or "{" in path, f"{asked}: {status} {answer}"
        description.check("GET", path, status, answer)
        called += 1
    assert called >= 18


def test_each_described_call_is_there_and_needs_the_rights_it_says(server, description):
    for path, item in description.document["paths"].items():
        asked = re.sub(r"\{(\w+)\}", "unknown", path)
        for method, operation in item.items():
            status, answer = call(server, method.upper(), asked, "SharedAccessSignature sr=x&sig=x&se=1&skn=x", {})
            assert status == 401, f"{method} {asked}: {status} {answer}"
            description.check(method, path, status, answer)
            assert operation["x-unicity-rights"] or path in ("/unicity/info", "/unicity/openapi.json")
        other = next(method for method in ("PATCH", "POST", "PUT") if method.lower() not in item)
        status, _ = call(server, other, asked, "x", {})
        assert status == 405, asked


def test_changes_answer_as_described(server, description, token):
    key = "ab" * 32
    for method, path, query, body in [
        ("POST", "/unicity/denied", "", {"keyFingerprint": key}),
        ("DELETE", "/unicity/denied", f"?keyFingerprint={key}", None),
        ("POST", "/unicity/revocations", "", {"keyFingerprint": key, "dryRun": True}),
        ("POST", "/unicity/revocations", "", {"keyFingerprint": key, "reason": "described"}),
        ("DELETE", "/unicity/revocations", f"?keyFingerprint={key}", None),
        ("POST", "/unicity/audit/checkpoint", "", None),
        ("POST", "/unicity/crls/reload", "", None),
    ]:
        status, answer = call(server, method, path + query, token, body)
        assert status in (200, 204), f"{method} {path}: {status} {answer}"
        description.check(method, path, status, answer)
