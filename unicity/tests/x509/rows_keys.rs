//! Keys and signatures of every kind, made by OpenSSL (`fixtures/make.sh`).

use std::sync::Arc;

use crate::device::Verdict::Ended;
use crate::factory::Sent;
use crate::server::Server;
use crate::signing::{Garbage, OddRsa, honest};
use crate::table::{Handshake, Identity, NO_REASON, NOT_AUTHORIZED, Passed, Row, assigned, row};

fn file(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/x509/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A device whose key every TLS library signs with.
fn made(id: &str) -> Sent {
    Sent { chain: vec![file(&format!("{id}.der"))], key: honest(&file(&format!("{id}.p8"))) }
}

/// One with an RSA key that rustls would not sign with.
fn odd(id: &str) -> Sent {
    Sent { chain: vec![file(&format!("{id}.der"))], key: Arc::new(OddRsa::new(&file(&format!("{id}.p8")))) }
}

/// One whose key fits no signature scheme that the server offers: there is nothing that it could sign with.
fn without_scheme(id: &str) -> Sent {
    Sent { chain: vec![file(&format!("{id}.der"))], key: Arc::new(Garbage) }
}

pub(crate) fn rows(server: &Server) -> Vec<Row> {
    server.enrol_group("openssl", &file("openssl.der"));
    let openssl = || assigned("openssl");
    #[rustfmt::skip] // a row a line
    let rows = vec![
        row("p-256", made, Passed, openssl(), NO_REASON),
        row("p-384", made, Passed, openssl(), NO_REASON),
        row("ed25519", made, Passed, openssl(), NO_REASON),
        row("rsa-2048", made, Passed, openssl(), NO_REASON),
        row("rsa-3072", made, Passed, openssl(), NO_REASON),
        row("rsa-4096", made, Passed, openssl(), NO_REASON),
        row("rsa-5120", odd, Identity, NOT_AUTHORIZED, "WeakKey"),
        row("rsa-exponent-3", odd, Identity, NOT_AUTHORIZED, "WeakKey"),
        row("rsa-1024", odd, Handshake, Ended, "client_certificate"),
        row("signed-pss", made, Passed, openssl(), NO_REASON),
        row("signed-md5", made, Identity, NOT_AUTHORIZED, "BrokenSignature"),
        row("signed-sha1", made, Identity, NOT_AUTHORIZED, "BrokenSignature"),
        row("signed-sha224", made, Identity, NOT_AUTHORIZED, "UnsupportedSignature"),
        row("version-1", made, Handshake, Ended, "client_certificate"),
        row("compressed", made, Handshake, Ended, "client_certificate"),
        row("explicit-curve", made, Handshake, Ended, "client_certificate"),
        row("p-521", without_scheme, Handshake, Ended, "client_certificate"),
        row("secp256k1", without_scheme, Handshake, Ended, "client_certificate"),
        row("ed448", without_scheme, Handshake, Ended, "client_certificate"),
        row("pss-key", without_scheme, Handshake, Ended, "client_certificate"),
    ];
    rows
}
