//! Which answer of the warehouse belongs to which message of the client, so that the rows of each
//! result over cubes are watched as they pass and its proof gets a name.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ballpoint_metrics::Service;
use ballpoint_metrics::sql_api::{Asked, Bound, Column, Witness};

use super::reader::{Reader, is_binary};

/// What the warehouse is about to answer, in order. Each has what it needs with it: the client may
/// give its statements and portals other meanings long before.
enum Expected {
    /// A query of the simple protocol: its statements, watched where they read cubes.
    Simple(VecDeque<Option<Witness>>),
    /// What a statement's rows look like.
    Describe(SharedShape),
    /// The rows of a portal.
    Execute(String, Box<Portal>),
    Sync,
}

/// What PostgreSQL says of a statement, once it was asked.
#[derive(Default)]
struct Shape {
    /// The types of its values: as declared, then as PostgreSQL says.
    kinds: Vec<u32>,
    /// Names and types of the columns.
    columns: Vec<(String, u32)>,
}

type SharedShape = Arc<Mutex<Shape>>;

fn locked(shape: &SharedShape) -> MutexGuard<'_, Shape> {
    shape.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A prepared statement.
#[derive(Default)]
struct Statement {
    asked: Option<Arc<Asked>>,
    shape: SharedShape,
}

/// A statement with its values.
struct Portal {
    shape: SharedShape,
    /// Whether each column comes in bytes; one for all, or none where all are texts.
    binary: Vec<bool>,
    witness: Option<Witness>,
}

impl Portal {
    /// Watches a row of so many values.
    fn row(&mut self, row: &[u8], count: usize) {
        let Some(witness) = &mut self.witness else {
            return;
        };
        if !witness.has_columns() {
            witness.columns(formed(&locked(&self.shape).columns, &self.binary, count));
        }
        witness.row(row);
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Ledger {
    expected: VecDeque<Expected>,
    statements: HashMap<String, Statement>,
    portals: HashMap<String, Portal>,
    /// How the session writes values.
    settings: BTreeMap<String, String>,
    /// The proof of the latest result.
    pub(super) latest: String,
}

/// The client's side: each is noted before the message is passed on.
impl Ledger {
    pub(super) fn query(&mut self, service: Option<&Service>, asked: &[Option<Arc<Asked>>]) {
        let watched = asked.iter().map(|asked| {
            let asked = asked.as_ref()?;
            Some(self.watch(service?, asked, Vec::new()))
        });
        let watched = watched.collect();
        self.expected.push_back(Expected::Simple(watched));
    }

    pub(super) fn parse(
        &mut self,
        name: &str,
        types: &[u8],
        asked: Option<Arc<Asked>>,
    ) -> io::Result<()> {
        let mut types = Reader(types);
        let count = types.u16()?;
        let kinds = (0..count).map(|_| types.u32()).collect::<io::Result<_>>()?;
        let shape = Shape {
            kinds,
            ..Shape::default()
        };
        let shape = Arc::new(Mutex::new(shape));
        let statement = Statement { asked, shape };
        self.statements.insert(name.to_owned(), statement);
        Ok(())
    }

    /// A statement was translated anew.
    pub(super) fn renewed(&mut self, name: &str, asked: Option<Arc<Asked>>) {
        if let Some(known) = self.statements.get_mut(name) {
            known.asked = asked;
        }
    }

    /// `service` is what is served now: rows are of the tables as they are from here on.
    pub(super) fn bind(&mut self, service: Option<&Service>, body: &[u8]) -> io::Result<()> {
        let mut body = Reader(body);
        let (portal, statement) = (body.text()?.to_owned(), body.text()?.to_owned());
        let known = self.statements.get(&statement);
        let shape = known.map(|it| Arc::clone(&it.shape)).unwrap_or_default();
        let values = body.values(&locked(&shape).kinds)?;
        let binary = body.formats()?;
        let asked = known.and_then(|it| it.asked.clone());
        let witness = asked.zip(service);
        let witness = witness.map(|(asked, service)| self.watch(service, &asked, values));
        let bound = Portal {
            shape,
            binary,
            witness,
        };
        self.portals.insert(portal, bound);
        Ok(())
    }

    pub(super) fn describe(&mut self, body: &[u8]) -> io::Result<()> {
        let (kind, name) = Reader(body).kind_and_name()?;
        let shape = match kind {
            b'P' => self.portals.get(name).map(|it| &it.shape),
            _ => self.statements.get(name).map(|it| &it.shape),
        };
        let shape = shape.cloned().unwrap_or_default();
        self.expected.push_back(Expected::Describe(shape));
        Ok(())
    }

    pub(super) fn execute(&mut self, body: &[u8]) -> io::Result<()> {
        let name = Reader(body).text()?.to_owned();
        let portal = match self.portals.get_mut(&name) {
            Some(portal) => Portal {
                shape: Arc::clone(&portal.shape),
                binary: portal.binary.clone(),
                witness: portal.witness.take(),
            },
            None => Portal {
                shape: SharedShape::default(),
                binary: Vec::new(),
                witness: None,
            },
        };
        self.expected
            .push_back(Expected::Execute(name, Box::new(portal)));
        Ok(())
    }

    pub(super) fn close(&mut self, body: &[u8]) -> io::Result<()> {
        let (kind, name) = Reader(body).kind_and_name()?;
        match kind {
            b'P' => drop(self.portals.remove(name)),
            _ => drop(self.statements.remove(name)),
        }
        Ok(())
    }

    pub(super) fn sync(&mut self) {
        self.expected.push_back(Expected::Sync);
    }

    fn watch(&self, service: &Service, asked: &Arc<Asked>, values: Vec<Bound>) -> Witness {
        let mut witness = service.witness(asked, values);
        for (name, value) in &self.settings {
            witness.setting(name, value);
        }
        witness
    }
}

/// The warehouse's side.
impl Ledger {
    /// Takes note of what the warehouse says; the name of a proof where a result ends with it.
    pub(super) fn heard(&mut self, kind: u8, body: &[u8]) -> io::Result<Option<String>> {
        match kind {
            b'S' => {
                let mut body = Reader(body);
                let (name, value) = (body.text()?.to_owned(), body.text()?.to_owned());
                self.settings.insert(name, value);
            }
            b't' => self.types(body)?,
            b'T' => self.columns(body)?,
            b'n' => {
                let _ = self
                    .expected
                    .pop_front_if(|it| matches!(it, Expected::Describe(_)));
            }
            b'D' => {
                let count = usize::from(Reader(body).u16()?);
                match self.expected.front_mut() {
                    Some(Expected::Simple(statements)) => {
                        if let Some(Some(witness)) = statements.front_mut() {
                            witness.row(body);
                        }
                    }
                    Some(Expected::Execute(_, portal)) => portal.row(body, count),
                    _ => {}
                }
            }
            b'C' | b'I' => return Ok(self.ended()),
            b's' => self.suspended(),
            b'E' => self.failed(),
            b'Z' => {
                while !matches!(
                    self.expected.pop_front(),
                    None | Some(Expected::Simple(_) | Expected::Sync)
                ) {}
            }
            _ => {}
        }
        Ok(None)
    }

    /// More of the portal's rows come with its next Execute.
    fn suspended(&mut self) {
        let Some(Expected::Execute(name, portal)) = self.expected.pop_front() else {
            return;
        };
        if let Some(kept) = self.portals.get_mut(&name) {
            kept.witness = portal.witness;
        }
    }

    fn types(&mut self, body: &[u8]) -> io::Result<()> {
        let mut body = Reader(body);
        let count = body.u16()?;
        let kinds = (0..count).map(|_| body.u32()).collect::<io::Result<_>>()?;
        if let Some(Expected::Describe(shape)) = self.expected.front() {
            locked(shape).kinds = kinds;
        }
        Ok(())
    }

    fn columns(&mut self, body: &[u8]) -> io::Result<()> {
        let described = Reader(body).columns()?;
        match self.expected.front_mut() {
            Some(Expected::Describe(shape)) => {
                let shown = described.into_iter();
                locked(shape).columns = shown.map(|(name, kind, _)| (name, kind)).collect();
                self.expected.pop_front();
            }
            Some(Expected::Simple(statements)) => {
                if let Some(Some(witness)) = statements.front_mut() {
                    let shown = described.iter();
                    let shown =
                        shown.map(|(name, kind, binary)| Column::described(name, *kind, *binary));
                    witness.columns(shown.collect());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A statement's last row has passed.
    fn ended(&mut self) -> Option<String> {
        let witness = match self.expected.front_mut()? {
            Expected::Simple(statements) => statements.pop_front()?,
            Expected::Execute(_, portal) => {
                let witness = portal.witness.take();
                self.expected.pop_front();
                witness
            }
            Expected::Describe(_) | Expected::Sync => None,
        };
        let id = witness?.end();
        self.latest.clone_from(&id);
        Some(id)
    }

    /// What was asked for up to the next Sync is not answered any more.
    fn failed(&mut self) {
        if let Some(Expected::Simple(statements)) = self.expected.front_mut() {
            return statements.clear();
        }
        let is_passed = |it: &mut Expected| !matches!(it, Expected::Sync | Expected::Simple(_));
        while self.expected.pop_front_if(is_passed).is_some() {}
    }
}

/// The columns of a portal's rows, of which there are so many. What nobody asked for has no name.
fn formed(described: &[(String, u32)], binary: &[bool], count: usize) -> Vec<Column> {
    let column = |at: usize| match described.get(at) {
        Some((name, kind)) => Column::described(name, *kind, is_binary(binary, at)),
        None => Column::unknown(at, is_binary(binary, at)),
    };
    (0..count).map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_finds_what_it_is_for_after_errors_too() {
        let mut ledger = Ledger::default();
        ledger.parse("one", &[0, 0], None).unwrap();
        ledger.describe(b"Sone\0").unwrap();
        ledger.execute(b"\0\0\0\0\0").unwrap();
        ledger.sync();
        ledger.expected.push_back(Expected::Simple(VecDeque::new()));
        // The type of a value, then the columns: text "a" and int8 "n".
        ledger.heard(b't', &[0, 1, 0, 0, 0, 25]).unwrap();
        let column = |name: &str, kind: u8| {
            [name.as_bytes(), &[0; 7], &[0, 0, 0, kind], &[0; 6], &[0, 0]].concat()
        };
        let row = [&[0, 2][..], &column("a", 25), &column("n", 20)].concat();
        ledger.heard(b'T', &row).unwrap();
        let one = locked(&ledger.statements["one"].shape);
        assert_eq!(one.kinds, [25]);
        assert_eq!(one.columns, [("a".to_owned(), 25), ("n".to_owned(), 20)]);
        drop(one);
        ledger.heard(b'E', b"").unwrap();
        assert!(matches!(ledger.expected.front(), Some(Expected::Sync)));
        ledger.heard(b'Z', b"I").unwrap();
        assert!(matches!(ledger.expected.front(), Some(Expected::Simple(_))));
        ledger.heard(b'C', b"SELECT 0\0").unwrap();
        ledger.heard(b'Z', b"I").unwrap();
        assert!(ledger.expected.is_empty());
    }
}
