//! Reads the two ends of a resource's connection out of what `drbdsetup show` says of DRBD 8.4.
//!
//! Pure. Only for the connection that the kernel has: to whom it leads is no longer in any file once a peer was let
//! go of. It must never pass on anything else of that text, for the secret is in it.

/// The own and the other end of the connection, as arguments of `drbdsetup`; `None` where there is none.
pub(super) fn ends(text: &str) -> Option<[String; 2]> {
    Some([address_in(text, "_this_host")?, address_in(text, "_remote_host")?])
}

/// The address in a section: "address ipv4 10.77.0.1:7000;" as "ipv4:10.77.0.1:7000".
fn address_in(text: &str, section: &str) -> Option<String> {
    let mut words = text.split_ascii_whitespace().skip_while(|word| *word != section).skip(1);
    let mut depth = 0;
    while let Some(word) = words.next() {
        match word {
            "{" => depth += 1,
            "}" if depth == 1 => return None,
            "}" => depth -= 1,
            "address" if depth == 1 => {
                let (family, place) = (words.next()?, words.next()?);
                return Some(format!("{family}:{}", place.strip_suffix(';')?));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_connection_are_read() {
        let with_peer = include_str!("../../../tests/recorded/drbd84_show_with_peer.txt");
        let alone = include_str!("../../../tests/recorded/drbd84_show_alone.txt");
        let ipv6 =
            "_remote_host { address ipv6 [fd00::2]:7000; } _this_host { address ipv6 [fd00::1]:7000; }";
        let ends_of = |one: &str, other: &str| Some([one.to_owned(), other.to_owned()]);
        for (text, expected) in [
            (with_peer, ends_of("ipv4:10.77.0.1:7000", "ipv4:10.77.0.2:7000")),
            (alone, None),
            (ipv6, ends_of("ipv6:[fd00::1]:7000", "ipv6:[fd00::2]:7000")),
            ("", None),
            ("_remote_host { address ipv4", None),
            ("_this_host { volume 0 { address ipv4 1.2.3.4:5; } } _remote_host { }", None),
        ] {
            assert_eq!(ends(text), expected, "{text}");
        }
    }
}
