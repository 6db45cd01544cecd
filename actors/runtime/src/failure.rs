//! A failure in words: what is logged, shown and kept is one line with the whole chain of causes.

use std::error::Error;

/// The error and what caused it, outermost first, in one line. A cause that its parent has said
/// already is not said twice.
pub fn in_one_line(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    one_line(causes.map(ToString::to_string))
}

/// The same for causes that are texts already, outermost first.
pub fn one_line(causes: impl IntoIterator<Item = String>) -> String {
    causes.into_iter().fold(String::new(), |text, cause| {
        let cause = cause.split_whitespace().collect::<Vec<_>>().join(" ");
        match (text.is_empty(), text.contains(&cause)) {
            (true, _) => cause,
            (false, true) => text,
            (false, false) => format!("{text}: {cause}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Failed {
        said: &'static str,
        #[source]
        source: Option<Box<Failed>>,
    }

    fn chain(texts: &[&'static str]) -> Failed {
        let (said, causes) = texts.split_first().expect("a text");
        Failed {
            said,
            source: (!causes.is_empty()).then(|| Box::new(chain(causes))),
        }
    }

    #[test]
    fn the_whole_chain_is_one_line_and_nothing_is_said_twice() {
        let error = chain(&[
            "loading failed: refused",
            "refused",
            "port 5432\n  is closed",
        ]);
        assert_eq!(
            in_one_line(&error),
            "loading failed: refused: port 5432 is closed"
        );
    }
}
