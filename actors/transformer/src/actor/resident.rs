//! The project as it is kept in memory: read once, read again when a file changes, and kept as it
//! was last good when the new files are wrong.

use std::sync::{Arc, Mutex, PoisonError};

use ballpoint_runtime::files;

use crate::error::ProjectError;
use crate::project::{LoadOptions, Project};

/// A project that stays.
#[derive(Debug)]
pub(super) struct Resident {
    options: LoadOptions,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    good: Option<Arc<Project>>,
    error: Option<ProjectError>,
}

/// What a refresh found.
#[derive(Clone, Debug)]
pub(super) struct Refreshed {
    /// The last good project, if there ever was one.
    pub(super) project: Option<Arc<Project>>,
    /// Why the files as they are now are not it.
    pub(super) error: Option<ProjectError>,
    /// Whether this refresh replaced an earlier project, good or broken.
    pub(super) edited: bool,
}

impl Resident {
    pub(super) fn new(options: LoadOptions) -> Self {
        Self {
            options,
            kept: Mutex::default(),
        }
    }

    /// Reads the project if it was never read or a file changed, once the edit is whole. Blocks on
    /// files.
    pub(super) fn refresh(&self) -> Refreshed {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = kept
            .good
            .as_ref()
            .is_some_and(|project| !project.is_stale());
        let mut edited = false;
        if is_current {
            kept.error = None;
        } else {
            let root = &self.options.project_dir;
            let (read, _) = files::read_whole(
                || {
                    let stamps = Project::stamps(root);
                    (Project::load(&self.options), stamps)
                },
                |(_, stamps)| *stamps == Project::stamps(root),
            );
            match read {
                Ok(project) => {
                    edited = kept.good.is_some() || kept.error.is_some();
                    *kept = Kept {
                        good: Some(Arc::new(project)),
                        error: None,
                    };
                }
                Err(error) => kept.error = Some(error),
            }
        }
        Refreshed {
            project: kept.good.clone(),
            error: kept.error.clone(),
            edited,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::project::profile::Target;

    #[test]
    fn a_broken_edit_keeps_the_last_good_project_and_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("dbt_project.yml", "name: p\n");
        write("models/a.sql", "select 1 as one");
        let resident = Resident::new(LoadOptions::new(folder.path(), Target::named("d", "s")));
        assert!(resident.refresh().error.is_none());
        write("models/a.sql", "select 1 as one\n{{ oops( }}");
        let broken = resident.refresh();
        assert!(broken.project.is_some());
        assert!(
            broken
                .error
                .unwrap()
                .to_string()
                .starts_with("models/a.sql:2")
        );
        write("models/a.sql", "select 2 as two");
        let mended = resident.refresh();
        assert!(mended.edited && mended.error.is_none());
    }

    #[test]
    fn a_project_that_was_broken_from_the_start_is_an_edit_once_it_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let resident = Resident::new(LoadOptions::new(folder.path(), Target::named("d", "s")));
        assert!(resident.refresh().error.is_some());
        std::fs::write(folder.path().join("dbt_project.yml"), "name: p\n").unwrap();
        assert!(resident.refresh().edited);
        assert!(!resident.refresh().edited);
    }
}
