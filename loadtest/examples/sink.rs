//! The least that a broker can be: takes every CONNECT, acknowledges every PUBLISH, keeps nothing. What the generator reaches
//! against it is what the generator can.
//!
//! `cargo run --release -p unicity-loadtest --example sink -- [CA.pem]`: with a file it speaks TLS and writes its certificate
//! there. Then `loadtest telemetry --plain-broker --endpoint 127.0.0.1:PORT --ca CA.pem` (or `--no-tls`).

use std::error::Error;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let acceptor = std::env::args().nth(1).map(acceptor).transpose()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("sink {} pid {}", listener.local_addr()?, std::process::id());
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            match acceptor {
                None => serve(socket).await,
                Some(acceptor) => match acceptor.accept(socket).await {
                    Ok(stream) => serve(stream).await,
                    Err(_) => None,
                },
            }
        });
    }
}

fn acceptor(certificate: String) -> Result<TlsAcceptor, Box<dyn Error>> {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der())?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)?;
    std::fs::write(certificate, certified.cert.pem())?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Header and body length of the first packet; none if it is not all there.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (place, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let header = place + 2;
            return (bytes.len() >= header + length).then_some((header, length));
        }
    }
    None
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<()> {
    let (mut read, mut write) = (BytesMut::new(), Vec::new());
    loop {
        let mut at = 0;
        while let Some((header, length)) = frame(&read[at..]) {
            let (first, body) = (read[at], &read[at + header..at + header + length]);
            match first >> 4 {
                1 => write.extend_from_slice(&[0x20, 2, 0, 0]),
                3 if first & 0x06 != 0 => {
                    let topic = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
                    write.extend_from_slice(&[0x40, 2]);
                    write.extend_from_slice(body.get(2 + topic..4 + topic)?);
                }
                12 => write.extend_from_slice(&[0xd0, 0]),
                14 => return None,
                _ => {}
            }
            at += header + length;
        }
        read.advance(at);
        if !write.is_empty() {
            stream.write_all(&write).await.ok()?;
            stream.flush().await.ok()?;
            write.clear();
        }
        read.reserve(16 * 1024);
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}
