//! Where the model is and how long it may take.

use std::fmt;
use std::time::Duration;

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A model behind the chat completions protocol.
#[derive(Clone, Debug)]
pub struct ModelSettings {
    /// Up to and without `/chat/completions`.
    pub base_url: String,
    pub model: String,
    /// Empty: no `Authorization` header.
    pub api_key: Secret,
    pub limits: Limits,
}

/// What a turn with a model is held to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Everything that a question asks of the model, repairs and retries included.
    pub turn: Duration,
    pub connect: Duration,
    /// From the request to the head of the reply.
    pub first_byte: Duration,
    /// Between two pieces of a reply; a comment that keeps the connection alive is a piece.
    pub idle: Duration,
    /// Requests that a server turned away for now are sent so often in all.
    pub attempts_max: u32,
    /// Replies that do not hold are sent back with what is wrong so often.
    pub repairs_max: u32,
    /// A reply ends the turn when it is longer.
    pub reply_bytes_max: usize,
}

impl Limits {
    /// The limits of a turn that may take so long.
    pub fn within(turn: Duration) -> Self {
        Self {
            turn,
            connect: Duration::from_secs(5).min(turn),
            first_byte: turn,
            idle: Duration::from_secs(15).min(turn),
            attempts_max: 3,
            repairs_max: 3,
            reply_bytes_max: 256 * 1024,
        }
    }
}

impl ModelSettings {
    pub fn new(
        base_url: impl Into<String>,
        model: impl Into<String>,
        api_key: Secret,
        turn: Duration,
    ) -> Self {
        Self {
            base_url: base_url.into().trim_end_matches('/').to_owned(),
            model: model.into(),
            api_key,
            limits: Limits::within(turn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_printed() {
        let settings = ModelSettings::new(
            "http://h/v1/",
            "m",
            Secret::new("sk-very-secret"),
            Duration::from_secs(30),
        );
        assert!(!format!("{settings:?}").contains("very"));
        assert_eq!(settings.base_url, "http://h/v1");
    }
}
