//! The questions that a project's people have checked: `questions.yml` beside the models.

use ballpoint_analyst::VerifiedQuestions;

use crate::config::Project;

/// The file's name in the folder of the models.
const FILE: &str = "questions.yml";

/// The verified questions of a project; none where it has no such file, or one that cannot be read,
/// which is said.
pub(crate) fn questions(project: &Project) -> VerifiedQuestions {
    let Some(transform) = &project.config.transform else {
        return VerifiedQuestions::default();
    };
    let path = project.folder.join(&transform.project_dir).join(FILE);
    let Ok(text) = std::fs::read_to_string(&path) else {
        return VerifiedQuestions::default();
    };
    serde_norway::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(file = %path.display(), %error, "the verified questions cannot be read");
        VerifiedQuestions::default()
    })
}
