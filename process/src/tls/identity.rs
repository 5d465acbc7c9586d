//! A program's own identity: the certificate that it shows and the authority that it trusts.
//!
//! Everything is checked when it is loaded, so that a wrong file is named at start and not by a
//! failing handshake later. It must never make or change a file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::UnixTime,
    server::WebPkiClientVerifier,
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tonic::transport::{Certificate, ClientTlsConfig, Identity as TonicIdentity, ServerTlsConfig};

use super::{PeerError, PeerIdentity, RestoreVerifier, Role};

/// Certificate of the cluster's authority.
pub const AUTHORITY_FILE: &str = "ca.crt";
/// The program's own certificate.
pub const CERTIFICATE_FILE: &str = "tls.crt";
/// The key of the program's certificate.
pub const KEY_FILE: &str = "tls.key";

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is missing or cannot be read.
    #[error(
        "cannot read {}: {source}; make an identity where the cluster's authority lies with \
         `hawser cluster certificate ROLE NAME` and copy its three files to {}", .path.display(), .directory.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The identity directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} does not hold {expected} in PEM form: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// "a certificate" or "a private key".
        expected: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Key and certificate do not belong together.
    #[error("{} is not the key of {}: {reason}; copy all files of one identity", .key.display(), .certificate.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
        /// What the check says.
        reason: String,
    },
    /// The certificate is expired, not yet valid, or signed by somebody else.
    #[error(
        "{} is not valid under {}: {reason}; check this machine's clock, or have it signed anew by \
         `hawser cluster certificate`", .certificate.display(), .authority.display()
    )]
    NotValid {
        /// The certificate's file.
        certificate: PathBuf,
        /// The authority's file.
        authority: PathBuf,
        /// What the check says.
        reason: String,
    },
    /// The certificate does not say whose it is.
    #[error("{}: {source}", .path.display())]
    Nameless {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with its name.
        source: PeerError,
    },
    /// The certificate is somebody else's.
    #[error("{} belongs to {found}, but {expected} is needed here; copy that identity's files", .path.display())]
    WrongHolder {
        /// The certificate's file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
}

/// A handshake takes two round trips. Whoever has not ended it after that time has no certificate, and room for a
/// connection is not for those.
pub const HANDSHAKE: Duration = Duration::from_secs(5);

/// A checked identity, ready to serve and to dial.
#[derive(Clone)]
pub struct Identity {
    own: PeerIdentity,
    certificate_path: PathBuf,
    authority_pem: String,
    certificate_pem: String,
    key_pem: String,
}

impl Identity {
    /// Loads `ca.crt`, `tls.crt` and `tls.key` from `directory` and checks that they belong together and
    /// are valid now.
    ///
    /// # Errors
    /// Names the file that is wrong and what to do.
    pub fn load(directory: &Path) -> Result<Self, IdentityError> {
        let authority_path = directory.join(AUTHORITY_FILE);
        let certificate_path = directory.join(CERTIFICATE_FILE);
        let key_path = directory.join(KEY_FILE);
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| IdentityError::Read {
                path: path.to_owned(),
                directory: directory.to_owned(),
                source,
            })
        };
        let authority_pem = read(&authority_path)?;
        let certificate_pem = read(&certificate_path)?;
        let key_pem = read(&key_path)?;

        let authority = certificate_of(&authority_path, &authority_pem)?;
        let certificate = certificate_of(&certificate_path, &certificate_pem)?;
        let key =
            PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| IdentityError::Malformed {
                path: key_path.clone(),
                expected: "a private key",
                reason: error.to_string(),
            })?;
        let provider = Arc::new(ring::default_provider());
        CertifiedKey::from_der(vec![certificate.clone()], key, &provider).map_err(|error| {
            IdentityError::KeyMismatch {
                key: key_path,
                certificate: certificate_path.clone(),
                reason: error.to_string(),
            }
        })?;
        check_validity(authority, &certificate, provider).map_err(|reason| IdentityError::NotValid {
            certificate: certificate_path.clone(),
            authority: authority_path,
            reason,
        })?;
        let own = PeerIdentity::from_der(&certificate)
            .map_err(|source| IdentityError::Nameless { path: certificate_path.clone(), source })?;
        Ok(Self { own, certificate_path, authority_pem, certificate_pem, key_pem })
    }

    /// Whose identity it is.
    #[must_use]
    pub fn own(&self) -> &PeerIdentity {
        &self.own
    }

    /// Checks that this identity is that of `role` and `name`.
    ///
    /// # Errors
    /// Names the certificate's file, whose it is and whose it should be.
    pub fn require(&self, role: Role, name: &str) -> Result<(), IdentityError> {
        if self.own.role == role && self.own.name == name {
            return Ok(());
        }
        Err(IdentityError::WrongHolder {
            path: self.certificate_path.clone(),
            found: self.own.caller(),
            expected: format!("{role}/{name}"),
        })
    }

    /// Recognises what the authority has signed for a restore.
    #[must_use]
    pub fn restore_verifier(&self) -> RestoreVerifier {
        RestoreVerifier::of(&self.authority_pem)
    }

    /// How to serve: every client must show a certificate of this cluster.
    #[must_use]
    pub fn server_tls(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(self.tonic_identity())
            .client_ca_root(Certificate::from_pem(&self.authority_pem))
            .client_auth_optional(false)
            .timeout(HANDSHAKE)
    }

    /// How to dial: the server must show a controller's certificate of this cluster.
    #[must_use]
    pub fn client_tls(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .domain_name(Role::Controller.as_str())
            .ca_certificate(Certificate::from_pem(&self.authority_pem))
            .identity(self.tonic_identity())
    }

    fn tonic_identity(&self) -> TonicIdentity {
        TonicIdentity::from_pem(&self.certificate_pem, &self.key_pem)
    }
}

fn certificate_of(path: &Path, pem: &str) -> Result<CertificateDer<'static>, IdentityError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| IdentityError::Malformed {
        path: path.to_owned(),
        expected: "a certificate",
        reason: error.to_string(),
    })
}

fn check_validity(
    authority: CertificateDer<'static>,
    certificate: &CertificateDer<'_>,
    provider: Arc<CryptoProvider>,
) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(|error| error.to_string())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| error.to_string())?;
    verifier
        .verify_client_cert(certificate, &[], UnixTime::now())
        .map(|_| ())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::SystemTime;

    use hawser_hostile::{check, texts};

    use super::{super::Authority, *};

    const CLUSTER: &str = "c1";

    fn saved(place: &Path, role: Role, name: &str, now: SystemTime) -> Authority {
        let authority = Authority::generate(CLUSTER, now).unwrap();
        authority.sign(role, name, now).unwrap().save(place).unwrap();
        authority
    }

    #[test]
    fn a_signed_identity_loads_and_knows_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        saved(directory.path(), Role::Satellite, "n1", SystemTime::now());

        let identity = Identity::load(directory.path()).unwrap();

        assert_eq!(identity.own().caller(), "satellite/n1");
        assert!(identity.require(Role::Satellite, "n1").is_ok());
        let wrong = identity.require(Role::Satellite, "n2").unwrap_err().to_string();
        assert!(wrong.contains("belongs to satellite/n1, but satellite/n2"), "{wrong}");
    }

    #[test]
    fn each_wrong_file_is_named() {
        let long_ago = SystemTime::now() - Duration::from_secs(5 * 365 * 24 * 60 * 60);
        type Spoil = fn(&Path);
        let spoiled: [(&str, Spoil, &str); 6] = [
            ("no key", |place| fs::remove_file(place.join("tls.key")).unwrap(), "tls.key"),
            ("no authority", |place| fs::remove_file(place.join("ca.crt")).unwrap(), "ca.crt"),
            ("garbage", |place| fs::write(place.join("tls.crt"), "x").unwrap(), "tls.crt does not hold"),
            ("garbage key", |place| fs::write(place.join("tls.key"), "x").unwrap(), "tls.key does not hold"),
            (
                "another's key",
                |place| {
                    let other = Authority::generate(CLUSTER, SystemTime::now()).unwrap();
                    let signed = other.sign(Role::Controller, "n1", SystemTime::now()).unwrap();
                    fs::write(place.join("tls.key"), signed.key_pem).unwrap();
                },
                "is not the key of",
            ),
            (
                "another's authority",
                |place| {
                    let other = Authority::generate("c2", SystemTime::now()).unwrap();
                    let signed = other.sign(Role::Controller, "n1", SystemTime::now()).unwrap();
                    fs::write(place.join("ca.crt"), signed.authority_pem).unwrap();
                },
                "is not valid under",
            ),
        ];
        for (what, spoil, expected) in spoiled {
            let directory = tempfile::tempdir().unwrap();
            saved(directory.path(), Role::Controller, "n1", SystemTime::now());
            spoil(directory.path());
            let error = Identity::load(directory.path()).err().unwrap().to_string();
            assert!(error.contains(expected), "{what}: {error}");
        }
        let directory = tempfile::tempdir().unwrap();
        saved(directory.path(), Role::Controller, "n1", long_ago);
        let expired = Identity::load(directory.path()).err().unwrap().to_string();
        assert!(expired.contains("clock"), "{expired}");
    }

    #[test]
    fn hostile_files_of_an_identity_are_refused_or_the_holders_own() {
        let directory = tempfile::tempdir().unwrap();
        let files = ["ca.crt", "tls.crt", "tls.key"].map(|name| directory.path().join(name));
        saved(directory.path(), Role::Satellite, "n1", SystemTime::now());
        let whole = files.each_ref().map(|path| fs::read_to_string(path).unwrap());
        let samples = whole.each_ref().map(String::as_str);
        check(
            &texts(&samples, &["-----BEGIN CERTIFICATE-----", "-----END PRIVATE KEY-----", "AAAA"]),
            |text| {
                for (path, whole) in files.iter().zip(&whole) {
                    fs::write(path, &text).unwrap();
                    match Identity::load(directory.path()) {
                        Ok(identity) => assert_eq!(identity.own().caller(), "satellite/n1"),
                        Err(error) => assert!(
                            error.to_string().contains(&*directory.path().to_string_lossy()),
                            "{error}"
                        ),
                    }
                    fs::write(path, whole).unwrap();
                }
            },
        );
    }
}
