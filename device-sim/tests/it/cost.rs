//! What rumqttc costs a fleet: the same run with it and with the least client that can do the same. Measurements, no
//! checks: `cargo nextest run --release -p unicity-device-sim --run-ignored only --no-capture -j 1`.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rumqttc::mqttbytes::Error;
use rumqttc::{Connect, ConnectReturnCode, Packet, PubAck, Publish, QoS, Subscribe};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use unicity_device_sim::{
    ConnackCode, Device, Fleet, FleetSettings, Incoming, Login, MqttClient, Outgoing, RumqttClient, SessionEnd,
    SimError, Target,
};

use crate::responder::{Responder, SCOPE, Script, environment, group_key};

/// rumqttc's codec on a TLS stream: no pings, no packet ids kept, no time-outs.
struct Lean {
    stream: TlsStream<TcpStream>,
    read: BytesMut,
    write: BytesMut,
    packet_id: u16,
}

fn closed() -> SimError {
    SimError::Ended(SessionEnd::ClosedByServer)
}

impl Lean {
    fn put(&mut self, packet: &Packet) {
        packet.write(&mut self.write, 1 << 20).unwrap();
    }

    async fn flush(&mut self) -> Result<(), SimError> {
        if !self.write.is_empty() {
            self.stream.write_all(&self.write).await.map_err(|_| closed())?;
            self.write.clear();
        }
        Ok(())
    }

    async fn packet(&mut self) -> Result<Packet, SimError> {
        self.flush().await?;
        loop {
            match Packet::read(&mut self.read, 1 << 20) {
                Ok(packet) => return Ok(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("the responder sent no MQTT: {error}"),
            }
            if !matches!(self.stream.read_buf(&mut self.read).await, Ok(1..)) {
                return Err(closed());
            }
        }
    }
}

impl MqttClient for Lean {
    async fn connect(target: &Target, login: Login) -> Result<Self, SimError> {
        let socket = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(|_| closed())?;
        socket.set_nodelay(true).unwrap();
        let name = target.verified_host.clone().try_into().unwrap();
        let stream = TlsConnector::from(Arc::clone(&target.tls)).connect(name, socket).await.map_err(|_| closed())?;
        let mut client = Self { stream, read: BytesMut::new(), write: BytesMut::new(), packet_id: 0 };
        let mut connect = Connect::new(login.client_id);
        connect.login =
            Some(rumqttc::Login { username: login.user_name, password: login.password.unwrap_or_default() });
        client.put(&Packet::Connect(connect));
        match client.packet().await? {
            Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => Ok(client),
            Packet::ConnAck(ack) => Err(SimError::Refused(ConnackCode(ack.code as u8))),
            other => Err(SimError::Protocol(format!("{other:?}"))),
        }
    }

    async fn queue(&mut self, packet: Outgoing) -> Result<(), SimError> {
        self.packet_id = self.packet_id % 1000 + 1;
        let packet = match packet {
            Outgoing::Subscribe(filter) => {
                let mut subscribe = Subscribe::new(filter, QoS::AtLeastOnce);
                subscribe.pkid = self.packet_id;
                Packet::Subscribe(subscribe)
            }
            Outgoing::Publish { topic, body } => {
                let mut publish = Publish::from_bytes(topic, QoS::AtLeastOnce, body);
                publish.pkid = self.packet_id;
                Packet::Publish(publish)
            }
            Outgoing::Fire { topic, body } => Packet::Publish(Publish::from_bytes(topic, QoS::AtMostOnce, body)),
        };
        self.put(&packet);
        Ok(())
    }

    async fn next(&mut self) -> Result<Incoming, SimError> {
        match self.packet().await? {
            Packet::SubAck(_) => Ok(Incoming::Subscribed(true)),
            Packet::PubAck(_) => Ok(Incoming::Acknowledged),
            Packet::Publish(publish) => {
                self.put(&Packet::PubAck(PubAck::new(publish.pkid)));
                Ok(Incoming::Message { topic: publish.topic, body: publish.payload })
            }
            other => Err(SimError::Protocol(format!("{other:?}"))),
        }
    }

    async fn disconnect(mut self) {
        self.put(&Packet::Disconnect);
        let _ = self.flush().await;
    }
}

async fn run<C: MqttClient>(name: &str, devices: usize, messages: u64) {
    let responder = Responder::start(Script::default()).await;
    let settings = FleetSettings { messages, ..FleetSettings::default() };
    let fleet = Fleet::new(responder.dialer(), responder.endpoint(), settings, environment());
    let devices = Device::group_members(&group_key(), "sim-", devices, &SCOPE.parse().unwrap()).unwrap();
    let (before, started) = (cpu_ms(), Instant::now());
    let count = devices.len() as f64;
    let summary = fleet.run_with::<C>(devices).await.summary;
    assert!(summary.is_complete(), "{summary}");
    println!(
        "{name}: {count} devices, {messages} messages each: {:.2} s, {:.0} µs of CPU a device, responder included",
        started.elapsed().as_secs_f64(),
        (cpu_ms() - before) * 1000.0 / count,
    );
}

/// CPU time of this process so far, user and system, in ticks of 10 ms.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) * 10.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
async fn of_first_boots() {
    for _ in 0..3 {
        run::<RumqttClient>("rumqttc", 3000, 1).await;
        run::<Lean>("least  ", 3000, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
async fn of_telemetry() {
    for _ in 0..3 {
        run::<RumqttClient>("rumqttc", 64, 2000).await;
        run::<Lean>("least  ", 64, 2000).await;
    }
}

/// The trait is enough for another client: it was written against rumqttc alone.
#[tokio::test(flavor = "multi_thread")]
async fn another_client_takes_the_place_of_rumqttc() {
    run::<Lean>("least", 20, 40).await;
}
