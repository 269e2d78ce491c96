//! The demo's factory: an authority of its own, under which every fifth device has a certificate instead of a derived key.

use hyper::Method;
use serde_json::json;
use unicity_device_sim::{Credential, Device, DeviceCertificate, DeviceIssuer};

use crate::client::Client;
use crate::clock;
use crate::datadir::DataDir;
use crate::devcert::{self, Algorithm};
use crate::error::{Context as _, Outcome};

/// One device in so many proves itself by certificate.
const EVERY: usize = 5;

/// Enrols the factory's intermediate as a group, and gives every fifth device a certificate below it.
pub(super) async fn equip(data: &DataDir, dps: &Client, devices: &mut [Device]) -> Outcome<u64> {
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
    Ok(equipped)
}
