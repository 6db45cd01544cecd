//! Questions back about the measure.

use super::Composer;
use crate::frame::Frame;
use crate::plan::Question;
use crate::resolve::{Asked, Open};
use crate::slots::Mention;

impl Composer<'_> {
    /// Measures side by side that nothing joins: a figure that may not exist, so it is asked.
    pub(super) fn one_of(&self, named: Vec<String>, frame: &Frame) -> Open {
        let word = self
            .slots
            .measures
            .iter()
            .map(|it| it.words.as_str())
            .collect::<Vec<_>>()
            .join(" ");
        let all = Frame {
            measures: named.clone(),
            ..frame.clone()
        };
        let one = |name: &String| {
            (
                self.registry.title(name),
                Frame {
                    measures: vec![name.clone()],
                    ..frame.clone()
                },
            )
        };
        let mut choices: Vec<(String, Frame)> = named.iter().take(3).map(one).collect();
        choices.push((
            named
                .iter()
                .map(|it| self.registry.title(it))
                .collect::<Vec<_>>()
                .join(" and "),
            all,
        ));
        let question = Question::WhichMeaning { word };
        Open::Ask(Box::new(Asked {
            about: vec!["metric".into()],
            question,
            choices,
            partial: frame.clone(),
        }))
    }

    pub(super) fn which_measure(
        &self,
        mention: &Mention,
        several: Vec<String>,
        frame: &Frame,
    ) -> Open {
        let choices = several.into_iter().take(4).map(|name| {
            let label = self.registry.title(&name);
            (
                label,
                Frame {
                    measures: vec![name],
                    ..frame.clone()
                },
            )
        });
        let question = Question::WhichMeaning {
            word: mention.words.clone(),
        };
        Open::Ask(Box::new(Asked {
            about: vec!["metric".into()],
            question,
            choices: choices.collect(),
            partial: frame.clone(),
        }))
    }
}
