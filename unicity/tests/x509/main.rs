//! X.509 devices against the real server over real sockets, on TLS 1.2 and 1.3.
//!
//! `the_table` is one row a case, in `rows_*`: its name, which is the registration id as well; what the device sends; the stage that
//! ends it; the verdict that the device sees; and the reason that the operator finds. The rules themselves have their own tables in
//! `provisioning/src/x509/tests`; what this one adds is everything between a device's TLS library and those rules. `taken_back`
//! shows that who was let in once is not let in for ever: not by a TLS ticket, and not by showing less.

#![allow(clippy::unwrap_used)]

mod device;
mod factory;
mod rows_chains;
mod rows_contents;
mod rows_enrollments;
mod rows_keys;
mod rows_revocation;
mod server;
mod signing;
mod table;
mod taken_back;

use server::Server;

/// What becomes of a device is told by one server; only the policy for outdated revocation lists needs a second one.
#[test]
fn the_table() {
    let server = Server::start("");
    let mut rows = rows_chains::rows(&server);
    rows.extend(rows_contents::rows(&server));
    rows.extend(rows_keys::rows(&server));
    rows.extend(rows_enrollments::rows(&server));
    rows.extend(rows_revocation::rows(&server));
    let strict = Server::start("[x509]\nstale_crl = \"refuse\"\n");
    let refusing = rows_revocation::rows_where_lists_must_be_current(&strict);
    let count = rows.len() + refusing.len();
    table::run(&server, &rows);
    table::run(&strict, &refusing);
    assert!(count >= 60, "{count} rows");
}
