//! `unicity init`: everything that a first start needs.

use clap::Args;
use serde_json::json;

use super::{Global, output};
use crate::audit_key;
use crate::clock;
use crate::datadir::DataDir;
use crate::error::{Context as _, Outcome};
use crate::instance::Instance;
use crate::server::names;
use crate::{config, pki};

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// A name or address under which devices reach the server; repeatable. The default is 127.0.0.1, localhost and the machine's name.
    #[arg(long = "hostname", value_name = "NAME")]
    hostnames: Vec<String>,
}

/// Makes the data directory, or brings its host names up to date.
pub(crate) fn run(global: &Global, args: &InitArgs) -> Outcome {
    for name in &args.hostnames {
        name.parse::<unicity_identity::HubHost>().context("--hostname")?;
    }
    let data = DataDir::new(&global.data);
    data.create()?;
    let _lock = data.lock()?;
    let now = clock::now();
    let fresh = !data.is_initialized();
    let instance = if fresh {
        Instance::create(&data, args.hostnames.clone())?
    } else {
        let mut instance = Instance::open(&data)?;
        if !args.hostnames.is_empty() {
            instance.set_hostnames(&data, args.hostnames.clone())?;
        }
        instance
    };
    let config = if data.config().exists() { config::load(&data.config())? } else { config::defaults() };
    let names = names::resolve(&instance, &config, &[], None, None)?;
    pki::ensure_ca(&data, instance.id_scope.as_str(), now)?;
    if config.tls.is_none() {
        pki::ensure_server(&data, &names.certificate, now)?;
    }
    let audit_key = audit_key::load_or_make(&data, &instance.id_scope)?;
    if fresh {
        audit_key::write_public(&data, &audit_key, 1)?;
    }
    // Later ones are the server's to write: it knows which keys were rotated.
    if fresh || !data.connection_strings().exists() {
        crate::server::write_first_connection_strings(&data, &instance, &names)?;
    }
    if global.json {
        return output::json(&json!({
            "data": data.path(),
            "idScope": instance.id_scope,
            "hostnames": names.certificate,
            "ca": data.pki("ca.pem"),
            "created": fresh,
        }));
    }
    let shown = data.path().display();
    eprintln!("{} {shown}", if fresh { "initialised" } else { "already initialised:" });
    output::line(&format!("id scope    {}", instance.id_scope))?;
    output::line(&format!("host names  {}", names.certificate.join(", ")))?;
    output::line(&format!("device CA   {}", data.pki("ca.pem").display()))?;
    eprintln!("\nnext: unicity serve --data {shown}");
    eprintln!("a test device's certificate: unicity dev-cert --registration-id my-device --out my-device");
    Ok(())
}
