//! A process that runs out of file descriptors. In a binary of its own, since the limit is the process's.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use unicity_listener::{ByteStream, ConnectionInfo, Listener, ListenerSettings, Service, Transport};

#[derive(Clone)]
struct Greeter;

impl Service for Greeter {
    async fn serve(&self, mut stream: Box<dyn ByteStream>, _: ConnectionInfo, _: CancellationToken) {
        let _ = stream.write_all(b"hello").await;
    }
}

#[tokio::test]
async fn the_accept_loop_survives_a_lack_of_file_descriptors() {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(address, Transport::Plain, ListenerSettings::named("test")).unwrap();
    let metrics = listener.metrics();
    let mut client = tokio::net::TcpStream::connect(listener.local_addr()).await.unwrap();

    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..limit }).unwrap();
    tokio::spawn(listener.serve(Greeter, CancellationToken::new(), Duration::ZERO));
    while metrics.accept_errors() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(metrics.accepted(), 0);

    setrlimit(Resource::Nofile, limit).unwrap();
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).await.unwrap();
    assert_eq!(greeting, "hello", "who waited in the backlog is served");
}
