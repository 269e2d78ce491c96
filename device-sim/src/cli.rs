//! The command line of `device-sim`, and what it means.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{ArgGroup, Parser};
use unicity_device_sim::{
    Device, DeviceCertificate, DeviceIssuer, Dialer, EndorsementKind, Endpoint, FleetSettings, Limits, SoftTpm,
};
use unicity_identity::{Environment, IdScope, InvalidId, RegistrationId, SharedAccessKey};

use crate::experiment::{Accomplices, ExperimentArgs};

/// Runs simulated devices: each registers with its own key or certificate, connects to the hub it is assigned, and sends telemetry.
#[derive(Debug, Parser)]
#[command(
    name = "device-sim",
    version,
    after_help = "`device-sim run FLEET.toml` runs fleets of unlike devices, `device-sim scenarios` lists the bundled ones.",
    group(ArgGroup::new("credential").required(true).args(["group_key", "key", "cert_dir", "tpm"]))
)]
pub(crate) struct Arguments {
    /// The provisioning service; its certificate must have this host
    #[arg(long, value_name = "HOST[:PORT]")]
    endpoint: Endpoint,
    /// PEM file with the certificates to trust
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The service's id scope
    #[arg(long, value_name = "SCOPE")]
    id_scope: IdScope,
    /// Key of an enrollment group, base64: each device's key is derived from it
    #[arg(long, value_name = "BASE64", env = "DEVICE_SIM_GROUP_KEY", hide_env_values = true, value_parser = key)]
    group_key: Option<SharedAccessKey>,
    /// Key of one device with an enrollment of its own, base64
    #[arg(
        long, value_name = "BASE64", env = "DEVICE_SIM_KEY", hide_env_values = true, value_parser = key,
        requires = "registration_id"
    )]
    key: Option<SharedAccessKey>,
    /// Folder of certificates: DIR/ID/device-chain.pem and DIR/ID/device.key, one folder a device
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// PEM file of an issuer (then those above it, without the root): makes the certificates that --cert-dir lacks
    #[arg(long, value_name = "FILE", requires_all = ["cert_dir", "cert_issuer_key"], conflicts_with_all = ["group_key", "key"])]
    cert_issuer: Option<PathBuf>,
    /// Private key of that issuer, PKCS#8 PEM
    #[arg(long, value_name = "FILE", requires = "cert_issuer")]
    cert_issuer_key: Option<PathBuf>,
    /// One device with a TPM (swtpm) whose endorsement key is of this kind: rsa or ecc
    #[arg(long, value_name = "KIND", requires = "registration_id")]
    tpm: Option<EndorsementKind>,
    /// Folder in which that TPM keeps its keys; without one it is a new TPM each time
    #[arg(long, value_name = "DIR", requires = "tpm")]
    tpm_state: Option<PathBuf>,
    /// Print the TPM's endorsement key in base64, for its enrollment, and do nothing else
    #[arg(long, requires = "tpm_state")]
    pub(crate) print_endorsement_key: bool,
    /// Port at which the provisioning service speaks HTTPS; a device with a TPM registers there
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    https_port: u16,
    /// Registration id of the one device
    #[arg(long, value_name = "ID", conflicts_with_all = ["prefix", "count"])]
    registration_id: Option<RegistrationId>,
    /// What the registration ids of several devices begin with
    #[arg(long, default_value = "sim-", conflicts_with = "key")]
    prefix: String,
    /// How many devices
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "key")]
    count: usize,
    /// Messages that each device sends
    #[arg(long, value_name = "M", default_value_t = 1)]
    messages: u64,
    /// Devices at work at once
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    concurrency: usize,
    /// Messages of a device that may wait for their acknowledgement
    #[arg(long, value_name = "W", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=65_534))]
    window: u16,
    /// Port of the hubs
    #[arg(long, value_name = "PORT", default_value_t = 8883)]
    hub_port: u16,
    /// Connect to ADDR for HOST and still verify HOST; may be repeated
    #[arg(long, value_name = "HOST=ADDR")]
    resolve: Vec<Resolve>,
    /// Keep the sessions open until interrupted
    #[arg(long)]
    hold: bool,
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,
    /// Print the summary as one JSON object; of clones and flaky devices each step before it, one object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Resolve {
    host: String,
    address: SocketAddr,
}

impl FromStr for Resolve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, address) = text.split_once('=').ok_or("HOST=ADDR:PORT is wanted")?;
        let address = address.parse().map_err(|_| format!("{address:?} is not an IP address with a port"))?;
        Ok(Self { host: host.to_owned(), address })
    }
}

fn key(text: &str) -> Result<SharedAccessKey, unicity_identity::key::InvalidKey> {
    SharedAccessKey::from_base64(text)
}

/// What is to run.
pub(crate) struct Plan {
    pub(crate) dialer: Dialer,
    pub(crate) endpoint: Endpoint,
    pub(crate) settings: FleetSettings,
    pub(crate) devices: Vec<Device>,
    pub(crate) accomplices: Accomplices,
}

impl Arguments {
    /// Reads the CA file and derives the devices' keys, or reads or makes their certificates.
    ///
    /// # Errors
    /// A line for the operator.
    pub(crate) fn plan(&self, env: &Environment) -> Result<Plan, String> {
        let ca = std::fs::read(&self.ca).map_err(|error| format!("cannot read {}: {error}", self.ca.display()))?;
        let mut dialer = Dialer::new(&ca)
            .map_err(|error| format!("{}: {error}", self.ca.display()))?
            .with_hub_port(self.hub_port)
            .with_https_port(self.https_port)
            .with_limits(Limits { window: self.window, ..Limits::default() });
        for Resolve { host, address } in &self.resolve {
            dialer = dialer.with_resolved(host, *address).map_err(|error| error.to_string())?;
        }
        Ok(Plan {
            dialer,
            endpoint: self.endpoint.clone(),
            settings: FleetSettings {
                messages: self.messages,
                concurrency: self.concurrency,
                hold: self.hold,
                ..FleetSettings::default()
            },
            devices: self.devices(env)?,
            accomplices: self.accomplices()?,
        })
    }

    /// Starts the one TPM, whose keys take a moment.
    pub(crate) fn tpm(&self) -> Result<Option<SoftTpm>, String> {
        let start = |kind| SoftTpm::start(kind, self.tpm_state.as_deref()).map_err(|error| error.to_string());
        self.tpm.map(start).transpose()
    }

    /// A thief in a group has a device of its own there; one with an authority at hand lets it issue.
    fn accomplices(&self) -> Result<Accomplices, String> {
        let thieves = self.experiment.thieves().min(self.count);
        let devices = match &self.group_key {
            Some(group_key) => {
                let prefix = format!("{}thief-", self.prefix);
                Device::group_members(group_key, &prefix, thieves, &self.id_scope)
                    .map_err(|error| self.bad_prefix(error))?
            }
            None => Vec::new(),
        };
        Ok(Accomplices { devices, issuer: self.issuer()? })
    }

    fn devices(&self, env: &Environment) -> Result<Vec<Device>, String> {
        let id_scope = self.id_scope.clone();
        if let (Some(tpm), Some(id)) = (self.tpm()?, &self.registration_id) {
            return Ok(vec![Device { registration_id: id.clone(), key: tpm.into(), id_scope }]);
        }
        match (&self.group_key, &self.key, &self.cert_dir, &self.registration_id) {
            (Some(group_key), None, None, None) => {
                Device::group_members(group_key, &self.prefix, self.count, &id_scope)
                    .map_err(|error| self.bad_prefix(error))
            }
            (Some(group_key), None, None, Some(id)) => Ok(vec![Device::of_group(group_key, id.clone(), id_scope)]),
            (None, Some(key), None, Some(id)) => {
                Ok(vec![Device { registration_id: id.clone(), key: key.clone().into(), id_scope }])
            }
            (None, None, Some(folder), id) => {
                let ids = match id {
                    Some(id) => vec![id.clone()],
                    None => Device::names(&self.prefix, self.count).map_err(|error| self.bad_prefix(error))?,
                };
                let certificates = self.certificates(folder, &ids, env)?;
                let device = |(registration_id, certificate): (RegistrationId, DeviceCertificate)| Device {
                    registration_id,
                    key: certificate.into(),
                    id_scope: id_scope.clone(),
                };
                Ok(ids.into_iter().zip(certificates).map(device).collect())
            }
            _ => Err("give --group-key, --cert-dir, or --key or --tpm with --registration-id".to_owned()),
        }
    }

    fn bad_prefix(&self, error: InvalidId) -> String {
        format!("--prefix {:?}: {error}", self.prefix)
    }

    fn issuer(&self) -> Result<Option<DeviceIssuer>, String> {
        let (Some(issuer), Some(key)) = (&self.cert_issuer, &self.cert_issuer_key) else { return Ok(None) };
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        DeviceIssuer::from_pem(&read(issuer)?, &read(key)?).map(Some).map_err(|error| error.to_string())
    }

    fn certificates(
        &self,
        folder: &Path,
        ids: &[RegistrationId],
        env: &Environment,
    ) -> Result<Vec<DeviceCertificate>, String> {
        let Some(issuer) = self.issuer()? else {
            let found = ids.iter().map(|id| DeviceCertificate::from_folder(&folder.join(id.as_str())));
            return found.collect::<Result<_, _>>().map_err(|error| {
                format!(
                    "{error}\nhint: `unicity dev-cert --registration-id ID --out DIR/ID` makes one; --cert-issuer and \
                     --cert-issuer-key make all that are missing"
                )
            });
        };
        let (certificates, issued) = issuer.prepare(folder, ids, env).map_err(|error| error.to_string())?;
        if issued.made > 0 && !self.json {
            eprintln!("device-sim: {} certificates made, {} were there", issued.made, issued.kept);
        }
        Ok(certificates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn environment() -> Environment {
        Environment::new(|| unicity_identity::Timestamp(1_790_000_000_000), || [7; 32])
    }

    fn parse(more: &[&str]) -> Result<Arguments, clap::Error> {
        let base = ["device-sim", "--endpoint", "127.0.0.1:18883", "--ca", "ca.pem", "--id-scope", "0ne00000000"];
        Arguments::try_parse_from(base.iter().chain(more))
    }

    #[test]
    fn a_group_makes_many_devices_and_a_key_one() {
        let names = |more: &[&str]| -> Vec<String> {
            let devices = parse(more).unwrap().devices(&environment()).unwrap();
            devices.iter().map(|device| device.registration_id.to_string()).collect()
        };
        assert_eq!(names(&["--group-key", KEY, "--prefix", "a-", "--count", "2"]), ["a-1", "a-2"]);
        assert_eq!(names(&["--group-key", KEY, "--registration-id", "one"]), ["one"]);
        assert_eq!(names(&["--key", KEY, "--registration-id", "one"]), ["one"]);
    }

    #[test]
    fn certificates_come_from_their_folders() {
        let folder = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(["a-1".to_owned()]).unwrap();
        let device = folder.path().join("a-1");
        std::fs::create_dir(&device).unwrap();
        std::fs::write(device.join("device-chain.pem"), own.cert.pem()).unwrap();
        std::fs::write(device.join("device.key"), own.signing_key.serialize_pem()).unwrap();
        let devices = |count: &str| {
            let folder = folder.path().to_str().unwrap();
            parse(&["--cert-dir", folder, "--prefix", "a-", "--count", count]).unwrap().devices(&environment())
        };
        let found = devices("1").unwrap();
        assert_eq!(found[0].registration_id.as_str(), "a-1");
        assert!(matches!(found[0].key, unicity_device_sim::Credential::Certificate(_)));
        let error = devices("2").unwrap_err();
        assert!(error.contains("a-2/device-chain.pem") && error.contains("--cert-issuer"), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for more in [
            &[][..],
            &["--key", KEY],
            &["--key", KEY, "--group-key", KEY, "--registration-id", "x"],
            &["--key", KEY, "--registration-id", "x", "--count", "2"],
            &["--key", KEY, "--registration-id", "x", "--cert-dir", "d"],
            &["--cert-dir", "d", "--cert-issuer", "ca.pem"],
            &["--cert-dir", "d", "--cert-issuer-key", "ca.key"],
            &["--group-key", KEY, "--cert-issuer", "ca.pem", "--cert-issuer-key", "ca.key"],
            &["--group-key", KEY, "--attack", "takeover"],
            &["--group-key", KEY, "--clones", "1", "--attack", "theft"],
            &["--group-key", KEY, "--flaky", "nap"],
            &["--group-key", KEY, "--seed", "1"],
            &["--tpm", "ecc"],
            &["--tpm", "dsa", "--registration-id", "x"],
            &["--tpm", "ecc", "--registration-id", "x", "--print-endorsement-key"],
            &["--group-key", "!"],
            &["--group-key", KEY, "--concurrency", "0"],
            &["--group-key", KEY, "--window", "0"],
            &["--group-key", KEY, "--resolve", "hub.example"],
            &["--group-key", KEY, "--resolve", "hub.example=localhost"],
        ] {
            assert!(parse(more).is_err(), "{more:?}");
        }
        assert!(parse(&["--group-key", KEY, "--prefix", "no/slash"]).unwrap().devices(&environment()).is_err());
    }

    #[test]
    fn hosts_are_resolved_as_told() {
        let arguments = parse(&["--group-key", KEY, "--resolve", "hub.example=127.0.0.1:18883"]).unwrap();
        assert_eq!(
            arguments.resolve,
            [Resolve { host: "hub.example".to_owned(), address: "127.0.0.1:18883".parse().unwrap() }]
        );
    }
}
