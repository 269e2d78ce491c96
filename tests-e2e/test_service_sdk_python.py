"""Back ends in Python: the unmodified azure-iot-hub, over TLS with the generated CA."""

import base64

import pytest
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import (
    AuthenticationMechanism,
    ExportImportDevice,
    QuerySpecification,
    SymmetricKey,
    Twin,
    TwinProperties,
)
from msrest.exceptions import HttpOperationError

from server import primary_key


@pytest.fixture
def registry(backend, monkeypatch):
    """The SDK's one client for registry, twins and queries."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(backend.ca))
    return IoTHubRegistryManager.from_connection_string(backend.hub_connection_string)


def key(byte):
    """A key of 32 bytes that are not all alike."""
    return base64.b64encode(bytes((byte * 31 + n * n * 7) % 256 for n in range(32))).decode()


def status(error):
    """The status under which a call was refused."""
    return error.value.response.status_code


def test_devices(registry):
    made = registry.create_device_with_sas("py-1", key(1), key(2), "enabled", status_reason="new")
    assert (made.device_id, made.status, made.status_reason) == ("py-1", "enabled", "new")
    assert made.authentication.symmetric_key.primary_key == key(1)
    with pytest.raises(HttpOperationError) as twice:
        registry.create_device_with_sas("py-1", key(1), key(2), "enabled")
    assert status(twice) == 409

    changed = registry.update_device_with_sas("py-1", made.etag, key(3), key(4), "disabled", status_reason="test")
    assert (changed.status, changed.generation_id) == ("disabled", made.generation_id)
    with pytest.raises(HttpOperationError) as stale:
        registry.update_device_with_sas("py-1", made.etag, key(1), key(2), "enabled")
    assert status(stale) == 412
    bound = registry.create_device_with_x509("py-2", "A1" * 32, "B2" * 32, "enabled", iot_edge=True)
    assert bound.authentication.x509_thumbprint.primary_thumbprint == "A1" * 32
    assert bound.capabilities.iot_edge
    assert registry.create_device_with_certificate_authority("py-3", "enabled").authentication.type == (
        "certificateAuthority"
    )
    assert [device.device_id for device in registry.get_devices()] == ["py-1", "py-2", "py-3"]
    assert len(registry.get_devices(2)) == 2
    assert registry.get_device("py-1").etag == changed.etag

    counts = registry.get_device_registry_statistics()
    assert (counts.total_device_count, counts.enabled_device_count, counts.disabled_device_count) == (3, 2, 1)
    assert registry.get_service_statistics().connected_device_count == 0

    with pytest.raises(HttpOperationError) as stale:
        registry.delete_device("py-1", etag=made.etag)
    assert status(stale) == 412
    registry.delete_device("py-1", etag=changed.etag)
    registry.delete_device("py-2")
    with pytest.raises(HttpOperationError) as gone:
        registry.get_device("py-1")
    assert status(gone) == 404


def test_modules(registry):
    registry.create_device_with_sas("py-1", key(1), key(2), "enabled")
    made = registry.create_module_with_sas("py-1", "camera", "python", key(3), key(4))
    assert (made.module_id, made.managed_by) == ("camera", "python")
    changed = registry.update_module_with_sas("py-1", "camera", "other", made.etag, key(5), key(6))
    assert changed.managed_by == "other"
    registry.create_module_with_x509("py-1", "bound", "", "A1" * 32, "B2" * 32)
    assert sorted(module.module_id for module in registry.get_modules("py-1")) == ["bound", "camera"]
    # A key belongs to one identity: the module's is taken.
    with pytest.raises(HttpOperationError) as taken:
        registry.create_device_with_sas("py-2", key(5), key(7), "enabled")
    assert status(taken) == 409

    twin = registry.get_module_twin("py-1", "camera")
    patched = registry.update_module_twin("py-1", "camera", Twin(tags={"lens": 2}), twin.etag)
    assert patched.tags == {"lens": 2}
    replaced = registry.replace_module_twin(
        "py-1", "camera", Twin(properties=TwinProperties(desired={"zoom": 3})), patched.etag
    )
    assert (replaced.tags or {}) == {} and replaced.properties.desired["zoom"] == 3
    registry.delete_module("py-1", "camera")
    with pytest.raises(HttpOperationError) as gone:
        registry.get_module("py-1", "camera")
    assert status(gone) == 404


def test_twins(registry):
    registry.create_device_with_sas("py-1", key(1), key(2), "enabled")
    twin = registry.get_twin("py-1")
    assert (twin.device_id, twin.version, twin.tags or {}) == ("py-1", 1, {})
    patch = Twin(tags={"site": {"floor": 2}}, properties=TwinProperties(desired={"rate": 10, "old": 1}))
    patched = registry.update_twin("py-1", patch, twin.etag)
    assert patched.tags == {"site": {"floor": 2}}
    assert patched.properties.desired["$version"] == 2
    with pytest.raises(HttpOperationError) as stale:
        registry.update_twin("py-1", patch, twin.etag)
    assert status(stale) == 412
    # Without an etag the newest counts.
    assert registry.update_twin("py-1", Twin(tags={"site": {"room": 7}})).tags == {"site": {"floor": 2, "room": 7}}
    # What was read may be sent back as it is.
    echoed = registry.get_twin("py-1")
    assert registry.replace_twin("py-1", echoed, echoed.etag).properties.desired["rate"] == 10
    replaced = registry.replace_twin("py-1", Twin(properties=TwinProperties(desired={"only": True})))
    assert "rate" not in replaced.properties.desired and (replaced.tags or {}) == {}


def test_bulk(registry):
    def row(device_id, mode, **members):
        return ExportImportDevice(id=device_id, import_mode=mode, status="enabled", **members)

    auth = AuthenticationMechanism(type="sas", symmetric_key=SymmetricKey(primary_key=key(1), secondary_key=key(2)))
    made = registry.bulk_create_or_update_devices(
        [row("b-1", "create", authentication=auth, tags={"site": "Basel"}), row("b-2", "create")]
    )
    assert made.is_successful and not made.errors
    assert registry.get_twin("b-1").tags == {"site": "Basel"}
    assert registry.get_device("b-1").authentication.symmetric_key.primary_key == key(1)
    # The service says 400, as the real one does; this SDK reads the rows of either.
    some = registry.bulk_create_or_update_devices([row("b-2", "create"), row("b-3", "create")])
    assert not some.is_successful
    assert [(error.device_id, error.error_code) for error in some.errors] == [("b-2", "DeviceAlreadyExists")]
    assert registry.get_device("b-3").status == "enabled"
    assert registry.bulk_create_or_update_devices([row("b-1", "delete"), row("b-3", "delete")]).is_successful
    assert [device.device_id for device in registry.get_devices()] == ["b-2"]


def test_queries(registry):
    rows = [
        ExportImportDevice(id=f"q-{n}", import_mode="create", status="enabled", tags={"n": n, "even": n % 2 == 0})
        for n in range(5)
    ]
    assert registry.bulk_create_or_update_devices(rows).is_successful

    def pages(text, size):
        token = None
        while True:
            found = registry.query_iot_hub(QuerySpecification(query=text), token, size)
            yield [twin.device_id for twin in found.items]
            token = found.continuation_token
            if not token:
                return

    assert list(pages("SELECT * FROM devices", 2)) == [["q-0", "q-1"], ["q-2", "q-3"], ["q-4"]]
    assert list(pages("SELECT * FROM devices WHERE tags.even = true AND tags.n > 0", 10)) == [["q-2", "q-4"]]
    assert list(pages("SELECT TOP 1 * FROM devices WHERE NOT tags.even", 10)) == [["q-1"]]
    with pytest.raises(HttpOperationError) as wrong:
        registry.query_iot_hub(QuerySpecification(query="SELECT * FROM devices WHERE tags.n =="))
    assert status(wrong) == 400 and "column 37" in wrong.value.response.text


def test_a_registered_devices_initial_twin(backend, devices, registry):
    enrollment = backend.enroll("booted", "--initial-twin", '{"tags":{"line":4},"properties":{"desired":{"rate":10}}}')
    devices.register("booted", primary_key(enrollment))
    twin = registry.get_twin("booted")
    assert (twin.tags, twin.properties.desired["rate"]) == ({"line": 4}, 10)


def test_what_needs_amqp_or_a_live_device_is_refused_as_such(registry):
    from azure.iot.hub.models import CloudToDeviceMethod

    registry.create_device_with_sas("py-1", key(1), key(2), "enabled")
    with pytest.raises(HttpOperationError) as refused:
        registry.invoke_device_method("py-1", CloudToDeviceMethod(method_name="reboot", payload={}))
    assert status(refused) == 501
