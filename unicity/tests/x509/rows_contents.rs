//! Certificates of every content: dates, names, purposes, extensions, spellings.

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CustomExtension, DnType, DnValue, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, SanType,
};

use crate::device::Verdict::Ended;
use crate::factory::{Ca, DAY, Sent, authority, device, lasting, with};
use crate::server::Server;
use crate::table::{Handshake, Identity, NO_REASON, NOT_AUTHORIZED, Passed, Row, assigned, row};

fn critical() -> CustomExtension {
    let mut extension = plain();
    extension.set_criticality(true);
    extension
}

fn plain() -> CustomExtension {
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![0x05, 0x00])
}

/// Other bytes of the same length, where they stand first or last.
fn patch(mut der: Vec<u8>, found: &[u8], with: &[u8], last: bool) -> Vec<u8> {
    let mut windows = der.windows(found.len());
    let is_it = |window: &[u8]| window == found;
    let place = if last { windows.rposition(is_it) } else { windows.position(is_it) };
    let place = place.expect("the bytes are there");
    der[place..place + with.len()].copy_from_slice(with);
    der
}

const ECDSA_WITH_SHA256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_WITH_SHA384: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];

/// All that is wrong with one device's certificate.
fn leaves(server: &Server) -> Vec<Row> {
    let root = Ca::root("contents");
    server.enrol_group("contents", &root.der);
    let leaf = |id: &str, change: &dyn Fn(&mut CertificateParams)| root.issue(with(device(id), |p| change(p)));
    let usage = |usages: &[KeyUsagePurpose]| {
        let usages = usages.to_vec();
        move |p: &mut CertificateParams| p.key_usages = usages.clone()
    };
    let purposes = |purposes: &[ExtendedKeyUsagePurpose]| {
        let purposes = purposes.to_vec();
        move |p: &mut CertificateParams| p.extended_key_usages = purposes.clone()
    };
    let extension =
        |extension: CustomExtension| move |p: &mut CertificateParams| p.custom_extensions.push(extension.clone());
    let good = |id: &str| root.issue(device(id));
    let no_cn = |p: &mut CertificateParams| p.distinguished_name = rcgen::DistinguishedName::new();
    let two_cns =
        |p: &mut CertificateParams| p.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "another");
    let bmp = |p: &mut CertificateParams| {
        p.distinguished_name.push(DnType::CommonName, DnValue::BmpString("cn-as-bmpstring".try_into().unwrap()))
    };
    let contents = || assigned("contents");
    use ExtendedKeyUsagePurpose as Eku;
    use KeyUsagePurpose as Ku;

    #[rustfmt::skip] // a row a line
    let rows = vec![
        row("expired", |id| root.issue(lasting(device(id), -60 * DAY, -DAY)), Identity, NOT_AUTHORIZED, "CertificateExpired"),
        row("expired-within-the-skew", |id| root.issue(lasting(device(id), -60 * DAY, -60)), Passed, contents(), NO_REASON),
        row("not-yet-valid", |id| root.issue(lasting(device(id), DAY, 60 * DAY)), Identity, NOT_AUTHORIZED, "CertificateNotYetValid"),
        row("not-yet-valid-within-the-skew", |id| root.issue(lasting(device(id), 240, DAY)), Passed, contents(), NO_REASON),
        row("ends-before-it-begins", |id| root.issue(lasting(device(id), DAY, -DAY)), Identity, NOT_AUTHORIZED, "CertificateUnreadable"),
        row("wrong-cn", |_| good("another"), Identity, NOT_AUTHORIZED, "CommonName"),
        row("longer-cn", |id| good(&format!("{id}-2")), Identity, NOT_AUTHORIZED, "CommonName"),
        row("cn-case", |id| good(&id.to_uppercase()), Passed, contents(), NO_REASON),
        row("missing-cn", |id| leaf(id, &no_cn), Identity, NOT_AUTHORIZED, "CommonName"),
        row("two-cns", |id| leaf(id, &two_cns), Identity, NOT_AUTHORIZED, "CommonName"),
        row("cn-as-bmpstring", |id| leaf(id, &bmp), Passed, contents(), NO_REASON),
        row("eku-server", |id| leaf(id, &purposes(&[Eku::ServerAuth])), Identity, NOT_AUTHORIZED, "ExtendedKeyUsage"),
        row("eku-code-signing", |id| leaf(id, &purposes(&[Eku::CodeSigning])), Identity, NOT_AUTHORIZED, "ExtendedKeyUsage"),
        row("eku-client-and-server", |id| leaf(id, &purposes(&[Eku::ServerAuth, Eku::ClientAuth])), Passed, contents(), NO_REASON),
        row("eku-any", |id| leaf(id, &purposes(&[Eku::Any])), Passed, contents(), NO_REASON),
        row("no-eku", |id| leaf(id, &purposes(&[])), Passed, contents(), NO_REASON),
        row("key-usage-encipherment", |id| leaf(id, &usage(&[Ku::KeyEncipherment])), Identity, NOT_AUTHORIZED, "LeafKeyUsage"),
        row("no-key-usage", |id| leaf(id, &usage(&[])), Passed, contents(), NO_REASON),
        row("ca-flag-on-a-leaf", |id| root.issue(authority(id)), Identity, NOT_AUTHORIZED, "LeafIsCa"),
        row("unknown-critical-extension", |id| leaf(id, &extension(critical())), Handshake, Ended, "client_certificate"),
        row("unknown-extension", |id| leaf(id, &extension(plain())), Passed, contents(), NO_REASON),
        row("extension-twice", |id| leaf(id, &|p| p.custom_extensions = vec![plain(), plain()]), Identity, NOT_AUTHORIZED, "CertificateUnreadable"),
        row("two-signature-algorithms", |id| good(id).instead(|der| patch(der, &ECDSA_WITH_SHA256, &ECDSA_WITH_SHA384, true)), Handshake, Ended, "client_certificate"),
        row("boolean-of-another-value", |id| good(id).instead(|der| patch(der, &[1, 1, 0xff], &[1, 1, 1], false)), Handshake, Ended, "client_certificate"),
        row("indefinite-length", |id| good(id).instead(|mut der| { der.splice(1..4, [0x80]); der }), Handshake, Ended, "client_certificate"),
        row("length-longer-than-needed", |id| good(id).instead(|mut der| { der.splice(1..2, [0x83, 0]); der }), Handshake, Ended, "client_certificate"),
    ];
    rows
}

/// All that is wrong with those above it.
fn issuers(server: &Server) -> Vec<Row> {
    let root = Ca::root("contents of issuers");
    server.enrol_group("issuers", &root.der);
    let below = |id: &str, params: CertificateParams| {
        let mid = root.sub_with(params);
        mid.issue(device(id)).then([&mid.der])
    };
    let changed = |id: &str, change: &dyn Fn(&mut CertificateParams)| below(id, with(authority("mid"), |p| change(p)));
    let limited =
        |name: &str, length: u8| with(authority(name), |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(length)));
    let (short, long) = (Ca::root_with(limited("short", 0)), Ca::root_with(limited("long", 1)));
    server.enrol_group("short", &short.der);
    server.enrol_group("long", &long.der);
    let below_short = short.sub("below short");
    let short_mid = long.sub_with(limited("short mid", 0));
    let below_short_mid = short_mid.sub("below short mid");
    let constrained = |name: &str, permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>| {
        let constraints = NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded };
        let ca = Ca::root_with(with(authority(name), |p| p.name_constraints = Some(constraints)));
        server.enrol_group(name, &ca.der);
        ca
    };
    let dns = |name: &str| vec![GeneralSubtree::DnsName(name.into())];
    let plant = constrained("plant", dns("plant.example"), vec![]);
    let no_office = constrained("no-office", vec![], dns("office.example"));
    let subnet = GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8));
    let subnet = constrained("subnet", vec![subnet], vec![]);
    let called = |ca: &Ca, id: &str, name: &str| -> Sent {
        ca.issue(with(device(id), |p| p.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())]))
    };
    let addressed = |id: &str, octets: [u8; 4]| {
        subnet.issue(with(device(id), |p| p.subject_alt_names = vec![SanType::IpAddress(octets.into())]))
    };
    let issuers = || assigned("issuers");
    use ExtendedKeyUsagePurpose as Eku;
    use KeyUsagePurpose as Ku;

    #[rustfmt::skip] // a row a line
    let rows = vec![
        row("expired-intermediate", |id| below(id, lasting(authority("mid"), -60 * DAY, -DAY)), Identity, NOT_AUTHORIZED, "CertificateExpired"),
        row("intermediate-not-yet-valid", |id| below(id, lasting(authority("mid"), DAY, 60 * DAY)), Identity, NOT_AUTHORIZED, "CertificateNotYetValid"),
        row("intermediate-is-no-ca", |id| changed(id, &|p| p.is_ca = IsCa::ExplicitNoCa), Identity, NOT_AUTHORIZED, "IssuerNotAuthority"),
        row("intermediate-signs-lists-only", |id| changed(id, &|p| p.key_usages = vec![Ku::CrlSign]), Identity, NOT_AUTHORIZED, "IssuerNotAuthority"),
        row("intermediate-without-key-usage", |id| changed(id, &|p| p.key_usages = vec![]), Passed, issuers(), NO_REASON),
        row("intermediate-for-servers", |id| changed(id, &|p| p.extended_key_usages = vec![Eku::ServerAuth]), Identity, NOT_AUTHORIZED, "ExtendedKeyUsage"),
        row("intermediate-for-clients", |id| changed(id, &|p| p.extended_key_usages = vec![Eku::ClientAuth]), Passed, issuers(), NO_REASON),
        row("intermediate-with-unknown-critical-extension", |id| changed(id, &|p| p.custom_extensions = vec![critical()]), Identity, NOT_AUTHORIZED, "UnknownCriticalExtension"),
        row("path-length-0-none-below", |id| short.issue(device(id)), Passed, assigned("short"), NO_REASON),
        row("path-length-0-one-below", |id| below_short.issue(device(id)).then([&below_short.der]), Identity, NOT_AUTHORIZED, "PathLength"),
        row("path-length-1-one-below", |id| short_mid.issue(device(id)).then([&short_mid.der]), Passed, assigned("long"), NO_REASON),
        row("path-length-of-an-intermediate", |id| below_short_mid.issue(device(id)).then([&below_short_mid.der, &short_mid.der]), Identity, NOT_AUTHORIZED, "PathLength"),
        row("permitted-name", |id| called(&plant, id, "a.plant.example"), Passed, assigned("plant"), NO_REASON),
        row("name-that-is-not-permitted", |id| called(&plant, id, "a.office.example"), Identity, NOT_AUTHORIZED, "NameConstraints"),
        row("no-name-under-constraints", |id| plant.issue(device(id)), Passed, assigned("plant"), NO_REASON),
        row("excluded-name", |id| called(&no_office, id, "a.office.example"), Identity, NOT_AUTHORIZED, "NameConstraints"),
        row("permitted-address", |id| addressed(id, [10, 1, 2, 3]), Passed, assigned("subnet"), NO_REASON),
        row("address-that-is-not-permitted", |id| addressed(id, [11, 1, 2, 3]), Identity, NOT_AUTHORIZED, "NameConstraints"),
    ];
    rows
}

pub(crate) fn rows(server: &Server) -> Vec<Row> {
    let mut rows = leaves(server);
    rows.extend(issuers(server));
    rows
}
