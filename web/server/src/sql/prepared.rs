//! Prepared statements over cubes. A translation holds for the model, the rollups and the day that it was
//! made with; one that is older is made anew before values are bound to it, so that no policy of
//! yesterday and no rollup of yesterday is read.

use std::collections::{HashMap, VecDeque};
use std::io;

use ballpoint_metrics::sql_api::Basis;
use bytes::{Bytes, BytesMut};

use super::reader::Reader;
use super::wire;

/// A statement over cubes as its client prepared it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prepared {
    /// The client's own words.
    pub(super) sql: String,
    /// What the warehouse was sent for them.
    pub(super) sent: String,
    /// The types of its values, as the client declared them.
    pub(super) types: Bytes,
    pub(super) basis: Basis,
}

impl Prepared {
    /// What prepares it under a name that another has now.
    pub(super) fn instead(&self, name: &str) -> BytesMut {
        let mut out = BytesMut::new();
        out.extend_from_slice(&wire::frame(b'C', &[b"S", name.as_bytes(), b"\0"].concat()));
        let (name, sent) = (name.as_bytes(), self.sent.as_bytes());
        let body = [name, b"\0", sent, b"\0", &self.types].concat();
        out.extend_from_slice(&wire::frame(b'P', &body));
        out
    }
}

/// What the warehouse has yet to say, in order.
enum Owed {
    /// That a statement is prepared; this one was sent by us.
    Parsed(Option<(String, Prepared)>),
    /// That a statement or portal is closed.
    Closed { by_client: bool },
    /// The rows of a portal.
    Rows,
    /// That it is ready for the next query.
    Ready,
}

/// The statements of a session.
#[derive(Default)]
pub(super) struct Statements {
    known: HashMap<String, Prepared>,
    owed: VecDeque<Owed>,
}

impl Statements {
    /// The client prepares a statement; `None` for one that reads no cube.
    pub(super) fn parse(&mut self, name: &str, prepared: Option<Prepared>) {
        self.owed.push_back(Owed::Parsed(None));
        match prepared {
            Some(prepared) => drop(self.known.insert(name.to_owned(), prepared)),
            None => drop(self.known.remove(name)),
        }
    }

    pub(super) fn close(&mut self, body: &[u8]) -> io::Result<()> {
        self.owed.push_back(Owed::Closed { by_client: true });
        if let (b'S', name) = Reader(body).kind_and_name()? {
            self.known.remove(name);
        }
        Ok(())
    }

    pub(super) fn execute(&mut self) {
        self.owed.push_back(Owed::Rows);
    }

    /// The client ends what it sends, and waits.
    pub(super) fn ends(&mut self) {
        self.owed.push_back(Owed::Ready);
    }

    /// The statement over cubes to which a message binds values.
    pub(super) fn bound(&self, body: &[u8]) -> io::Result<Option<(String, Prepared)>> {
        let mut body = Reader(body);
        let (_, name) = (body.text()?, body.text()?);
        let known = self.known.get(name).cloned();
        Ok(known.map(|prepared| (name.to_owned(), prepared)))
    }

    /// What the warehouse was sent is what the statement means now.
    pub(super) fn stands(&mut self, name: String, prepared: Prepared) {
        self.known.insert(name, prepared);
    }

    /// The warehouse is sent this instead. Until it says that it has it, the statement is the old one.
    pub(super) fn renew(&mut self, name: String, prepared: Prepared) {
        self.owed.push_back(Owed::Closed { by_client: false });
        self.owed.push_back(Owed::Parsed(Some((name, prepared))));
    }

    /// Whether a message of the warehouse is ours alone.
    pub(super) fn hears(&mut self, kind: u8) -> bool {
        match kind {
            b'1' | b'3' | b'C' | b'I' | b's' => self.is_done(kind),
            // Nothing is answered up to the next Sync.
            b'E' => {
                let is_passed = |it: &mut Owed| !matches!(it, Owed::Ready);
                while self.owed.pop_front_if(is_passed).is_some() {}
                false
            }
            b'Z' => {
                while !matches!(self.owed.pop_front(), None | Some(Owed::Ready)) {}
                false
            }
            _ => false,
        }
    }

    fn is_done(&mut self, kind: u8) -> bool {
        let is_it = |it: &mut Owed| match it {
            Owed::Parsed(_) => kind == b'1',
            Owed::Closed { .. } => kind == b'3',
            Owed::Rows => matches!(kind, b'C' | b'I' | b's'),
            Owed::Ready => false,
        };
        match self.owed.pop_front_if(is_it) {
            Some(Owed::Parsed(Some((name, prepared)))) => {
                self.stands(name, prepared);
                true
            }
            Some(Owed::Closed { by_client }) => !by_client,
            _ => false,
        }
    }

    /// Whether the warehouse is at work for the client.
    pub(super) fn is_busy(&self) -> bool {
        !self.owed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_anew_here_is_heard_here_and_nothing_else_is() {
        let mut statements = Statements::default();
        statements.parse("one", None);
        statements.close(b"Sone\0").unwrap();
        statements.execute();
        statements.ends();
        assert!(
            !statements.hears(b'1') && !statements.hears(b'3'),
            "the client's"
        );
        assert!(!statements.hears(b'C') && statements.is_busy());
        assert!(!statements.hears(b'Z') && !statements.is_busy());
        // After an error nothing of what was sent is owed, up to the end of it.
        statements.owed.push_back(Owed::Closed { by_client: false });
        statements.parse("two", None);
        statements.ends();
        statements.ends();
        assert!(!statements.hears(b'E'));
        assert_eq!(statements.owed.len(), 2);
        statements.hears(b'Z');
        statements.hears(b'Z');
        statements.owed.push_back(Owed::Closed { by_client: false });
        assert!(statements.hears(b'3'), "ours");
    }
}
