//! Findings about device certificates.

use super::super::*;
use super::*;

fn errors(text: &[u8], against: Against<'_>) -> Vec<&'static str> {
    let findings = lint(text, against);
    assert!(findings.iter().all(|finding| (finding.level == Level::Ok) == finding.remedy.is_none()), "{findings:?}");
    findings.iter().filter(|finding| finding.level == Level::Error).map(|finding| finding.check).collect()
}

#[test]
fn findings_tell_what_would_be_refused() {
    let root = Ca::root("root");
    let anchors = [root.anchor("root")];
    let dev = "dev".parse().unwrap();
    let other = "other".parse().unwrap();
    let alone = Against { registration_id: None, anchors: None, now: NOW, skew_seconds: SKEW_SECONDS };
    let grouped = Against { anchors: Some(&anchors), ..alone };
    let good = root.issue(device("dev"));
    let mut ending = device("dev");
    ending.not_after = at(NOW, DAY);
    let mut bad_name = device("not a registration id");
    bad_name.not_after = at(NOW, -DAY);
    for (what, der, against, expected) in [
        ("good", good.clone(), grouped, vec![]),
        ("good, for this registration", good.clone(), Against { registration_id: Some(&dev), ..grouped }, vec![]),
        (
            "for another registration",
            good.clone(),
            Against { registration_id: Some(&other), ..grouped },
            vec!["common name"],
        ),
        ("alone", good, alone, vec![]),
        ("self-signed alone", fixture("openssl-default"), alone, vec![]),
        ("self-signed in a group", fixture("openssl-default"), grouped, vec!["basic constraints", "chain"]),
        ("RSA 1024", fixture("leaf-rsa1024"), alone, vec!["key"]),
        ("SHA-1", fixture("sha1-self"), alone, vec!["signature"]),
        ("v1", fixture("leaf-v1"), alone, vec!["version", "handshake"]),
        ("P-521", fixture("p521"), alone, vec!["certificate"]),
        ("garbage", b"garbage!".to_vec(), alone, vec!["encoding"]),
        ("ends soon", root.issue(ending), grouped, vec![]),
        ("name and dates", root.issue(bad_name), grouped, vec!["common name", "dates", "chain"]),
    ] {
        assert_eq!(errors(&der, against), expected, "{what}");
    }
}

#[test]
fn warnings_are_for_what_works_today() {
    let mut params = device("dev");
    params.extended_key_usages = vec![];
    params.not_after = at(NOW, 10 * DAY);
    let against = Against { registration_id: None, anchors: None, now: NOW, skew_seconds: 0 };
    let findings = lint(self_signed(params), against);
    let warnings: Vec<_> =
        findings.iter().filter(|finding| finding.level == Level::Warning).map(|finding| finding.check).collect();
    assert_eq!(warnings, ["dates", "extended key usage"]);
}
