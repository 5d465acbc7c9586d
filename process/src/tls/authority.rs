//! The cluster's certificate authority: made once by `hawser cluster init`, signs one certificate per
//! controller, satellite and administrator.
//!
//! It must never write into a directory that holds something already, and its key never leaves its
//! directory.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SigningKey,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use super::{
    PeerIdentity, Role,
    identity::{AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE},
    peer::SCHEME,
    restore,
};

/// Name of the file with the authority's key, beside [`AUTHORITY_FILE`].
const AUTHORITY_KEY_FILE: &str = "ca.key";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Validity of the authority's own certificate.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Validity of what it signs. Long, because renewing is a person's work: an expired certificate stops
/// the cluster's management.
const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(3 * 365 * 24 * 60 * 60);
/// Certificates are valid from a day before they were made, so that a clock that is behind accepts them.
const CLOCK_SKEW: Duration = DAY;

/// Why the authority could not be made, opened or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Something is there already; nothing was overwritten.
    #[error("{} exists already and is not overwritten; choose another directory or move it away", .0.display())]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file could not be read.
    #[error(
        "cannot read {}: {source}; the authority lies where `hawser cluster init` was run, in the ca/ folder \
         of its --directory", .path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The files are not those of a Hawser authority.
    #[error("{} is not a Hawser certificate authority: {reason}", .path.display())]
    NotAnAuthority {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A name or cluster id that cannot stand in a certificate.
    #[error(
        "{what} {value:?} is not allowed in a certificate: use 1 to 63 lower-case letters, digits, '-' and '.', \
         beginning and ending with a letter or digit"
    )]
    BadName {
        /// "name" or "cluster id".
        what: &'static str,
        /// What was given.
        value: String,
    },
    /// The cryptography refused.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// A certificate authority with its key.
pub struct Authority {
    cluster_id: String,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    key_pem: String,
}

/// A certificate with its key, not yet on disk.
pub struct SignedIdentity {
    /// Certificate of the authority, PEM.
    pub authority_pem: String,
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PKCS #8 in PEM.
    pub key_pem: String,
}

impl Authority {
    /// Makes a new authority for the cluster, in memory.
    ///
    /// # Errors
    /// If the cluster id cannot stand in a certificate.
    pub fn generate(cluster_id: &str, now: SystemTime) -> Result<Self, AuthorityError> {
        check_name("cluster id", cluster_id)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, format!("Hawser cluster {cluster_id}"));
        parameters.subject_alt_names = vec![SanType::URI(format!("{SCHEME}{cluster_id}").try_into()?)];
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.not_before = (now - CLOCK_SKEW).into();
        parameters.not_after = (now + AUTHORITY_VALIDITY).into();
        let certificate_pem = parameters.self_signed(&key)?.pem();
        let key_pem = key.serialize_pem();
        Ok(Self {
            cluster_id: cluster_id.to_owned(),
            certificate_pem,
            issuer: Issuer::new(parameters, key),
            key_pem,
        })
    }

    /// Opens the authority that lies in `directory` (`ca.crt` and `ca.key`).
    ///
    /// # Errors
    /// If a file is missing, or they are not those of an authority that [`Authority::save`] wrote.
    pub fn open(directory: &Path) -> Result<Self, AuthorityError> {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(|source| AuthorityError::Read { path, source })
        };
        let not_an_authority =
            |reason: String| AuthorityError::NotAnAuthority { path: directory.to_owned(), reason };
        let certificate_pem = read(AUTHORITY_FILE)?;
        let key_pem = read(AUTHORITY_KEY_FILE)?;
        let cluster_id = cluster_id_of(&certificate_pem).map_err(not_an_authority)?;
        let key = KeyPair::from_pem(&key_pem)
            .map_err(|error| not_an_authority(format!("{AUTHORITY_KEY_FILE}: {error}")))?;
        if !key_belongs_to(&certificate_pem, &key) {
            return Err(not_an_authority(format!("{AUTHORITY_KEY_FILE} is not the key of {AUTHORITY_FILE}")));
        }
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)
            .map_err(|error| not_an_authority(format!("{AUTHORITY_FILE}: {error}")))?;
        Ok(Self { cluster_id, certificate_pem, issuer, key_pem })
    }

    /// Writes `ca.crt` and `ca.key` (mode 0600) into `directory`, which is made with mode 0700.
    ///
    /// # Errors
    /// If either is there already, or cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), AuthorityError> {
        make_private_directory(directory)?;
        write_new(&directory.join(AUTHORITY_KEY_FILE), &self.key_pem, 0o600)?;
        write_new(&directory.join(AUTHORITY_FILE), &self.certificate_pem, 0o644)
    }

    /// Id of the cluster that this authority is for.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Signs a new key for `role` and `name`.
    ///
    /// Only a controller's certificate may serve; all may dial.
    ///
    /// # Errors
    /// If the name cannot stand in a certificate.
    pub fn sign(&self, role: Role, name: &str, now: SystemTime) -> Result<SignedIdentity, AuthorityError> {
        check_name("name", name)?;
        let identity = PeerIdentity { cluster_id: self.cluster_id.clone(), role, name: name.to_owned() };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new(vec![role.as_str().to_owned()])?;
        parameters.subject_alt_names.push(SanType::URI(identity.uri().try_into()?));
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, identity.caller());
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if role == Role::Controller {
            parameters.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        parameters.not_before = (now - CLOCK_SKEW).into();
        parameters.not_after = (now + CERTIFICATE_VALIDITY).into();
        Ok(SignedIdentity {
            authority_pem: self.certificate_pem.clone(),
            certificate_pem: parameters.signed_by(&key, &self.issuer)?.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

impl Authority {
    /// Signs that the cluster is to be restored, as the statement says. Satellites believe nothing else.
    ///
    /// # Errors
    /// If the cryptography refuses.
    pub fn sign_restore(&self, statement: &[u8]) -> Result<Vec<u8>, AuthorityError> {
        Ok(KeyPair::from_pem(&self.key_pem)?.sign(&restore::signed(statement))?)
    }
}

impl SignedIdentity {
    /// Writes `ca.crt`, `tls.crt` and `tls.key` (mode 0600) into `directory`, which is made with mode 0700.
    ///
    /// # Errors
    /// If one of them is there already, or cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), AuthorityError> {
        for name in [AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE] {
            let path = directory.join(name);
            if path.exists() {
                return Err(AuthorityError::Exists(path));
            }
        }
        make_private_directory(directory)?;
        write_new(&directory.join(KEY_FILE), &self.key_pem, 0o600)?;
        write_new(&directory.join(CERTIFICATE_FILE), &self.certificate_pem, 0o644)?;
        write_new(&directory.join(AUTHORITY_FILE), &self.authority_pem, 0o644)
    }
}

fn make_private_directory(directory: &Path) -> Result<(), AuthorityError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| AuthorityError::Write { path: directory.to_owned(), source })
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|source| {
            match source.kind() {
                io::ErrorKind::AlreadyExists => AuthorityError::Exists(path.to_owned()),
                _ => AuthorityError::Write { path: path.to_owned(), source },
            }
        })?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|source| AuthorityError::Write { path: path.to_owned(), source })
}

/// What a URI and a DNS name can hold without escaping, so that no two names look alike to a reader.
fn check_name(what: &'static str, value: &str) -> Result<(), AuthorityError> {
    let edge =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = value.as_bytes();
    let inner =
        bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(byte));
    if bytes.len() <= 63 && inner && edge(bytes.first()) && edge(bytes.last()) {
        Ok(())
    } else {
        Err(AuthorityError::BadName { what, value: value.to_owned() })
    }
}

fn cluster_id_of(certificate_pem: &str) -> Result<String, String> {
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
        .map_err(|error| format!("{AUTHORITY_FILE}: {error}"))?;
    let (_, certificate) =
        X509Certificate::from_der(&der).map_err(|error| format!("{AUTHORITY_FILE}: {error}"))?;
    if !certificate.is_ca() {
        return Err(format!("{AUTHORITY_FILE} is not the certificate of an authority"));
    }
    // It signs itself. Nobody else would notice a damaged name before certificates for it have been signed.
    if certificate.verify_signature(None).is_err() {
        return Err(format!("{AUTHORITY_FILE} is damaged: its own signature does not fit it"));
    }
    let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
    names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(SCHEME).map(str::to_owned),
            _ => None,
        })
        .ok_or_else(|| format!("{AUTHORITY_FILE} names no cluster"))
}

fn key_belongs_to(certificate_pem: &str, key: &KeyPair) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(certificate_pem.as_bytes()) else { return false };
    X509Certificate::from_der(&der).is_ok_and(|(_, certificate)| {
        *certificate.public_key().subject_public_key.data == *key.public_key_raw()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use hawser_hostile::{check, texts};

    use super::*;

    const CLUSTER: &str = "6f0b2f8e-0f4f-4a4e-9d55-0d0b63d1a001";

    #[test]
    fn a_saved_authority_opens_again_and_signs_for_its_cluster() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("ca");
        Authority::generate(CLUSTER, SystemTime::now()).unwrap().save(&place).unwrap();

        let opened = Authority::open(&place).unwrap();
        let signed = opened.sign(Role::Satellite, "n1", SystemTime::now()).unwrap();

        assert_eq!(opened.cluster_id(), CLUSTER);
        let der = CertificateDer::from_pem_slice(signed.certificate_pem.as_bytes()).unwrap();
        let peer = PeerIdentity::from_der(&der).unwrap();
        assert_eq!(peer.uri(), format!("hawser://{CLUSTER}/satellite/n1"));
        assert_eq!(signed.authority_pem, fs::read_to_string(place.join("ca.crt")).unwrap());
    }

    #[test]
    fn keys_are_readable_by_their_owner_only_and_nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::generate(CLUSTER, SystemTime::now()).unwrap();
        let ca = directory.path().join("ca");
        let tls = directory.path().join("tls");
        authority.save(&ca).unwrap();
        authority.sign(Role::Controller, "n1", SystemTime::now()).unwrap().save(&tls).unwrap();
        let before = fs::read(tls.join("tls.key")).unwrap();

        let again = authority.save(&ca).unwrap_err();
        let signed_again =
            authority.sign(Role::Controller, "n1", SystemTime::now()).unwrap().save(&tls).unwrap_err();

        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(ca.join("ca.key")), 0o600);
        assert_eq!(mode(tls.join("tls.key")), 0o600);
        assert_eq!(mode(ca.clone()), 0o700);
        assert!(matches!(again, AuthorityError::Exists(_)), "{again}");
        assert!(matches!(signed_again, AuthorityError::Exists(_)), "{signed_again}");
        assert_eq!(fs::read(tls.join("tls.key")).unwrap(), before);
    }

    #[test]
    fn names_that_could_be_mistaken_for_others_are_refused() {
        let authority = Authority::generate(CLUSTER, SystemTime::now()).unwrap();
        let long = "a".repeat(64);
        for name in ["", "N1", "n 1", "n1/controller", "-n1", "n1.", "n\u{f6}", long.as_str()] {
            let error = authority.sign(Role::Satellite, name, SystemTime::now()).err().unwrap();
            assert!(matches!(error, AuthorityError::BadName { what: "name", .. }), "{name:?}: {error}");
        }
        assert!(authority.sign(Role::Satellite, "n1.example.org", SystemTime::now()).is_ok());
    }

    #[test]
    fn files_that_do_not_belong_together_are_no_authority() {
        let directory = tempfile::tempdir().unwrap();
        let first = directory.path().join("first");
        let second = directory.path().join("second");
        let tls = directory.path().join("tls");
        let authority = Authority::generate(CLUSTER, SystemTime::now()).unwrap();
        authority.save(&first).unwrap();
        Authority::generate(CLUSTER, SystemTime::now()).unwrap().save(&second).unwrap();
        authority.sign(Role::Controller, "n1", SystemTime::now()).unwrap().save(&tls).unwrap();

        let missing = Authority::open(&directory.path().join("nowhere")).err().unwrap();
        fs::copy(second.join("ca.key"), first.join("ca.key")).unwrap();
        let mixed = Authority::open(&first).err().unwrap();
        fs::copy(tls.join("tls.crt"), second.join("ca.crt")).unwrap();
        let leaf = Authority::open(&second).err().unwrap();

        assert!(missing.to_string().contains("hawser cluster init"), "{missing}");
        assert!(mixed.to_string().contains("is not the key of ca.crt"), "{mixed}");
        assert!(leaf.to_string().contains("not the certificate of an authority"), "{leaf}");
    }

    #[test]
    fn hostile_files_of_an_authority() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("ca");
        Authority::generate(CLUSTER, SystemTime::now()).unwrap().save(&place).unwrap();
        let files = [AUTHORITY_FILE, AUTHORITY_KEY_FILE].map(|name| place.join(name));
        let whole = files.each_ref().map(|path| fs::read_to_string(path).unwrap());
        check(
            &texts(&whole.each_ref().map(String::as_str), &["-----BEGIN CERTIFICATE-----", "AAAA"]),
            |text| {
                for (path, whole) in files.iter().zip(&whole) {
                    fs::write(path, &text).unwrap();
                    match Authority::open(&place) {
                        Ok(authority) => assert_eq!(authority.cluster_id(), CLUSTER),
                        Err(error) => {
                            assert!(error.to_string().contains(&*place.to_string_lossy()), "{error}")
                        }
                    }
                    fs::write(path, whole).unwrap();
                }
            },
        );
    }
}
