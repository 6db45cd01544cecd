//! `host:port` as people write it: `127.0.0.1:4000`, `[::1]:4000`, `localhost:4000`.

use std::net::{SocketAddr, ToSocketAddrs};

use serde::{Deserialize, Deserializer};

/// The address that `text` names; of several, the IPv4 one, which every client tries.
///
/// # Errors
/// Says what an address looks like.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let explain = |why: String| {
        format!("{text:?} is no address ({why}); it looks like 127.0.0.1:4000 or localhost:4000")
    };
    if !text.contains(':') {
        return Err(explain("the port is missing".to_owned()));
    }
    let found: Vec<SocketAddr> = text
        .to_socket_addrs()
        .map_err(|error| explain(error.to_string()))?
        .collect();
    let of_four = found.iter().find(|it| it.is_ipv4());
    let chosen = of_four.or(found.first()).copied();
    chosen.ok_or_else(|| explain("the name has no address".to_owned()))
}

/// An address in a configuration file.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    address(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

/// The same, where none is needed.
pub(super) fn deserialize_some<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<SocketAddr>, D::Error> {
    deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_a_name() {
        let local: SocketAddr = "127.0.0.1:4000".parse().expect("valid");
        assert_eq!(address("127.0.0.1:4000"), Ok(local));
        assert!(address("localhost:4000").expect("known").ip().is_loopback());
        let v6 = address("[::1]:4000").expect("valid");
        assert!(v6.ip().is_loopback() && v6.is_ipv6());
    }

    #[test]
    fn what_is_no_address_is_explained() {
        for (text, part) in [
            ("localhost", "the port is missing"),
            ("localhost:http", "looks like"),
            ("127.0.0.1:99999", "looks like"),
        ] {
            let error = address(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
