//! The demo's factory: an authority of its own, under which every fifth device has a certificate instead of a derived key,
//! and a TPM for the last ones where swtpm is installed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde_json::json;
use tokio::task::JoinHandle;
use unicity_device_sim::{Credential, Device, DeviceCertificate, DeviceIssuer, EndorsementKind, SimError, SoftTpm};

use crate::client::Client;
use crate::clock;
use crate::datadir::DataDir;
use crate::devcert::{self, Algorithm};
use crate::error::{Context as _, Outcome};

/// One device in so many proves itself by certificate.
const EVERY: usize = 5;
/// One TPM of each kind.
const TPMS: [EndorsementKind; 2] = [EndorsementKind::Rsa2048, EndorsementKind::EccP256];

/// Enrols the factory's intermediate as a group, and gives every fifth device a certificate below it. Returns how many it
/// gave, and the authority.
pub(super) async fn equip(data: &DataDir, dps: &Client, devices: &mut [Device]) -> Outcome<(u64, DeviceIssuer)> {
    let folder = data.path().join("demo-factory");
    let sample = "factory-sample".parse().context("the sample's name")?;
    let request = devcert::Request {
        registration_id: &sample,
        out: &folder.join("sample"),
        factory: &folder,
        algorithm: Algorithm::P256,
        depth: 1,
        days: 30,
        renew: false,
    };
    let made = devcert::make(&request, clock::now())?;
    let read =
        |path: &std::path::Path| std::fs::read_to_string(path).context(format!("cannot read {}", path.display()));
    let (certificate, key) = (read(&made.issuer)?, read(&made.issuer_key)?);
    let attestation =
        json!({"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": certificate}}}});
    let body = json!({"enrollmentGroupId": "demo-x509", "attestation": attestation});
    dps.call(Method::PUT, "/enrollmentGroups/demo-x509?api-version=2021-10-01", &[], Some(&body)).await?;
    let issuer = DeviceIssuer::from_pem(&certificate, &key).context("the demo's issuer")?;
    let environment = clock::environment();
    let mut equipped = 0;
    for device in devices.iter_mut().step_by(EVERY) {
        let (chain, key) = issuer.issue(&device.registration_id, &environment).context("a device's certificate")?;
        let certificate =
            DeviceCertificate::from_pem(chain.as_bytes(), key.as_bytes()).context("a device's certificate")?;
        device.key = Credential::Certificate(certificate);
        equipped += 1;
    }
    Ok((equipped, issuer))
}

/// TPMs that are being made. Their keys take a moment, which the server needs for its start anyway.
pub(super) struct Tpms(Vec<JoinHandle<Result<SoftTpm, SimError>>>);

impl Tpms {
    /// Starts as many as a fleet of `devices` has use for: none of the smallest. Without swtpm there are none.
    pub(super) fn make(devices: usize) -> Self {
        let wanted = if SoftTpm::is_available() { devices.saturating_sub(1) / 2 } else { 0 };
        let start = |kind| tokio::task::spawn_blocking(move || SoftTpm::start(kind, None));
        Self(TPMS.into_iter().take(wanted).map(start).collect())
    }

    /// Enrols each TPM by its endorsement key, and gives it to one of the last devices that has no certificate. Returns
    /// the ids of these devices.
    pub(super) async fn equip(self, dps: &Client, devices: &mut [Device]) -> Outcome<Vec<String>> {
        let mut equipped = Vec::new();
        let bare = devices.iter_mut().rev().filter(|device| matches!(device.key, Credential::Key(_)));
        for (device, tpm) in bare.zip(self.0) {
            // A sandbox may have the program and not let it run; the rest of the demo does not depend on it.
            let tpm = match tpm.await.context("a TPM")? {
                Ok(tpm) => tpm,
                Err(error) => {
                    eprintln!("         one device less with a TPM: {error}");
                    continue;
                }
            };
            let id = device.registration_id.as_str();
            let attestation = json!({"type": "tpm", "tpm": {"endorsementKey": STANDARD.encode(tpm.endorsement_key())}});
            let body = json!({"registrationId": id, "attestation": attestation});
            dps.call(Method::PUT, &format!("/enrollments/{id}?api-version=2021-10-01"), &[], Some(&body)).await?;
            equipped.push(id.to_owned());
            device.key = tpm.into();
        }
        Ok(equipped)
    }
}
