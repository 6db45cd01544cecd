//! Where the replication protocol connects to: the parts of the source's URL.
//!
//! The stream's library brings TLS only with a cryptography stack that this program does not carry
//! (docs/adr/0020). Its connection is therefore plain, which is refused off the machine unless the
//! URL itself says `sslmode=disable`.

use std::net::IpAddr;
use std::time::Duration;

use pgwire_replication::ReplicationConfig;
use url::Url;

/// Between two messages to the source that only say how far the warehouse is.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Messages that may wait for the decoder; each is a row at most.
const EVENTS_MAX: usize = 512;

/// The parts of a connection URL.
#[derive(Clone)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
    user: String,
    password: String,
    database: String,
    is_plain_by_choice: bool,
}

impl Endpoint {
    /// Reads a URL that the driver has accepted already; `None` where a part is missing.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let url = Url::parse(url).ok()?;
        let parameter = |name: &str| {
            let found = url.query_pairs().find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned())
        };
        let host = parameter("host").or_else(|| url.host_str().map(decoded))?;
        let user = match decoded(url.username()) {
            user if user.is_empty() => parameter("user")?,
            user => user,
        };
        let database = match decoded(url.path().trim_start_matches('/')) {
            name if name.is_empty() => parameter("dbname").unwrap_or_else(|| user.clone()),
            name => name,
        };
        let password = url.password().map(decoded);
        Some(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url
                .port()
                .or_else(|| parameter("port")?.parse().ok())
                .unwrap_or(5432),
            user,
            password: password
                .or_else(|| parameter("password"))
                .unwrap_or_default(),
            database,
            is_plain_by_choice: parameter("sslmode").as_deref() == Some("disable"),
        })
    }

    /// Whether a plain connection is acceptable: it stays on this machine, or was asked for.
    pub(crate) fn may_be_plain(&self) -> bool {
        let is_loopback = |ip: IpAddr| ip.is_loopback();
        self.is_plain_by_choice
            || self.host.starts_with('/')
            || self.host == "localhost"
            || self.host.parse().is_ok_and(is_loopback)
    }

    /// A replication session; `slot` also names the publication.
    pub(crate) fn session(&self, source: &str, slot: &str) -> ReplicationConfig {
        let mut config = ReplicationConfig::new(
            &self.host,
            &self.user,
            &self.password,
            &self.database,
            slot,
            slot,
        );
        config.port = self.port;
        config.status_interval = STATUS_INTERVAL;
        config.idle_wakeup_interval = STATUS_INTERVAL;
        config.buffer_events = EVENTS_MAX;
        config.application_name = Some(format!("ballpoint/{source}"));
        // As the settings of every other session of ours: text forms are compared between them.
        let settings = "-c datestyle=ISO,YMD -c intervalstyle=postgres -c extra_float_digits=3 \
                        -c timezone=UTC";
        config.options = Some(settings.to_owned());
        config
    }
}

/// `%xx` undone.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_parts_of_a_url_are_those_that_the_driver_uses() {
        let all = Endpoint::parse("postgres://me%40x:p%3As@db.example:6432/shop?sslmode=disable");
        let all = all.unwrap();
        assert_eq!((all.host.as_str(), all.port), ("db.example", 6432));
        assert_eq!((all.user.as_str(), all.password.as_str()), ("me@x", "p:s"));
        assert_eq!(all.database, "shop");
        let socket = Endpoint::parse("postgres://me@%2Fvar%2Frun/shop").unwrap();
        assert_eq!((socket.host.as_str(), socket.port), ("/var/run", 5432));
        assert_eq!(Endpoint::parse("postgres://me@h").unwrap().database, "me");
    }

    #[test]
    fn a_plain_connection_leaves_the_machine_only_when_asked_to() {
        for (url, plain) in [
            ("postgres://u@127.0.0.1/d", true),
            ("postgres://u@[::1]/d", true),
            ("postgres://u@localhost/d", true),
            ("postgres://u@%2Ftmp/d", true),
            ("postgres://u@db.example/d", false),
            ("postgres://u@10.0.0.1/d?sslmode=prefer", false),
            ("postgres://u@10.0.0.1/d?sslmode=disable", true),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().may_be_plain(), plain, "{url}");
        }
    }
}
