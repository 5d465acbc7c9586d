//! Who is who: the cluster's certificate authority, a program's own identity, and its peers'.
//!
//! A certificate names cluster, role and name in one URI (`hawser://<cluster>/<role>/<name>`) and the role
//! again as DNS name, so that rustls itself checks that a dialled peer is a controller.

mod authority;
mod identity;
mod peer;
mod restore;
mod role;

pub use authority::{Authority, AuthorityError, SignedIdentity};
pub use identity::{AUTHORITY_FILE, CERTIFICATE_FILE, HANDSHAKE, Identity, IdentityError, KEY_FILE};
pub use peer::{PeerError, PeerIdentity};
pub use restore::{NotSigned, RestoreVerifier};
pub use role::{Role, UnknownRole};

/// Makes ring the cryptography of every TLS connection of this process. Call it first in `main`.
///
/// Calling it again changes nothing.
pub fn install_crypto_provider() {
    // An error says that a provider is installed already, which is what the caller wants.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
}
