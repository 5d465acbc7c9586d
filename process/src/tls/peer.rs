//! Who is at the other end of a connection: read from the certificate that TLS has verified.
//!
//! It must never verify a chain (rustls did) and never trust anything but the certificate.

use std::fmt;

use rustls_pki_types::CertificateDer;
use tonic::{
    codegen::http,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use x509_parser::{extensions::GeneralName, prelude::FromDer, prelude::X509Certificate};

use super::{Role, UnknownRole};

/// Scheme of the URI that names a certificate's holder.
pub(super) const SCHEME: &str = "hawser://";

/// The holder of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIdentity {
    /// Id of the cluster whose authority signed it.
    pub cluster_id: String,
    /// What the holder may do.
    pub role: Role,
    /// Name of the controller, the node or the person.
    pub name: String,
}

/// Why a certificate does not say who its holder is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The connection has no verified client certificate.
    #[error("the peer showed no certificate; connect with the certificate of an identity of this cluster")]
    NoCertificate,
    /// The bytes are no X.509 certificate.
    #[error("the peer's certificate cannot be read: {0}")]
    Unreadable(String),
    /// There is none or more than one `hawser://` URI in it.
    #[error(
        "the certificate has {0} subject alternative names of the form hawser://<cluster>/<role>/<name>, \
         but exactly 1 is needed; have it signed anew by `hawser cluster certificate`"
    )]
    NotOneName(usize),
    /// The URI has another shape.
    #[error("the certificate's name {0:?} is not of the form hawser://<cluster>/<role>/<name>")]
    Malformed(String),
    /// The role in the URI is not known.
    #[error("the certificate's name {uri:?} has an {source}")]
    Role {
        /// The whole name.
        uri: String,
        /// Its role.
        source: UnknownRole,
    },
}

impl PeerIdentity {
    /// The peer of a request that came in over tonic's own TLS server.
    ///
    /// # Errors
    /// If it showed no certificate, or one that does not name its holder.
    pub fn from_request<T>(request: &tonic::Request<T>) -> Result<Self, PeerError> {
        let certificates = request.peer_certs().ok_or(PeerError::NoCertificate)?;
        Self::from_der(certificates.first().ok_or(PeerError::NoCertificate)?)
    }

    /// The peer of an HTTP request below tonic, from the request's extensions, e.g. in a tower layer that relays
    /// whole calls.
    ///
    /// # Errors
    /// As [`PeerIdentity::from_request`].
    pub fn from_extensions(extensions: &http::Extensions) -> Result<Self, PeerError> {
        let certificates = extensions
            .get::<TlsConnectInfo<TcpConnectInfo>>()
            .and_then(TlsConnectInfo::peer_certs)
            .ok_or(PeerError::NoCertificate)?;
        Self::from_der(certificates.first().ok_or(PeerError::NoCertificate)?)
    }

    /// The holder of the certificate with this DER encoding.
    ///
    /// # Errors
    /// If it is no certificate or does not name exactly one holder.
    pub fn from_der(certificate: &CertificateDer<'_>) -> Result<Self, PeerError> {
        let (_, certificate) = X509Certificate::from_der(certificate)
            .map_err(|error| PeerError::Unreadable(error.to_string()))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| PeerError::Unreadable(error.to_string()))?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
                _ => None,
            })
            .collect();
        match uris.as_slice() {
            [uri] => Self::from_uri(uri),
            other => Err(PeerError::NotOneName(other.len())),
        }
    }

    /// The URI that stands in the certificate.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}/{}", self.cluster_id, self.role, self.name)
    }

    /// `role/name`: how the caller is named in request keys and relayed calls.
    #[must_use]
    pub fn caller(&self) -> String {
        format!("{}/{}", self.role, self.name)
    }

    fn from_uri(uri: &str) -> Result<Self, PeerError> {
        let malformed = || PeerError::Malformed(uri.to_owned());
        let path = uri.strip_prefix(SCHEME).ok_or_else(malformed)?;
        let parts: Vec<&str> = path.split('/').collect();
        let [cluster_id, role, name] = parts.as_slice() else { return Err(malformed()) };
        if cluster_id.is_empty() || name.is_empty() {
            return Err(malformed());
        }
        let role = role.parse().map_err(|source| PeerError::Role { uri: uri.to_owned(), source })?;
        Ok(Self { cluster_id: (*cluster_id).to_owned(), role, name: (*name).to_owned() })
    }
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{} of cluster {}", self.role, self.name, self.cluster_id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{bytes, check, texts};
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(uris: &[&str]) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::new(vec!["controller".to_owned()]).unwrap();
        for uri in uris {
            parameters.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().into()
    }

    #[test]
    fn the_holder_is_read_from_the_one_name_of_ours() {
        let der = certificate(&["https://example.org/", "hawser://c1/satellite/n2"]);

        let peer = PeerIdentity::from_der(&der).unwrap();

        let expected = PeerIdentity { cluster_id: "c1".into(), role: Role::Satellite, name: "n2".into() };
        assert_eq!(peer, expected);
        assert_eq!(peer.caller(), "satellite/n2");
        assert_eq!(peer.uri(), "hawser://c1/satellite/n2");
    }

    #[test]
    fn a_certificate_without_exactly_one_good_name_is_refused() {
        let two = ["hawser://c1/satellite/n1", "hawser://c1/controller/n1"];
        for (uris, expected) in [
            (&[][..], PeerError::NotOneName(0)),
            (&two[..], PeerError::NotOneName(2)),
            (&["hawser://c1/satellite"], PeerError::Malformed("hawser://c1/satellite".into())),
            (&["hawser:///satellite/n1"], PeerError::Malformed("hawser:///satellite/n1".into())),
            (&["hawser://c1/satellite/"], PeerError::Malformed("hawser://c1/satellite/".into())),
            (&["hawser://c1/satellite/a/b"], PeerError::Malformed("hawser://c1/satellite/a/b".into())),
            (
                &["hawser://c1/root/n1"],
                PeerError::Role { uri: "hawser://c1/root/n1".into(), source: UnknownRole("root".into()) },
            ),
        ] {
            assert_eq!(PeerIdentity::from_der(&certificate(uris)), Err(expected), "{uris:?}");
        }
        let garbage = PeerIdentity::from_der(&CertificateDer::from(vec![0x30, 0x01]));
        assert!(matches!(garbage, Err(PeerError::Unreadable(_))), "{garbage:?}");
    }

    #[test]
    fn hostile_certificates_speak_for_nobody_that_they_do_not_name() {
        let whole = certificate(&["https://example.org/", "hawser://c1/satellite/n2"]);
        check(&bytes(&[whole.as_ref()], &["hawser://c1/controller/n2", "hawser://"]), |der| {
            if let Ok(peer) = PeerIdentity::from_der(&CertificateDer::from(der.clone())) {
                let uri = peer.uri();
                let names_it = der.windows(uri.len()).any(|window| window == uri.as_bytes());
                assert!(names_it, "{uri} does not stand in the certificate");
            }
        });
    }

    #[test]
    fn hostile_names_of_holders() {
        check(&texts(&["hawser://c1/satellite/n2"], &["controller", "administrator", "//"]), |uri| {
            if let Ok(peer) = PeerIdentity::from_uri(&uri) {
                assert_eq!(peer.uri(), uri);
            }
        });
    }
}
