//! The proof that an administrator ordered a restore: a signature by the key of the cluster's authority.
//!
//! It must never be mistaken for anything else that this key signs: what is signed begins with words of its own.

use rustls::crypto::ring;
use rustls_pki_types::{CertificateDer, alg_id, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What the signed bytes begin with. A certificate begins otherwise.
const WORDS: &[u8] = b"hawser restore record\n";

/// Recognises signatures of a cluster's authority.
#[derive(Clone, Debug)]
pub struct RestoreVerifier {
    /// `None`: nobody's.
    public_key: Option<Vec<u8>>,
}

/// Why a record is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the restore record is not signed by the key of this cluster's authority")]
pub struct NotSigned;

impl RestoreVerifier {
    /// Recognises those of the authority with this certificate; of none, if it is no certificate.
    #[must_use]
    pub fn of(authority_pem: &str) -> Self {
        let key = |der: &CertificateDer<'_>| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            Some(certificate.public_key().subject_public_key.data.to_vec())
        };
        let der = CertificateDer::from_pem_slice(authority_pem.as_bytes()).ok();
        Self { public_key: der.as_ref().and_then(key) }
    }

    /// Recognises nobody's: for who has no certificates.
    #[must_use]
    pub fn none() -> Self {
        Self { public_key: None }
    }

    /// Checks the signature over the statement.
    ///
    /// # Errors
    /// If it is not the authority's.
    pub fn verify(&self, statement: &[u8], signature: &[u8]) -> Result<(), NotSigned> {
        let key = self.public_key.as_deref().ok_or(NotSigned)?;
        let algorithms = ring::default_provider().signature_verification_algorithms;
        let algorithm = algorithms.all.iter().find(|algorithm| {
            algorithm.public_key_alg_id() == alg_id::ECDSA_P256
                && algorithm.signature_alg_id() == alg_id::ECDSA_SHA256
        });
        let algorithm = algorithm.ok_or(NotSigned)?;
        algorithm.verify_signature(key, &signed(statement), signature).map_err(|_| NotSigned)
    }
}

/// The bytes that are signed for a statement.
pub(super) fn signed(statement: &[u8]) -> Vec<u8> {
    [WORDS, statement].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::SystemTime;

    use hawser_hostile::{bytes, check, texts};

    use super::*;
    use crate::tls::{Authority, Role};

    fn authority() -> (Authority, RestoreVerifier) {
        let authority = Authority::generate("c1", SystemTime::now()).unwrap();
        let pem = authority.sign(Role::Satellite, "n1", SystemTime::now()).unwrap().authority_pem;
        (authority, RestoreVerifier::of(&pem))
    }

    #[test]
    fn only_the_authoritys_own_key_signs_and_only_what_was_signed_counts() {
        let (authority, verifier) = authority();
        let (other, others) = self::authority();
        let signature = authority.sign_restore(b"lineage 2").unwrap();

        assert_eq!(verifier.verify(b"lineage 2", &signature), Ok(()));
        assert_eq!(verifier.verify(b"lineage 3", &signature), Err(NotSigned));
        assert_eq!(others.verify(b"lineage 2", &signature), Err(NotSigned), "another cluster's");
        assert_eq!(verifier.verify(b"lineage 2", &other.sign_restore(b"lineage 2").unwrap()), Err(NotSigned));
        assert_eq!(RestoreVerifier::none().verify(b"lineage 2", &signature), Err(NotSigned));
    }

    #[test]
    fn hostile_signatures() {
        let (authority, verifier) = authority();
        let signature = authority.sign_restore(b"lineage 2").unwrap();
        check(&bytes(&[&signature, b"lineage 2"], &[]), |bytes| {
            assert!(bytes == signature || verifier.verify(b"lineage 2", &bytes).is_err(), "{bytes:?}");
            assert!(bytes == b"lineage 2" || verifier.verify(&bytes, &signature).is_err(), "{bytes:?}");
        });
    }

    #[test]
    fn hostile_certificates_recognise_nobody_elses_signature() {
        let (authority, _) = authority();
        let pem = authority.sign(Role::Satellite, "n1", SystemTime::now()).unwrap().authority_pem;
        let (other, _) = self::authority();
        let signature = other.sign_restore(b"lineage 2").unwrap();
        check(&texts(&[&pem], &["-----BEGIN CERTIFICATE-----", "AAAA"]), |text| {
            assert!(RestoreVerifier::of(&text).verify(b"lineage 2", &signature).is_err());
        });
    }
}
