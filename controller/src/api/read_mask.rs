//! Which fields of a list's items a caller wants (AIP-157). It must never leave out what was asked for.

use prost_types::FieldMask;

use super::error::ApiError;

/// A read mask, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadMask {
    /// `None`: everything.
    wanted: Option<Vec<&'static str>>,
}

impl ReadMask {
    /// Every field.
    pub const EVERYTHING: Self = Self { wanted: None };

    /// The mask of a request for items that have these top-level fields.
    ///
    /// # Errors
    /// A path that is none of them.
    pub fn new(mask: Option<&FieldMask>, fields: &[&'static str]) -> Result<Self, ApiError> {
        let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else { return Ok(Self::EVERYTHING) };
        let known = |(position, path): (usize, &String)| {
            fields.iter().copied().find(|field| field == path).ok_or_else(|| {
                ApiError::invalid(
                    format!("read_mask.paths[{position}]"),
                    format!("{path:?} is not a field of these items; they have {}", fields.join(", ")),
                )
            })
        };
        let wanted = mask.paths.iter().enumerate().map(known).collect::<Result<_, _>>()?;
        Ok(Self { wanted: Some(wanted) })
    }

    /// Whether the caller wants the field.
    #[must_use]
    pub fn wants(&self, field: &str) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&field))
    }

    /// The value, where the caller wants the field; else nothing, and it is not computed.
    #[must_use]
    pub fn take<T: Default>(&self, field: &str, value: impl FnOnce() -> T) -> T {
        if self.wants(field) { value() } else { T::default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const FIELDS: [&str; 2] = ["desired", "conditions"];

    fn mask(paths: &[&str]) -> FieldMask {
        FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }
    }

    #[test]
    fn what_is_not_wanted_is_not_computed() {
        let all = ReadMask::new(None, &FIELDS).unwrap();
        let empty = ReadMask::new(Some(&mask(&[])), &FIELDS).unwrap();
        let one = ReadMask::new(Some(&mask(&["desired"])), &FIELDS).unwrap();

        assert_eq!(all, empty);
        for (mask, desired, conditions) in [(all, 7, 7), (one, 7, 0)] {
            assert_eq!(mask.take("desired", || 7), desired);
            assert_eq!(mask.take("conditions", || 7), conditions);
        }
    }

    #[test]
    fn a_path_that_is_no_field_is_refused_by_its_place() {
        for path in ["observed", "desired.name", ""] {
            let refused = ReadMask::new(Some(&mask(&["desired", path])), &FIELDS).unwrap_err();
            let ApiError::Invalid { field, message } = refused else { panic!("{path:?}") };
            assert_eq!(field, "read_mask.paths[1]");
            assert!(message.contains("desired, conditions"), "{message}");
        }
    }
}
