//! The derived challenge (design rule 21).

use unicity_identity::Timestamp;

use super::super::{ActivationBlob, ChallengeSecret, OuterWrapper, WINDOW_MS};
use super::{as_srk, device, ecc_ek, ek, rsa_ek, srk};

const NOW: Timestamp = Timestamp(1_893_456_000_123);

fn secret() -> ChallengeSecret {
    ChallengeSecret::derive(&[1; 32])
}

#[test]
fn a_challenge_is_the_same_for_all_of_a_window() {
    let (ek, srk) = (ek(&ecc_ek()), srk(&as_srk(ecc_ek())));
    let start = Timestamp(NOW.0 - NOW.0 % WINDOW_MS);
    let at = |now| secret().challenge(&ek, &srk, OuterWrapper::ToStorageRoot, now);
    let (first, last) = (at(start), at(start.plus_ms(WINDOW_MS - 1)));
    assert_eq!(first.key.expose_bytes(), last.key.expose_bytes());
    assert_eq!(first.blob, last.blob);
    let next = at(start.plus_ms(WINDOW_MS));
    assert_ne!(first.key.expose_bytes(), next.key.expose_bytes());
    assert_ne!(first.blob, next.blob);
}

#[test]
fn a_key_is_valid_for_its_window_and_the_next() {
    let (ek, srk) = (ek(&ecc_ek()), srk(&as_srk(ecc_ek())));
    let key = secret().challenge(&ek, &srk, OuterWrapper::None, NOW).key;
    let signature = key.hmac_sha256(b"message");
    let is_valid = |now| secret().valid_keys(&ek, &srk, now).iter().any(|key| key.verify(b"message", &signature));
    let windows: Vec<bool> = (0..4).map(|n| is_valid(Timestamp(NOW.0 - WINDOW_MS + n * WINDOW_MS))).collect();
    assert_eq!(windows, [false, true, true, false]);
    assert_eq!(secret().valid_keys(&ek, &srk, Timestamp(0)).len(), 1, "there is no window before the first");
}

#[test]
fn the_key_of_a_blob_is_the_challenge_key() {
    let srk_public = as_srk(rsa_ek());
    let challenge = secret().challenge(&ek(&ecc_ek()), &srk(&srk_public), OuterWrapper::ToStorageRoot, NOW);
    let blob = ActivationBlob::parse(&challenge.blob.to_bytes()).unwrap();
    let name = srk_public.name();
    let inner = device::activate(&ecc_ek(), &name, &blob.credential, &blob.credential_secret).unwrap();
    assert_eq!(device::import(&srk_public, &inner, &blob).as_deref(), Some(challenge.key.expose_bytes()));
}

#[test]
fn another_key_or_secret_is_another_challenge() {
    let (rsa, ecc) = (rsa_ek(), ecc_ek());
    let (srk_rsa, srk_ecc) = (srk(&as_srk(rsa_ek())), srk(&as_srk(ecc_ek())));
    let other = ChallengeSecret::derive(&[2; 32]);
    let ours = secret();
    let keys = [
        (&ours, ek(&ecc), &srk_ecc),
        // A stranger who knows an EK may ask with an SRK of his own.
        (&ours, ek(&ecc), &srk_rsa),
        (&ours, ek(&rsa), &srk_ecc),
        (&other, ek(&ecc), &srk_ecc),
    ]
    .map(|(secret, ek, srk)| secret.challenge(&ek, srk, OuterWrapper::None, NOW).key.expose_bytes().to_vec());
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[..at].contains(key), "{at}");
    }
}

#[test]
fn nothing_secret_prints() {
    let challenge = secret().challenge(&ek(&ecc_ek()), &srk(&as_srk(ecc_ek())), OuterWrapper::None, NOW);
    assert_eq!(format!("{:?}", secret()), "ChallengeSecret(..)");
    assert!(format!("{challenge:?}").starts_with("Challenge { key: SharedAccessKey(..), blob:"));
}
