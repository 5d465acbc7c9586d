//! The roles that a certificate can give. The words are part of every certificate and never change.

use std::{fmt, str::FromStr};

/// What a program or person may do in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A member of the Raft cluster; serves the API.
    Controller,
    /// A storage node; speaks for that node only.
    Satellite,
    /// May give orders.
    Administrator,
}

impl Role {
    /// Every role, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Controller, Self::Satellite, Self::Administrator];

    /// The word in certificates and in callers' names.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Satellite => "satellite",
            Self::Administrator => "administrator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// The word is no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown role {0:?}; use controller, satellite or administrator")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == word).ok_or_else(|| UnknownRole(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{check, texts};

    use super::*;

    #[test]
    fn every_role_reads_back_and_nothing_else_is_one() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        for word in ["", "Controller", "admin", "controller "] {
            assert_eq!(word.parse::<Role>(), Err(UnknownRole(word.into())));
        }
    }

    #[test]
    fn hostile_roles() {
        check(&texts(&Role::ALL.map(Role::as_str), &[]), |word| {
            if let Ok(role) = word.parse::<Role>() {
                assert_eq!(role.as_str(), word);
            }
        });
    }
}
