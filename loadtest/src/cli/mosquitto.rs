//! A mosquitto for one run, set up so that nothing holds it back.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use unicity_device_sim::Endpoint;

use super::authority::{Authority, CA_FILE, CERTIFICATE_FILE, KEY_FILE};
use super::{Refused, process, server};

/// Patience for a start.
const PATIENCE: Duration = Duration::from_secs(20);
const LOG_FILE: &str = "mosquitto.log";
const PASSWORD_FILE: &str = "passwords";

/// The running broker, and what its devices need.
pub(crate) struct Started {
    pub(crate) server: server::Server,
    pub(crate) endpoint: Endpoint,
    pub(crate) authority: Authority,
    /// User name and password of all devices; none if they have certificates.
    pub(crate) login: Option<(String, String)>,
}

/// Its configuration. Without delay on the socket, or each acknowledgement waits for one of TCP's; without a bound on messages
/// in flight; and with nothing on disk.
fn configuration(folder: &Path, port: u16, with_certificates: bool) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut text = format!(
        "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n",
        file(CA_FILE),
        file(CERTIFICATE_FILE),
        file(KEY_FILE)
    );
    let access = if with_certificates {
        "require_certificate true\nallow_anonymous true\n".to_owned()
    } else {
        format!("allow_anonymous false\npassword_file {}\n", file(PASSWORD_FILE))
    };
    text.push_str(&access);
    // Started by root it would become a user who may not read our folder; started by anybody else it ignores this.
    text.push_str("user root\n");
    text.push_str("set_tcp_nodelay true\nmax_inflight_messages 0\nmax_queued_messages 1000000\nmax_connections -1\n");
    text.push_str("persistence false\nconnection_messages false\nlog_type error\nlog_type warning\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "log_dest file {}", file(LOG_FILE));
    text
}

/// Starts one, on `core` if that is given.
pub(crate) async fn start(binary: &Path, core: Option<usize>, with_certificates: bool) -> Result<Started, Refused> {
    let failed = |why: &str| Refused::failed(format!("mosquitto does not start: {why}"));
    let folder = server::folder()?;
    let authority = Authority::write(folder.path())?;
    let login = if with_certificates { None } else { Some(password(folder.path()).await?) };
    let address = free_port().await.map_err(|error| failed(&error.to_string()))?;
    let config = folder.path().join("mosquitto.conf");
    std::fs::write(&config, configuration(folder.path(), address.port(), with_certificates))
        .map_err(|error| failed(&error.to_string()))?;
    if Command::new(binary).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().await.is_err() {
        return Err(Refused::failed(format!(
            "there is no `{}`: install the package mosquitto, or name the program with --mosquitto-bin",
            binary.display()
        )));
    }
    let mut child = process::on_core(binary, core)
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A person's Ctrl-C is for us: we end it when we are done.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&error.to_string()))?;
    if let Err(why) = timeout(PATIENCE, listening(&mut child, address)).await.unwrap_or(Err("it does not listen")) {
        let log = std::fs::read_to_string(folder.path().join(LOG_FILE)).unwrap_or_default();
        return Err(failed(format!("{why}\n{log}").trim()));
    }
    Ok(Started { server: server::Server::of(child, folder)?, endpoint: Endpoint::from(address), authority, login })
}

/// Nobody else has it now; mosquitto cannot choose one itself and say which.
async fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()
}

/// Waits until it takes connections: it says nowhere when it does.
async fn listening(child: &mut Child, address: SocketAddr) -> Result<(), &'static str> {
    while TcpStream::connect(address).await.is_err() {
        if !matches!(child.try_wait(), Ok(None)) {
            return Err("it ended at once");
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn password(folder: &Path) -> Result<(String, String), Refused> {
    let (user, password) = ("loadtest", "loadtest");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(folder.join(PASSWORD_FILE))
        .args([user, password])
        .stdout(Stdio::null())
        .status()
        .await;
    match made {
        Ok(status) if status.success() => Ok((user.to_owned(), password.to_owned())),
        _ => Err(Refused::failed("`mosquitto_passwd` is missing or fails; it is in the package mosquitto")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_configuration_wants_what_devices_have_and_holds_nothing_back() {
        let lines = |with_certificates| -> Vec<String> {
            configuration(Path::new("/t"), 1883, with_certificates).lines().map(str::to_owned).collect()
        };
        let has = |lines: &[String], line: &str| lines.iter().any(|have| have == line);
        for with_certificates in [true, false] {
            let lines = lines(with_certificates);
            for line in [
                "listener 1883 127.0.0.1",
                "cafile /t/ca.pem",
                "certfile /t/server.pem",
                "keyfile /t/server.key",
                "set_tcp_nodelay true",
                "max_inflight_messages 0",
                "persistence false",
                "log_dest file /t/mosquitto.log",
            ] {
                assert!(has(&lines, line), "{line}");
            }
            assert_eq!(has(&lines, "require_certificate true"), with_certificates);
            assert_eq!(has(&lines, "allow_anonymous true"), with_certificates);
            assert_eq!(has(&lines, "password_file /t/passwords"), !with_certificates);
        }
    }
}
