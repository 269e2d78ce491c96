//! Twins and modules in journal, overlay and index.

use serde_json::json;
use unicity_identity::device::{DeviceAuthentication, DeviceStatus};
use unicity_identity::{ClientIdentity, DeviceId, ModuleId, TwinEdit};
use unicity_provisioning::registry::{DeviceDraft, ModuleDraft};
use unicity_provisioning::{Command, Precondition, Registry as _, RegistryView as _};

use super::fleet;
use super::world::open;
use crate::registry::RegistryStore;
use crate::vfs::SimVfs;

fn device(id: &str, n: u64) -> Command {
    let [primary, secondary] = fleet::slots(n);
    let draft = DeviceDraft {
        hub: fleet::hub(),
        device_id: id.parse().unwrap(),
        status: DeviceStatus::Enabled,
        status_reason: None,
        authentication: DeviceAuthentication::Sas { primary, secondary },
        keys_given: true,
        iot_edge: false,
    };
    Command::PutDevice { draft: Box::new(draft), precondition: Precondition::Absent }
}

fn module(device: &str, id: &str, n: u64) -> Command {
    let [primary, secondary] = fleet::slots(n);
    let draft = ModuleDraft {
        hub: fleet::hub(),
        device_id: device.parse().unwrap(),
        module_id: id.parse().unwrap(),
        authentication: DeviceAuthentication::Sas { primary, secondary },
        keys_given: true,
        managed_by: None,
    };
    Command::PutModule { draft: Box::new(draft), precondition: Precondition::Absent }
}

fn client(device: &str, module: Option<&str>) -> ClientIdentity {
    ClientIdentity {
        hub: fleet::hub(),
        device_id: device.parse().unwrap(),
        module_id: module.map(|id| id.parse().unwrap()),
    }
}

fn run(store: &RegistryStore, commands: impl IntoIterator<Item = Command>) {
    for (n, command) in (0..).zip(commands) {
        fleet::submit(store, fleet::request(command, 1000 + n)).unwrap();
    }
}

fn of(store: &RegistryStore, device: &str) -> Vec<String> {
    let found = store.modules(&fleet::hub(), &device.parse().unwrap()).unwrap();
    found.into_iter().map(|module| module.module_id.to_string()).collect()
}

/// All modules of the hub, two a page.
fn listed(store: &RegistryStore) -> Vec<String> {
    let mut after: Option<(DeviceId, ModuleId)> = None;
    let mut all = Vec::new();
    loop {
        let at = after.as_ref().map(|(device, module)| (device, module));
        let page = store.list_modules(&fleet::hub(), at, 2).unwrap();
        all.extend(page.items.iter().map(|module| format!("{}/{}", module.device_id, module.module_id)));
        after = page.items.last().map(|last| (last.device_id.clone(), last.module_id.clone()));
        if !page.more {
            return all;
        }
    }
}

#[test]
fn they_survive_a_power_loss_and_go_with_their_device() {
    let sim = SimVfs::new();
    let store = open(&sim);
    run(&store, [device("d", 1), device("d-2", 2), module("d", "b", 3), module("d", "a", 4), module("d-2", "c", 5)]);
    store.checkpoint().unwrap();
    let tags = |value| TwinEdit::patch(&json!({ "tags": value })).unwrap();
    let edit =
        |client, value| Command::EditTwin { client, edit: Box::new(tags(value)), precondition: Precondition::None };
    run(
        &store,
        [edit(client("d", None), json!({"n": 1})), edit(client("d", Some("a")), json!({"n": 2})), module("d", "c", 6)],
    );

    let store = open(&sim.crash(3));
    assert_eq!(of(&store, "d"), ["a", "b", "c"], "those of another device with a longer name are not its own");
    assert_eq!(listed(&store), ["d/a", "d/b", "d/c", "d-2/c"]);
    assert_eq!(store.twin(&client("d", None)).unwrap().unwrap().tags.to_value(), json!({"n": 1}));
    assert_eq!(store.twin(&client("d", Some("a"))).unwrap().unwrap().tags.to_value(), json!({"n": 2}));
    assert_eq!(store.twin(&client("d", Some("b"))).unwrap(), None);

    let delete = Command::DeleteDevice { hub: fleet::hub(), id: "d".parse().unwrap(), precondition: Precondition::Any };
    run(&store, [delete]);
    assert_eq!((of(&store, "d"), listed(&store)), (Vec::<String>::new(), vec!["d-2/c".to_owned()]));
    assert_eq!(store.twin(&client("d", Some("a"))).unwrap(), None);
    for n in [1, 3, 4, 6] {
        assert_eq!(store.key_owner(&fleet::slots(n)[0].fingerprint).unwrap(), None);
    }
}
