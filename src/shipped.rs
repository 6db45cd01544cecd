//! The complete example inside the binary: used when no `ballpoint.toml` is in reach.

use std::path::Path;
use std::{fs, io};

use anyhow::Context as _;
use ballpoint_seeds::SeedFiles;
use include_dir::{Dir, include_dir};

/// Its configuration.
pub(crate) const CONFIG: &str = include_str!("../ballpoint.toml");

static WAREHOUSE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/warehouse");
static SEEDS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/seeds");

/// Lays the example out in `folder`, so that every stage reads it as it reads any project.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn lay_out(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("ballpoint.toml"), CONFIG)?;
    write_dir(&WAREHOUSE, &folder.join("warehouse"))?;
    write_dir(&SEEDS, &folder.join("seeds"))
}

/// The files of one of its seeds, as they are in the binary: nothing is laid out for them.
///
/// # Errors
/// When the example has no such seed.
pub(crate) fn seed_files(folder: &str) -> anyhow::Result<SeedFiles> {
    let read = |name: &str| {
        let path = Path::new(folder).join(name);
        let inner = path.strip_prefix("seeds").unwrap_or(&path);
        let file = SEEDS.get_file(inner).and_then(|file| file.contents_utf8());
        let text = file.with_context(|| format!("{} is not shipped", path.display()))?;
        anyhow::Ok(text.to_owned())
    };
    Ok(SeedFiles {
        directory: folder.to_owned(),
        schema_sql: read("schema.sql")?,
        generator_yml: read("generator.yml")?,
    })
}

/// Writes only what differs, so that a reader watching the files sees no change where there is none.
fn write_dir(dir: &Dir<'_>, folder: &Path) -> io::Result<()> {
    for file in dir.files().filter(|file| is_project_file(file.path())) {
        let path = folder.join(file.path());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        if fs::read(&path).ok().as_deref() != Some(file.contents()) {
            fs::write(&path, file.contents())?;
        }
    }
    dir.dirs().try_for_each(|inner| write_dir(inner, folder))
}

/// Crate sources live beside the seeds' parameters; a project has no use for them.
fn is_project_file(path: &Path) -> bool {
    let ending = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    matches!(ending, "sql" | "yml" | "yaml" | "csv" | "md") && !path.starts_with("target")
}
