//! The subjects of MMLU in their four groups (Hendrycks et al. 2021, `categories.py`;
//! lm-evaluation-harness has the same groups).

use serde::{Deserialize, Serialize};

/// A group of MMLU's subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Natural sciences, computing, mathematics.
    Stem,
    /// History, law, philosophy.
    Humanities,
    /// Economics, geography, politics, psychology.
    SocialSciences,
    /// Medicine, business and the rest.
    Other,
}

const STEM: [&str; 19] = [
    "abstract_algebra",
    "anatomy",
    "astronomy",
    "college_biology",
    "college_chemistry",
    "college_computer_science",
    "college_mathematics",
    "college_physics",
    "computer_security",
    "conceptual_physics",
    "electrical_engineering",
    "elementary_mathematics",
    "high_school_biology",
    "high_school_chemistry",
    "high_school_computer_science",
    "high_school_mathematics",
    "high_school_physics",
    "high_school_statistics",
    "machine_learning",
];

const HUMANITIES: [&str; 13] = [
    "formal_logic",
    "high_school_european_history",
    "high_school_us_history",
    "high_school_world_history",
    "international_law",
    "jurisprudence",
    "logical_fallacies",
    "moral_disputes",
    "moral_scenarios",
    "philosophy",
    "prehistory",
    "professional_law",
    "world_religions",
];

const SOCIAL_SCIENCES: [&str; 12] = [
    "econometrics",
    "high_school_geography",
    "high_school_government_and_politics",
    "high_school_macroeconomics",
    "high_school_microeconomics",
    "high_school_psychology",
    "human_sexuality",
    "professional_psychology",
    "public_relations",
    "security_studies",
    "sociology",
    "us_foreign_policy",
];

const OTHER: [&str; 13] = [
    "business_ethics",
    "clinical_knowledge",
    "college_medicine",
    "global_facts",
    "human_aging",
    "management",
    "marketing",
    "medical_genetics",
    "miscellaneous",
    "nutrition",
    "professional_accounting",
    "professional_medicine",
    "virology",
];

impl Group {
    /// All four groups in the order of the reports.
    pub(crate) const ALL: [Group; 4] = [Group::Stem, Group::Humanities, Group::SocialSciences, Group::Other];

    /// Returns the subjects of the group in alphabetical order.
    #[must_use]
    pub(crate) const fn subjects(self) -> &'static [&'static str] {
        match self {
            Group::Stem => &STEM,
            Group::Humanities => &HUMANITIES,
            Group::SocialSciences => &SOCIAL_SCIENCES,
            Group::Other => &OTHER,
        }
    }

    /// Returns the group of a subject, or `None` if it is not one of the 57.
    #[must_use]
    pub(crate) fn of(subject: &str) -> Option<Group> {
        Group::ALL.into_iter().find(|group| group.subjects().contains(&subject))
    }

    /// Returns the name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Group::Stem => "STEM",
            Group::Humanities => "humanities",
            Group::SocialSciences => "social sciences",
            Group::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_57_subjects_each_in_one_group() {
        let all: std::collections::BTreeSet<_> =
            Group::ALL.iter().flat_map(|group| group.subjects()).collect();
        assert_eq!(all.len(), 57);
        for group in Group::ALL {
            assert!(group.subjects().is_sorted());
            assert!(group.subjects().iter().all(|subject| Group::of(subject) == Some(group)));
        }
        assert_eq!(Group::of("alchemy"), None);
    }
}
