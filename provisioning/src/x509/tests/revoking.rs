//! Revocation lists and denied certificates.

use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, KeyIdMethod,
    KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber,
};

use super::super::revocation::Added;
use super::super::*;
use super::*;

struct List {
    number: u64,
    this_update: i64,
    next_update: i64,
    revoked: Vec<Vec<u8>>,
    partial: bool,
}

impl Default for List {
    fn default() -> Self {
        Self { number: 1, this_update: -DAY, next_update: DAY, revoked: vec![], partial: false }
    }
}

impl List {
    fn revoking(ders: &[&[u8]]) -> Self {
        let serial = |der: &&[u8]| Certificate::parse(der).unwrap().serial_der().to_vec();
        Self { revoked: ders.iter().map(serial).collect(), ..Self::default() }
    }

    fn signed_by(&self, ca: &Ca) -> Vec<u8> {
        let scope = CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec!["http://crl.example/".into()] },
            scope: Some(CrlScope::UserCertsOnly),
        };
        let revoked = |serial: &Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: at(NOW, -3600),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        CertificateRevocationListParams {
            this_update: at(NOW, self.this_update),
            next_update: at(NOW, self.next_update),
            crl_number: SerialNumber::from(self.number),
            issuing_distribution_point: self.partial.then_some(scope),
            revoked_certs: self.revoked.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&ca.issuer)
        .unwrap()
        .der()
        .to_vec()
    }

    fn of(&self, ca: &Ca) -> Crl {
        UnverifiedCrl::parse(&self.signed_by(ca)).unwrap().verify(&ca.certificate()).unwrap()
    }
}

#[test]
fn the_path_is_looked_up_in_each_authoritys_list() {
    let root = Ca::root("root");
    let mid = root.sub("mid");
    let leaf = mid.issue(device("dev"));
    let other_leaf = mid.issue(device("other"));
    let namesake = Ca::root("mid");
    let anchors = [root.anchor("root")];
    let chain = DeviceChain::parse(&[leaf.clone(), mid.der.clone()]).unwrap();
    let verified = verify(&chain, &anchors, NOW, SKEW_SECONDS).unwrap();
    let stale = |revoked: &[&[u8]]| List { this_update: -9 * DAY, next_update: -DAY, ..List::revoking(revoked) };
    let early = List { this_update: DAY, next_update: 2 * DAY, ..List::default() };
    let late_a_little = List { next_update: -200, ..List::default() };
    let both = [StalePolicy::Warn, StalePolicy::Refuse];
    let check = |lists: Vec<Crl>, policy| {
        let mut set = CrlSet::default();
        for list in lists {
            assert_eq!(set.add(list), Added::First);
        }
        set.check(&verified, policy, NOW, SKEW_SECONDS)
            .map(|stale| stale.len())
            .map_err(|refusal| (refusal.name(), refusal.to_string()))
    };
    for policy in both {
        let name = |outcome: Result<usize, (&'static str, String)>| outcome.map_err(|(name, _)| name);
        assert_eq!(name(check(vec![], policy)), Ok(0), "no list revokes nothing");
        assert_eq!(name(check(vec![List::default().of(&mid), List::default().of(&root)], policy)), Ok(0));
        assert_eq!(name(check(vec![List::revoking(&[&other_leaf]).of(&mid)], policy)), Ok(0));
        assert_eq!(name(check(vec![List::revoking(&[&leaf]).of(&mid)], policy)), Err("CertificateRevoked"));
        assert_eq!(name(check(vec![List::revoking(&[&mid.der]).of(&root)], policy)), Err("CertificateRevoked"));
        assert_eq!(name(check(vec![stale(&[&leaf]).of(&mid)], policy)), Err("CertificateRevoked"), "old news is news");
        assert_eq!(name(check(vec![List::revoking(&[&leaf]).of(&namesake)], policy)), Ok(0), "another of that name");
        assert_eq!(name(check(vec![List::revoking(&[&root.der]).of(&root)], policy)), Ok(0), "an anchor is trusted");
        assert_eq!(name(check(vec![late_a_little.of(&mid)], policy)), Ok(0), "within the skew");
    }
    for list in [stale(&[]), early] {
        assert_eq!(check(vec![list.of(&mid)], StalePolicy::Warn), Ok(1));
        let (name, cause) = check(vec![list.of(&mid)], StalePolicy::Refuse).unwrap_err();
        assert_eq!(name, "CrlStale");
        assert!(cause.contains("86400 s off"), "{cause}");
    }
    let (_, cause) =
        check(vec![stale(&[]).of(&mid), List::revoking(&[&mid.der]).of(&root)], StalePolicy::Refuse).unwrap_err();
    assert!(cause.contains("CN=mid (issuer CN=root") && cause.contains("key compromise"), "{cause}");
}

#[test]
fn only_the_authoritys_own_complete_list_counts() {
    let ca = Ca::root("ca");
    let namesake = Ca::root("ca");
    let other = Ca::root("other");
    let mut no_lists = authority("ca");
    no_lists.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let no_lists = Certificate::parse(&self_signed(no_lists)).unwrap();
    let good = List::default().signed_by(&ca);
    let mut changed = good.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    let verify = |bytes: &[u8], authority: &Certificate| {
        UnverifiedCrl::parse(bytes)
            .and_then(|list| list.verify(authority))
            .map(|list| list.len())
            .map_err(|e| e.to_string())
    };
    let pem = rcgen_pem(&good);
    assert_eq!(verify(&good, &ca.certificate()), Ok(0));
    assert_eq!(verify(pem.as_bytes(), &ca.certificate()), Ok(0));
    for (what, bytes, authority, part) in [
        ("another key", good.clone(), &namesake.certificate(), "did not sign it"),
        ("another name", good.clone(), &other.certificate(), "is CN=ca's, not CN=other's"),
        ("no cRLSign", good.clone(), &no_lists, "cRLSign"),
        ("changed", changed, &ca.certificate(), "did not sign it"),
        ("partial", List { partial: true, ..List::default() }.signed_by(&ca), &ca.certificate(), "2.5.29.28"),
        ("cut", good[..good.len() - 5].to_vec(), &ca.certificate(), "longer than the data"),
        ("a certificate", ca.der.clone(), &ca.certificate(), "no revocation list"),
        ("two", [pem.as_bytes(), pem.as_bytes()].concat(), &ca.certificate(), "exactly one"),
        ("nothing", vec![], &ca.certificate(), "empty"),
    ] {
        let error = verify(&bytes, authority).expect_err(what);
        assert!(error.contains(part), "{what}: {error}");
    }
}

fn rcgen_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN X509 CRL-----\n{body}\n-----END X509 CRL-----\n")
}

#[test]
fn a_list_by_openssl_revokes() {
    let open = |name: &str| Certificate::parse(&fixture(name)).unwrap();
    let (ca, leaf) = (open("ca-crl"), open("leaf-revoked"));
    let list = UnverifiedCrl::parse(include_bytes!("../fixtures/openssl-crl.pem")).unwrap().verify(&ca).unwrap();
    assert_eq!(list.find(&leaf).map(|revocation| revocation.reason_text()), Some("key compromise"));
    assert_eq!((list.len(), list.number().as_str(), list.find(&ca)), (1, "", None));
    let anchors = [Anchor::new("ca", ca, true).unwrap()];
    let chain = DeviceChain::parse(&[leaf.der()]).unwrap();
    let verified = verify(&chain, &anchors, NOW, SKEW_SECONDS).unwrap();
    let mut set = CrlSet::default();
    set.add(list);
    let refusal = set.check(&verified, StalePolicy::Refuse, NOW, SKEW_SECONDS).unwrap_err();
    assert_eq!(refusal.name(), "CertificateRevoked", "{refusal}");
}

#[test]
fn an_older_list_never_replaces_a_newer_one() {
    let ca = Ca::root("ca");
    let list = |number, this_update| List { number, this_update, ..List::default() }.of(&ca);
    let mut set = CrlSet::default();
    assert_eq!(set.add(list(7, -3600)), Added::First);
    assert_eq!(set.add(list(7, -3600)), Added::NotNewer);
    assert_eq!(set.add(list(6, -7200)), Added::NotNewer);
    assert_eq!(set.add(list(8, -7200)), Added::NotNewer, "the date goes before the number");
    assert_eq!(set.add(list(300, -60)), Added::Replaced);
    assert_eq!(set.add(List::default().of(&Ca::root("ca"))), Added::First, "another key is another authority");
    assert_eq!(set.lists().len(), 2);
    assert_eq!(set.lists()[0].number(), "012C");
    assert_eq!((set.remove("CN=other"), set.remove("CN=ca"), set.lists().len()), (0, 2, 0));
}

#[test]
fn what_an_operator_denies_is_denied_anywhere_on_the_path() {
    let root = Ca::root("root");
    let mid = root.sub("mid");
    let leaf = mid.issue(device("dev"));
    let anchors = [root.anchor("root")];
    let chain = DeviceChain::parse(&[leaf.clone(), mid.der.clone()]).unwrap();
    let verified = verify(&chain, &anchors, NOW, SKEW_SECONDS).unwrap();
    let denied = |prepare: &dyn Fn(&mut DenyList)| {
        let mut list = DenyList::default();
        prepare(&mut list);
        match list.check(&verified) {
            Ok(()) => None,
            Err(RevocationRefusal::Denied { depth, by, .. }) => Some((depth, by)),
            Err(other) => panic!("{other}"),
        }
    };
    let leaf = Certificate::parse(&leaf).unwrap();
    let summary = leaf.summary();
    let spaced: String = summary
        .serial
        .to_lowercase()
        .as_bytes()
        .chunks(2)
        .map(|two| format!("{}{}:", two[0] as char, two[1] as char))
        .collect();
    assert_eq!(denied(&|_| {}), None);
    assert_eq!(denied(&|list| list.deny_key(leaf.key_fingerprint())), Some((0, DeniedBy::Key)));
    assert_eq!(denied(&|list| list.deny_thumbprint(summary.sha256.clone())), Some((0, DeniedBy::Thumbprint)));
    assert_eq!(denied(&|list| list.deny_serial("CN=mid", &format!("00:{spaced}"))), Some((0, DeniedBy::Serial)));
    assert_eq!(denied(&|list| list.deny_serial("CN=root", &summary.serial)), None);
    assert_eq!(denied(&|list| list.deny_key(mid.certificate().key_fingerprint())), Some((1, DeniedBy::Key)));
    assert_eq!(denied(&|list| list.deny_key(root.certificate().key_fingerprint())), Some((2, DeniedBy::Key)));
}

#[test]
fn a_line_of_issuers_goes_as_far_as_signatures_do() {
    let (root, stranger) = (Ca::root("root"), Ca::root("root"));
    let mid = root.sub("mid");
    let old_mid = root.sub_over(with_dates(authority("mid"), -60 * DAY, -DAY), mid.key());
    let namesake = stranger.sub("mid");
    let leaf = mid.issue(device("dev"));
    let (a, b) = (Ca::root("a"), Ca::root("b"));
    let (a_by_b, b_by_a) = (b.sub_over(authority("a"), a.key()), a.sub_over(authority("b"), b.key()));
    let in_a_loop = a.issue(device("dev"));
    let (known, strange) = (root.certificate(), stranger.certificate());
    for (what, sent, known, length) in [
        ("alone", vec![&leaf], vec![], 1),
        ("alone, its issuer known", vec![&leaf], vec![mid.certificate()], 2),
        ("with an issuer that is out of date", vec![&leaf, &old_mid.der], vec![known.clone()], 3),
        ("with a namesake of its issuer", vec![&leaf, &namesake.der], vec![strange, known], 1),
        ("self-signed", vec![&root.der], vec![root.certificate()], 1),
        ("in a loop", vec![&in_a_loop, &a_by_b.der, &b_by_a.der], vec![], 3),
    ] {
        let chain = DeviceChain::parse(&sent).unwrap();
        assert_eq!(line_of(&chain, known.iter()).len(), length, "{what}");
    }
}

fn with_dates(mut params: rcgen::CertificateParams, from: i64, to: i64) -> rcgen::CertificateParams {
    (params.not_before, params.not_after) = (at(NOW, from), at(NOW, to));
    params
}
