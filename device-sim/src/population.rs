//! From a plan to devices: ids, and for each its credential, derived, read, or made.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use unicity_identity::{Environment, IdScope, RegistrationId, SharedAccessKey};

use crate::engine::Member;
use crate::fleet_file::{AttestationPlan, FleetPlan, GroupPlan};
use crate::state::State;
use crate::template::Table;
use crate::{Credential, Device, DeviceCertificate, DeviceIssuer, SoftTpm};

/// Where a batch's devices have their folders.
const DEVICES_DIR: &str = "devices";

/// Credentials that the file leaves to whoever runs it.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Enrollment groups' keys by the group's name in the file; under the empty name the key of all others.
    pub group_keys: HashMap<String, SharedAccessKey>,
    /// An issuer's chain and private key, PEM files.
    pub issuer: Option<(PathBuf, PathBuf)>,
}

/// Makes the devices of a plan, those that `state` knows with what it knows.
///
/// # Errors
/// A line for the operator.
pub fn populate(
    plan: &FleetPlan,
    id_scope: &IdScope,
    credentials: &Credentials,
    state: Option<&State>,
    env: &Environment,
) -> Result<Vec<Member>, String> {
    let mut members = Vec::new();
    for (group, group_plan) in plan.groups.iter().enumerate() {
        let devices = devices(group_plan, id_scope, credentials, state, env)
            .map_err(|error| format!("group {:?}: {error}", group_plan.name))?;
        let of = devices.len();
        members.extend(devices.into_iter().enumerate().map(|(index, device)| {
            let known = state.and_then(|state| state.device(&device.registration_id));
            let assigned = known.and_then(|known| {
                let device_id = known.device_id.as_ref()?.parse().ok()?;
                Some((known.hub.clone()?, device_id))
            });
            Member { device, group, index, of, assigned }
        }));
    }
    let mut seen = HashSet::new();
    match members.iter().find(|member| !seen.insert(&member.device.registration_id)) {
        Some(twice) => Err(format!("two devices are called {}", twice.device.registration_id)),
        None => Ok(members),
    }
}

fn devices(
    plan: &GroupPlan,
    id_scope: &IdScope,
    credentials: &Credentials,
    state: Option<&State>,
    env: &Environment,
) -> Result<Vec<Device>, String> {
    let device =
        |registration_id: RegistrationId, key: Credential| Device { registration_id, key, id_scope: id_scope.clone() };
    match &plan.attestation {
        AttestationPlan::GroupKey(key) => {
            let by_name = || credentials.group_keys.get(&plan.name).or_else(|| credentials.group_keys.get(""));
            let key = key.as_ref().or_else(by_name);
            let own = |id: RegistrationId| match (key, remembered_key(state, &id)) {
                (Some(key), _) => Ok(Device::of_group(key, id, id_scope.clone())),
                (None, Some(own)) => Ok(device(id, own.into())),
                (None, None) => Err("its enrollment group's key is wanted: --group-key, or one in the file".to_owned()),
            };
            ids(plan)?.into_iter().map(own).collect()
        }
        AttestationPlan::Keys(file) => {
            let text = read(file)?;
            let keys = keys(&text).map_err(|error| format!("{}: {error}", file.display()))?;
            let wanted: Vec<_> = match (&plan.id, plan.count) {
                (Some(_), _) => {
                    let mut keys: HashMap<_, _> = keys.into_iter().collect();
                    let take = |id: RegistrationId| match keys.remove(&id) {
                        Some(key) => Ok((id, key)),
                        None => Err(format!("{}: there is no key of {id}", file.display())),
                    };
                    ids(plan)?.into_iter().map(take).collect::<Result<_, _>>()?
                }
                (None, count) => keys.into_iter().take(count.unwrap_or(usize::MAX)).collect(),
            };
            Ok(wanted.into_iter().map(|(id, key)| device(id, key.into())).collect())
        }
        AttestationPlan::X509Issuer { chain, key, dir } => {
            let given = chain.as_ref().zip(key.as_ref());
            let (chain, key) = given
                .or(credentials.issuer.as_ref().map(|(chain, key)| (chain, key)))
                .ok_or("an issuer is wanted: --cert-issuer and --cert-issuer-key, or one in the file")?;
            let dir = dir
                .clone()
                .or_else(|| state.map(State::certificates))
                .ok_or("certificates need a folder: --state, or `dir` in the file")?;
            let issuer = DeviceIssuer::from_pem(&read(chain)?, &read(key)?).map_err(|error| error.to_string())?;
            let ids = ids(plan)?;
            let (certificates, _) = issuer.prepare(&dir, &ids, env).map_err(|error| error.to_string())?;
            Ok(ids.into_iter().zip(certificates).map(|(id, certificate)| device(id, certificate.into())).collect())
        }
        AttestationPlan::X509Folder(dir) => {
            let ids = if plan.id.is_some() { ids(plan)? } else { folders(dir, plan.count)? };
            let found = ids.into_iter().map(|id| {
                let certificate = DeviceCertificate::from_folder(&dir.join(id.as_str()));
                certificate.map(|certificate| device(id, certificate.into())).map_err(|error| error.to_string())
            });
            found.collect()
        }
        AttestationPlan::Batch(dir) => {
            let dir = dir.join(DEVICES_DIR);
            let ids = if plan.id.is_some() { ids(plan)? } else { folders(&dir, plan.count)? };
            let found = ids.into_iter().map(|id| {
                let credential = Credential::from_folder(&dir.join(id.as_str()));
                credential.map(|credential| device(id, credential)).map_err(|error| error.to_string())
            });
            found.collect()
        }
        AttestationPlan::Tpm { endorsement, state: folder } => {
            let started = ids(plan)?.into_iter().map(|id| {
                let folder = folder.as_ref().map(|folder| folder.join(id.as_str()));
                if let Some(folder) = &folder {
                    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
                }
                let tpm = SoftTpm::start(*endorsement, folder.as_deref()).map_err(|error| error.to_string())?;
                Ok(device(id, tpm.into()))
            });
            started.collect()
        }
    }
}

fn ids(plan: &GroupPlan) -> Result<Vec<RegistrationId>, String> {
    let pattern = plan.id.as_ref().ok_or("a pattern of ids is wanted")?;
    let ids = (1..=plan.count.unwrap_or(1)).map(|number| pattern.id(number));
    ids.collect::<Result<_, _>>().map_err(|error| format!("id {pattern}: {error}"))
}

fn remembered_key(state: Option<&State>, id: &RegistrationId) -> Option<SharedAccessKey> {
    SharedAccessKey::from_base64(state?.device(id)?.key.as_ref()?).ok()
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// The devices that have a folder, by name.
fn folders(dir: &Path, count: Option<usize>) -> Result<Vec<RegistrationId>, String> {
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", dir.display());
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| at(&error))? {
        let entry = entry.map_err(|error| at(&error))?;
        if entry.file_type().map_err(|error| at(&error))?.is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            ids.push(name.parse().map_err(|error| at(&format!("{name:?}: {error}")))?);
        }
    }
    ids.sort();
    ids.truncate(count.unwrap_or(usize::MAX));
    Ok(ids)
}

/// Reads `registration_id,key` with a header line, or one JSON object a line with `registrationId` and `primaryKey`, or with
/// the attestation of an individual enrollment, as an enrolment file has it.
fn keys(text: &str) -> Result<Vec<(RegistrationId, SharedAccessKey)>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Line {
        registration_id: RegistrationId,
        #[serde(alias = "key")]
        primary_key: Option<String>,
        attestation: Option<Attestation>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Attestation {
        symmetric_key: Option<SymmetricKey>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct SymmetricKey {
        primary_key: String,
    }
    let key = |line: usize, key: &str| {
        SharedAccessKey::from_base64(key.trim()).map_err(|error| format!("line {line}: {error}"))
    };
    let mut keys = Vec::new();
    if text.trim_start().starts_with('{') {
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let line: Line = serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))?;
            let enrolled = || Some(line.attestation?.symmetric_key?.primary_key);
            let found = line.primary_key.or_else(enrolled);
            let found = found.ok_or_else(|| format!("line {number}: {} has no primaryKey", line.registration_id))?;
            keys.push((line.registration_id, key(number, &found)?));
        }
        return Ok(keys);
    }
    let table = Table::parse(text)?;
    let column = |name: &str| table.column(name).ok_or_else(|| format!("it has no column {name:?}"));
    let (id_at, key_at) = (column("registration_id")?, column("key")?);
    for (number, row) in (2..).zip(&table.rows) {
        let cell = |at: usize| row.get(at).map_or("", String::as_str);
        let id = cell(id_at).trim().parse().map_err(|error| format!("row {number}: {error}"))?;
        keys.push((id, key(number, cell(key_at))?));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet_file::{Outside, parse};

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn made(group: &str, dir: &Path, credentials: &Credentials, state: Option<&State>) -> Result<Vec<Member>, String> {
        let outside = Outside { base: dir, read: &|_| Err("no".to_owned()), variable: &|_| None };
        let plan = parse(&format!("[[group]]\nname = \"a\"\n{group}"), &outside).map_err(|error| error.to_string())?;
        let env = Environment::new(|| unicity_identity::Timestamp(1_790_000_000_000), || [7; 32]);
        populate(&plan, &"0ne1".parse().unwrap(), credentials, state, &env)
    }

    fn names(members: &[Member]) -> Vec<&str> {
        members.iter().map(|member| member.device.registration_id.as_str()).collect()
    }

    #[test]
    fn keys_come_from_lines_of_either_kind() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("k.csv"), format!("key,registration_id\n{KEY},b\n{KEY},a\n")).unwrap();
        let line = |id: &str| format!("{{\"registrationId\":\"{id}\",\"primaryKey\":\"{KEY}\",\"more\":1}}\n");
        std::fs::write(dir.path().join("k.ndjson"), line("m-1") + "\n" + &line("m-2")).unwrap();
        let none = Credentials::default();
        let made = |group: &str| made(group, dir.path(), &none, None);
        assert_eq!(names(&made("attestation.keys = { file = \"k.csv\" }").unwrap()), ["b", "a"]);
        let one = made("attestation.keys = { file = \"k.ndjson\" }\ncount = 1").unwrap();
        assert_eq!(names(&one), ["m-1"]);
        let named = "attestation.keys = { file = \"k.ndjson\" }\nid = \"m-{n}\"\ncount = ";
        assert_eq!(names(&made(&format!("{named}2")).unwrap()), ["m-1", "m-2"]);
        assert!(made(&format!("{named}3")).unwrap_err().contains("no key of m-3"));
        for (text, words) in [
            ("a,b\n", "no column"),
            ("registration_id,key\nx/y,AA==\n", "row 2"),
            ("registration_id,key\nx,!\n", "line 2"),
            ("{\"registrationId\":\"a\"}", "line 1"),
        ] {
            std::fs::write(dir.path().join("bad"), text).unwrap();
            let error = made("attestation.keys = { file = \"bad\" }").unwrap_err();
            assert!(error.contains(words) && error.contains("/bad"), "{error}");
        }
    }

    #[test]
    fn a_factory_s_batch_has_keys_or_certificates_and_its_rows_are_keys_too() {
        let dir = tempfile::tempdir().unwrap();
        let none = Credentials::default();
        let row = format!(
            "{{\"attestation\":{{\"symmetricKey\":{{\"primaryKey\":\"{KEY}\"}},\"type\":\"symmetricKey\"}},\"registrationId\":\"s-1\"}}\n"
        );
        std::fs::write(dir.path().join("enrollments.ndjson"), row).unwrap();
        let keys = made("attestation.keys = { file = \"enrollments.ndjson\" }", dir.path(), &none, None).unwrap();
        assert_eq!(names(&keys), ["s-1"]);

        let pair = rcgen::generate_simple_self_signed(["c-1".to_owned()]).unwrap();
        let (with_key, with_certificate) = (dir.path().join("devices/b-1"), dir.path().join("devices/c-1"));
        std::fs::create_dir_all(&with_key).unwrap();
        std::fs::create_dir_all(&with_certificate).unwrap();
        std::fs::write(with_key.join("primary.key"), format!("{KEY}\n")).unwrap();
        std::fs::write(with_certificate.join("device-chain.pem"), pair.cert.pem()).unwrap();
        std::fs::write(with_certificate.join("device.key"), pair.signing_key.serialize_pem()).unwrap();
        let batch = "attestation.batch = { dir = \".\" }";
        let members = made(batch, dir.path(), &none, None).unwrap();
        assert_eq!(names(&members), ["b-1", "c-1"]);
        assert!(matches!(members[0].device.key, Credential::Key(_)));
        assert!(matches!(members[1].device.key, Credential::Certificate(_)));
        std::fs::remove_file(with_certificate.join("device.key")).unwrap();
        let error = made(batch, dir.path(), &none, None).unwrap_err();
        assert!(error.contains("c-1") && error.contains("device.key"), "{error}");
    }

    #[test]
    fn a_group_s_key_comes_from_outside_or_each_device_s_own_from_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let group = "id = \"d-{n}\"\ncount = 2\nattestation.group_key = {}";
        let error = made(group, dir.path(), &Credentials::default(), None).unwrap_err();
        assert!(error.contains("--group-key"), "{error}");
        let key = SharedAccessKey::from_base64(KEY).unwrap();
        let given = Credentials { group_keys: [(String::new(), key)].into(), issuer: None };
        let members = made(group, dir.path(), &given, None).unwrap();
        assert!(members.iter().all(|member| member.of == 2 && member.assigned.is_none()));

        let state = State::open(&dir.path().join("state"), "0ne1", false).unwrap();
        for member in &members {
            let Credential::Key(key) = &member.device.key else { panic!() };
            let remembered = crate::state::Remembered {
                registration_id: member.device.registration_id.clone(),
                id_scope: "0ne1".to_owned(),
                key: Some(key.expose_base64().to_string()),
                hub: Some("hub.example".to_owned()),
                device_id: Some("D-1".to_owned()),
            };
            state.remember(&remembered).unwrap();
        }
        let state = State::open(&dir.path().join("state"), "0ne1", false).unwrap();
        let again = made(group, dir.path(), &Credentials::default(), Some(&state)).unwrap();
        assert_eq!(again[1].assigned, Some(("hub.example".to_owned(), "D-1".parse().unwrap())));
        let (Credential::Key(first), Credential::Key(second)) = (&members[0].device.key, &again[0].device.key) else {
            panic!()
        };
        assert_eq!(first.expose_base64(), second.expose_base64());
    }

    #[test]
    fn two_devices_of_one_name_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("k.csv"), format!("registration_id,key\na,{KEY}\na,{KEY}\n")).unwrap();
        let error = made("attestation.keys = { file = \"k.csv\" }", dir.path(), &Credentials::default(), None);
        assert!(error.unwrap_err().contains("two devices are called a"));
    }
}
